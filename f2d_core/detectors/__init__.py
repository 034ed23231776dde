"""Face detectors, each an optional package and one local weight file. Importing this imports none of them.

`build_detector` makes the one asked for; `auto_detector` the first of DETECTORS that is installed and has its file.
Nothing here, and nothing the back ends call, goes to the network.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ..catalogue import PUBLISHED
from ..errors import MissingPackageError, SettingsError, WeightsError
from ..files import files_below
from ..ports import Detector

DETECTORS = ("yunet", "insightface", "facexlib")  # the order of `auto`

_PACKAGES = {"yunet": ("cv2",), "insightface": ("insightface", "onnxruntime"), "facexlib": ("facexlib",)}
# File names by which weights are recognised, in small letters, best first. Not every OpenCV reads the dynamic YuNet,
# and the int8 ones are less exact, so they come last.
_PATTERNS = {
    "yunet": ("*yunet_n_*0.onnx", "*yunet*2023mar.onnx", "*yunet*.onnx"),
    "insightface": ("det_*.onnx", "scrfd*.onnx"),
    "facexlib": ("detection_resnet50*.pth", "detection_mobilenet*.pth", "retinaface*.pth"),
}


def build_detector(name: str, weights_file: str | Path | None) -> Detector:
    """The detector `name` from an explicit local file; None says that no file was found.

    Raises SettingsError for another name, MissingPackageError, WeightsError.
    """
    if name not in DETECTORS:
        raise SettingsError(f'The face detector is "{name}": expected one of {", ".join(DETECTORS)}.')
    return importlib.import_module(f".{name}", __name__).load(weights_file)


def find_detector_weights(folders: Iterable[str | Path]) -> dict[str, Path]:
    """Detector name -> its weight file, looked for in the folders and below, in any letter case.

    yunet: *yunet*.onnx; insightface: det_*.onnx, scrfd*.onnx; facexlib: detection_resnet50*.pth,
    detection_mobilenet*.pth, retinaface*.pth. The first folder that has one counts, then the order of the patterns,
    then the alphabet. Folders that do not exist are passed over.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        files = sorted(files_below(folder))
        for name in DETECTORS:
            match = _best_match(files, _PATTERNS[name])
            if match is not None:
                found.setdefault(name, match)
    return {name: found[name] for name in DETECTORS if name in found}


def _best_match(files: list[Path], patterns: tuple[str, ...]) -> Path | None:
    for pattern in patterns:
        for file in files:
            if fnmatch.fnmatchcase(file.name.lower(), pattern):
                return file
    return None


def auto_detector(folders: Iterable[str | Path]) -> Detector:
    """The first of DETECTORS whose package is installed and whose file is in the folders; its `name` says which.

    A package that turns out broken or too old counts as not installed; a damaged file is an error. Raises
    MissingPackageError when no package is there, else WeightsError; both list what each detector lacks.
    """
    folders = list(folders)
    weights = find_detector_weights(folders)
    lacking = {}
    for name in DETECTORS:
        missing = [package for package in _PACKAGES[name] if not _is_installed(package)]
        if not missing and name in weights:
            try:
                return build_detector(name, weights[name])
            except MissingPackageError as error:
                lacking[name] = str(error).rstrip(".")
        else:
            lacking[name] = _lacking(name, missing, name in weights)
    raise _nothing_usable(lacking, folders)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _lacking(name: str, missing: list[str], has_file: bool) -> str:
    parts = [f"package {' and '.join(missing)}"] if missing else []
    if not has_file:
        entry = PUBLISHED[name]
        parts.append(f"a file like {entry.file} (licence: {entry.licence}, published at {entry.where})")
    return f"it lacks {' and '.join(parts)}"


def _nothing_usable(lacking: dict[str, str], folders: list[str | Path]) -> MissingPackageError | WeightsError:
    places = ", ".join(str(folder) for folder in folders) or "(none given)"
    details = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
    message = (
        f"No face detector can be used: {details}. Looked for files in {places}. "
        "Packages: pip install opencv-python-headless, or insightface, or facexlib. "
        "Ready crops and landmarks work without a detector."
    )
    installed = any(all(map(_is_installed, packages)) for packages in _PACKAGES.values())
    return WeightsError(message) if installed else MissingPackageError(message)
