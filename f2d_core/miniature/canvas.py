"""The drawing surface: many pictures at once, shapes given by formulas, edges one pixel soft at any size.

Positions are (x, y) in sides of the picture, 0 to 1 from the top left corner. Pixels are computed with the four
operations and the square root alone, one numpy call each, so that every machine gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

PLANES = 4  # red, green, blue in [0, 1], and how much of the pixel is face
_TINY = np.float32(1e-12)
Value = np.ndarray | float


@dataclass(frozen=True)
class Frame:
    """n places to draw at: the local point (u, v) lies at origin + u * across + v * down. (n, 2) float64 each."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray

    def point(self, u: Value, v: Value) -> np.ndarray:
        """(n, 2): where the local point lies in the picture."""
        return self.origin + _column(u) * self.across + _column(v) * self.down

    def at(self, u: Value, v: Value) -> Frame:
        """The same axes around another local point."""
        return replace(self, origin=self.point(u, v))

    def scaled(self, u: Value, v: Value | None = None) -> Frame:
        """Axes this many times as long."""
        return replace(self, across=self.across * _column(u), down=self.down * _column(u if v is None else v))

    def turned(self, angle: Value) -> Frame:
        """Turned clockwise by `angle`, in rad, as seen in local coordinates."""
        cos, sin = _column(np.cos(angle)), _column(np.sin(angle))
        return replace(self, across=cos * self.across + sin * self.down, down=cos * self.down - sin * self.across)

    def sheared(self, amount: Value) -> Frame:
        """The down axis leaning by `amount` of the across axis."""
        return replace(self, down=self.down + _column(amount) * self.across)

    @cached_property
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of u and of v over the picture, (n, 2) each."""
        (ax, ay), (bx, by) = self.across.T, self.down.T
        area = ax * by - ay * bx
        area = np.where(np.abs(area) < 1e-9, 1e-9, area)
        return np.stack((by, -bx), 1) / area[:, None], np.stack((-ay, ax), 1) / area[:, None]


def _column(value: Value) -> np.ndarray:
    return np.asarray(value, np.float64).reshape(-1, 1)


def spread(value: Value) -> np.ndarray:
    """(n,) or a number -> float32 that meets (n, h, w)."""
    return np.asarray(value, np.float32).reshape(-1, 1, 1)


class Canvas:
    """`count` pictures of size x size px."""

    def __init__(self, count: int, size: int):
        self.count, self.size = count, size
        self.planes = np.zeros((PLANES, count, size, size), np.float32)

    def whole(self, rows: np.ndarray) -> Window:
        """The whole area of the pictures `rows`."""
        return Window(self, rows, np.zeros((len(rows), 2), np.int64), self.size, self.size)

    def window(self, rows: np.ndarray, frame: Frame, u: Value = 1.0, v: Value = 1.0) -> Window:
        """The smallest area, of one size for all, that holds the local points |u'| <= u, |v'| <= v."""
        reach = np.abs(frame.across) * _column(u) + np.abs(frame.down) * _column(v)
        low, high = (np.clip((frame.origin + side * reach) * self.size, 0, self.size) for side in (-1, 1))
        first, last = np.floor(low - 2).astype(np.int64).clip(0), np.ceil(high + 2).astype(np.int64).clip(0, self.size)
        width, height = np.minimum((last - first).max(0), self.size)
        return Window(self, rows, np.minimum(first, self.size - np.array([width, height])), int(width), int(height))


class Window:
    """A part of some pictures, taken out to be drawn on; `close` puts it back."""

    def __init__(self, canvas: Canvas, rows: np.ndarray, corner: np.ndarray, width: int, height: int):
        self.canvas, self._rows = canvas, rows
        x, y = (corner[:, i, None] + np.arange(n) for i, n in ((0, width), (1, height)))
        self.x = ((x + 0.5) / canvas.size).astype(np.float32)[:, None, :]
        self.y = ((y + 0.5) / canvas.size).astype(np.float32)[:, :, None]
        step = canvas.size - np.array([height, width]) + 1
        views = np.lib.stride_tricks.as_strided(
            canvas.planes,
            (PLANES, canvas.count, *step, height, width),
            (*canvas.planes.strides[:2], *canvas.planes.strides[2:], *canvas.planes.strides[2:]),
        )
        self._views, self._where = views, (slice(None), rows, corner[:, 1], corner[:, 0])
        self.planes = views[self._where]

    def close(self) -> None:
        self._views[self._where] = self.planes

    def local(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """(n, h, w) float32 each: u and v of every pixel."""
        return tuple(self._linear(gradient, frame.origin) for gradient in frame.gradients)

    def _linear(self, gradient: np.ndarray, origin: np.ndarray) -> np.ndarray:
        gx, gy = (spread(gradient[:, i]) for i in (0, 1))
        shift = spread(-(gradient * origin).sum(1))
        return gx * self.x + (gy * self.y + shift)

    def paint(self, cover: np.ndarray, colour: np.ndarray, face: float = 0.0) -> None:
        """Lay `colour`, (n, 3) or (3, n, h, w), over what is there where `cover`, (n, h, w) in [0, 1], says so."""
        if colour.ndim == 2:
            colour = colour.T.astype(np.float32)[:, :, None, None]
        for plane, tone in zip(self.planes[:3], colour, strict=True):
            plane += cover * (tone - plane)
        self.planes[3] += cover * (np.float32(face) - self.planes[3])

    def tint(self, factor: np.ndarray) -> None:
        """Make the colours `factor` times as light; (n, h, w) or (3, n, h, w)."""
        self.planes[:3] *= factor

    # --- how much of each pixel a shape covers, (n, h, w) in [0, 1] ---

    def disc(self, frame: Frame) -> np.ndarray:
        """The ellipse u^2 + v^2 < 1."""
        u, v = self.local(frame)
        du, dv = (gradient / self.canvas.size for gradient in frame.gradients)
        uu, vv = u * u, v * v
        square = uu + vv
        slope = spread((du * du).sum(1)) * uu + spread((dv * dv).sum(1)) * vv
        slope += spread(2 * (du * dv).sum(1)) * (u * v)
        return _soft((np.sqrt(square) - square) / np.sqrt(slope + _TINY))

    def above(self, frame: Frame, height: np.ndarray) -> np.ndarray:
        """Where the local `height`, (n, h, w) in units of v and positive inside, is above 0; it should rise like v."""
        return _soft(height * self._pixels_per(frame, 1))

    def beside(self, frame: Frame, width: np.ndarray) -> np.ndarray:
        """As `above`, for what is in units of u."""
        return _soft(width * self._pixels_per(frame, 0))

    def _pixels_per(self, frame: Frame, axis: int) -> np.ndarray:
        gradient = frame.gradients[axis]
        return spread(self.canvas.size / np.sqrt((gradient * gradient).sum(1)))

    def band(self, frame: Frame, v: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """low < v < high, right in area also where it is thinner than a pixel."""
        return np.maximum(self.above(frame, high - v) - self.above(frame, low - v), 0)

    def box(self, frame: Frame) -> np.ndarray:
        """The rectangle |u| < 1, |v| < 1."""
        u, v = self.local(frame)
        return self.beside(frame, 1 - np.abs(u)) * self.above(frame, 1 - np.abs(v))

    def inside(self, field: np.ndarray) -> np.ndarray:
        """field > 0, for any smooth field (n, h, w), by its slope from pixel to pixel."""
        slope = np.zeros_like(field)
        for axis in (1, 2):
            difference = np.diff(field, axis=axis)
            last = difference[:, -1:] if axis == 1 else difference[:, :, -1:]
            difference = np.concatenate((difference, last), axis)
            slope += difference * difference
        return _soft(field / np.sqrt(slope + _TINY))


def _soft(pixels: np.ndarray) -> np.ndarray:
    """Signed distance from an edge in px, positive inside -> cover."""
    pixels += np.float32(0.5)
    return np.clip(pixels, 0, 1, out=pixels)


def mix(a: np.ndarray, b: np.ndarray, share: Value) -> np.ndarray:
    """Colours (n, 3): `share` of b, the rest a."""
    return a + _column(share) * (np.asarray(b) - a)


def shaded(colour: np.ndarray, lightness: np.ndarray) -> np.ndarray:
    """(n, 3) and (n, h, w) -> (3, n, h, w)."""
    return (colour.T[:, :, None, None] * lightness).astype(np.float32)


def wave(x: np.ndarray) -> np.ndarray:
    """A triangle wave between -1 and 1 with period 1, highest at 0."""
    return 4 * np.abs(x - np.floor(x) - np.float32(0.5)) - 1
