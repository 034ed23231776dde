"""The head itself: its outline, neck, ears, and what lies on the skin."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window, mix, spread, wave
from .figure import Figure, along

_METALS = np.array(((0.95, 0.78, 0.30), (0.82, 0.84, 0.88), (0.90, 0.35, 0.40), (0.30, 0.62, 0.70)))
_CHIN_DEPTH, _CROWN_DEPTH = 0.34, -0.12
_MARKS = ((-0.42, 0.52), (0.40, 0.46), (0.20, 0.80))


def draw_neck(figure: Figure) -> None:
    head = figure.head
    frame = head.upright(0, 0.9, -0.25).scaled(0.34 + 0.25 * (head.width - 0.7), 0.75)
    window = figure.window(frame)
    window.paint(window.box(frame), figure.shadow(0.42))
    window.close()


def draw_ear(figure: Figure, side: int) -> None:
    head, size = figure.head, figure.who.trait("ear_size", 0.15, 0.25)
    place = head.upright(side * (head.width * 0.99 + 0.02), 0.10, -0.12)
    frame = place.turned(side * 0.16).scaled(0.72 * size, size * 1.1)
    window = figure.window(frame, 1.4, 2.5)
    window.paint(window.disc(frame), figure.shadow(0.10), face=1)
    window.paint(window.disc(frame.at(-0.08 * side, 0.0).scaled(0.52, 0.6)), figure.shadow(0.5), face=1)
    _earring(figure, window, frame.at(0.1 * side, 1.0), size)
    window.close()


def _earring(figure: Figure, window: Window, frame: Frame, size: np.ndarray) -> None:
    """A stud or a hoop at the lobe."""
    kinds, metal = spread(figure.who.style("earrings")), along(_METALS, figure.who.trait("frame_colour"))
    stud = frame.scaled(0.055 / (0.72 * size), 0.055 / (1.1 * size))
    window.paint(window.disc(stud) * (kinds == 1), metal)
    hoop = frame.scaled(0.12 / (0.72 * size), 0.12 / (1.1 * size)).at(0, 0.7)
    window.paint((window.disc(hoop) - window.disc(hoop.scaled(0.60))) * (kinds == 2), metal)


def outline(figure: Figure) -> Frame:
    """The head's own frame in the picture: (0, -1) is the crown, (0, 1) the chin, leaning as the head is turned."""
    head = figure.head
    top, bottom = head.point(0, -head.length, _CROWN_DEPTH), head.point(0, head.length, _CHIN_DEPTH)
    across = head.upright(0, 0, 0).across * head.width[:, None]
    return Frame((top + bottom) / 2, across, (bottom - top) / 2)


def draw_skin(figure: Figure) -> None:
    frame = outline(figure)
    window = figure.window(frame, 1.5, 1.1)  # with the ears
    window.paint(window.inside(jaw(figure, *window.local(frame))), figure.skin, face=1)
    _blush(figure, window)
    window.close()


def jaw(figure: Figure, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Positive inside the head: a circle above, narrowing by the jaw below, the corners of the jaw squared."""
    jaw, square = spread(figure.who.trait("jaw_width", 0.50, 0.10)), spread(figure.who.trait("jaw_square", 0.0, 0.75))
    cheeks = spread(figure.who.trait("cheeks", -0.03, 0.09))
    low = np.clip(v, 0, 1)
    width = 1 - low * low * jaw + cheeks * np.maximum(low * (1 - low) * 4, 0)
    u = u / width
    uu, vv = u * u, v * v
    return 1 - uu - vv + square * np.minimum(low * 2, 1) * uu * low * low


def _blush(figure: Figure, window: Window) -> None:
    """Soft round cheeks."""
    amount = figure.who.trait("blush", 0.05, 0.5)
    colour = mix(figure.skin, np.array((0.93, 0.42, 0.40)) * figure.skin.mean(1, keepdims=True) * 1.25, 0.75)
    for side in (-1, 1):
        u, v = window.local(figure.head.surface(side * 0.46, 0.38).scaled(0.27, 0.2))
        glow = np.maximum(1 - u * u - v * v, 0)
        window.paint(spread(amount) * glow * window.planes[3], colour, face=1)


def draw_freckles(figure: Figure) -> None:
    """Dots on a slanting grid over the nose and the cheeks, for those who have them."""
    figure = figure.take(figure.who.trait("freckles") > 0.62)
    if not len(figure):
        return
    frame = figure.head.surface(0, 0.33).scaled(0.58, 0.2)
    window = figure.window(frame)
    u, v = window.local(frame)
    across, down = 5.0 * u + 1.1 * v, 2.3 * v - 1.3 * u
    dots = np.clip(2.2 * (wave(across) + wave(down) - 1.15), 0, 1)
    around = np.minimum(3 * np.maximum(1 - u * u - v * v, 0), 1)
    strength = spread((figure.who.trait("freckles") - 0.45) * 1.6)
    window.paint(dots * around * strength, figure.skin * (0.72, 0.50, 0.40), face=1)
    window.close()


def draw_mark(figure: Figure) -> None:
    """A beauty spot."""
    for kind, part in figure.kinds(figure.who.style("mark")):
        if kind:
            part.disc(part.head.surface(*_MARKS[kind - 1]).scaled(0.042), part.skin * (0.38, 0.26, 0.24), face=1)


def draw_light(figure: Figure) -> None:
    """The side of the face towards the light is lighter."""
    x, y, strength = (spread(figure.how.light[:, i]) for i in range(3))
    frame = outline(figure)
    window = figure.window(frame, 1.6, 1.15)  # the ears, too
    u, v = window.local(frame)
    own = np.clip(8 * (1.5 - np.abs(u)), 0, 1) * np.clip(16 * (1.1 - np.abs(v)), 0, 1)  # nobody else's face
    u, v = np.clip(u, -1.2, 1.2), np.clip(v, -1.2, 1.2)
    lightness = x * u + y * v - 0.25 * (u * u + v * v) + 0.15
    window.tint(1 + strength * lightness * own * window.planes[3])
    window.close()
