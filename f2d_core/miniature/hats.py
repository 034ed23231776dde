"""What is worn on the head: a hat, crown or helmet for the roles that have one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Frame, shaded, wave
from .figure import Figure
from .situations import ROLES

Colour = tuple[float, float, float]
_GOLD, _WHITE = (0.95, 0.76, 0.25), (0.97, 0.97, 0.96)


def draw_hats(figure: Figure) -> None:
    for kind, part in figure.kinds(figure.how.role):
        if ROLES[kind] in _HATS:
            _HATS[ROLES[kind]](part)


def _on_head(figure: Figure, y: float) -> Frame:
    """Where a hat begins: across half the head's width, down half its height, following the forehead's nod."""
    head = figure.head
    flat = head.upright(0, y, -0.02).at(0, -0.45 * np.sin(head.pitch))
    return Frame(flat.origin, flat.across * (head.width + 0.09)[:, None], head.seen(0, 1, -0.10))


def _brim(figure: Figure, frame: Frame, width: float, height: float, colour: np.ndarray) -> None:
    """A flat ring around the head, seen a little from above or below as the head nods."""
    head = figure.head
    flat = np.abs(np.sin(head.pitch + 0.16)) * 0.8 + height
    ring = Frame(frame.origin, frame.across * width, head.upright(0, 0, 0).down * flat[:, None])
    window = figure.window(ring, 1.1, 1.3)  # thin: its soft edge reaches further
    window.paint(window.disc(ring), colour)
    window.close()


def _crown_of(
    figure: Figure,
    frame: Frame,
    top: float,
    wide: float,
    square: bool,
    colour: np.ndarray,
    band: np.ndarray | None = None,
) -> None:
    """The body of a hat that rises from the frame's origin to `top`, `wide` times as broad there."""
    middle = frame.at(0, -top / 2)
    window = figure.window(middle, max(1.0, wide) * 1.1, top / 2 + 0.4)
    u, v = window.local(frame)
    rise = -v / top
    half = 1 + (wide - 1) * np.clip(rise, 0, 1)
    bottom = 0.22 * (1 - u * u / (half * half))
    over = 1.0 - (0.04 if square else 0.42) * (u / half) * (u / half)
    field = np.minimum(np.minimum(half - np.abs(u), (over - rise) * top), bottom - v)
    cover = window.inside(field)
    shade = 1.03 - 0.16 * u * u
    window.paint(cover, shaded(colour, shade))
    if band is not None:
        window.paint(cover * np.clip((v + 0.13 - bottom + 0.05) * 14, 0, 1), band)
    window.close()


def _chef_hat(figure: Figure) -> None:
    frame = _on_head(figure, -0.58)
    white = figure.one(_WHITE)
    window = figure.window(frame.at(0, -0.62), 1.5, 0.7)
    for u, v, radius, shade in ((-0.62, -0.62, 0.56, 0.92), (0.62, -0.62, 0.56, 0.92), (0, -0.80, 0.68, 1.0)):
        window.paint(window.disc(frame.at(u, v).scaled(radius, radius * 0.72)), white * shade)
    window.close()
    _crown_of(figure, frame, 0.52, 0.98, True, white * 0.97, white * 0.86)


def _crown(figure: Figure) -> None:
    frame = _on_head(figure, -0.62)
    window = figure.window(frame.at(0, -0.22), 1.1, 0.62)
    u, v = window.local(frame)
    peaks = -0.34 - 0.20 * wave(1.5 * u)
    field = np.minimum(np.minimum(v - peaks, 0.22 * (1 - u * u) - v), (1.0 - np.abs(u) - 0.1 * v))
    shade = 1.06 - 0.30 * u * u
    window.paint(window.inside(field), shaded(figure.one(_GOLD), shade))
    for x, tone in ((-0.62, (0.30, 0.45, 0.85)), (0.0, (0.85, 0.15, 0.25)), (0.62, (0.30, 0.45, 0.85))):
        window.paint(window.disc(frame.at(x, -0.02 + 0.10 * (1 - x * x)).scaled(0.11, 0.10)), figure.one(tone))
    window.close()


def _helmet(shell: Colour, badge: Colour) -> Callable[[Figure], None]:
    def draw(figure: Figure) -> None:
        frame = _on_head(figure, -0.58)
        _brim(figure, frame.at(0, 0.06), 1.26, 0.07, figure.one(shell) * 0.80)
        _crown_of(figure, frame, 0.74, 0.92, False, figure.one(shell))
        ridge = frame.at(0, -0.40).scaled(0.13, 0.42)
        window = figure.window(ridge, 3, 1)
        window.paint(window.disc(ridge), figure.one(shell) * 1.10)
        window.paint(window.disc(frame.at(0, -0.16).scaled(0.24, 0.20)), figure.one(badge))
        window.close()

    return draw


def _wizard_hat(figure: Figure) -> None:
    frame = _on_head(figure, -0.60)
    cloth = figure.one((0.29, 0.24, 0.58))
    _crown_of(figure, frame, 1.35, 0.06, False, cloth, figure.one(_GOLD))
    window = figure.window(frame.at(0, -0.5), 1.0, 0.6)
    for x, y in ((-0.30, -0.28), (0.22, -0.50), (-0.04, -0.86), (0.46, -0.16)):
        window.paint(window.disc(frame.at(x, y).scaled(0.085)), figure.one((0.98, 0.88, 0.45)))
    window.close()
    _brim(figure, frame.at(0, 0.12), 1.42, 0.06, cloth * 0.88)


def _santa_hat(figure: Figure) -> None:
    frame = _on_head(figure, -0.62)
    red = figure.one((0.84, 0.13, 0.15))
    side = np.where(figure.chance(4) < 0.5, -1.0, 1.0)
    _crown_of(figure, frame.sheared(-0.35 * side), 0.95, 0.22, False, red)
    window = figure.window(frame.at(0, -0.4), 1.6, 0.95)
    window.paint(window.disc(frame.at(side * 0.62, -0.62).scaled(0.36, 0.38)), red * 0.86)
    window.paint(window.disc(frame.at(side * 0.92, -0.36).scaled(0.24)), figure.one(_WHITE))
    u, v = window.local(frame)
    fur = 0.10 + 0.14 * (1 - u * u)
    cover = window.band(frame, v, fur - 0.15, fur + 0.13)
    window.paint(cover * window.beside(frame, 1.1 - np.abs(u)), figure.one(_WHITE))
    window.close()


def _cowboy_hat(figure: Figure) -> None:
    frame = _on_head(figure, -0.56)
    leather = figure.one((0.56, 0.36, 0.20))
    _crown_of(figure, frame, 0.66, 0.80, True, leather, figure.one((0.30, 0.17, 0.10)))
    wide = frame.at(0, 0.06)
    window = figure.window(wide, 1.75, 0.42)
    u, v = window.local(wide)
    lift = -0.13 * u * u * u * u / 4 - 0.04 * u * u
    ends = np.clip((1.68 - np.abs(u)) * 3, 0, 1)
    low, high = lift - 0.02 - 0.05 * ends, lift + 0.13 * ends * (1 - u * u / 4)
    window.paint(window.band(wide, v, low, high) * ends, leather * 0.88)
    window.close()


def _graduation_cap(figure: Figure) -> None:
    frame = _on_head(figure, -0.58)
    black = figure.one((0.15, 0.16, 0.24))
    _crown_of(figure, frame, 0.34, 0.96, True, black * 0.9)
    board = frame.at(0, -0.36)
    window = figure.window(board, 1.35, 0.75)
    u, v = window.local(board)
    field = 1 - np.abs(u) / 1.26 - np.abs(v) / 0.36
    window.paint(window.inside(field), black * 1.15)
    side = np.where(figure.chance(4) < 0.5, -1.0, 1.0)
    string = window.box(board.at(side * 0.84, 0.22).scaled(0.035, 0.24))
    window.paint(string, figure.one(_GOLD))
    window.paint(window.disc(board.at(side * 0.84, 0.50).scaled(0.075, 0.13)), figure.one(_GOLD))
    window.paint(window.disc(board.scaled(0.07, 0.05)), figure.one(_GOLD))
    window.close()


def _space_helmet(figure: Figure) -> None:
    """A glass bubble around the whole head."""
    head = figure.head
    frame = head.upright(0, -0.05, -0.05).scaled(1.30, 1.36)
    window = figure.window(frame)
    u, v = window.local(frame)
    rim = window.disc(frame) - window.disc(frame.scaled(0.93))
    window.paint(0.85 * rim, figure.one((0.86, 0.90, 0.95)))
    distance = np.sqrt(u * u + v * v)
    ring = np.clip((0.86 - distance) * 20, 0, 1) * np.clip((distance - 0.74) * 20, 0, 1)
    gleam = ring * np.clip((-u - 0.25) * 6, 0, 1) * np.clip((-v - 0.05) * 6, 0, 1)
    window.paint(0.75 * gleam, figure.one((1, 1, 1)))
    window.close()


def _pirate_hat(figure: Figure) -> None:
    frame = _on_head(figure, -0.58)
    black = figure.one((0.13, 0.12, 0.15))
    window = figure.window(frame.at(0, -0.28), 1.5, 0.75)
    u, v = window.local(frame)
    top = -0.80 + 0.33 * u * u
    bottom = 0.22 - 0.26 * np.abs(u)
    ends = 1.38 - np.abs(u)
    cover = window.inside(np.minimum(np.minimum(v - top, bottom - v), ends))
    window.paint(cover, black)
    trim = cover - window.inside(np.minimum(v - top - 0.08, np.minimum(bottom - v + 1, ends)))
    window.paint(np.clip(trim, 0, 1), figure.one(_GOLD))
    window.paint(window.disc(frame.at(0, -0.30).scaled(0.19, 0.20)), figure.one(_WHITE))
    window.paint(window.disc(frame.at(0, -0.13).scaled(0.11, 0.09)), figure.one(_WHITE))
    for side in (-1, 1):
        window.paint(window.disc(frame.at(side * 0.075, -0.29).scaled(0.05, 0.06)), black)
    window.close()


_HATS = {
    "chef": _chef_hat,
    "king": _crown,
    "firefighter": _helmet((0.82, 0.16, 0.14), _GOLD),
    "wizard": _wizard_hat,
    "builder": _helmet((0.97, 0.80, 0.18), (0.93, 0.93, 0.90)),
    "santa": _santa_hat,
    "cowboy": _cowboy_hat,
    "graduate": _graduation_cap,
    "astronaut": _space_helmet,
    "pirate": _pirate_hat,
}
