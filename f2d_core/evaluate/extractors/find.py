"""Which judges there are: weight files in folders, recognised by their content, and those of them that can be used."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...catalogue import PUBLISHED
from ...errors import F2DError
from ...ports import IdentityExtractor, ImageTextExtractor
from . import inception
from .files import FOLDER, Place, StateFile, peek_state
from .identity import identity_kind
from .image_text import image_text_kind
from .load import InceptionExtractor, load_identity_extractor, load_image_text_extractor, load_inception

# In the order of preference. Of each metric, the paper's own judge is the first.
IDENTITY_KINDS = ("adaface_ir50", "adaface_ir101", "sphereface", "facenet", "arcface")
IMAGE_TEXT_KINDS = ("clip_h14", "clip_l14", "siglip_so400m", "siglip_b16")
INCEPTION_KIND = "inception_fid"
KINDS = (*IDENTITY_KINDS, *IMAGE_TEXT_KINDS, INCEPTION_KIND)
_ONNX = ".onnx"
_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", _ONNX}
# What is in an .onnx file is known only when it runs, so these are found by their names and judged when loaded.
_ARCFACE_NAMES = ("w600k_*.onnx", "glintr*.onnx", "*arcface*.onnx")


@dataclass(frozen=True)
class Extractors:
    """The judges that can be used, by kind in the order of preference, and what is wrong with the others."""

    identity: dict[str, IdentityExtractor] = field(default_factory=dict)
    image_text: dict[str, ImageTextExtractor] = field(default_factory=dict)
    inception: InceptionExtractor | None = None
    problems: dict[str, str] = field(default_factory=dict)  # kind -> one line for people


def find_extractors(folders: Iterable[str | Path]) -> dict[str, Path]:
    """kind -> weight file, looked for in the folders and below, in the order of preference.

    The first folder that has a kind counts, then the alphabet. Damaged and foreign files are passed over, folders
    that do not exist, too. Values are not read: a large file costs no more than a small one.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for file in _files(Path(folder)):
            kind = extractor_kind(file)
            if kind:
                found.setdefault(kind, file)
    return {kind: found[kind] for kind in KINDS if kind in found}


def _files(folder: Path) -> Iterator[Path]:
    """Those below that could be weights."""
    try:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    except OSError:
        return
    yield from files


def extractor_kind(file: Path) -> str:
    """Which of KINDS a file is, whatever it is called (but for .onnx); "" for anything else. Never raises."""
    if file.suffix.lower() == _ONNX:
        return "arcface" if any(fnmatch.fnmatch(file.name.lower(), name) for name in _ARCFACE_NAMES) else ""
    state = peek_state(file)
    return _kind(state) if state is not None else ""


def _kind(state: StateFile) -> str:
    try:
        if state.part(inception.SIGN) is not None:
            return INCEPTION_KIND
        return identity_kind(state) or image_text_kind(state)
    except F2DError:  # a network of these, of a size that is not known
        return ""


def usable_extractors(
    folders: Iterable[str | Path], device: str | torch.device = "cpu", place: Place | None = None
) -> Extractors:
    """Load every judge that is in the folders. What is missing, damaged or lacks a package is said in `problems`."""
    found = find_extractors(folders)
    loaded, problems = {}, {}
    for kind in KINDS:
        if kind not in found:
            problems[kind] = f"{PUBLISHED[kind].title} is not there. {PUBLISHED[kind].how_to_get(FOLDER)}"
            continue
        try:
            loaded[kind] = load_extractor(kind, found[kind], device, place)
        except F2DError as error:
            problems[kind] = str(error)
    return Extractors(
        {kind: loaded[kind] for kind in IDENTITY_KINDS if kind in loaded},
        {kind: loaded[kind] for kind in IMAGE_TEXT_KINDS if kind in loaded},
        loaded.get(INCEPTION_KIND),
        problems,
    )


def load_extractor(
    kind: str, path: Path, device: str | torch.device = "cpu", place: Place | None = None
) -> IdentityExtractor | ImageTextExtractor | InceptionExtractor:
    """The judge of a kind that `find_extractors` found. Raises WeightsError, MissingPackageError."""
    if kind == INCEPTION_KIND:
        return load_inception(path, device, place=place)
    load = load_identity_extractor if kind in IDENTITY_KINDS else load_image_text_extractor
    return load(path, device, place=place)
