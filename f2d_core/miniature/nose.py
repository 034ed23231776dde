"""The nose."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window, mix, spread
from .eyes import eye_place
from .figure import Figure


def nose_tip(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """(y, lift) of the tip of the nose in head space; x is 0."""
    return figure.who.trait("nose_length", 0.28, 0.46), figure.who.trait("nose_tip", 0.20, 0.30)


def draw_nose(figure: Figure) -> None:
    y, lift = nose_tip(figure)
    width = figure.who.trait("nose_width", 0.11, 0.21)
    base, tip = figure.head.surface(0, y), figure.head.surface(0, y, lift)
    bridge = figure.head.surface(0, eye_place(figure)[1] + 0.02, 0.10)
    length = tip.origin - bridge.origin
    window = figure.window(Frame((bridge.origin + tip.origin) / 2, base.across * 0.3, length * 0.5 + base.down * 0.16))
    _side(figure, window, Frame(bridge.origin, base.across * (width * 0.62)[:, None], length))
    _tip(figure, window, tip, width)
    window.close()


def _side(figure: Figure, window: Window, frame: Frame) -> None:
    """A shadow from the bridge, v = 0, to the tip, v = 1, at the side away from the light."""
    dark = spread(np.where(figure.how.light[:, 0] > 0, -1.0, 1.0))
    u, v = window.local(frame)
    slope = np.clip(1 - np.abs(dark * u - 0.75 * v - 0.15) * 2.2, 0, 1)
    slope = slope * np.clip(6 * v, 0, 1) * np.clip(6 * (1 - v), 0, 1)
    window.paint(0.40 * slope, figure.shadow(0.8), face=1)


def _tip(figure: Figure, window: Window, tip: Frame, width: np.ndarray) -> None:
    """A shadow below, the wings with their nostrils, the tip with a gleam."""
    window.paint(0.55 * window.disc(tip.at(0, 0.05).scaled(width * 1.12, 0.095)), figure.shadow(0.8), face=1)
    for sign in (-1, 1):
        wing = tip.at(sign * width * 0.72, 0.015).scaled(width * 0.42, 0.075)
        window.paint(window.disc(wing), figure.shadow(0.30), face=1)
        hole = tip.at(sign * width * 0.48, 0.075).scaled(width * 0.26, 0.032)
        window.paint(0.75 * window.disc(hole), figure.shadow(1.0) * 0.55, face=1)
    window.paint(window.disc(tip.at(0, -0.005).scaled(width * 0.72, 0.085)), figure.shadow(0.12), face=1)
    shine = tip.at(0.02, -0.04).scaled(width * 0.28, 0.035)
    window.paint(0.4 * window.disc(shine), mix(figure.skin, np.ones(3), 0.6), face=1)
