"""What the command `doctor` and the node Doctor say: versions, packages, which weights are where, a self-test."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from .catalogue import PUBLISHED, Published
from .constants import IDENTITIES, WEIGHT_ENDINGS
from .data.parser import load_parser
from .detectors import find_detector_weights
from .errors import WeightsError
from .evaluate.extractors import find_extractors
from .files import files_below
from .ports import Progress, every
from .self_test import SelfTest, self_test
from .weights import file_sha256, peek_tensors, recognise

_NEEDED = ("torch", "numpy", "safetensors", "pillow")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
_OPTIONAL = {  # what for -> the packages that will do
    "detector yunet": _OPENCV,
    "detector insightface": ("insightface", "onnxruntime"),
    "detector facexlib": ("facexlib",),
    "generate and demo": ("diffusers", "transformers"),
    "the demo's photo": ("scikit-image",),
    "judging with CLIP and SigLIP": ("open-clip-torch",),
    "judging with ArcFace": ("onnxruntime",),
}
_ENDINGS = (*WEIGHT_ENDINGS, ".onnx")
_PARSER_KEYS = "cp.resnet."  # how keys of a face parser begin


@dataclass(frozen=True)
class Found:
    """A weight file: where it is, its kind in the catalogue, its licence, and the SHA-256 of its bytes."""

    path: Path
    kind: str
    licence: str
    sha256: str

    @property
    def megabytes(self) -> float:
        return self.path.stat().st_size / 1e6


@dataclass(frozen=True)
class Report:
    """text: for a bug report; it names no folder of this machine. found: the weight files."""

    text: str
    found: list[Found]
    test: SelfTest


def examine(folders: Sequence[Path], about: Sequence[str] = (), progress: Progress | None = None) -> Report:
    """Everything, for showing. about: lines to begin with, such as versions of what this runs in."""
    found = found_weights(folders, progress)
    test = self_test()
    places = ", ".join(dict.fromkeys(folder.name for folder in folders)) or "no folder"
    lines = [*about, *versions(), *packages()]
    lines += [*weights(found, places, lambda path: _shown(path, folders)), verdict(test)]
    return Report("\n".join(lines), found, test)


def _shown(path: Path, folders: Sequence[Path]) -> str:
    """A file by the name of its model folder and its place in it."""
    for folder in folders:
        if path.is_relative_to(folder):
            return (Path(folder.name) / path.relative_to(folder)).as_posix()
    return path.name


def verdict(test: SelfTest) -> str:
    """The last line."""
    return f"Self-test: {test.problem or 'passed (small networks, from a crop to words in a prompt)'}"


def versions() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.platform()}"
    yield ", ".join(f"{package} {_version(package) or 'missing'}" for package in _NEEDED)
    yield f"Devices: {', '.join(_devices())}"


def _devices() -> list[str]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def packages() -> Iterator[str]:
    yield "Optional packages"
    for purpose, names in _OPTIONAL.items():
        found = [f"{package} {_version(package)}" for package in names if _version(package)]
        yield f"  {purpose}: {', '.join(found) or 'not installed (' + names[0] + ')'}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def weights(found: Sequence[Found], places: str, show: Callable[[Path], str] = str) -> Iterator[str]:
    """places: where they were looked for, in words. show: how a file is called."""
    yield f"Weights, looked for in {places}"
    for kind, entry in PUBLISHED.items():
        yield from _entry_lines(entry, [item for item in found if item.kind == kind], show)


def found_weights(folders: Sequence[Path], progress: Progress | None = None) -> list[Found]:
    """All weight files that are known by their content, with their hashes. progress counts files."""
    files = find_weights(folders, progress)
    return [Found(file, kind, licence, _sha256(file)) for file, (kind, licence) in files.items()]


def _sha256(file: Path) -> str:
    state = file.stat()
    return _sha256_of(str(file), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _sha256_of(file: str, changed_ns: int, size: int) -> str:
    """Once for every state of the file: some have gigabytes."""
    return file_sha256(file)


def find_weights(folders: Sequence[Path], progress: Progress | None = None) -> dict[Path, tuple[str, str]]:
    """File -> (kind in the catalogue, licence), of the folders and what is below them; saved people are left out."""
    files = _candidates(folders)
    judges = _judges(tuple(folders), tuple(_state(file) for file in files))
    known = {file: name for name, file in {**find_detector_weights(folders), **judges}.items()}
    networks = [file for file in files if file not in known and file.suffix.lower() in WEIGHT_ENDINGS]
    found = {file: _network(*_state(file)) for file in every(networks, progress)}
    others = {file: (name, PUBLISHED[name].licence) for file, name in known.items()}
    return {**{file: network for file, network in found.items() if network is not None}, **others}


def _candidates(folders: Sequence[Path]) -> list[Path]:
    """Whatever could be weights by its ending; once where folders overlap."""
    below = [file for folder in folders for file in sorted(files_below(folder, without=IDENTITIES))]
    files = [file for file in below if file.suffix.lower() in _ENDINGS and file.is_file()]
    once: dict[Path, Path] = {}
    for file in files:
        once.setdefault(file.resolve(), file)
    return list(once.values())


def _state(file: Path) -> tuple[Path, int, int]:
    """What changes when the content does."""
    state = file.stat()
    return file, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=8)
def _judges(folders: tuple[Path, ...], states: tuple[tuple[Path, int, int], ...]) -> dict[str, Path]:
    """Once for every state of the files: the page asks before each run."""
    return find_extractors(folders)


@lru_cache(maxsize=1024)
def _network(file: Path, changed_ns: int, size: int) -> tuple[str, str] | None:
    """By its keys, not by its values: other people's files of gigabytes lie there, too."""
    try:
        tensors, metadata = peek_tensors(file)
    except WeightsError:
        return None
    kind = recognise(tensors)
    if kind is not None:
        return kind, metadata.get("licence", PUBLISHED[kind].licence)
    return _parser(file) if any(str(key).startswith(_PARSER_KEYS) for key in tensors) else None


def _parser(file: Path) -> tuple[str, str] | None:
    try:
        load_parser(file)
    except WeightsError:  # something else lies there, which is nobody's mistake
        return None
    return "parser", PUBLISHED["parser"].licence


def _entry_lines(entry: Published, files: Sequence[Found], show: Callable[[Path], str]) -> Iterator[str]:
    if not files:
        yield f"  {entry.title}: not found. {entry.how_to_get('one of these folders')}"
    for item in files:
        note = " (as published)" if item.sha256 == entry.sha256 else ""
        yield f"  {entry.title}: {show(item.path)} ({item.megabytes:.1f} MB)"
        yield f"    sha256 {item.sha256}{note}"
        yield f"    licence: {item.licence}"
