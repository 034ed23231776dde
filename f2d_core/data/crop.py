"""From a photo to the square picture that is trained on: the crop of FFHQ, made from five points.

The square follows the alignment of FFHQ (Karras et al. 2019, appendix A), with the means of the two eyes and of the
mouth corners taken from five points. Points are (x, y) in px, pixel centres at whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..align import check_points
from ..detect import Box, Face
from ..errors import ImageError

# Half a side of the square, in distances between the eyes and between eyes and mouth; and how far the centre lies
# below the eyes, in the latter (FFHQ).
_EYE_DISTANCES, _FACE_HEIGHTS, _CENTRE_DOWN = 2.0, 1.8, 0.1
_LEAST_SIDE_PX = 4.0
_MOST_FINE = 4  # px of the picture for each px of the crop, along a side, that the filter looks at at most
_MARGIN_PX = 4  # that cubic interpolation reads beyond the square
_BLUR, _BLUR_RAMP = 0.03, 0.04  # of a side: width of the blur outside the picture, and where it is fully there


@dataclass(frozen=True, eq=False)
class Square:
    """A turned square in a picture: its corners are centre ± x ± y, each (2,) float64 px; y is x turned by 90°."""

    centre: np.ndarray
    x: np.ndarray

    @property
    def y(self) -> np.ndarray:
        return _turned(self.x)

    @property
    def side_px(self) -> float:
        return 2 * float(np.hypot(*self.x))

    def positions(self, size: int) -> np.ndarray:
        """(size, size, 2) float64: where in the picture the pixels of a crop lie."""
        grid = (np.arange(size) + 0.5) * (2 / size) - 1
        return self.centre + grid[None, :, None] * self.x + grid[:, None, None] * self.y

    def to_crop(self, points_px: np.ndarray, size: int) -> np.ndarray:
        """(n, 2) px of the picture -> (n, 2) px of a crop of that size."""
        away = np.asarray(points_px, np.float64) - self.centre
        along = np.stack([away @ self.x, away @ self.y], axis=-1) / float(self.x @ self.x)
        return (along + 1) * (size / 2) - 0.5


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A picture to train on. pixels: (S, S, 3) uint8. points: (5, 2) and box: of the main face, px of the crop.

    outside: which part of the crop lies outside the photo, 0..1.
    """

    pixels: np.ndarray
    points: np.ndarray
    box: Box
    outside: float


def ffhq_square(points_px: np.ndarray) -> Square:
    """The square around a face. Raises ImageError for points that are unusable."""
    points = check_points(points_px)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across, down = points[1] - points[0], mouth - eyes
    direction = across - _turned(down)
    half = max(_EYE_DISTANCES * math.hypot(*across), _FACE_HEIGHTS * math.hypot(*down))
    length = math.hypot(*direction)
    if length < 1e-6 * half or 2 * half < _LEAST_SIDE_PX:
        raise ImageError("The five face points do not lie like a face: eyes above the mouth were expected. Check them.")
    return Square(eyes + _CENTRE_DOWN * down, direction * (half / length))


def whole_square(rgb: np.ndarray) -> Square:
    """The square of a photo that is a crop already. Raises ImageError for one that is not square."""
    height, width = rgb.shape[:2]
    if height != width:
        raise ImageError(
            f"The photo is {width} x {height} px: photos that are cropped already were expected to be square. "
            "Leave that option out to have it cropped."
        )
    return Square(np.array([(width - 1) / 2, (height - 1) / 2]), np.array([width / 2, 0.0]))


def crop_face(rgb: np.ndarray, face: Face, square: Square, size: int) -> FaceCrop:
    """Cut `square` out of (H, W, 3) uint8 as size x size px, with the face's points and box moved along."""
    x0, y0, x1, y1 = face.box
    corners = square.to_crop(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), size)
    box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    points = square.to_crop(face.points, size)
    return FaceCrop(cut(rgb, square, size), points, box, outside(rgb, square))


def outside(rgb: np.ndarray, square: Square) -> float:
    """Which part of the square lies outside the picture, 0..1, to about 1 %."""
    return float((_overshoot(rgb, square.positions(100)) > 0).mean())


def cut(rgb: np.ndarray, square: Square, size: int) -> np.ndarray:
    """The square of (H, W, 3) uint8 -> (size, size, 3) uint8, cubic and antialiased.

    Outside the picture its mirror image goes on, more and more blurred.
    """
    crop = _resampled(rgb, square, size, "reflection")
    overshoot = _overshoot(rgb, square.positions(size))
    if (overshoot > 0).any():
        weight = np.clip(overshoot / (_BLUR_RAMP * square.side_px), 0, 1)
        crop = torch.lerp(crop, _blurred(crop, size), torch.from_numpy(weight).to(crop))
    levels = np.rint(np.clip(crop[0].numpy(), 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def cut_mask(mask: np.ndarray, square: Square, size: int) -> np.ndarray:
    """The square of (H, W) uint8 -> (size, size) float32 in 0..1, 0 outside the picture."""
    crop = _resampled(mask[..., None], square, size, "zeros")
    return (crop[0, 0] / 255).clamp(0, 1).numpy()


def _resampled(picture: np.ndarray, square: Square, size: int, beyond: str) -> torch.Tensor:
    """(H, W, C) uint8 -> (1, C, size, size) fp32, 0..255 with some overshoot.

    First box-averaged as far as at least `_MOST_FINE` px are left for each px of the crop, then read on a grid as
    fine as those, then reduced: so no detail of the photo turns into a pattern.
    """
    window, corner = _window(picture, square)
    pixels = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1), np.float32))[None]
    reduce = max(1, int(square.side_px / (_MOST_FINE * size)))
    if reduce > 1:
        pixels = F.avg_pool2d(pixels, reduce, ceil_mode=True, count_include_pad=False)
    fine = size * max(1, math.ceil(square.side_px / (reduce * size)))
    extent = np.array([pixels.shape[3], pixels.shape[2]]) * reduce
    grid = (square.positions(fine) - corner + 0.5) * (2 / extent) - 1
    places = torch.from_numpy(grid.astype(np.float32))[None]
    read = F.grid_sample(pixels, places, mode="bicubic", padding_mode=beyond, align_corners=False)
    return read if fine == size else F.interpolate(read, size=(size, size), mode="bicubic", antialias=True)


def _window(picture: np.ndarray, square: Square) -> tuple[np.ndarray, np.ndarray]:
    """The part of the picture that the square can read, and its upper left corner (2,).

    Its edges are the picture's wherever the square leaves the picture, so reflection happens at the right place.
    """
    reach = np.abs(square.x) + np.abs(square.y) + _MARGIN_PX
    limits = np.array([picture.shape[1], picture.shape[0]])
    first = np.clip(np.floor(square.centre - reach).astype(int), 0, limits - 1)
    last = np.clip(np.ceil(square.centre + reach).astype(int) + 1, first + 1, limits)
    return picture[first[1] : last[1], first[0] : last[0]], first


def _overshoot(picture: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(h, w, 2) px -> (h, w): how far outside the picture, in px; 0 inside."""
    limits = np.array([picture.shape[1], picture.shape[0]]) - 0.5
    return np.maximum(np.maximum(-0.5 - positions, positions - limits), 0).max(axis=-1)


def _blurred(crop: torch.Tensor, size: int) -> torch.Tensor:
    """Three box blurs, which are nearly a Gaussian."""
    reach = max(1, round(_BLUR * size))
    for _ in range(3):
        crop = F.avg_pool2d(F.pad(crop, (reach,) * 4, mode="reflect"), 2 * reach + 1, stride=1)
    return crop


def _turned(vector: np.ndarray) -> np.ndarray:
    """By 90°, from x to y."""
    return np.array([-vector[1], vector[0]])
