"""Several people as one: weighted means of their identity features, or of their words.

Each part of v_id comes out of a layer norm (f2d_core/msid.py), so it has about the same length for everybody and the
person is in its direction. A plain mean of unlike directions is shorter than any face's, which the mapping network has
not seen in training; so every part is averaged on the sphere, and its length is the weighted mean of the lengths.
DreamIdentity's raw class tokens are treated alike: direction and length apart. The words of S* come out of a linear
layer and v_exp are coefficients of a linear model: for both the weighted mean is the plain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .constants import DEFAULT_CLASS_WORD, FEATURES_DREAMIDENTITY, FEATURES_MSID
from .errors import MismatchError, SettingsError
from .s_star import SStar, is_thumbnail

if TYPE_CHECKING:
    from .networks import Network

MOST_PEOPLE = 8
MADE_OF = "made_of"  # metadata of a blended S*: names and shares
_PARTS = {FEATURES_MSID: 4, FEATURES_DREAMIDENTITY: 5}  # of v_id, as published
_MOST_STEPS, _SMALLEST_STEP = 200, 1e-10  # of the search for the mean on the sphere, radians


def blend(people: Sequence[SStar], weights: Sequence[float], mapping: Network | None = None) -> SStar:
    """One S* out of several, with a mapping from their identity features, without from their words.

    weights: one for each person; only their relation counts, and a negative one leads away from that person. Somebody
    who has all the weight comes back with the very same words. Markers and class words follow the first person where
    they differ. Raises MismatchError for people who cannot be mixed, SettingsError for weights that mean nothing.
    """
    if len(people) != len(weights):
        raise SettingsError(f"{len(weights)} weights for {len(people)} people. Give each of them one.")
    check_words(people) if mapping is None else check_features(people, mapping)
    shares = _shares(weights)
    present = [(person, share) for person, share in zip(people, shares, strict=True) if share]
    if len(present) == 1 and (mapping is None or present[0][0].mapping_sha256 == mapping.sha256):
        return replace(present[0][0], marker=people[0].marker)
    if mapping is None:
        mixed = {"vectors": _plain_mean([person.vectors for person, _ in present], present), "v_id": None}
    else:
        mixed = _mixed_features(present, mapping)
    return replace(_record(present), marker=people[0].marker, **mixed)


def _shares(weights: Sequence[float]) -> list[float]:
    """The weights as parts of 1."""
    total = math.fsum(weights)
    if not all(math.isfinite(weight) for weight in weights) or total <= 0:
        raise SettingsError(
            f"The weights {', '.join(f'{weight:g}' for weight in weights)} have the sum {total:g}, expected more than "
            "0. Raise one of them."
        )
    return [weight / total for weight in weights]


def _mixed_features(present: Sequence[tuple[SStar, float]], mapping: Network) -> dict:
    shares = [share for _, share in present]
    v_id = mean_identity(torch.stack([person.v_id for person, _ in present]), shares, present[0][0].features)
    v_exp = None
    if any(person.v_exp is not None for person, _ in present):
        v_exp = _plain_mean([expression_of(person, mapping) for person, _ in present], present)
    facts = {name: mapping.facts[name] for name in ("injection", "encoder_key", "class_word")}
    licence = licence_of([mapping.licence, *(person.licence for person, _ in present)])
    return {
        "vectors": words_of(v_id, v_exp, mapping),
        "v_id": v_id,
        "v_exp": v_exp,
        "mapping_sha256": mapping.sha256,
        "licence": licence,
        **facts,
    }


def _plain_mean(tensors: Sequence[torch.Tensor], present: Sequence[tuple[SStar, float]]) -> torch.Tensor:
    """The weighted mean, computed in fp64 and rounded once to fp32."""
    return sum(share * tensor.double() for tensor, (_, share) in zip(tensors, present, strict=True)).float()


# --- identity features ---


def mean_identity(v_id: torch.Tensor, shares: Sequence[float], features: str = FEATURES_MSID) -> torch.Tensor:
    """(n, width) fp32 and n shares with the sum 1 -> (width,) fp32: the mean on the sphere of every part of v_id.

    Where the width does not divide into the parts of the published layout, v_id is taken as one part.
    Raises SettingsError where there is no such mean.
    """
    weights = torch.tensor(shares, dtype=torch.float64)
    return torch.cat([_spherical_mean(part, weights) for part in parts(v_id.double(), features)]).float()


def parts(v_id: torch.Tensor, features: str) -> tuple[torch.Tensor, ...]:
    """(n, width) -> the parts of v_id that were normalised by themselves, each (n, width / parts)."""
    count = _PARTS.get(features, 1)
    return v_id.chunk(count, dim=1) if v_id.shape[1] % count == 0 else (v_id,)


def _spherical_mean(vectors: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(n, d) fp64 -> (d,): the weighted Fréchet mean of the directions, with the weighted mean of the lengths.

    For two directions it is the point between them on the great circle (slerp). Buss and Fillmore, "Spherical averages"
    (2001), algorithm A1.
    """
    lengths = vectors.norm(dim=1)
    directions = vectors / lengths.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    mean = _unit(shares @ directions)
    for _ in range(_MOST_STEPS):
        step = shares @ tangents(mean, directions)
        size = step.norm()
        if not torch.isfinite(size):
            break
        if size < _SMALLEST_STEP:
            return mean * (shares @ lengths)
        mean = _unit(mean * size.cos() + step / size * size.sin())
    raise SettingsError("These weights lead too far away from all faces. Use weights closer to each other, or above 0.")


def tangents(base: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(n, d): the way on the sphere from `base` to each direction: its length is the angle in radians."""
    cosine = directions @ base
    across = directions - cosine[:, None] * base
    sine = across.norm(dim=1)
    angle = torch.atan2(sine, cosine)
    return across * (angle / sine.clamp_min(torch.finfo(torch.float64).tiny))[:, None]


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


# --- through the mapping network ---


def words_of(v_id: torch.Tensor, v_exp: torch.Tensor | None, mapping: Network) -> torch.Tensor:
    """(width,), (64,) or None -> S*, (k, word width). One person at a time, so that the bits depend on nobody else."""
    words = mapping.run(v_id[None], None if v_exp is None else v_exp[None])[0].clone()
    if not torch.isfinite(words).all():
        raise MismatchError(
            f"{mapping.title} gave word vectors that are not numbers. Use people and weights closer to each other, or "
            "get the weight file again."
        )
    return words


def expression_of(person: SStar, mapping: Network) -> torch.Tensor:
    """(64,) fp32: the person's v_exp, or the mapping's "no expression"."""
    if person.v_exp is not None:
        return person.v_exp
    return mapping.module.null_exp.detach().to("cpu", torch.float32)


def check_features(people: Sequence[SStar], mapping: Network) -> None:
    """Raise MismatchError unless all have identity features of one encoder, of the kind this mapping takes."""
    for person in people:
        if person.v_id is None:
            raise MismatchError(
                f"The S* of {person.title} holds no identity features, only words. Encode the photo again, or "
                "disconnect the mapping to work with the words."
            )
        _require_same("identity encoders", "msid_sha256", person, people[0])
        _check_mapping(person, mapping)
    with_expression = [person for person in people if person.v_exp is not None]
    for person in with_expression:
        _require_same("expression encoders", "expression_encoder_sha256", person, with_expression[0])


def _check_mapping(person: SStar, mapping: Network) -> None:
    config, facts = mapping.module.config, mapping.facts
    trained_with = facts["msid_sha256"]
    width = 0 if person.v_exp is None else len(person.v_exp)
    fits = (
        person.features == facts["features"]
        and len(person.v_id) == config.id_width
        and width in (0, config.expression_width)
        and not (trained_with and person.msid_sha256 and trained_with != person.msid_sha256)
    )
    if not fits:
        raise MismatchError(
            f"The S* of {person.title} has {len(person.v_id)} identity features ({person.features}) and {width} "
            f"coefficients of expression, {mapping.title} takes {config.id_width} ({facts['features']}) and "
            f"{config.expression_width}, of the encoder it was trained with. Connect the mapping that made this S*."
        )


def check_words(people: Sequence[SStar]) -> None:
    """Raise MismatchError unless all S* are made of the same number of words for one text encoder and convention."""
    first = people[0]
    for person in people:
        if _kind(person) != _kind(first):
            raise MismatchError(
                f"The S* of {first.title} has {_kind(first)}, that of {person.title} {_kind(person)}: such words do "
                "not mix. Make both with one mapping, or connect a mapping to blend identity features instead."
            )


def _kind(person: SStar) -> str:
    return (
        f'{person.words} words of width {person.width} for the text encoder "{person.encoder_key}", convention '
        f"{person.injection}"
    )


def _require_same(what: str, field: str, person: SStar, first: SStar) -> None:
    if getattr(person, field) != getattr(first, field):
        raise MismatchError(
            f"The S* of {first.title} and of {person.title} come from different {what} (sha256 "
            f"{_short(getattr(first, field))} and {_short(getattr(person, field))}). Encode both with the same files, "
            "or disconnect the mapping to mix their words."
        )


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…" if sha256 else "unknown"


# --- provenance ---


def _record(present: Sequence[tuple[SStar, float]]) -> SStar:
    """What is known of the mixture: all names, hashes and licences; a picture where everybody has one."""
    people = [person for person, _ in present]
    words = {person.class_word for person in people}
    return SStar(
        vectors=people[0].vectors,
        name=" + ".join(f"{person.title} {share:.0%}" for person, share in present),
        injection=people[0].injection,
        encoder_key=people[0].encoder_key,
        class_word=people[0].class_word if len(words) == 1 else DEFAULT_CLASS_WORD,
        features=people[0].features,
        thumbnail=_picture(present),
        msid_sha256=_joined([person.msid_sha256 for person in people], " "),
        mapping_sha256=_joined([person.mapping_sha256 for person in people], " "),
        expression_encoder_sha256=_joined([person.expression_encoder_sha256 for person in people], " "),
        image_sha256=_joined([person.image_sha256 for person in people], " "),
        detector=_joined([person.detector for person in people], ", "),
        licence=licence_of([person.licence for person in people]),
        unknown_metadata={MADE_OF: ", ".join(f"{person.title}: {share:.4g}" for person, share in present)},
    )


def licence_of(licences: Sequence[str]) -> str:
    """What holds for something made of parts under these licences: all of them, each once."""
    return _joined([part for licence in licences for part in licence.split("; ")], "; ")


def _joined(texts: Sequence[str], between: str) -> str:
    return between.join(dict.fromkeys(text for text in texts if text))


def _picture(present: Sequence[tuple[SStar, float]]) -> torch.Tensor | None:
    """(112, 112, 3) uint8: the aligned crops laid over each other; None where one is missing, or another kind of
    picture, which does not lie over them."""
    pictures = [person.thumbnail for person, _ in present]
    if not all(map(is_thumbnail, pictures)):
        return None
    return _plain_mean(pictures, present).round().clamp(0, 255).to(torch.uint8)
