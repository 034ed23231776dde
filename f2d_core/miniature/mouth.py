"""Mouth and tongue."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window, spread
from .figure import WHITE, Figure


def mouth_frame(figure: Figure) -> Frame:
    """|u| = 1 at the corners of the mouth, v in half heights of the head."""
    width = figure.who.trait("mouth_width", 0.23, 0.34)
    factor = 1 + 0.32 * figure.expression("wide") + 0.16 * np.maximum(figure.expression("smile"), 0)
    height = figure.who.trait("mouth_height", 0.56, 0.68)
    return figure.head.surface(0, height).scaled(width * factor, 1.0)


def mouth_line(figure: Figure, u: np.ndarray) -> np.ndarray:
    """v of the line between the lips, at u of shape (n, …)."""
    bend = (-0.17 * figure.expression("smile")).reshape(-1, *(1,) * (u.ndim - 1)).astype(u.dtype)
    return bend * (u * u - np.asarray(0.4, u.dtype))


def draw_mouth(figure: Figure) -> None:
    frame = mouth_frame(figure)
    window = figure.window(frame, 1.2, 0.52)
    u, v = window.local(frame)
    arch = np.maximum(1 - u * u, 0)
    line, gape = mouth_line(figure, u), spread(0.34 * np.maximum(figure.expression("open"), 0))
    full = figure.who.trait("lip_fullness", 0.45, 1.25) * (1 + 0.7 * np.maximum(-figure.expression("wide"), 0))
    upper, lower = line - 0.3 * gape * arch, line + 0.7 * gape * arch
    bow = 1 - 0.30 * np.maximum(1 - 16 * u * u, 0)
    above, below = upper - spread(0.075 * full) * arch * bow, lower + spread(0.10 * full) * arch
    window.paint(window.band(frame, v, above, upper), figure.lips * 0.93, face=1)
    window.paint(window.band(frame, v, lower, below), figure.lips, face=1)
    inside = window.band(frame, v, upper, lower)
    _inside(figure, window, frame, inside, upper, gape)
    ends = np.clip((1.06 - np.abs(u)) * 8, 0, 1)
    closed = window.band(frame, v, upper - 0.016 * ends, upper + 0.016 * ends)
    window.paint(closed * 0.85, figure.lips * (0.42, 0.30, 0.30), face=1)
    _tongue(figure, window, frame)
    window.close()


def _tongue(figure: Figure, window: Window, frame: Frame) -> None:
    """Out of the mouth."""
    out = np.maximum(figure.expression("tongue"), 0)
    tongue = frame.at(0, 0.06 + 0.2 * figure.expression("open")).scaled(0.36, 0.17)
    window.paint(spread(out) * window.disc(tongue), figure.one((0.90, 0.42, 0.45)), face=1)
    groove = window.band(tongue, window.local(tongue)[0], spread(-0.07), spread(0.07)) * window.disc(tongue)
    window.paint(0.5 * spread(out) * groove, figure.one((0.72, 0.26, 0.32)), face=1)


def _inside(
    figure: Figure, window: Window, frame: Frame, inside: np.ndarray, upper: np.ndarray, gape: np.ndarray
) -> None:
    """Dark, with the upper teeth and the tongue."""
    u, v = window.local(frame)
    window.paint(inside, figure.one((0.34, 0.07, 0.09)), face=1)
    tongue = window.disc(frame.at(0, 0.02 + 0.28 * figure.expression("open")).scaled(0.62, 0.13))
    window.paint(tongue * inside, figure.one((0.85, 0.38, 0.38)), face=1)
    teeth = window.band(frame, v, upper, upper + np.minimum(gape * 0.42, 0.095))
    window.paint(teeth * inside * np.clip((0.92 - np.abs(u)) * 8, 0, 1), figure.one(WHITE), face=1)
