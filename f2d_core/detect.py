"""Faces in a picture: the ladder that finds them, choosing one, and five points from other landmark layouts.

Detectors are in detectors/; here is what they all return. Boxes are (x0, y0, x1, y1) and points (x, y) in px of the
original picture, pixel centres at whole numbers. The five points are, in this order everywhere: eye at image left,
eye at image right, nose tip, mouth corner at image left, mouth corner at image right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import ImageError, NoFaceError, SettingsError
from .image import scaled
from .ports import Detector

Box = tuple[float, float, float, float]

DEFAULT_THRESHOLD = 0.6
_WORK_PIXELS = 1280 * 1280  # a detector is given no more than this at first, whatever the size of the picture
_LEAST_SIDE_PX = 32
_UP, _DOWN = 2.0, (0.5, 0.25)  # times the first size: up for small faces, down for large ones
_BORDER = 0.5  # of each side, for faces that fill the frame
_NO_FACE_HELP = "Use a picture where the face is larger, sharper or less turned, or lower the threshold of detection."


@dataclass(frozen=True, eq=False)
class Face:
    """One face. box: x0, y0, x1, y1 px, may reach over the edge. points: (5, 2) float64 px. score: 0..1."""

    box: Box
    points: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Of the box, px²."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True, eq=False)
class Detection:
    """What the ladder found: faces (largest first), the rung that found them ("none" if none did), the detector."""

    faces: tuple[Face, ...]
    rung: str
    detector: str


@dataclass(frozen=True, eq=False)
class _View:
    """The picture as a detector gets it: scaled by (x, y), then moved by a border."""

    rgb: np.ndarray
    scale: tuple[float, float] = (1.0, 1.0)
    border: tuple[int, int] = (0, 0)

    @property
    def pixels(self) -> int:
        return self.rgb.shape[0] * self.rgb.shape[1]

    def to_picture(self, face: Face) -> Face:
        scale, border = np.array(self.scale), np.array(self.border)
        corners = (np.array(face.box).reshape(2, 2) - border + 0.5) / scale - 0.5
        points = (np.asarray(face.points, np.float64) - border + 0.5) / scale - 0.5
        return Face(tuple(corners.ravel().tolist()), points, float(face.score))


def find_faces(detector: Detector, rgb: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> Detection:
    """Look for faces in (H, W, 3) uint8, step by step until some are found.

    The rungs: "as is" (large pictures reduced), "padded" (a border around), "scale 2" and others, then
    "threshold 0.3" (half of the one asked for) as is and padded. Raises SettingsError for a threshold outside 0..1.
    """
    if not 0 < threshold <= 1:
        raise SettingsError(f"The detection threshold is {threshold:g}: expected more than 0 and at most 1.")
    for rung, view, least in _rungs(rgb, threshold):
        found = [view.to_picture(face) for face in detector.detect(view.rgb, least)]
        faces = [face for face in found if _is_inside(face, rgb.shape[1], rgb.shape[0])]
        if faces:
            return Detection(tuple(sort_faces(faces, "largest")), rung, detector.name)
    return Detection((), "none", detector.name)


def _rungs(rgb: np.ndarray, threshold: float) -> Iterator[tuple[str, _View, float]]:
    """(name, view, threshold), each made when its turn comes. Up from the picture itself, which may show more."""
    whole = _View(rgb)
    fit = min(1.0, math.sqrt(_WORK_PIXELS / whole.pixels))
    first = _scaled(whole, fit)
    yield "as is", first, threshold
    padded = _padded(first)
    yield "padded", padded, threshold
    yield f"scale {_UP:g}", _scaled(whole, fit * _UP), threshold
    for factor in _DOWN:
        if min(first.rgb.shape[:2]) * factor >= _LEAST_SIDE_PX:
            yield f"scale {factor:g}", _scaled(first, factor), threshold
    for view in (first, padded):
        yield f"threshold {threshold / 2:g}", view, threshold / 2


def _scaled(view: _View, factor: float) -> _View:
    """The view with every side times `factor`, in whole pixels; its scale is the one that these give."""
    height, width = view.rgb.shape[:2]
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    scale = (view.scale[0] * new_width / width, view.scale[1] * new_height / height)
    return _View(scaled(view.rgb, new_width, new_height), scale)


def _padded(view: _View) -> _View:
    """A black border of half the size on every side, in no more pixels than a detector is given at first."""
    room = (1 + 2 * _BORDER) ** 2
    small = _scaled(view, min(1.0, math.sqrt(_WORK_PIXELS / (room * view.pixels))))
    height, width = small.rgb.shape[:2]
    x, y = round(width * _BORDER), round(height * _BORDER)
    return _View(np.pad(small.rgb, ((y, y), (x, x), (0, 0))), small.scale, (x, y))


def _is_inside(face: Face, width: int, height: int) -> bool:
    """Whether the face is a usable one: finite, of some size, its centre in the picture and not in the border."""
    if not (np.isfinite(face.box).all() and np.isfinite(face.points).all()):
        return False
    x0, y0, x1, y1 = face.box
    return x0 < x1 and y0 < y1 and 0 <= (x0 + x1) / 2 < width and 0 <= (y0 + y1) / 2 < height


# --- choosing one ---

_KEYS: dict[str, Callable[[Face], float]] = {
    "largest": lambda face: -face.area,
    "left-right": lambda face: face.box[0] + face.box[2],
    "top-bottom": lambda face: face.box[1] + face.box[3],
    "large-small": lambda face: -face.area,
    "score": lambda face: -face.score,
}
ORDERS = tuple(_KEYS)


def sort_faces(faces: Sequence[Face], order: str) -> list[Face]:
    """Faces sorted by one of ORDERS; equal ones from left to right, then from top to bottom. Raises SettingsError."""
    if order not in _KEYS:
        raise SettingsError(f"The order of faces is {order!r}: expected one of {', '.join(ORDERS)}.")
    return sorted(faces, key=lambda face: (_KEYS[order](face), face.box, -face.score))


def choose_face(faces: Sequence[Face], order: str = "largest", index: int = 0) -> Face:
    """The face number `index` (from 0) in that order. Raises NoFaceError, SettingsError for an unknown order."""
    ordered = sort_faces(faces, order)
    if not ordered:
        raise NoFaceError(f"No face was found: expected at least one. {_NO_FACE_HELP}")
    if not 0 <= index < len(ordered):
        count = "1 face was found, so the only index is 0"
        if len(ordered) > 1:
            count = f"{len(ordered)} faces were found, so the index can be 0 to {len(ordered) - 1}"
        raise NoFaceError(f"Face number {index} was asked for: {count}. Choose another index or picture.")
    return ordered[index]


def face_in_box(faces: Sequence[Face], box: Box) -> Face:
    """The face that overlaps a user's box best (intersection over union).

    Raises NoFaceError if none overlaps, SettingsError for a box without an area.
    """
    if not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
        raise SettingsError(f"The bounding box {_rounded(box)} has no area: expected x0 < x1 and y0 < y1 in px.")
    overlapping = [face for face in faces if overlap(face.box, box) > 0]
    if not overlapping:
        raise NoFaceError(
            f"None of the {len(faces)} detected faces lies in the bounding box {_rounded(box)}: expected one. "
            "Move the box onto a face, or leave it out."
        )
    return min(overlapping, key=lambda face: (-overlap(face.box, box), face.box))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def _rounded(box: Box) -> str:
    return f"({', '.join(f'{value:.0f}' for value in box)})"


# --- five points from other layouts ---

# MediaPipe face mesh: the rings of 16 points around the eye at image left (the person's right) and at image right,
# the iris centres that the 478-point mesh adds, nose tip, mouth corners. Topology as published with MediaPipe.
_MESH_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_MESH_IRISES = ((468,), (473,))
_MESH_NOSE_AND_MOUTH = ((1,), (61,), (291,))
_MESH_SIZES = {468: _MESH_EYES, 478: _MESH_IRISES}

# 68 points (iBUG 300-W), counted from 0: both eye contours, nose tip, mouth corners; as in the official code.
_CONTOURS_68 = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))


def mesh_points(landmarks_xy: np.ndarray) -> np.ndarray:
    """(478, 2) or (468, 2) MediaPipe face mesh in px -> (5, 2) float64 px; eyes are iris centres if it has them.

    ComfyUI's FACE_LANDMARKS carries such meshes as frames[image][face]["landmarks_xy"], with pixel centres at whole
    numbers as here. Raises ImageError for another number of points.
    """
    landmarks = _landmarks(landmarks_xy, tuple(_MESH_SIZES), "face mesh")
    return _means(landmarks, (*_MESH_SIZES[len(landmarks)], *_MESH_NOSE_AND_MOUTH))


def landmarks_68_points(landmarks: np.ndarray) -> np.ndarray:
    """(68, 2) landmarks in px -> (5, 2) float64 px, as the official code reduces them. Raises ImageError."""
    return _means(_landmarks(landmarks, (68,), "68 landmarks"), _CONTOURS_68)


def _landmarks(landmarks: np.ndarray, counts: tuple[int, ...], what: str) -> np.ndarray:
    landmarks = np.asarray(landmarks)
    if landmarks.ndim != 2 or landmarks.shape[1] != 2 or len(landmarks) not in counts:
        wanted = " or ".join(f"({count}, 2)" for count in counts)
        raise ImageError(f"The {what} given has shape {landmarks.shape}: expected {wanted}. Connect another source.")
    return landmarks


def _means(landmarks: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """(len(groups), 2) float64; the means are taken in the precision given, as in the official code."""
    return np.stack([landmarks[list(group)].mean(axis=0) for group in groups]).astype(np.float64)
