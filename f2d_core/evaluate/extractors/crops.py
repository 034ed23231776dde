"""Five points -> the face crop that a judging network was trained on. Each network has its own.

Points are (x, y) in px, pixel centres at whole numbers, in the order of f2d_core/align.py. A template says where the
five points go in a crop; two ways of fitting to it are in use, which turn a face alike and scale it a little
differently (by 1 to 3 % for a frontal face): least squares in the crop (InsightFace, f2d_core/align.py), and least
squares in the picture, of the way back (the MATLAB routine `cp2tform` that AdaFace and SphereFace use).
"""

from __future__ import annotations

import numpy as np

from ...align import bilinear, check_points, similarity_transform
from ...constants import FACE_CROP_SIZE_PX, FACE_TEMPLATE_PX
from ...errors import ImageError

# clcarwin/sphereface_pytorch, lfw_eval.py: the template of 112 px crops, 8 px further left, in 112 rows of 96.
SPHEREFACE_WIDTH_PX, SPHEREFACE_HEIGHT_PX = 96, 112
_SPHEREFACE_SHIFT_PX = 8

# FaceNet's crops are boxes of the detector MTCNN, not turned, stretched to a square. How that box follows from the five
# points was measured on 32 faces with MTCNN of timesler/facenet-pytorch, in px of the 112 px template: its size
# (deviations 4.6 and 3.5 px), and its centre in the frame of the head (1.7 and 2.8 px). The further the nose is to one
# side, the further the box reaches to the other. The margin is that of the repository's evaluation on LFW.
FACENET_SIZE_PX = 160
_FACENET_BOX_PX = (77.9, 104.3)  # width, height
_FACENET_ABOVE_PX = 9.3  # the centre of the box above that of the points
_FACENET_PER_NOSE = -1.22  # px along the eyes, per px that the nose is off their middle
_FACENET_MARGIN_PX = 14  # of the 160


def adaface_crop(rgb: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (112, 112, 3) uint8 RGB. Raises ImageError for unusable points."""
    return _template_crop(rgb, points_px, FACE_TEMPLATE_PX, FACE_CROP_SIZE_PX, FACE_CROP_SIZE_PX)


def sphereface_crop(rgb: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (112, 96, 3) uint8 RGB. Raises ImageError for unusable points."""
    template = [(x - _SPHEREFACE_SHIFT_PX, y) for x, y in FACE_TEMPLATE_PX]
    return _template_crop(rgb, points_px, template, SPHEREFACE_WIDTH_PX, SPHEREFACE_HEIGHT_PX)


def _template_crop(rgb: np.ndarray, points_px: np.ndarray, template: object, width: int, height: int) -> np.ndarray:
    """Bilinear, outside the picture is black."""
    (a, minus_b, x), (b, _, y) = crop_to_picture(points_px, template)
    u, v = np.arange(width)[None, :], np.arange(height)[:, None]
    return bilinear(rgb, a * u + minus_b * v + x, b * u + a * v + y)


def crop_to_picture(points_px: np.ndarray, template: object) -> np.ndarray:
    """(2, 3) float64: the similarity that takes places in the crop to px of the picture, fitted in the picture.

    Raises ImageError for points that are unusable or do not lie like a face.
    """
    similarity_transform(points_px)
    p, q = (_complex(points) for points in (check_points(points_px), np.asarray(template, np.float64)))
    inner = q - q.mean()
    turn = np.vdot(inner, p) / np.vdot(inner, inner)
    shift = p.mean() - turn * q.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _complex(points: np.ndarray) -> np.ndarray:
    return points[:, 0] + 1j * points[:, 1]


def facenet_box(points_px: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 px of the face in a picture of width x height, cut off at its edges.

    Raises ImageError for unusable points, and where the box lies outside.
    """
    (a, _, _), (b, _, _), _ = similarity_transform(points_px)
    turn = 1 / complex(a, b)  # template -> picture
    p = _complex(check_points(points_px))
    nose = ((p[2] - (p[0] + p[1]) / 2) / turn).real
    centre = p.mean() + turn * complex(_FACENET_PER_NOSE * nose, -_FACENET_ABOVE_PX)
    grown = abs(turn) * FACENET_SIZE_PX / (FACENET_SIZE_PX - _FACENET_MARGIN_PX)
    half = complex(*_FACENET_BOX_PX) * grown / 2
    x0, y0 = _inside(centre - half, width, height)
    x1, y1 = _inside(centre + half, width, height)
    if x0 >= x1 or y0 >= y1:
        raise ImageError(
            f"The face points lie outside the picture of {width} x {height} px. Mark them in this picture."
        )
    return x0, y0, x1, y1


def _inside(corner: complex, width: int, height: int) -> tuple[int, int]:
    """Whole px, rounded down, inside the picture."""
    return int(min(max(corner.real, 0), width)), int(min(max(corner.imag, 0), height))


def facenet_crop(rgb: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (160, 160, 3) uint8 RGB. Raises ImageError for unusable points.

    Resized as the reference does it for photos: bilinear, smoothed where the face is reduced.
    """
    from PIL import Image

    x0, y0, x1, y1 = facenet_box(points_px, rgb.shape[1], rgb.shape[0])
    face = Image.fromarray(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
    return np.asarray(face.resize((FACENET_SIZE_PX, FACENET_SIZE_PX), Image.Resampling.BILINEAR))
