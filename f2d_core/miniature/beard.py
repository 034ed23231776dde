"""Beards: stubble, goatee, full beard and moustache."""

from __future__ import annotations

import numpy as np

from .canvas import mix, spread
from .figure import DARK, Figure
from .mouth import mouth_frame, mouth_line
from .people import STYLES
from .skin import jaw, outline

_STRENGTH = {"stubble": 0.30, "goatee": 0.95, "full beard": 0.97}  # of those on the chin
_WITH_MOUSTACHE = ("moustache", "goatee", "full beard")


def draw_beard(figure: Figure) -> None:
    """Stubble, goatee and full beard, below the mouth and around it; the moustache comes after the mouth."""
    for kind, part in figure.kinds(figure.who.style("beard")):
        name = STYLES["beard"][kind]
        if name in _STRENGTH:
            _chin_hair(part, name)


def _chin_hair(figure: Figure, name: str) -> None:
    frame = outline(figure)
    window = figure.window(frame.at(0, 0.55), 1.1, 0.62)
    u, v = window.local(frame)
    reach = 1.10 if name == "full beard" else 1.0
    field = jaw(figure, u / np.float32(1 + 0.5 * (reach - 1)), v / np.float32(reach))
    if name == "goatee":
        edge = 1 - (u / 0.36) * (u / 0.36) - ((v - 0.86) / 0.30) * ((v - 0.86) / 0.30)
    else:
        edge = v - 0.30 - 0.34 * np.maximum(1 - (u / 0.8) * (u / 0.8), 0)
    cover = window.inside(field) * window.inside(edge)
    mu, mv = window.local(mouth_frame(figure))
    bare = 0 if name == "goatee" else window.inside(1 - (mu / 1.12) ** 2 - ((mv - 0.03) / 0.15) ** 2)
    window.paint(_STRENGTH[name] * cover * (1 - bare), _colour(figure), face=1)
    window.close()


def _colour(figure: Figure) -> np.ndarray:
    return mix(figure.hair * 0.85, DARK[None], 0.12)


def draw_moustache(figure: Figure) -> None:
    """Over the upper lip, for moustaches, goatees and full beards."""
    kinds = figure.who.style("beard")
    figure = figure.take(np.isin(kinds, [STYLES["beard"].index(name) for name in _WITH_MOUSTACHE]))
    if not len(figure):
        return
    frame = mouth_frame(figure).at(0, -0.075)
    window = figure.window(frame, 1.25, 0.28)
    u, v = window.local(frame)
    middle = mouth_line(figure, u) * 0.7 + 0.05 * u * u
    gape = spread(0.10 * np.maximum(figure.expression("open"), 0))
    thick = 0.075 * np.clip((1.15 - np.abs(u)) * 2.2, 0, 1) * (0.75 + 0.25 * np.minimum(np.abs(u) * 4, 1))
    window.paint(window.band(frame, v, middle - gape - thick, middle - gape + thick), _colour(figure), face=1)
    window.close()
