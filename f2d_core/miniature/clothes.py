"""Clothes: everyday shirts, and one outfit for every role."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Frame, Window, mix, shaded, spread, wave
from .figure import DARK, Figure, along
from .situations import ROLES

Colour = tuple[float, float, float]
_SHIRTS = ((0.80, 0.24, 0.24), (0.93, 0.55, 0.22), (0.95, 0.80, 0.35), (0.35, 0.60, 0.36), (0.20, 0.55, 0.58))
_SHIRTS = np.array(
    (*_SHIRTS, (0.25, 0.40, 0.68), (0.42, 0.32, 0.60), (0.78, 0.48, 0.60), (0.92, 0.91, 0.88), (0.28, 0.30, 0.34))
)
_COATS = {
    "chef": (0.96, 0.96, 0.95),
    "king": (0.60, 0.12, 0.20),
    "firefighter": (0.22, 0.24, 0.30),
    "wizard": (0.27, 0.22, 0.52),
    "builder": (0.96, 0.50, 0.14),
    "santa": (0.82, 0.14, 0.16),
    "cowboy": (0.70, 0.42, 0.22),
    "graduate": (0.14, 0.15, 0.22),
    "doctor": (0.95, 0.97, 0.98),
    "astronaut": (0.90, 0.91, 0.93),
    "pirate": (0.93, 0.91, 0.86),
}
_GOLD, _WHITE, _SILVER, _LIME = (0.95, 0.76, 0.25), (0.97, 0.97, 0.96), (0.72, 0.75, 0.80), (0.86, 0.95, 0.30)

# (figure, its torso's window and frame, what the torso covers, its colour)
Draw = Callable[[Figure, Window, Frame, np.ndarray, np.ndarray], None]


def draw_clothes(figure: Figure) -> None:
    for kind, part in figure.kinds(figure.how.role):
        colour = along(_SHIRTS, part.chance(0)) if kind == 0 else part.one(_COATS[ROLES[kind]])
        _torso(part, ROLES[kind], colour)


def _torso(figure: Figure, role: str, colour: np.ndarray) -> None:
    broad = figure.who.trait("jaw_width", 1.32, 1.62)
    frame = figure.body.scaled(broad, 1.0)
    window = figure.window(frame.at(0, 1.0), 1.05, 1.3)
    u, v = window.local(frame)
    uu = u * u
    shoulders = window.inside(np.minimum(v - 0.02 - 0.20 * uu - 0.45 * uu * uu * uu, 1.02 - uu))
    side, strength = (spread(figure.how.light[:, i]) for i in (0, 2))
    shade = 1.0 - 0.10 * uu - 0.06 * np.clip(wave(0.8 * u + 0.15 * v), 0, 1) + 0.5 * strength * side * u
    window.paint(shoulders, shaded(colour, shade))
    _NECKLINES.get(role, _shirt)(figure, window, frame, shoulders, colour)
    window.close()


def _shirt(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
    """Round or pointed neck; plain, with stripes, or with a broad band."""
    u, v = window.local(frame)
    look = figure.chance(1)
    stripes = np.clip(wave(2.6 * v) * 4, 0, 1) * spread((look > 0.45) & (look < 0.75))
    band = np.clip(8 * (0.22 - np.abs(v - 0.62)), 0, 1) * spread(look >= 0.75)
    other = along(_SHIRTS, (figure.chance(0) + 0.37 + 0.3 * figure.chance(2)) % 1)
    window.paint((stripes + band) * shoulders, other)
    pointed = (figure.chance(3) > 0.5)[:, None, None]
    collar = np.where(pointed, 0.46 - 1.55 * np.abs(u) - v, 1 - (u / 0.30) ** 2 - (v / 0.30) ** 2)
    window.paint(window.inside(collar + 0.10) * shoulders, mix(colour, DARK[None], 0.22))
    window.paint(window.inside(collar) * shoulders, figure.shadow(0.28))


def _coat(trim: Colour, inner: Colour | None = None, buttons: Colour = _GOLD) -> Draw:
    """A coat, open in a V over `inner`, with lapels of `trim` and a row of buttons."""

    def draw(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
        u, v = window.local(frame)
        opening = 0.52 - 1.3 * np.abs(u) - 0.8 * v
        window.paint(window.inside(opening + 0.16) * shoulders, figure.one(trim))
        window.paint(window.inside(opening) * shoulders, figure.shadow(0.28) if inner is None else figure.one(inner))
        for height in (0.80, 1.08):
            button = frame.at(0.0, height).scaled(0.055, 0.075)
            window.paint(window.disc(button) * shoulders, figure.one(buttons))

    return draw


def _doctor(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
    """A white coat and a stethoscope around the neck."""
    _coat((0.85, 0.89, 0.92), (0.40, 0.68, 0.72), (0.70, 0.74, 0.78))(figure, window, frame, shoulders, colour)
    u, v = window.local(frame)
    tube = np.abs(np.abs(u) - 0.30 + 0.10 * v)
    tube = np.clip(22 * (0.05 - tube), 0, 1) * np.clip(8 * (0.72 - v), 0, 1)
    window.paint(tube * shoulders, figure.one((0.25, 0.30, 0.38)))
    window.paint(window.disc(frame.at(0.235, 0.74).scaled(0.085, 0.12)) * shoulders, figure.one(_SILVER))


def _jacket(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
    """A work jacket with bright bands."""
    u, v = window.local(frame)
    for middle, width, tone in ((0.72, 0.13, _LIME), (0.72, 0.05, _SILVER)):
        window.paint(np.clip(14 * (width - np.abs(v - middle)), 0, 1) * shoulders, figure.one(tone))
    for side in (-1, 1):
        window.paint(np.clip(14 * (0.075 - np.abs(u - 0.52 * side)), 0, 1) * shoulders, figure.one(_LIME))
    collar = 0.34 - 0.9 * np.abs(u) - v
    window.paint(window.inside(collar + 0.10) * shoulders, mix(colour, DARK[None], 0.4))
    window.paint(window.inside(collar) * shoulders, figure.one((0.88, 0.86, 0.80)))


def _robe(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
    """A royal robe: white fur with dark tails around the neck, a golden chain."""
    u, v = window.local(frame)
    fur = 0.62 - 0.55 * u * u - v + 0.03 * wave(4 * u)
    window.paint(window.inside(fur) * shoulders, figure.one(_WHITE))
    spots = np.clip((wave(3.1 * u) + wave(3.6 * v + 0.3) - 1.25) * 3, 0, 1)
    window.paint(spots * window.inside(fur - 0.07) * shoulders, figure.one((0.2, 0.18, 0.2)))
    window.paint(window.disc(frame.at(0, 0.68).scaled(0.10, 0.14)), figure.one(_GOLD))


def _suit(figure: Figure, window: Window, frame: Frame, shoulders: np.ndarray, colour: np.ndarray) -> None:
    """A space suit: a metal ring around the neck, a panel on the chest."""
    ring = frame.at(0, 0.16)
    window.paint(window.disc(ring.scaled(0.46, 0.30)), figure.one(_SILVER))
    window.paint(window.disc(ring.at(0, -0.03).scaled(0.36, 0.20)), figure.one((0.34, 0.37, 0.43)))
    window.paint(window.box(frame.at(0, 0.86).scaled(0.26, 0.20)), figure.one((0.36, 0.42, 0.52)))
    for x, tone in ((-0.13, (0.92, 0.30, 0.28)), (0.0, (0.97, 0.80, 0.30)), (0.13, (0.36, 0.75, 0.45))):
        window.paint(window.disc(frame.at(x, 0.82).scaled(0.05, 0.07)), figure.one(tone))


_NECKLINES = {
    "chef": _coat((0.86, 0.87, 0.90), (0.93, 0.94, 0.95), (0.25, 0.27, 0.32)),
    "king": _robe,
    "firefighter": _jacket,
    "wizard": _coat((0.42, 0.36, 0.72)),
    "builder": _jacket,
    "santa": _coat(_WHITE, (0.93, 0.92, 0.90), (0.16, 0.14, 0.15)),
    "cowboy": _coat((0.50, 0.28, 0.14), (0.78, 0.24, 0.22)),
    "graduate": _coat((0.22, 0.24, 0.36), _WHITE),
    "doctor": _doctor,
    "astronaut": _suit,
    "pirate": _coat((0.16, 0.15, 0.18)),
}
