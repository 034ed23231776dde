"""The pack's own socket types, and the door between ComfyUI's pictures and the core's.

What travels: F2D_MSID, F2D_MAPPING, F2D_EXPRESSION_ENCODER: f2d_core.networks.Network. F2D_FACES: FoundFaces.
F2D_EXPRESSION: f2d_core.encode.Expression. F2D_SSTAR: a tuple of f2d_core.s_star.SStar, one per picture of a batch.
F2D_DATASET: f2d_core.data.cache.Cache. F2D_TRIPLETS: f2d_core.data.cache.Triplets.
F2D_JUDGES: f2d_core.evaluate.judges.Judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
DATASET = io.Custom("F2D_DATASET")
TRIPLETS = io.Custom("F2D_TRIPLETS")
JUDGES = io.Custom("F2D_JUDGES")
# Core's own types, as plain sockets: the first exists only in newer hosts, the second would bring widgets.
FACE_LANDMARKS = io.Custom("FACE_LANDMARKS")
BOUNDING_BOX = io.Custom("BOUNDING_BOX")


def pictures(image: torch.Tensor) -> list[np.ndarray]:
    """IMAGE (B, H, W, C), [0, 1] -> B pictures (H, W, 3) uint8."""
    return [to_rgb_u8(picture.to("cpu", torch.float32).numpy()) for picture in image]


def image(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures (H, W, 3) uint8 of one size -> IMAGE (B, H, W, 3), [0, 1]."""
    return intermediate(torch.from_numpy(np.stack(pictures)).to(torch.float32) / 255)


@dataclass(frozen=True)
class FoundFaces:
    """The faces of every picture, and the (height, width) of each, so that they are not used on other pictures."""

    detections: tuple[Detection, ...]
    sizes: tuple[tuple[int, int], ...]


def sizes(pictures: Sequence[np.ndarray]) -> tuple[tuple[int, int], ...]:
    """(height, width) of every picture."""
    return tuple(rgb.shape[:2] for rgb in pictures)


def faces_of(found: FoundFaces, pictures: Sequence[np.ndarray]) -> tuple[Detection, ...]:
    """The faces, if they were found in pictures of these sizes; else MismatchError."""
    _require_same("faces", found.sizes, sizes(pictures))
    return found.detections


def faces_of_landmarks(landmarks: Mapping, pictures: Sequence[np.ndarray]) -> tuple[Detection, ...]:
    """FACE_LANDMARKS of ComfyUI's MediaPipe node for the same pictures; else MismatchError."""
    frames = landmarks["frames"]
    _require_same("face landmarks", (tuple(landmarks["image_size"]),) * len(frames), sizes(pictures))
    return tuple(Detection(tuple(_mesh_face(f) for f in frame), "as is", "face landmarks") for frame in frames)


def _require_same(what: str, made_from: Sequence[tuple[int, int]], given: Sequence[tuple[int, int]]) -> None:
    if tuple(made_from) != tuple(given):
        raise MismatchError(
            f"The {what} were found in {_sizes_text(made_from)}, the image input has {_sizes_text(given)}. "
            "Connect the same pictures to both."
        )


def _sizes_text(sizes: Sequence[tuple[int, int]]) -> str:
    different = dict.fromkeys(f"{width} x {height}" for height, width in sizes)
    return f"{len(sizes)} pictures of {', '.join(list(different)[:3])} px"


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
