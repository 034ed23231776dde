"""Some people at once on their way onto a canvas: who, how, where the head is, which colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .canvas import Canvas, Frame, Value, Window, mix
from .head import Head, heads
from .people import Identities
from .situations import BAREHEADED, EXPRESSION, Situations

_SKIN = ((0.99, 0.88, 0.80), (0.97, 0.81, 0.69), (0.91, 0.71, 0.56), (0.79, 0.57, 0.41), (0.62, 0.42, 0.29))
_SKIN = np.array((*_SKIN, (0.47, 0.31, 0.21), (0.39, 0.26, 0.18)))
_WARM, _COOL = np.array((0.96, 0.62, 0.50)), np.array((0.80, 0.74, 0.52))
# From black over brown and red to blond and grey.
_HAIR = ((0.10, 0.09, 0.11), (0.20, 0.13, 0.11), (0.34, 0.21, 0.14), (0.50, 0.30, 0.16), (0.56, 0.22, 0.11))
_HAIR = (*_HAIR, (0.80, 0.42, 0.15), (0.87, 0.66, 0.33), (0.94, 0.83, 0.58), (0.74, 0.74, 0.77), (0.90, 0.90, 0.93))
_HAIR, _DYED = np.array(_HAIR), np.array(((0.86, 0.47, 0.62), (0.45, 0.32, 0.66), (0.17, 0.50, 0.58)))
_NATURAL = 0.86  # of the people
_IRIS = ((0.24, 0.13, 0.08), (0.40, 0.23, 0.10), (0.50, 0.40, 0.16), (0.28, 0.48, 0.26), (0.36, 0.50, 0.56))
_IRIS = np.array((*_IRIS, (0.22, 0.46, 0.72), (0.12, 0.28, 0.62)))
DARK, WHITE = np.array((0.16, 0.09, 0.09)), np.array((0.98, 0.97, 0.95))
_LIPS = np.array(((0.86, 0.48, 0.42), (0.82, 0.32, 0.34), (0.68, 0.16, 0.26)))


@dataclass(frozen=True)
class Figure:
    """The people `who` in the situations `how`, drawn into the pictures `rows` of the canvas."""

    canvas: Canvas
    rows: np.ndarray
    who: Identities
    how: Situations

    @cached_property
    def head(self) -> Head:
        return heads(self.who, self.how.framing)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> Figure:
        """Those of them: a mask or indices."""
        return Figure(self.canvas, self.rows[chosen], self.who.take(chosen), self.how.take(chosen))

    def kinds(self, kinds: np.ndarray) -> Iterator[tuple[int, Figure]]:
        """The people, apart by kind."""
        for kind in np.unique(kinds):
            yield int(kind), self.take(np.flatnonzero(kinds == kind))

    def window(self, frame: Frame, u: Value = 1.0, v: Value = 1.0) -> Window:
        return self.canvas.window(self.rows, frame, u, v)

    def disc(self, frame: Frame, colour: np.ndarray, face: float = 0.0) -> None:
        """A disc, and nothing else in its window."""
        window = self.window(frame)
        window.paint(window.disc(frame), colour, face)
        window.close()

    def expression(self, name: str) -> np.ndarray:
        return self.how.expression[:, EXPRESSION.index(name)]

    @cached_property
    def skin(self) -> np.ndarray:
        """(n, 3)."""
        tone, warmth = self.who.trait("skin_tone"), self.who.trait("skin_warmth", -0.14, 0.14)
        base = along(_SKIN, tone)
        tint = np.where(warmth[:, None] > 0, _WARM, _COOL) * base.mean(axis=1, keepdims=True) * 1.25
        return mix(base, tint, np.abs(warmth))

    @property
    def hatless(self) -> np.ndarray:
        """(n,) bool: nothing on the head."""
        return np.isin(self.how.role, BAREHEADED)

    @cached_property
    def body(self) -> Frame:
        """At the base of the neck, upright: bodies do not turn. In half heights of the head."""
        head = self.head
        one, zero = head.scale, np.zeros_like(head.scale)
        shift = np.stack((-0.55 * head.scale * np.sin(head.roll), 1.24 * head.scale), axis=1)
        return Frame(head.centre + shift, np.stack((one, zero), 1), np.stack((zero, one), 1))

    def one(self, colour: Sequence[float]) -> np.ndarray:
        """(n, 3): the same colour for all."""
        return np.broadcast_to(np.asarray(colour, np.float64), (len(self), 3))

    def chance(self, i: int) -> np.ndarray:
        """(n,) in [0, 1]: number i of the situation's variation."""
        return self.how.variation[:, i]

    def shadow(self, amount: float) -> np.ndarray:
        """The skin, darker and redder."""
        return mix(self.skin, self.skin * (0.62, 0.42, 0.38), amount)

    @cached_property
    def hair(self) -> np.ndarray:
        place = self.who.trait("hair_colour")
        natural, dyed = along(_HAIR, place / _NATURAL), along(_DYED, (place - _NATURAL) / (1 - _NATURAL))
        return np.where(place[:, None] < _NATURAL, natural, dyed) * self.who.trait("hair_shade", 0.88, 1.10)[:, None]

    @cached_property
    def iris(self) -> np.ndarray:
        return along(_IRIS, self.who.trait("iris_colour"))

    @cached_property
    def lips(self) -> np.ndarray:
        """Redder than the skin; how much is a matter of person. On dark skin a little lighter, or it would not show."""
        colour, dark = self.who.trait("lip_colour"), 1 - self.skin.mean(1)
        plain = self.skin * (0.90, 0.60, 0.58) + dark[:, None] ** 2 * (0.36, 0.12, 0.13)
        return mix(plain, along(_LIPS, colour), 0.2 + 0.35 * colour)


def along(palette: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(n, 3): the colour at `place` in [0, 1] of the way through the palette."""
    position = np.clip(place, 0, 1) * (len(palette) - 1)
    first = np.minimum(position.astype(np.int64), len(palette) - 2)
    return mix(palette[first], palette[first + 1], position - first)
