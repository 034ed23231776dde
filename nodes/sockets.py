"""The pack's own socket types, and the door between ComfyUI's pictures and the core's.

What travels: F2D_MSID, F2D_MAPPING, F2D_EXPRESSION_ENCODER: f2d_core.networks.Network. F2D_FACES: a tuple of
f2d_core.detect.Detection, one per picture. F2D_EXPRESSION: f2d_core.encode.Expression. F2D_SSTAR: a tuple of
f2d_core.s_star.SStar, one per picture of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..f2d_core.detect import Detection, Face, mesh_points
from ..f2d_core.errors import MismatchError
from ..f2d_core.image import to_rgb_u8
from ..f2d_core.locate import Box
from ..f2d_core.s_star import SStar
from .host import intermediate, io

MSID = io.Custom("F2D_MSID")
MAPPING = io.Custom("F2D_MAPPING")
EXPRESSION_ENCODER = io.Custom("F2D_EXPRESSION_ENCODER")
EXPRESSION = io.Custom("F2D_EXPRESSION")
FACES = io.Custom("F2D_FACES")
SSTAR = io.Custom("F2D_SSTAR")
# Core's own types, as plain sockets: the first exists only in newer hosts, the second would bring widgets.
FACE_LANDMARKS = io.Custom("FACE_LANDMARKS")
BOUNDING_BOX = io.Custom("BOUNDING_BOX")


def pictures(image: torch.Tensor) -> list[np.ndarray]:
    """IMAGE (B, H, W, C), [0, 1] -> B pictures (H, W, 3) uint8."""
    return [to_rgb_u8(picture.to("cpu", torch.float32).numpy()) for picture in image]


def image(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures (H, W, 3) uint8 of one size -> IMAGE (B, H, W, 3), [0, 1]."""
    return intermediate(torch.from_numpy(np.stack(pictures)).to(torch.float32) / 255)


def faces_of_landmarks(landmarks: Mapping, count: int) -> tuple[Detection, ...]:
    """FACE_LANDMARKS of ComfyUI's MediaPipe node, for `count` pictures. Raises MismatchError."""
    frames = landmarks["frames"]
    if len(frames) != count:
        raise MismatchError(
            f"The face landmarks are of {len(frames)} pictures, the image input has {count}. Connect the same pictures to both."
        )
    return tuple(Detection(tuple(_mesh_face(f) for f in frame), "as is", "face landmarks") for frame in frames)


def require_same_count(faces: Sequence[Detection], count: int) -> tuple[Detection, ...]:
    """`faces`, if they are of `count` pictures; else MismatchError."""
    if len(faces) != count:
        raise MismatchError(
            f"The faces were detected in {len(faces)} pictures, the image input has {count}. Connect the same pictures to both."
        )
    return tuple(faces)


def only(people: Sequence[SStar]) -> SStar:
    """The one S* of a batch of one; else MismatchError."""
    if len(people) != 1:
        raise MismatchError(
            f"A batch of {len(people)} S* cannot be applied to one CLIP. Give a single S*, or use "
            '"Inject S* into CONDITIONING", which makes a conditioning per S*.'
        )
    return people[0]


def _mesh_face(face: Mapping) -> Face:
    box = tuple(float(v) for v in face["bbox_xyxy"])
    return Face(box, mesh_points(np.asarray(face["landmarks_xy"])[:, :2]), float(face["score"]))


def boxes(bounding_box, index: int, count: int) -> list[Box | None] | None:
    """BOUNDING_BOX (one box, a list, or a list per picture) -> the box of each of `count` pictures.

    Where a picture has several, the `index`-th counts; None where it has fewer. One box is for all pictures.
    """
    if bounding_box is None:
        return None
    if isinstance(bounding_box, Mapping):
        return [_box(bounding_box)] * count
    if all(isinstance(box, Mapping) for box in bounding_box):
        bounding_box = [bounding_box] * count
    if len(bounding_box) != count:
        raise MismatchError(
            f"The bounding boxes are of {len(bounding_box)} pictures, the image input has {count}. "
            "Connect the same pictures to both."
        )
    return [_box(frame[index]) if index < len(frame) else None for frame in bounding_box]


def _box(box: Mapping) -> Box:
    x, y = float(box["x"]), float(box["y"])
    return (x, y, x + float(box["width"]), y + float(box["height"]))
