"""Which face of each picture is meant (by order, or inside a box), and what to do with pictures that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .detect import Detection, Face, choose_face, face_in_box, find_faces
from .errors import ImageError, MismatchError, NoFaceError, SettingsError
from .ports import Detector, Progress, every

T = TypeVar("T")
Box = tuple[float, float, float, float]  # x0, y0, x1, y1, px

ON_MISSING = ("error", "skip", "previous")
_BOX_MARGIN = 0.5  # of the box, on each side, when looking again inside it


@dataclass(frozen=True)
class Located:
    """The chosen face of one picture, and how it was found, in words ("yunet, as is")."""

    face: Face
    how: str


def detect_all(
    pictures: Sequence[np.ndarray], detector: Detector, threshold: float, progress: Progress | None = None
) -> list[Detection]:
    """All faces of every picture, each (H, W, 3) uint8."""
    return [find_faces(detector, rgb, threshold) for rgb in every(pictures, progress)]


def locate(
    detections: Sequence[Detection],
    order: str,
    index: int,
    boxes: Sequence[Box | None] | None = None,
) -> list[Located | NoFaceError]:
    """One face per picture: the `index`-th by `order`, or the one inside the picture's box.

    A picture without such a face gives the error that says so, for `fill_missing` to deal with.
    Raises SettingsError for an unknown order, MismatchError when boxes and pictures do not pair up.
    """
    if boxes is not None and len(boxes) != len(detections):
        raise MismatchError(
            f"{len(boxes)} bounding boxes for {len(detections)} pictures. Connect the boxes made from the same "
            "pictures."
        )
    return [_locate(detection, order, index, boxes[i] if boxes else None) for i, detection in enumerate(detections)]


def _locate(detection: Detection, order: str, index: int, box: Box | None) -> Located | NoFaceError:
    try:
        faces = detection.faces
        face = choose_face(faces, order, index) if box is None else face_in_box(faces, box)
    except NoFaceError as error:
        return error
    return Located(face, f"{detection.detector}, {detection.rung}")


def detect_in_box(detector: Detector, rgb: np.ndarray, box: Box, threshold: float) -> Detection:
    """Faces inside a box and a margin around it, in the coordinates of the whole picture.

    Finds what is too small in the whole picture. Raises ImageError when the box lies outside the picture.
    """
    height, width = rgb.shape[:2]
    dx, dy = (box[2] - box[0]) * _BOX_MARGIN, (box[3] - box[1]) * _BOX_MARGIN
    x0, y0 = max(0, int(box[0] - dx)), max(0, int(box[1] - dy))
    x1, y1 = min(width, int(box[2] + dx) + 1), min(height, int(box[3] + dy) + 1)
    if x1 <= x0 or y1 <= y0:
        raise ImageError(
            f"The bounding box {tuple(round(v) for v in box)} lies outside the picture of {width} x {height} pixels. "
            "Use the box made from this picture."
        )
    found = find_faces(detector, np.ascontiguousarray(rgb[y0:y1, x0:x1]), threshold)
    moved = tuple(_moved(face, x0, y0) for face in found.faces)
    return Detection(moved, f"{found.rung}, inside the box", found.detector)


def _moved(face: Face, dx: float, dy: float) -> Face:
    x0, y0, x1, y1 = face.box
    return Face((x0 + dx, y0 + dy, x1 + dx, y1 + dy), face.points + np.array([dx, dy]), face.score)


def fill_missing(found: Sequence[T | NoFaceError], policy: str) -> tuple[list[T], list[int]]:
    """Deal with pictures without a face. Returns (what to go on with, the indices that had none).

    "error" raises NoFaceError; "skip" leaves them out; "previous" repeats the one before (at the start: the first
    found), so that the length stays. NoFaceError also when no picture has a face.
    """
    if policy not in ON_MISSING:
        raise SettingsError(f'Unknown rule for missing faces "{policy}", expected one of {", ".join(ON_MISSING)}.')
    missing = [i for i, item in enumerate(found) if isinstance(item, NoFaceError)]
    present = [item for item in found if not isinstance(item, NoFaceError)]
    if missing and (policy == "error" or not present):
        raise NoFaceError(_missing(found, missing))
    if policy == "skip" or not missing:
        return present, missing
    filled, last = [], present[0]
    for item in found:
        last = last if isinstance(item, NoFaceError) else item
        filled.append(last)
    return filled, missing


def _missing(found: Sequence[T | NoFaceError], missing: list[int]) -> str:
    first = str(found[missing[0]])
    if len(found) == 1:
        return first
    shown = ", ".join(str(i) for i in missing[:8]) + (" …" if len(missing) > 8 else "")
    return (
        f"No usable face in {len(missing)} of {len(found)} pictures (number {shown}, counted from 0). {first} "
        'To go on without them set on_missing to "skip" or "previous".'
    )
