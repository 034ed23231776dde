"""The face options of `encode` and `demo`: from photos on disk to aligned crops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..align import align_face
from ..constants import FACE_CROP_SIZE_PX
from ..detect import DEFAULT_THRESHOLD, find_faces
from ..detectors import auto_detector, build_detector, find_detector_weights
from ..encode import Crop
from ..errors import ImageError, NoFaceError, SettingsError
from ..image import read_image, rgb_sha256
from ..locate import fill_missing, locate
from ..ports import Detector, every
from .folders import model_folders
from .progress import Bar, note

Cut = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CutFace:
    """A crop and the photo it comes from."""

    path: Path
    crop: Crop


def cut_faces(paths: Sequence[Path], options: argparse.Namespace, cut: Cut = align_face) -> list[CutFace]:
    """The chosen face of every photo, aligned by `cut`; fewer where --on-missing skip leaves some out.

    Raises ImageError, NoFaceError, SettingsError, WeightsError, MissingPackageError.
    """
    if options.aligned:
        return [CutFace(path, _ready_crop(path)) for path in every(paths, Bar("Crops"))]
    find = _given_points(options.landmarks, paths) if options.landmarks else _by_detector(options)
    found = [_cut(path, find, cut) for path in every(paths, Bar("Faces"))]
    kept, missing = fill_missing(found, options.on_missing)
    for number in missing:
        note(f"{paths[number].name}: no usable face, left out")
    return kept


def read_landmarks(text: str, count: int) -> list[np.ndarray]:
    """Five points for each of `count` images from JSON, in a file or as it is. Each (5, 2) px. Raises SettingsError."""
    try:
        source = text if text.lstrip().startswith("[") else Path(text).read_text(encoding="utf-8")
        points = np.array(json.loads(source), dtype=np.float64)
    except OSError as error:
        raise SettingsError(f"Cannot read the landmarks {text}: {error.strerror}. Expected a JSON file.") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"The landmarks are not a JSON list of numbers: expected {_LANDMARKS_FORM}.") from error
    points = points[None] if points.ndim == 2 else points
    if points.shape != (count, 5, 2):
        raise SettingsError(
            f"The landmarks have shape {points.shape} for {count} images: expected {_LANDMARKS_FORM}. "
            "The points are eyes, nose tip, mouth corners, image left first."
        )
    return list(points)


_LANDMARKS_FORM = "five [x, y] in px for one image, or a list of such lists, one for each image"


def chosen_detector(name: str, weights: Path | None) -> Detector:
    """The detector of --detector and --detector-weights; a file that is not given is looked for in the model folders.

    Raises WeightsError, MissingPackageError, SettingsError.
    """
    if name == "auto":
        return auto_detector(model_folders()) if weights is None else build_detector("yunet", weights)
    return build_detector(name, weights or find_detector_weights(model_folders()).get(name))


def _ready_crop(path: Path) -> Crop:
    rgb = read_image(path)
    if rgb.shape[:2] != (FACE_CROP_SIZE_PX, FACE_CROP_SIZE_PX):
        raise ImageError(
            f"{path.name} is {rgb.shape[1]} x {rgb.shape[0]} px; --aligned expects a face crop of "
            f"{FACE_CROP_SIZE_PX} x {FACE_CROP_SIZE_PX}. Leave --aligned out to have the face found and aligned."
        )
    return Crop(rgb, rgb_sha256(rgb), "aligned beforehand")


Find = Callable[[Path, np.ndarray], tuple[np.ndarray, str]]


def _given_points(landmarks: str, paths: Sequence[Path]) -> Find:
    remaining = iter(read_landmarks(landmarks, len(paths)))
    return lambda path, rgb: (next(remaining), "points given")


def _by_detector(options: argparse.Namespace) -> Find:
    detector = chosen_detector(options.detector, options.detector_weights)
    threshold = DEFAULT_THRESHOLD if options.threshold is None else options.threshold

    def find(path: Path, rgb: np.ndarray) -> tuple[np.ndarray, str]:
        found = locate([find_faces(detector, rgb, threshold)], options.order, options.index)[0]
        if isinstance(found, NoFaceError):
            raise NoFaceError(f"{path.name}: {found}") from found
        return found.face.points, found.how

    return find


def _cut(path: Path, find: Find, cut: Cut) -> CutFace | NoFaceError:
    rgb = read_image(path)
    try:
        points, how = find(path, rgb)
    except NoFaceError as error:
        return error
    return CutFace(path, Crop(cut(rgb, points), rgb_sha256(rgb), how))
