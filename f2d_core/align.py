"""From five points to face crops: numpy in float64 on the CPU, no library's rounding, the same on every machine.

The 112 px crop follows the official Face2Diffusion code, with exact bilinear interpolation; the 224 px crop follows
the pre-processing of Deep3DFaceRecon. Points are (x, y) in px, pixel centres at whole numbers, in the order eye at
image left, eye at image right, nose tip, mouth corner at image left, mouth corner at image right.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch

from .constants import (
    EXPRESSION_CROP_SIZE_PX,
    EXPRESSION_POINTS_3D,
    EXPRESSION_RESCALE,
    FACE_CROP_SIZE_PX,
    FACE_TEMPLATE_PX,
)
from .errors import ImageError
from .resize import bicubic_window

_TEMPLATE_PX = np.array(FACE_TEMPLATE_PX, np.float32).tolist()  # the official code rounds it to float32
_MIN_SPREAD_PX = 1.0  # root mean square distance of the points from their centre
_MAX_COORDINATE_PX = 1e6
# Correlation of the points with the template after the best turn and scale: 1 is a perfect fit, profiles stay above
# 0.7, left and right exchanged give 0.2.
_MIN_LIKENESS = 0.4
_ORDER = "eye left, eye right, nose, mouth left, mouth right as seen in the picture"


def check_points(points_px: np.ndarray) -> np.ndarray:
    """(5, 2) float64 copy of five usable points; ImageError if they are not finite, collapsed or of another shape."""
    points = np.array(points_px, dtype=np.float64)
    if points.shape != (5, 2):
        raise ImageError(f"The face points have shape {points.shape}: expected five points of (x, y), {_ORDER}.")
    if not np.isfinite(points).all() or np.abs(points).max() > _MAX_COORDINATE_PX:
        raise ImageError("The face points hold values that are no place in a picture: expected pixels. Mark them.")
    spread = math.sqrt(np.square(points - points.mean(axis=0)).sum() / 5)
    if spread < _MIN_SPREAD_PX:
        raise ImageError(
            f"The five face points lie within {spread:.2g} px of one spot: expected a face of some size ({_ORDER})."
        )
    return points


def similarity_transform(points_px: np.ndarray) -> np.ndarray:
    """(3, 3) float64, picture -> crop: the least-squares scale, turn and shift of five points onto the template.

    The solution of Umeyama (1991) in its closed form for the plane, where points are complex numbers. Raises
    ImageError for points that are unusable or do not lie like a face.
    """
    points = check_points(points_px)
    p = [complex(x, y) for x, y in points.tolist()]
    q = [complex(x, y) for x, y in _TEMPLATE_PX]
    p_mean, q_mean = sum(p) / 5, sum(q) / 5
    product = sum((a - p_mean).conjugate() * (b - q_mean) for a, b in zip(p, q, strict=True))
    p_square, q_square = (sum(abs(a - m) ** 2 for a in c) for c, m in ((p, p_mean), (q, q_mean)))
    if abs(product) < _MIN_LIKENESS * math.sqrt(p_square * q_square):
        raise ImageError(f"The five face points do not lie like a face: expected {_ORDER}. Check their order.")
    turn = product / p_square
    shift = q_mean - turn * p_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0.0, 0.0, 1.0]])


def align_face(rgb: np.ndarray, points_px: np.ndarray, size: int = FACE_CROP_SIZE_PX) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8 face crop; outside the picture is black.

    Exact bilinear interpolation, rounded to levels; no smoothing when the face is reduced, as in the official code.
    Another size than 112 shows the same part of the picture. Raises ImageError for unusable points.
    """
    (a, minus_b, shift_x), (b, _, shift_y), _ = similarity_transform(points_px).tolist()
    square = a * a + b * b
    grid = (np.arange(size) + 0.5) * (FACE_CROP_SIZE_PX / size) - 0.5
    u, v = grid[None, :] - shift_x, grid[:, None] - shift_y
    return bilinear(rgb, (a * u + b * v) / square, (a * v + minus_b * u) / square)


def bilinear(rgb: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 at positions x, y (h, w) float64 px -> (h, w, 3) uint8; every pixel outside counts as black."""
    height, width = rgb.shape[:2]
    x, y = np.clip(x, -2, width + 1), np.clip(y, -2, height + 1)  # further out is black all the same
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    upper = (1 - fx) * _pixel(rgb, x0, y0) + fx * _pixel(rgb, x0 + 1, y0)
    lower = (1 - fx) * _pixel(rgb, x0, y0 + 1) + fx * _pixel(rgb, x0 + 1, y0 + 1)
    return np.rint((1 - fy) * upper + fy * lower).astype(np.uint8)


def _pixel(rgb: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    values = rgb[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside[..., None], values, np.uint8(0))


def expression_transform(points_px: np.ndarray, width: int, height: int) -> tuple[float, float, float]:
    """(scale, tx, ty) of the 224 px crop: the best affine camera for the standard 3D face; ty in px, y up.

    Raises ImageError for unusable points.
    """
    points = check_points(points_px)
    system = np.column_stack([np.array(EXPRESSION_POINTS_3D), np.ones(5)])
    x_up = np.column_stack([points[:, 0], height - 1 - points[:, 1]])
    camera = np.linalg.lstsq(system, x_up, rcond=None)[0]  # (4, 2): rows x, y, z, shift
    length = np.sqrt(np.square(camera[:3]).sum(axis=0)).mean()
    return float(EXPRESSION_RESCALE / length), float(camera[3, 0]), float(camera[3, 1])


def align_expression(rgb: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (224, 224, 3) uint8: the picture resized (bicubic) and cut, not turned; outside is black.

    Raises ImageError for unusable points.
    """
    height, width = rgb.shape[:2]
    scale, tx, ty = expression_transform(points_px, width, height)
    new_width, new_height = int(width * scale), int(height * scale)
    if min(new_width, new_height) < 1:
        raise ImageError(
            f"The face points span far more than the picture of {width} x {height} px. Mark them in this picture."
        )
    half = EXPRESSION_CROP_SIZE_PX / 2
    left = int(new_width / 2 - half + (tx - width / 2) * scale)
    top = int(new_height / 2 - half + (height / 2 - ty) * scale)
    return bicubic_window(rgb, new_width, new_height, left, top, EXPRESSION_CROP_SIZE_PX)


@cache
def _face_levels() -> np.ndarray:
    """(256,) fp32: level -> network input, computed in float64."""
    return ((np.arange(256) / 255 - 0.5) / 0.5).astype(np.float32)


def face_input(crops: np.ndarray) -> torch.Tensor:
    """(B, 112, 112, 3) uint8 -> (B, 3, 112, 112) fp32 in [-1, 1] for the identity encoder. Raises ImageError."""
    return _to_bchw(_face_levels(), crops, FACE_CROP_SIZE_PX)


def expression_input(crops: np.ndarray) -> torch.Tensor:
    """(B, 224, 224, 3) uint8 -> (B, 3, 224, 224) fp32 in [0, 1] for the expression encoder. Raises ImageError."""
    return _to_bchw((np.arange(256) / 255).astype(np.float32), crops, EXPRESSION_CROP_SIZE_PX)


def _to_bchw(levels: np.ndarray, crops: np.ndarray, size: int) -> torch.Tensor:
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
        raise ImageError(
            f"The crops have shape {crops.shape} and type {crops.dtype}: expected (n, {size}, {size}, 3) uint8."
        )
    # clone: memory aligned as torch does it, since CPU kernels round differently by alignment.
    return torch.from_numpy(levels[crops].transpose(0, 3, 1, 2)).clone(memory_format=torch.contiguous_format)


def mirror_points(points_px: np.ndarray, width: int) -> np.ndarray:
    """(5, 2) -> (5, 2) float64: where the points lie in the mirrored picture, again image left first."""
    points = np.array(points_px, dtype=np.float64)[[1, 0, 2, 4, 3]]
    points[:, 0] = width - 1 - points[:, 0]
    return points
