"""Bicubic resizing of one window of a picture, exact to the level and the same on every machine.

The definition is that of Pillow's `resize` with BICUBIC for 8-bit pictures, which the expression encoder's
pre-processing uses: Keys' cubic kernel (a = -0.5), widened when the picture shrinks; weights rounded to 22 bits;
first along the rows, then along the columns, with 8-bit values in between. (Pillow 13 begins with the columns in tall
pictures; earlier ones, and so the published networks, never did.) Only what the window needs is computed, so a huge
target size costs nothing. Sums of products of whole numbers below 2^53 are exact in float64 in any order.
"""

from __future__ import annotations

import numpy as np

_KEYS_A = -0.5
_SUPPORT = 2.0
_WEIGHT_BITS = 22


def bicubic_window(rgb: np.ndarray, width: int, height: int, left: int, top: int, size: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 to width x height and cut out (left, top, left + size, top + size); outside is black.

    Returns (size, size, 3) uint8.
    """
    window = np.zeros((size, size, 3), np.uint8)
    x0, x1 = _inside(left, size, width)
    y0, y1 = _inside(top, size, height)
    if x0 < x1 and y0 < y1:
        rows = _taps(rgb.shape[0], height, y0, y1)
        first, last = rows[0][0], rows[-1][0] + len(rows[-1][1])
        middle = _along_rows(rgb[first:last], _taps(rgb.shape[1], width, x0, x1))
        shifted = [(start - first, weights) for start, weights in rows]
        done = _along_rows(middle.swapaxes(0, 1), shifted).swapaxes(0, 1)
        window[y0 - top : y1 - top, x0 - left : x1 - left] = done
    return window


def _inside(start: int, size: int, length: int) -> tuple[int, int]:
    """The part of [start, start + size) inside [0, length)."""
    return max(start, 0), min(start + size, length)


def _taps(length: int, new_length: int, begin: int, end: int) -> list[tuple[int, np.ndarray]]:
    """For each new position in [begin, end): the first old position it reads and its whole-number weights (n,)."""
    scale = length / new_length
    widen = max(scale, 1.0)
    taps = []
    for position in range(begin, end):
        centre = (position + 0.5) * scale
        first = max(int(centre - _SUPPORT * widen + 0.5), 0)
        last = min(int(centre + _SUPPORT * widen + 0.5), length)
        weights = _keys((np.arange(first, last) - centre + 0.5) * (1.0 / widen))
        weights /= np.cumsum(weights)[-1]  # a running sum: its order, and so its rounding, is defined
        taps.append((first, np.trunc(weights * 2**_WEIGHT_BITS + np.copysign(0.5, weights))))
    return taps


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (1981)."""
    x = np.abs(x)
    near = ((_KEYS_A + 2) * x - (_KEYS_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _KEYS_A
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _along_rows(pixels: np.ndarray, taps: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """(h, W, 3) uint8 -> (h, len(taps), 3) uint8: each new column is a weighted sum of old ones, rounded."""
    out = np.empty((pixels.shape[0], len(taps), 3), np.uint8)
    for column, (first, weights) in enumerate(taps):
        part = pixels[:, first : first + len(weights)].astype(np.float64)
        total = np.einsum("hwc,w->hc", part, weights)
        out[:, column] = np.clip(np.floor((total + 2 ** (_WEIGHT_BITS - 1)) / 2**_WEIGHT_BITS), 0, 255)
    return out
