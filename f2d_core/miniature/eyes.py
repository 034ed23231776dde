"""Eyes, brows and tears."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window, mix, spread
from .figure import DARK, WHITE, Figure


def eye_place(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the middle of the eye at the right of the picture, in head space."""
    return figure.who.trait("eye_spacing", 0.29, 0.40), figure.who.trait("eye_height", -0.04, 0.12)


def eye_frame(figure: Figure, side: int) -> Frame:
    """|u| = 1 at the corners of the eye, v in the same unit, turned by the tilt."""
    x, y = eye_place(figure)
    size = figure.who.trait("eye_size", 0.18, 0.255)
    tilt = figure.who.trait("eye_tilt", 0.20, -0.24)
    return figure.head.surface(side * x, y).turned(side * tilt).scaled(size)


def _lids(figure: Figure, side: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(upper, lower): v of the lids at u; they meet at |u| = 1, and everywhere when the eye is shut."""
    open_ = figure.expression("eyes")
    share = np.clip(np.where(open_ < 0, 1 + open_, 1 + 0.32 * open_), 0, 1.4)
    share = share * (1 - np.clip(side * figure.expression("wink"), 0, 1))
    squint = 1 - 0.45 * np.maximum(figure.expression("smile"), 0) * (0.4 + 0.6 * figure.expression("open"))
    roundness = figure.who.trait("eye_roundness", 0.52, 0.92)
    arch = 1 - u * u
    shut = 0.22 * roundness
    upper = -spread((roundness + shut) * share - shut) * arch
    lower = spread(np.maximum(roundness * 0.62 * squint * share, 0) + shut * (1 - np.minimum(share, 1))) * arch
    return upper, np.maximum(lower, upper)


def draw_eye(figure: Figure, side: int) -> None:
    frame = eye_frame(figure, side)
    window = figure.window(frame, 1.35, 1.55)
    u, v = window.local(frame)
    upper, lower = _lids(figure, side, u)
    opening = window.band(frame, v, upper, lower)
    _shade_socket(figure, window, frame)
    window.paint(opening, figure.one(WHITE), face=1)
    _iris(figure, window, frame, opening)
    _lashes(figure, window, frame, side)
    window.close()


def _shade_socket(figure: Figure, window: Window, frame: Frame) -> None:
    """The upper lid: a little darker than the skin around it."""
    lid = window.disc(frame.at(0, -0.12).scaled(1.12, 0.95))
    window.paint(0.30 * lid, figure.shadow(0.8), face=1)


def _iris(figure: Figure, window: Window, frame: Frame, opening: np.ndarray) -> None:
    middle = frame.at(0.34 * figure.expression("gaze_x"), -0.03 + 0.2 * figure.expression("gaze_y"))
    rings = (0.72, figure.iris * 0.55), (0.61, figure.iris), (0.28, figure.one(DARK * 0.5))
    for radius, colour in rings:
        window.paint(window.disc(middle.scaled(radius)) * opening, colour, face=1)
    glint = window.disc(frame.at(0.34 * figure.expression("gaze_x") + 0.2, -0.24).scaled(0.17))
    window.paint(glint * np.minimum(opening * 1.2, 1), figure.one((1, 1, 1)), face=1)


def _lashes(figure: Figure, window: Window, frame: Frame, side: int) -> None:
    """The line of the upper lid, thicker and with a wing outside for those with long lashes; a faint lower one."""
    u, v = window.local(frame)
    upper, lower = _lids(figure, side, np.clip(u, -1.1, 1.1))
    lashes = spread(figure.who.trait("lashes"))
    outside = np.clip(side * u, 0, 1)
    ends = np.clip((1.16 - np.abs(u)) * 6, 0, 1)
    thick = (0.09 + 0.11 * lashes * (0.5 + outside)) * ends
    rise = lashes * 0.22 * outside * outside * ends
    line = window.band(frame, v, upper - thick - rise, upper + 0.05 * ends - 0.6 * rise)
    window.paint(line * 0.95, mix(figure.skin * 0.2, DARK[None], 0.7), face=1)
    below = window.band(frame, v, lower - 0.02 * ends, lower + 0.07 * ends)
    window.paint(below * 0.45, figure.shadow(1.0), face=1)


def draw_tears(figure: Figure) -> None:
    """Two drops below each eye, of those who cry."""
    figure = figure.take(figure.expression("tears") > 0.1)
    if not len(figure):
        return
    x, y = eye_place(figure)
    for side in (-1, 1):
        for along_x, down, size in ((0.06, 0.27, 0.075), (0.10, 0.50, 0.095)):
            drop = figure.head.surface(side * (x + along_x), y + down).scaled(size * 0.72, size * 1.25)
            window = figure.window(drop)
            window.paint(0.92 * window.disc(drop), figure.one((0.45, 0.75, 0.97)), face=1)
            window.paint(0.9 * window.disc(drop.at(-0.2, 0.15).scaled(0.4, 0.4)), figure.one((0.90, 0.97, 1.0)), face=1)
            window.close()


def draw_brows(figure: Figure) -> None:
    x, y = eye_place(figure)
    size = figure.who.trait("eye_size", 0.18, 0.255)
    raised = figure.who.trait("brow_height", 0.19, 0.27) + size * 0.5 + 0.11 * figure.expression("brows")
    for side in (-1, 1):
        frown = figure.expression("frown")
        tilt = figure.who.trait("brow_tilt", -0.12, 0.14) + 0.34 * frown
        place = side * (x + 0.01 - 0.03 * np.maximum(frown, 0))
        frame = figure.head.surface(place, y - raised + 0.05 * np.maximum(frown, 0)).turned(side * tilt)
        _brow(figure, frame.scaled(0.235), side)


def _brow(figure: Figure, frame: Frame, side: int) -> None:
    window = figure.window(frame, 1.1, 0.9)
    u, v = window.local(frame)
    arch = spread(figure.who.trait("brow_arch", 0.08, 0.55) + 0.15 * figure.expression("brows"))
    middle = arch * (u - 0.2 * side) * (u - 0.2 * side) - arch * 0.35
    inner = 1 - 0.55 * np.maximum(side * u, 0)
    ends = np.clip((1.05 - np.abs(u)) * 4, 0, 1)
    thick = spread(figure.who.trait("brow_thickness", 0.09, 0.30)) * inner * ends
    cover = 0.92 * window.band(frame, v, middle - thick, middle + thick)
    window.paint(cover, mix(figure.hair * 0.72, DARK[None], 0.25), face=1)
    window.close()
