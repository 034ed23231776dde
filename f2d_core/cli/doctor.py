"""`doctor`: versions, optional packages, which weights are where, and a self-test of the whole chain."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ..catalogue import PUBLISHED, Published
from ..data.parser import load_parser
from ..detectors import find_detector_weights
from ..errors import WeightsError
from ..ports import every
from ..weights import file_sha256, read_weights
from .folders import HOST_VARIABLE, model_folders
from .progress import Bar
from .self_test import self_test

_NEEDED = ("torch", "numpy", "safetensors", "pillow")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
_OPTIONAL = {  # what for -> the packages that will do
    "detector yunet": _OPENCV,
    "detector insightface": ("insightface", "onnxruntime"),
    "detector facexlib": ("facexlib",),
    "generate and demo": ("diffusers", "transformers"),
    "the demo's photo": ("scikit-image",),
}
_SUFFIXES = (".pt", ".pth", ".safetensors")
FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    folders = model_folders() if arguments.models is None else arguments.models
    for section in (_versions(), _packages(), _weights(folders)):
        for line in section:
            print(line)
    problem = self_test()
    print(f"Self-test: {'passed (small networks, from a crop to words in a prompt)' if problem is None else problem}")
    return 0 if problem is None else FAILED


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.platform()}"
    yield ", ".join(f"{package} {_version(package) or 'missing'}" for package in _NEEDED)
    yield f"Devices: {', '.join(_devices())}"


def _devices() -> list[str]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def _packages() -> Iterator[str]:
    yield "Optional packages"
    for purpose, packages in _OPTIONAL.items():
        found = [f"{package} {_version(package)}" for package in packages if _version(package)]
        yield f"  {purpose}: {', '.join(found) or 'not installed (' + packages[0] + ')'}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _weights(folders: Sequence[Path]) -> Iterator[str]:
    places = ", ".join(str(folder) for folder in folders)
    yield f"Weights, looked for in {places or f'no folder (give --models DIR, or set {HOST_VARIABLE})'}"
    found = find_weights(folders)
    for kind, entry in PUBLISHED.items():
        files = {file: licence for file, (file_kind, licence) in found.items() if file_kind == kind}
        yield from _entry_lines(entry, files)


def find_weights(folders: Sequence[Path]) -> dict[Path, tuple[str, str]]:
    """File -> (kind in the catalogue, licence): networks lie directly in the folders, detectors also below them."""
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    detectors = {file: (name, PUBLISHED[name].licence) for name, file in find_detector_weights(folders).items()}
    candidates = [f for f in files if f.suffix.lower() in _SUFFIXES and f.is_file() and f not in detectors]
    networks = {file: _network(file) for file in every(candidates, Bar("Weights"))}
    return {**{file: found for file, found in networks.items() if found is not None}, **detectors}


def _network(file: Path) -> tuple[str, str] | None:
    try:
        weights = read_weights(file)
    except WeightsError:
        return _parser(file)
    return weights.kind, weights.metadata.get("licence", PUBLISHED[weights.kind].licence)


def _parser(file: Path) -> tuple[str, str] | None:
    try:
        load_parser(file)
    except WeightsError:  # something else lies there, which is nobody's mistake
        return None
    return "parser", PUBLISHED["parser"].licence


def _entry_lines(entry: Published, files: Mapping[Path, str]) -> Iterator[str]:
    if not files:
        yield f"  {entry.title}: not found. {entry.how_to_get('one of these folders')}"
    for file, licence in files.items():
        digest = file_sha256(file)
        note = " (as published)" if digest == entry.sha256 else ""
        yield f"  {entry.title}: {file} ({file.stat().st_size / 1e6:.1f} MB)"
        yield f"    sha256 {digest}{note}"
        yield f"    licence: {licence}"
