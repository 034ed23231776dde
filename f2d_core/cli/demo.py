"""`demo`: the whole way from a photo to a picture, with small stand-ins for what is not given."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from ..backends.diffusers import GUIDANCE, STEPS
from ..backends.stand_in import write_stand_in
from ..catalogue import PUBLISHED
from ..encode import Labels, encode_faces
from ..errors import MissingPackageError, SettingsError
from ..image import write_png
from ..networks import load_network
from ..prompt import Person, require_markers
from ..s_star import SStar, save_s_star
from ..testing import tiny_mapping_state_dict, tiny_msid_state_dict
from ..weights import write_safetensors
from .faces import CutFace, cut_faces
from .generate import load_model, sample, save_picture
from .progress import announce

# The portrait that scikit-image ships, and its five points in px, found once with YuNet.
_PORTRAIT = "astronaut.png"
_PORTRAIT_SOURCE = "Eileen Collins, astronaut (NASA, public domain; from scikit-image)"
_PORTRAIT_POINTS = "[[203.35, 103.62], [247.52, 104.45], [224.10, 127.69], [203.96, 143.14], [242.91, 143.67]]"

STAND_INS = "stand-ins"  # the folder they are written to

_STAND_INS_USED = """\
STAND-INS were used for {parts}: small models with random numbers.
The picture is coloured noise. It shows that every step works on this machine, and is nobody's likeness."""

_NEXT = """\
With real weights:
  1. {msid}
     {mapping}
  2. Take any Stable Diffusion 1.x checkpoint.
  3. python -m f2d_core demo --msid msid.pt --mapping mapping.pt --model CHECKPOINT
Use photos of people who agreed to it, and label the pictures as generated."""


def run(arguments: argparse.Namespace) -> None:
    if (arguments.msid is None) != (arguments.mapping is None):
        raise SettingsError(
            "Only one of --msid and --mapping is given; expected both, which belong together, or neither."
        )
    print("Face2Diffusion: from a photo to a picture")
    out: Path = arguments.out
    face = _face(arguments)
    source = _PORTRAIT_SOURCE if arguments.photo is None else f"{face.path} ({face.crop.detector})"
    print(f"  photo     {source}")
    print(f"  face      {write_png(out / 'demo_face.png', face.crop.pixels)}")
    s_star = _identity(face, arguments)
    identity = save_s_star(s_star, out / "demo_identity.safetensors")
    print(f"  S*        {identity} ({s_star.words} words of width {s_star.width})")
    print(f"  prompt    {arguments.prompt}", flush=True)
    print(f"  picture   {_picture(s_star, arguments)}\n")
    print(_explanation(arguments))


def portrait() -> Path:
    """scikit-image's picture file, found without importing the package, which could fetch a missing one."""
    package = importlib.util.find_spec("skimage")
    if package is not None:
        for folder in package.submodule_search_locations or ():
            file = Path(folder, "data", _PORTRAIT)
            if file.is_file():
                return file
    raise MissingPackageError(
        "The demo's default photo comes with the package scikit-image, which is not installed: "
        "pip install scikit-image, or give a photo of your own with --photo FILE."
    )


def _face(arguments: argparse.Namespace) -> CutFace:
    options = argparse.Namespace(
        aligned=False, landmarks=arguments.landmarks, detector=arguments.detector,
        detector_weights=arguments.detector_weights, order="largest", index=0, threshold=None, on_missing="error",
    )  # fmt: skip
    if arguments.photo is None:
        options.landmarks = _PORTRAIT_POINTS
    return cut_faces([arguments.photo or portrait()], options)[0]


def _identity(face: CutFace, arguments: argparse.Namespace) -> SStar:
    msid_file, mapping_file = arguments.msid, arguments.mapping
    if msid_file is None:
        msid_file, mapping_file = _stand_in_networks(arguments.out / STAND_INS)
    msid, mapping = load_network(msid_file, "msid"), load_network(mapping_file, "mapping")
    return encode_faces([face.crop], msid, mapping, labels=Labels(name=face.path.stem))[0]


def _stand_in_networks(folder: Path) -> tuple[Path, Path]:
    metadata = {"licence": "a stand-in with random numbers, free for any use"}
    msid = write_safetensors(folder / "msid.safetensors", tiny_msid_state_dict(), metadata)
    return msid, write_safetensors(folder / "mapping.safetensors", tiny_mapping_state_dict(), metadata)


def _picture(s_star: SStar, arguments: argparse.Namespace) -> Path:
    people = [Person(s_star)]
    require_markers(arguments.prompt, people)  # before a model is loaded in vain
    options = argparse.Namespace(
        **{**vars(arguments), "model": arguments.model or _stand_in_model(arguments.out / STAND_INS / "model")},
        negative="", n=1, steps=STEPS, cfg=GUIDANCE, size=None, allow_download=False,
    )  # fmt: skip
    ((seed, picture),) = sample(load_model(options), people, options)
    return save_picture(picture, arguments.out / "demo_picture.png", options, seed)


def _stand_in_model(folder: Path) -> str:
    announce("Making a small stand-in for Stable Diffusion")
    return str(write_stand_in(folder))


def _explanation(arguments: argparse.Namespace) -> str:
    parts = ["the networks that see the face"] if arguments.msid is None else []
    parts += ["Stable Diffusion"] if arguments.model is None else []
    if not parts:
        return "Pictures of real people: only of those who agreed to it, and labelled as generated."
    steps = _NEXT.format(
        **{kind: PUBLISHED[kind].how_to_get("a folder of your choice") for kind in ("msid", "mapping")}
    )
    return f"{_STAND_INS_USED.format(parts=' and '.join(parts))}\n\n{steps}"
