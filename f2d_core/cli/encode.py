"""`encode`: face photos become identity files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..align import align_expression
from ..encode import Expression, Labels, encode_faces, expression_features
from ..errors import SettingsError
from ..files import fresh_path, safe_stem
from ..networks import load_network
from ..s_star import SStar, save_s_star
from .faces import CutFace, cut_faces
from .outputs import SUFFIX, require_new_file
from .progress import Bar, announce


def run(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    one_file = out.suffix.lower() == SUFFIX
    if one_file:
        require_new_file(out, arguments.force)
        _require_one(arguments)
    faces = cut_faces(arguments.images, arguments)
    people = _people(faces, arguments)
    sources = [faces[0].path] if arguments.mean else [face.path for face in faces]
    for s_star, source in zip(people, sources, strict=True):
        named = replace(s_star, name=arguments.name or source.stem)
        path = out if one_file else fresh_path(out, safe_stem(named.name), SUFFIX)
        save_s_star(named, path)
        print(f"{path}: {describe(named, source)}")
    print(f"Licence of these identities: {people[0].licence}")


def describe(s_star: SStar, source: Path) -> str:
    """One line: the person, the marker, where the face came from."""
    return f"{s_star.name} as {s_star.marker}, {s_star.words} words, from {source.name} ({s_star.detector})"


def _people(faces: Sequence[CutFace], arguments: argparse.Namespace) -> list[SStar]:
    announce(f"Loading {arguments.msid.name} and {arguments.mapping.name}")
    msid = load_network(arguments.msid, "msid")
    mapping = load_network(arguments.mapping, "mapping")
    labels = Labels(arguments.name, arguments.marker, thumbnail=not arguments.no_thumbnail)
    combine = "mean" if arguments.mean else "each"
    crops = [face.crop for face in faces]
    return encode_faces(crops, msid, mapping, _expression(arguments), labels, combine, Bar("Encoding"))


def _expression(arguments: argparse.Namespace) -> Expression | None:
    if arguments.expression is None and arguments.expression_encoder is None:
        return None
    if arguments.expression is None or arguments.expression_encoder is None:
        raise SettingsError("Only one of --expression and --expression-encoder is given; expected both or neither.")
    options = argparse.Namespace(**vars(arguments))
    options.aligned, options.landmarks, options.on_missing = False, arguments.expression_landmarks, "error"
    options.order, options.index = "largest", 0
    (face,) = cut_faces([arguments.expression], options, align_expression)
    encoder = load_network(arguments.expression_encoder, "recon")
    v_exp = expression_features([face.crop.pixels], encoder)
    return Expression(v_exp, encoder.sha256, arguments.expression_strength)


def _require_one(arguments: argparse.Namespace) -> None:
    if len(arguments.images) > 1 and not arguments.mean:
        raise SettingsError(
            f"--out {arguments.out} is one file for {len(arguments.images)} images; expected a folder, "
            "or --mean when all of them show one person."
        )
