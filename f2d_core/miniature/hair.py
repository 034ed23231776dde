"""Hair: what hangs behind, the cap on the skull, and what stands up from it or falls beside the face."""

from __future__ import annotations

import numpy as np

from .canvas import Frame, Window, shaded, spread, wave
from .figure import Figure
from .people import STYLES

_NAMES = STYLES["hair"]
_SKULL_Y, _SKULL_Z = -0.14, -0.10  # the middle of the skull's ellipsoid in head space
# Per style: how thick the hair is, and where the cut through it meets the temples, larger further down.
_THICKNESS = dict(zip(_NAMES, (0.0, 0.0, 0.06, 0.07, 0.16, 0.11, 0.09, 0.11, 0.06, 0.06, 0.07, 0.06), strict=True))
_CUT = dict(zip(_NAMES, (-9, 0.02, 0.06, 0.03, 0.16, 0.22, 0.20, 0.20, 0.06, 0.05, 0.08, 0.02), strict=True))
_LONG = {"bob": (0.20, 0.62), "long hair": (0.16, 1.28), "wavy hair": (0.24, 1.18), "curls": (0.16, 0.45)}
_STRANDS = {"long hair": 1.32, "wavy hair": 1.24}  # how far down the locks beside the face reach
_SIDE_CURLS = ((-0.94, 0.16), (0.94, 0.16), (-0.92, -0.16), (0.92, -0.16))
_UPPER_CURLS = (
    (-0.84, -0.46),
    (0.84, -0.46),
    (-0.64, -0.74),
    (0.64, -0.74),
    (-0.33, -0.95),
    (0.33, -0.95),
    (0.0, -1.03),
)


def draw_back_hair(figure: Figure) -> None:
    """Behind neck and head."""
    for kind, part in figure.kinds(figure.who.style("hair")):
        name = _NAMES[kind]
        if name in _LONG:
            _curtain(part, name)
        if name in _STRANDS:
            _strands(part, name, behind=True)
        if name == "curls":
            _curls(part, _SIDE_CURLS, -0.45)
        if name == "ponytail":
            _puff(part, (0.62, -0.30, -0.75), 0.30, 0.62, 0.5)
        if name == "pigtails":
            for side in (-1, 1):
                _puff(part, (side * 1.02, 0.16, -0.35), 0.26, 0.42, side * 0.25)
        if name == "bun":
            _puff(_hatless(part), (0.0, -1.20, -0.25), 0.34, 0.30, 0.0)


def draw_front_hair(figure: Figure) -> None:
    """On the skull, around the face."""
    for kind, part in figure.kinds(figure.who.style("hair")):
        name = _NAMES[kind]
        if name == "bald":
            continue
        if name == "curls":
            _curls(part, _UPPER_CURLS, -0.10)
        if name in _STRANDS:
            _strands(part, name, behind=False)
        if name == "spiky hair":
            _spikes(_hatless(part))
        _cap(part, name)
        if name == "quiff":
            _quiff(_hatless(part))


def _hatless(figure: Figure) -> Figure:
    return figure.take(figure.hatless)


def _curtain(figure: Figure, name: str) -> None:
    """Hair that hangs down behind: a broad shape from the crown to its end."""
    wider, end = _LONG[name]
    head, volume = figure.head, figure.who.trait("hair_volume", 0.8, 1.25)
    top = head.upright(0, -0.5, -0.3)
    half = (end + 0.5) / 2
    across = top.across * (head.width + wider * volume)[:, None]
    frame = Frame(top.point(0, half - 0.3), across, top.down * (half + 0.3))
    window = figure.window(frame, 1.2, 1.1)
    u, v = window.local(frame)
    if name == "wavy hair":
        u = u * (1 + 0.05 * wave(2.4 * v))
    uu, vv = u * u, v * v
    square = np.clip(3 * v, 0, 1)  # round above, square below
    field = 1 - uu * (1 + square * (np.minimum(uu, 1.5) - 1)) - vv * (1 + square * (np.minimum(vv, 1.5) - 1))
    shade = 0.62 + 0.12 * np.clip(wave(3.5 * u) * 0.5, -1, 1)
    window.paint(window.inside(field), shaded(figure.hair, shade))
    window.close()


def _puff(figure: Figure, place: tuple[float, float, float], width: float, height: float, lean: float) -> None:
    if not len(figure):
        return
    size = figure.who.trait("hair_volume", 0.8, 1.2)
    frame = figure.head.upright(*place).turned(-lean).scaled(width * size, height * size)
    window = figure.window(frame)
    window.paint(window.disc(frame), figure.hair * 0.80)
    window.paint(0.8 * window.disc(frame.at(-0.15, -0.2).scaled(0.6, 0.55)), figure.hair * 0.98)
    window.close()


class Dome:
    """The ellipsoid of the hair over the skull as it is seen from the front, after the head has turned.

    outline: the ellipse that it is in the picture. It is the unit sphere, stretched, turned and looked at along z; so
    the sphere's points that project to the middle form its z axis, and the picture's axes have two directions on it.
    """

    def __init__(self, figure: Figure, thickness: np.ndarray):
        head = figure.head
        radii = np.stack((head.width * 0.985 + 0.03 + thickness, head.length * 0.88 + thickness, 0.93 + thickness))
        axes = (head.turned(*axis) for axis in np.eye(3))
        turned = np.array([np.broadcast_arrays(*axis, head.scale)[:3] for axis in axes]) * radii[:, None]
        x, y = turned[:, 0], turned[:, 1]  # (3, n): how far each axis of the sphere goes in the picture
        width = np.sqrt((x * x).sum(0))
        along_x = x / width
        lean = (y * along_x).sum(0)
        height = np.sqrt(((y - lean * along_x) ** 2).sum(0))
        along_y = (y - lean * along_x) / height
        self._axes = np.stack((along_x, along_y, np.cross(along_x, along_y, axis=0)))  # (u v near, x y z, n)
        flat = head.upright(0, _SKULL_Y, _SKULL_Z)
        across = flat.across * width[:, None] + flat.down * lean[:, None]
        self.outline = Frame(flat.origin, across, flat.down * height[:, None])

    def coordinates(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, y, z) of head space in radii, (n, h, w) each, of what is seen of the ellipsoid; outside, of its rim."""
        u, v = window.local(self.outline)
        near = np.sqrt(np.maximum(1 - u * u - v * v, 0))
        return tuple(spread(a) * u + spread(b) * v + spread(c) * near for a, b, c in self._axes.transpose(1, 0, 2))


def _cap(figure: Figure, name: str) -> None:
    """The hair on the skull, cut along a slanting plane over forehead and temples, with a fringe of its style."""
    volume = figure.who.trait("hair_volume", 0.7, 1.3)
    dome = Dome(figure, _THICKNESS[name] * volume)
    window = figure.window(dome.outline, 1.02, 1.02)
    x, y, z = dome.coordinates(window)
    edge = _hairline(figure, name, x, y, z)
    cover = window.disc(dome.outline) * window.inside(edge)
    shadow = 0.28 * window.disc(dome.outline) * window.inside(edge + 0.07) * window.planes[3]
    window.paint(shadow, figure.shadow(0.9), face=1)
    if name == "buzz cut":
        window.paint(cover * 0.72, figure.hair)
    else:
        window.paint(cover, shaded(figure.hair, _shade(figure, x, y, z)))
    window.close()


def _hairline(figure: Figure, name: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Positive where hair grows; about in radii of the skull."""
    line = spread(figure.who.trait("hairline", -0.07, 0.07) + _CUT[name])
    parting = spread(figure.who.trait("parting", -1, 1))
    side = np.where(parting < 0, np.float32(-1), np.float32(1))
    edge = line - y - 0.80 * z
    if name in ("short hair", "quiff"):
        edge += 0.10 * side * x
    elif name == "bob":
        edge += 0.30 * np.maximum(1 - 2.2 * np.abs(x) * np.abs(x), 0)
    elif name == "long hair":
        edge += 0.16 * np.abs(x - 0.15 * parting) - 0.10
    elif name in ("wavy hair", "ponytail"):
        edge += 0.20 * np.abs(x + 0.3 * side) - 0.12
    elif name == "curls":
        edge += 0.05 * wave(3.1 * x)
    elif name == "pigtails":
        edge += 0.12 * wave(1.6 * x + 0.5) * np.maximum(1 - np.abs(x), 0)
    elif name == "spiky hair":
        edge += 0.10 * wave(2.6 * x + 0.2)
    return edge


def _shade(figure: Figure, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Lightness: a soft highlight across the crown, darker at the sides, fine strands."""
    gloss = np.maximum(1 - ((y + 0.62) / 0.17) * ((y + 0.62) / 0.17), 0) * np.maximum(1 - x * x * 1.4, 0)
    strands = wave(3.6 * x + 0.8 * y)
    side, strength = (spread(figure.how.light[:, i]) for i in (0, 2))
    return 0.86 + 0.22 * gloss + 0.03 * strands - 0.16 * x * x + 0.05 * z + 0.6 * strength * side * x


def _curls(figure: Figure, places: tuple[tuple[float, float], ...], z: float) -> None:
    """Round locks around the skull; those on its top only where no hat is."""
    for i, (x, y) in enumerate(places):
        part = figure if y > -0.4 else _hatless(figure)
        if not len(part):
            continue
        size = part.who.trait("hair_volume", 0.24, 0.36)
        frame = part.head.upright(x * part.head.width / 0.8, y, z).scaled(size * (1.0 if i % 2 else 1.12))
        window = part.window(frame)
        window.paint(window.disc(frame), part.hair * 0.86)
        window.paint(0.7 * window.disc(frame.at(-0.12, -0.22).scaled(0.6)), part.hair * 0.98)
        window.close()


def _spikes(figure: Figure) -> None:
    """Pointed tufts that stand up from the crown."""
    if not len(figure):
        return
    size = figure.who.trait("hair_volume", 0.34, 0.58)
    for x in (-0.66, -0.40, -0.14, 0.14, 0.40, 0.66):
        foot = figure.head.upright(x * 0.95, -0.62 - 0.28 * (1 - x * x * 2), -0.05).turned(x * 0.95)
        frame = foot.scaled(0.30, size)
        window = figure.window(frame.at(0, -0.4), 1.15, 0.7)
        u, v = window.local(frame)
        field = np.minimum(1 + v, 1.0) * 0.85 - np.abs(u)
        window.paint(window.inside(np.minimum(field, 0.2 - v)), figure.hair * (0.86 + 0.1 * (x > 0)))
        window.close()


def _quiff(figure: Figure) -> None:
    """A roll of hair over the forehead."""
    if not len(figure):
        return
    side = np.where(figure.who.trait("parting") < 0.5, -1.0, 1.0)
    size = figure.who.trait("hair_volume", 0.85, 1.25)
    for shift, lift, width, height, shade in (
        (-0.28, -0.86, 0.40, 0.24, 0.84),
        (0.02, -0.95, 0.48, 0.29, 0.92),
        (0.30, -0.93, 0.40, 0.26, 1.0),
    ):
        frame = figure.head.upright(side * shift, lift, 0.32).turned(side * 0.35).scaled(width * size, height * size)
        window = figure.window(frame)
        window.paint(window.disc(frame), figure.hair * shade)
        window.close()


def _strands(figure: Figure, name: str, behind: bool) -> None:
    """Locks that fall beside the face, over the shoulders; behind the head at the side that it turns to."""
    for side in (-1, 1):
        part = figure.take((side * figure.head.yaw > 0.10) == behind)
        if len(part):
            _strand(part, side, _STRANDS[name], name == "wavy hair")


def _strand(figure: Figure, side: int, end: float, wavy: bool) -> None:
    head = figure.head
    top, bottom = head.point(side * head.width * 0.96, -0.45, -0.02), head.point(side * (head.width + 0.10), end, -0.10)
    frame = Frame((top + bottom) / 2, head.upright(0, 0, 0).across * 0.22, (bottom - top) / 2)
    window = figure.window(frame, 1.8, 1.1)
    u, v = window.local(frame)
    offset = u - 0.20 * side * (1 - v * v)
    if wavy:
        offset = offset + 0.28 * wave(0.9 * v + 0.3)
    half = 0.80 * np.clip(1.2 - 0.35 * (v + 1), 0, 1) * np.clip((1 - v * v) * 4, 0, 1)
    cover = np.maximum(window.beside(frame, half - offset) - window.beside(frame, -half - offset), 0)
    window.paint(cover, shaded(figure.hair, 0.84 + 0.12 * np.clip(1 - np.abs(offset) * 1.4, 0, 1)))
    window.close()
