"""What people hold, or have beside them. All of it leaves the face free."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .canvas import Frame, Window
from .figure import DARK, Figure, along
from .situations import PROPS

Tone = Sequence[float] | np.ndarray  # one for all, or (n, 3)
Cover = Callable[[Window, Frame], np.ndarray]

_BRIGHT = np.array(((0.88, 0.22, 0.24), (0.96, 0.62, 0.18), (0.30, 0.62, 0.36), (0.22, 0.48, 0.82), (0.62, 0.34, 0.72)))
_BEHIND = ("balloon", "umbrella")
_CHANCE = 4  # of the variation: which side; the next: which colour


def draw_props(figure: Figure, behind: bool) -> None:
    """Those behind the person before it is drawn, the others after it."""
    for kind, part in figure.kinds(figure.how.prop):
        name = PROPS[kind]
        if kind and (name in _BEHIND) == behind:
            _PROPS[name](Held(part))


class Held:
    """A prop in the making: shapes are laid one over the other in the space of the body, mirrored to a side."""

    def __init__(self, figure: Figure):
        self.figure = figure
        side = np.where(figure.chance(_CHANCE) < 0.5, -1.0, 1.0)
        self._body = figure.body.scaled(side, 1.0)
        self.colour = along(_BRIGHT, figure.chance(_CHANCE + 1))

    def frame(self, x: float, y: float, width: float, height: float, turn: float = 0.0) -> Frame:
        """Around (x, y) in half heights of the head from the base of the neck; x is towards the prop's side."""
        return self._body.at(x, y).turned(turn).scaled(width, height)

    def disc(self, colour: Tone, *place: float) -> None:
        self._lay(colour, self.frame(*place), lambda window, frame: window.disc(frame))

    def box(self, colour: Tone, *place: float) -> None:
        self._lay(colour, self.frame(*place), lambda window, frame: window.box(frame))

    def half(self, colour: Tone, *place: float) -> None:
        """The upper half of a disc."""
        self._lay(colour, self.frame(*place), lambda window, frame: window.disc(frame) * _above(window, frame))

    def wedge(self, colour: Tone, *place: float) -> None:
        """A triangle with its point down."""
        self._lay(colour, self.frame(*place), _wedge)

    def hand(self, x: float, y: float) -> None:
        self.disc(self.figure.shadow(0.25), x, y, 0.20, 0.19)
        self.disc(self.figure.skin, x, y - 0.02, 0.17, 0.16)

    def _lay(self, colour: Tone, frame: Frame, cover: Cover) -> None:
        window = self.figure.window(frame)
        tone = colour if isinstance(colour, np.ndarray) else self.figure.one(colour)
        window.paint(cover(window, frame), tone)
        window.close()


def _above(window: Window, frame: Frame) -> np.ndarray:
    return window.above(frame, -window.local(frame)[1])


def _wedge(window: Window, frame: Frame) -> np.ndarray:
    u, v = window.local(frame)
    return window.beside(frame, (1 - v) * 0.5 - np.abs(u)) * window.above(frame, 1 + v)


def _balloon(held: Held) -> None:
    held.box((0.92, 0.92, 0.92), 1.36, -0.2, 0.018, 0.95)
    held.disc(held.colour * 0.85, 1.36, -1.55, 0.42, 0.52)
    held.disc(held.colour, 1.33, -1.58, 0.38, 0.47)
    held.disc((1.0, 0.95, 0.92), 1.22, -1.75, 0.10, 0.14)


def _book(held: Held) -> None:
    for side in (-1, 1):
        held.box(held.colour * 0.8, side * 0.44, 0.85, 0.50, 0.44, side * 0.10)
        held.box((0.97, 0.95, 0.88), side * 0.42, 0.80, 0.43, 0.38, side * 0.10)
        for line in (-0.18, 0.0, 0.18):
            held.box((0.62, 0.60, 0.58), side * 0.42, 0.80 + line, 0.30, 0.025, side * 0.10)
        held.hand(side * 0.92, 0.98)


def _parrot(held: Held) -> None:
    held.disc((0.16, 0.42, 0.72), 1.12, 0.22, 0.13, 0.44, -0.25)
    held.disc((0.82, 0.18, 0.18), 1.16, -0.20, 0.28, 0.42, -0.15)
    held.disc((0.20, 0.62, 0.34), 1.26, -0.14, 0.15, 0.32, -0.25)
    held.disc((0.86, 0.22, 0.20), 1.10, -0.58, 0.25, 0.25)
    held.disc((0.97, 0.95, 0.90), 1.02, -0.60, 0.12, 0.13)
    held.disc(held.figure.one(DARK), 1.02, -0.62, 0.05, 0.055)
    held.disc((0.98, 0.76, 0.24), 0.88, -0.52, 0.10, 0.13, 0.3)


def _cup(held: Held) -> None:
    held.disc(held.colour * 0.75, 1.16, 0.58, 0.20, 0.20)
    held.disc((0.85, 0.83, 0.80), 1.16, 0.58, 0.11, 0.12)
    held.box(held.colour, 0.82, 0.58, 0.32, 0.34)
    held.disc((0.36, 0.22, 0.14), 0.82, 0.25, 0.32, 0.09)
    for x, y in ((0.70, -0.08), (0.86, -0.20), (0.76, -0.36)):
        held.disc((0.97, 0.97, 0.99), x, y + 0.12, 0.06, 0.08)
    held.hand(0.62, 0.72)


def _guitar(held: Held) -> None:
    wood = along(
        np.array(((0.80, 0.48, 0.20), (0.72, 0.26, 0.18), (0.36, 0.22, 0.16))), held.figure.chance(_CHANCE + 1)
    )
    for shade, x, y, width, height in (
        ((0.32, 0.20, 0.14), 0.78, 0.28, 0.95, 0.075),
        ((0.22, 0.14, 0.10), 1.58, -0.08, 0.16, 0.12),
    ):
        held.box(shade, x, y, width, height, -0.42)
    held.disc(wood, -0.42, 0.82, 0.52, 0.46, -0.42)
    held.disc(wood, 0.10, 0.60, 0.40, 0.36, -0.42)
    held.disc((0.14, 0.09, 0.08), -0.08, 0.67, 0.16, 0.16)
    held.box((0.90, 0.86, 0.78), 0.34, 0.48, 0.95, 0.016, -0.42)
    held.hand(-0.32, 0.80)
    held.hand(1.02, 0.22)


def _flowers(held: Held) -> None:
    for x in (0.78, 0.95, 1.10):
        held.box((0.26, 0.55, 0.28), 0.92 + (x - 0.92) * 0.5, 0.55, 0.03, 0.38)
    for i, (x, y) in enumerate(((0.66, 0.18), (1.20, 0.16), (0.78, -0.10), (1.08, -0.12), (0.93, 0.12))):
        held.disc(held.colour if i % 2 else (0.97, 0.85, 0.92), x, y, 0.19, 0.19)
        held.disc((0.98, 0.82, 0.28), x, y, 0.075, 0.075)
    held.wedge((0.95, 0.93, 0.86), 0.93, 0.66, 0.42, 0.36)
    held.hand(0.93, 0.88)


def _ice_cream(held: Held) -> None:
    held.wedge((0.87, 0.62, 0.32), 1.08, 0.42, 0.27, 0.46)
    held.disc((0.97, 0.78, 0.82), 0.94, -0.08, 0.24, 0.23)
    held.disc((0.52, 0.32, 0.22), 1.22, -0.08, 0.24, 0.23)
    held.disc((0.98, 0.94, 0.80), 1.08, -0.34, 0.25, 0.24)
    held.disc((0.85, 0.12, 0.20), 1.08, -0.58, 0.08, 0.08)
    held.hand(1.08, 0.66)


def _cat(held: Held) -> None:
    fur = along(np.array(((0.90, 0.58, 0.26), (0.48, 0.48, 0.52), (0.18, 0.17, 0.20))), held.figure.chance(_CHANCE + 1))
    held.disc(fur * 0.92, 0.98, 1.05, 0.52, 0.55)
    for side in (-1, 1):
        held.wedge(fur, 0.98 + side * 0.27, 0.16, 0.22, -0.24)
        held.wedge((0.95, 0.70, 0.70), 0.98 + side * 0.27, 0.22, 0.10, -0.13)
    held.disc(fur, 0.98, 0.48, 0.44, 0.36)
    for side in (-1, 1):
        held.disc((0.62, 0.86, 0.38), 0.98 + side * 0.18, 0.44, 0.10, 0.11)
        held.disc((0.08, 0.07, 0.08), 0.98 + side * 0.18, 0.44, 0.045, 0.095)
    held.disc((0.96, 0.94, 0.92), 0.98, 0.64, 0.17, 0.11)
    held.disc((0.92, 0.50, 0.54), 0.98, 0.58, 0.055, 0.045)
    held.hand(0.98, 1.15)


def _trophy(held: Held) -> None:
    gold, dark = (0.97, 0.78, 0.26), (0.72, 0.52, 0.14)
    for side in (-1, 1):
        held.disc(dark, 1.02 + side * 0.30, 0.02, 0.17, 0.22)
        held.disc((0.86, 0.88, 0.90), 1.02 + side * 0.31, 0.02, 0.09, 0.14)
    held.wedge(gold, 1.02, 0.16, 0.40, 0.46)
    held.box(gold, 1.02, -0.14, 0.33, 0.16)
    held.disc((1.0, 0.92, 0.60), 0.92, -0.02, 0.07, 0.22)
    held.box(dark, 1.02, 0.64, 0.06, 0.16)
    held.box((0.30, 0.20, 0.14), 1.02, 0.86, 0.24, 0.10)
    held.hand(1.02, 0.62)


def _umbrella(held: Held) -> None:
    """Open, over the head."""
    held.box((0.36, 0.26, 0.20), 1.25, -0.6, 0.035, 1.5)
    held.half(held.colour, 0.35, -1.95, 1.55, 1.0)
    held.half(held.colour * 0.80, 0.35, -1.95, 0.85, 0.98)
    held.half(held.colour * 1.05, 0.35, -1.95, 0.30, 0.97)


def _microphone(held: Held) -> None:
    held.box((0.22, 0.23, 0.27), 0.86, 0.52, 0.085, 0.46, 0.35)
    held.disc((0.40, 0.42, 0.46), 0.68, 0.04, 0.21, 0.21)
    held.disc((0.74, 0.76, 0.80), 0.66, 0.0, 0.16, 0.16)
    held.hand(0.95, 0.72)


_PROPS = {
    "balloon": _balloon,
    "book": _book,
    "parrot": _parrot,
    "cup": _cup,
    "guitar": _guitar,
    "flowers": _flowers,
    "ice cream": _ice_cream,
    "cat": _cat,
    "trophy": _trophy,
    "umbrella": _umbrella,
    "microphone": _microphone,
}
