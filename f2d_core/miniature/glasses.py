"""Glasses."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window
from .eyes import eye_place
from .figure import Figure, along
from .people import STYLES

_FRAMES = np.array(((0.10, 0.10, 0.12), (0.35, 0.20, 0.12), (0.72, 0.16, 0.18), (0.16, 0.26, 0.55), (0.80, 0.66, 0.30)))


def draw_glasses(figure: Figure) -> None:
    for kind, part in figure.kinds(figure.who.style("glasses")):
        if kind:
            _pair(part, STYLES["glasses"][kind])


def _pair(figure: Figure, name: str) -> None:
    x, y = eye_place(figure)
    colour = along(_FRAMES, figure.who.trait("frame_colour"))
    size = figure.who.trait("glasses_size", 0.25, 0.33)
    middle, height = np.maximum(x, size + 0.045), 1.0 if name == "round" else 0.82
    whole = figure.head.surface(0, y + 0.03, 0.06)
    window = figure.window(whole, 1.0, 0.45)
    for side in (-1, 1):
        lens = figure.head.surface(side * middle, y + 0.03, 0.06).scaled(size, size * height)
        outer, inner = _lens(window, lens, name, 1.0), _lens(window, lens, name, 1 - 0.055 / size)
        window.paint(0.16 * inner, figure.one((0.80, 0.92, 1.0)), face=1)
        rim = outer - inner
        if name == "half rim":
            rim = rim * np.clip(0.5 - 4 * window.local(lens)[1], 0, 1)
        window.paint(rim, colour, face=1)
    bridge = whole.at(0, -0.04).scaled(middle - size + 0.02, 0.028)
    window.paint(window.box(bridge), colour, face=1)
    window.close()


def _lens(window: Window, frame: Frame, name: str, size: np.ndarray | float) -> np.ndarray:
    """A disc, or a square with round corners, `size` times as large as the frame."""
    scaled = frame.scaled(size)
    if name == "round":
        return window.disc(scaled)
    u, v = window.local(scaled)
    uu, vv = u * u, v * v
    return window.inside(1 - uu * uu - vv * vv)
