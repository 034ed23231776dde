"""What the face picker in the page shows (web/js/picker.mjs): the pictures, and where their faces are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..f2d_core.detect import ORDERS, Detection, sort_faces
from ..f2d_core.files import write_atomically
from ..f2d_core.image import rgb_sha256, scaled
from . import host

MOST_PICTURES = 64  # of a batch
_SIDE_PX = 768  # at most, of the picture that is shown
_QUALITY = 85


def faces_to_pick(pictures: Sequence[np.ndarray], detections: Sequence[Detection]) -> dict[str, list]:
    """For a node to show: of each picture (H, W, 3) uint8 its size in px, a small copy, and its faces."""
    shown = zip(pictures[:MOST_PICTURES], detections, strict=False)
    return {"f2d_faces": [_picture(rgb, detection) for rgb, detection in shown]}


def _picture(rgb: np.ndarray, detection: Detection) -> dict[str, Any]:
    height, width = rgb.shape[:2]
    return {"image": _small_copy(rgb), "width": width, "height": height, "faces": _faces(detection)}


def _faces(detection: Detection) -> list[dict[str, Any]]:
    """box: x0, y0, x1, y1 px. index: the number of the face in every order."""
    numbers = {order: [id(face) for face in sort_faces(detection.faces, order)] for order in ORDERS}
    return [
        {
            "box": [float(value) for value in face.box],
            "score": float(face.score),
            "index": {order: faces.index(id(face)) for order, faces in numbers.items()},
        }
        for face in detection.faces
    ]


def _small_copy(rgb: np.ndarray) -> dict[str, str]:
    """In the host's temporary folder, once for each picture; as /view wants it."""
    path = host.temporary_folder() / f"f2d_faces_{rgb_sha256(rgb)[:32]}.jpg"
    if not path.is_file():
        write_atomically(path, lambda temporary: _write_jpeg(temporary, _reduced(rgb)))
    return {"filename": path.name, "subfolder": "", "type": "temp"}


def _reduced(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    factor = min(1.0, _SIDE_PX / max(height, width))
    return scaled(rgb, max(1, round(width * factor)), max(1, round(height * factor)))


def _write_jpeg(path, rgb: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(rgb)).save(path, format="JPEG", quality=_QUALITY)
