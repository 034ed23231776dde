"""What the back ends share: optional packages, files, and pictures fitted to what a network takes."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from ..catalogue import PUBLISHED
from ..detect import Face
from ..errors import MissingPackageError, WeightsError
from ..image import scaled

_FOLDER = "the model folder"
_PIP_NAMES = {"cv2": "opencv-python-headless"}  # where it is not the name of the module


def import_package(module: str, detector: str) -> ModuleType:
    """Import a module that only this detector needs. Raises MissingPackageError."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything: ImportError, ValueError (numpy ABI), OSError
        raise MissingPackageError(missing_package(module.partition(".")[0], detector, _one_line(error))) from error


def missing_package(package: str, detector: str, reason: str) -> str:
    """The message for a package that cannot be used."""
    return (
        f'The face detector "{detector}" needs the package {package}, which cannot be used here ({reason}): '
        f"pip install {_PIP_NAMES.get(package, package)} (extra: faces). Other detectors, ready crops and landmarks "
        "work without it."
    )


def read_file(file: str | Path | None, detector: str) -> bytes:
    """The bytes of a detector's file, so that any path works on any system. Raises WeightsError."""
    path = require_file(file, detector)
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}. {how_to_get(detector)}") from error


def require_file(file: str | Path | None, detector: str) -> Path:
    """The path of a file that exists. Raises WeightsError that says where the file is published."""
    if file is None:
        raise WeightsError(f'The face detector "{detector}" has no weight file. {how_to_get(detector)}')
    path = Path(file)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"{path} {found}: expected the {PUBLISHED[detector].title}. {how_to_get(detector)}")
    return path


def wrong_file(file: str | Path | None, detector: str, reason: object) -> WeightsError:
    """The error for a file that is damaged or holds something else; `reason` is cut to one line."""
    return WeightsError(
        f"{Path(file or '').name} cannot be used as {PUBLISHED[detector].title}, it is damaged or another model "
        f"({_one_line(reason)}). {how_to_get(detector)}"
    )


def how_to_get(detector: str) -> str:
    """Where the detector's file is published, with its licence."""
    return PUBLISHED[detector].how_to_get(_FOLDER)


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:160] or type(reason).__name__


def fitted(rgb: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[float, float]]:
    """The picture scaled (same sides ratio, whole pixels) to fit width x height, and the scale in x and y."""
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    new_width, new_height = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return scaled(rgb, new_width, new_height), (new_width / rgb.shape[1], new_height / rgb.shape[0])


def face_from(corners: np.ndarray, points: np.ndarray, score: float, scale: tuple[float, float] = (1.0, 1.0)) -> Face:
    """A Face from x0, y0, x1, y1 (4,) and five points (10,) px in a picture scaled by `scale`."""
    place = (np.concatenate([corners, points]).astype(np.float64).reshape(7, 2) + 0.5) / scale - 0.5
    return Face(tuple(place[:2].ravel().tolist()), place[2:], float(score))
