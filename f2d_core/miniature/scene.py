"""What is behind a person: twelve places, each a little different from picture to picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .canvas import Frame, Value, Window, mix, spread, wave
from .figure import Figure, along
from .situations import SCENES

Colour = Sequence[float]
Tone = Colour | np.ndarray  # one for all pictures, or (n, 3)
Cover = Callable[[Window, Frame], np.ndarray]
_FIRST = 5  # the variation's numbers from here on are the scene's


def draw_scene(figure: Figure) -> None:
    for kind, part in figure.kinds(figure.how.scene):
        place = Place(part)
        _SCENES[SCENES[kind]](place)
        place.window.close()


class Place:
    """The whole of some pictures, and tools to fill them."""

    def __init__(self, figure: Figure):
        self._figure = figure
        self.window = figure.canvas.whole(figure.rows)
        self.n = len(figure.rows)

    def chance(self, i: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(n,): the scene's number i, laid between low and high; later ones are made from the first few."""
        number = self._figure.chance(_FIRST + i % 6)
        turn = (number * (1 + i // 6 * 7) + 0.37 * (i // 6)) % 1
        return low + (high - low) * turn

    def one(self, colour: Colour) -> np.ndarray:
        return self._figure.one(colour)

    def sky(self, top: Tone, bottom: Tone, horizon: float = 1.0) -> None:
        """A gradient down to the horizon, its last colour below."""
        share = np.clip(self.window.y / np.float32(horizon), 0, 1)
        for plane, a, b in zip(self.window.planes[:3], self._three(top), self._three(bottom), strict=True):
            plane[:] = a + share * (b - a)

    def _three(self, colour: Tone) -> list[np.ndarray]:
        return [spread(part) for part in np.broadcast_to(np.asarray(colour), (self.n, 3)).T]

    def ground(self, height: np.ndarray, colour: Tone, strength: float = 1.0) -> None:
        """Everything below the line y = height, (n, 1, w)."""
        cover = np.clip((self.window.y - height.astype(np.float32)) * self.window.canvas.size + 0.5, 0, 1)
        self.paint(cover * np.float32(strength), colour)

    def hills(
        self,
        level: Value,
        rise: float,
        waves: float,
        i: int,
        colour: Tone,
        sharp: bool = False,
    ) -> None:
        x = self.window.x * np.float32(waves) + spread(self.chance(i, 0, 3))
        form = wave(x) if sharp else _round(x)
        if sharp:
            form = form + 0.35 * wave(2.7 * x + 0.2)
        self.ground(spread(level) - np.float32(rise) * form, colour)

    def spot(self, x: Value, y: Value, width: Value, height: Value) -> Frame:
        """A frame in sides of the picture."""
        ones = np.ones(self.n)
        unit = np.stack((ones, 0 * ones), 1), np.stack((0 * ones, ones), 1)
        return Frame(np.stack((x * ones, y * ones), 1), *unit).scaled(width, height)

    def disc(self, colour: Tone, *place: Value, strength: float = 1.0) -> None:
        self.shape(colour, self.spot(*place), lambda window, frame: window.disc(frame), strength)

    def box(self, colour: Tone, *place: Value, strength: float = 1.0) -> None:
        self.shape(colour, self.spot(*place), lambda window, frame: window.box(frame), strength)

    def glow(self, colour: Colour, *place: Value, strength: float = 0.6) -> None:
        u, v = self.window.local(self.spot(*place))
        soft = np.maximum(1 - u * u - v * v, 0)
        self.paint(np.float32(strength) * soft * soft, self.one(colour))

    def fir(
        self,
        x: Value,
        foot: Value,
        size: Value,
        colour: Colour,
        snow: Colour | None = None,
    ) -> None:
        """Three triangles, one above the other, with snow on them."""
        for i, (up, width) in enumerate(((0.30, 0.40), (0.62, 0.31), (0.92, 0.21))):
            frame = self.spot(x, foot - np.asarray(size) * up, np.asarray(size) * width, np.asarray(size) * 0.32)
            tone = self.one(colour) * (0.92 + 0.08 * i)
            self.shape(tone, frame, _triangle)
            if snow is not None:
                self.shape(self.one(snow), frame, _snowy, 0.95)

    def shape(self, colour: Tone, frame: Frame, cover: Cover, strength: float = 1.0) -> None:
        """A small thing: drawn in a window of its own on the canvas."""
        self.window.close()
        window = self._figure.window(frame)
        tone = colour if isinstance(colour, np.ndarray) else self.one(colour)
        window.paint(np.float32(strength) * cover(window, frame), tone)
        window.close()
        self.window = self._figure.canvas.whole(self._figure.rows)

    def paint(self, cover: np.ndarray, colour: Tone) -> None:
        tone = colour if isinstance(colour, np.ndarray) else self.one(colour)
        self.window.paint(np.broadcast_to(cover, self.window.planes[0].shape), tone)


def _round(x: np.ndarray) -> np.ndarray:
    """A smooth wave between -1 and 1 with period 1, of parabolas."""
    t = 2 * (x - np.floor(x)) - 1
    return 1 - 2 * t * t * (2 - t * t)


def _triangle(window: Window, frame: Frame) -> np.ndarray:
    u, v = window.local(frame)
    return window.beside(frame, (1 + v) * 0.5 - np.abs(u)) * window.above(frame, 1 - v)


def _snowy(window: Window, frame: Frame) -> np.ndarray:
    u, v = window.local(frame)
    return _triangle(window, frame) * window.above(frame, -0.25 + 0.25 * wave(2.2 * u) - v)


_STUDIO = np.array(
    (
        (0.93, 0.84, 0.72),
        (0.84, 0.72, 0.78),
        (0.66, 0.74, 0.86),
        (0.62, 0.80, 0.78),
        (0.78, 0.85, 0.66),
        (0.92, 0.76, 0.66),
        (0.70, 0.70, 0.74),
    )
)


def _studio(place: Place) -> None:
    tone = along(_STUDIO, place.chance(0))
    place.sky(tone * 0.86, tone * 1.02)
    place.glow((1, 1, 1), 0.5, place.chance(1, 0.3, 0.6), 0.65, 0.65, strength=0.35)


def _snowy_forest(place: Place) -> None:
    place.sky((0.70, 0.80, 0.90), (0.93, 0.95, 0.97), 0.7)
    place.hills(0.60, 0.03, 1.7, 0, (0.72, 0.80, 0.86))
    for i, x in enumerate((0.10, 0.33, 0.66, 0.90)):
        place.fir(x + place.chance(i, -0.06, 0.06), 0.66, place.chance(i + 6, 0.30, 0.42), (0.42, 0.56, 0.58))
    for i, x in enumerate((-0.01, 0.21, 0.80, 1.0)):
        place.fir(
            x + place.chance(i + 2, -0.05, 0.05),
            0.80,
            place.chance(i + 8, 0.52, 0.70),
            (0.16, 0.36, 0.33),
            (0.97, 0.98, 1.0),
        )
    place.hills(0.76, 0.025, 1.3, 3, (0.96, 0.97, 0.99))
    _snow(place)


def _snow(place: Place) -> None:
    """Falling flakes: the crossings of two slanting waves."""
    size = np.float32(6.5)
    x, y = place.window.x + spread(place.chance(4)), place.window.y + spread(place.chance(5))
    flake = wave(size * (x + 0.31 * y)) + wave(size * (0.87 * y - 0.27 * x))
    place.paint(np.clip((flake - 1.66) * 6, 0, 1) * np.float32(0.9), (1, 1, 1))


def _beach(place: Place) -> None:
    place.sky((0.36, 0.68, 0.92), (0.80, 0.93, 0.97), 0.5)
    place.disc((1.0, 0.93, 0.62), place.chance(0, 0.12, 0.88), 0.13, 0.075, 0.075)
    _clouds(place)
    place.ground(np.full((place.n, 1, 1), 0.50), (0.16, 0.56, 0.72))
    place.hills(0.585, 0.006, 4.0, 1, (0.32, 0.72, 0.78))
    place.hills(0.66, 0.012, 2.2, 2, (0.92, 0.97, 0.96))
    place.hills(0.685, 0.012, 2.2, 2, (0.95, 0.85, 0.62))
    side = np.where(place.chance(3) < 0.5, 0.10, 0.90)
    _palm(place, side)


def _palm(place: Place, x: np.ndarray) -> None:
    lean = np.where(x < 0.5, 1.0, -1.0)
    for i in range(5):
        place.box((0.55, 0.38, 0.24), x + lean * 0.012 * i, 0.70 - 0.10 * i, 0.020, 0.055)
    for dx, dy in ((-0.13, 0.03), (-0.08, -0.05), (0.0, -0.07), (0.08, -0.05), (0.13, 0.03)):
        place.disc((0.22, 0.56, 0.30), x + lean * 0.05 + dx, 0.24 + dy, 0.10, 0.035)


def _clouds(place: Place) -> None:
    for i, (x, y) in enumerate(((0.18, 0.16), (0.78, 0.24))):
        x, y = x + place.chance(i, -0.12, 0.12), y + place.chance(i + 2, -0.05, 0.05)
        for dx, dy, size in ((-0.07, 0.012, 0.05), (0.0, 0.0, 0.065), (0.075, 0.014, 0.045)):
            place.disc((1, 1, 1), x + dx, y + dy, size * 1.3, size * 0.75, strength=0.85)


def _city(place: Place) -> None:
    dusk = place.chance(5)
    place.sky(
        mix(place.one((0.55, 0.72, 0.88)), np.array((0.28, 0.26, 0.48)), dusk),
        mix(place.one((0.88, 0.90, 0.90)), np.array((0.95, 0.62, 0.48)), dusk),
    )
    for i in range(6):
        height = place.chance(i, 0.30, 0.62)
        x = -0.02 + 0.20 * i + place.chance(i + 6, -0.03, 0.03)
        tone = mix(
            place.one(((0.55, 0.60, 0.68), (0.66, 0.58, 0.56), (0.48, 0.55, 0.60))[i % 3]),
            np.array((0.22, 0.22, 0.36)),
            0.55 * dusk,
        )
        _tower(place, x, height, tone, dusk)
    place.ground(np.full((place.n, 1, 1), 0.90), mix(place.one((0.50, 0.50, 0.53)), np.array((0.25, 0.25, 0.33)), dusk))


def _tower(place: Place, x: np.ndarray, height: np.ndarray, tone: np.ndarray, dusk: np.ndarray) -> None:
    """A block with rows of windows, which are lit at dusk."""
    middle = 0.92 - height / 2

    def windows(window: Window, frame: Frame) -> np.ndarray:
        u, v = window.local(frame)
        grid = np.clip((wave(1.5 * u + 0.5) - 0.1) * 4, 0, 1) * np.clip((wave(v * spread(height * 9)) - 0.1) * 4, 0, 1)
        return grid * window.box(frame.scaled(0.86, 0.93))

    frame = place.spot(x, middle, 0.088, height / 2)
    place.shape(tone, frame, lambda window, f: window.box(f))
    light = mix(place.one((0.76, 0.86, 0.92)), np.array((1.0, 0.85, 0.50)), dusk)
    place.shape(light, frame, windows, 0.75)


def _library(place: Place) -> None:
    place.sky((0.38, 0.25, 0.16), (0.46, 0.31, 0.20))
    window = place.window
    level = window.y * 4.0 + spread(place.chance(0, 0, 0.5))
    shelf = np.floor(level)
    within = level - shelf
    books = window.x * 13.0 + 3.7 * shelf + spread(place.chance(1, 0, 5))
    number = np.floor(books)
    key = number * 0.6180339 + shelf * 0.377 + spread(place.chance(2))
    key = key - np.floor(key)
    tall = 0.18 + 0.22 * np.abs(wave(key * 3.0))
    body = np.clip((within - tall) * window.canvas.size / 4 + 0.5, 0, 1) * np.clip(
        (0.90 - within) * window.canvas.size / 4 + 0.5, 0, 1
    )
    spine = np.clip((books - number) * 7, 0, 1) * np.clip((number + 1 - books) * 7, 0, 1)
    for i, tone in enumerate(
        ((0.66, 0.24, 0.20), (0.24, 0.40, 0.46), (0.80, 0.62, 0.32), (0.34, 0.46, 0.30), (0.52, 0.34, 0.48))
    ):
        chosen = ((key * 5 >= i) & (key * 5 < i + 1)).astype(np.float32)
        place.paint(chosen * body * (0.55 + 0.45 * spine), tone)
    place.paint(np.clip((within - 0.90) * 20, 0, 1), (0.60, 0.42, 0.27))
    place.glow((1.0, 0.88, 0.62), 0.5, 0.35, 0.8, 0.7, strength=0.22)


def _desert(place: Place) -> None:
    place.sky((0.50, 0.74, 0.90), (0.98, 0.88, 0.70), 0.62)
    place.disc((1.0, 0.96, 0.76), place.chance(0, 0.15, 0.85), 0.16, 0.07, 0.07)
    place.hills(0.60, 0.05, 1.2, 1, (0.93, 0.74, 0.48))
    place.hills(0.70, 0.05, 0.9, 2, (0.88, 0.64, 0.38))
    for i, x in enumerate((0.10, 0.90)):
        _cactus(place, x + place.chance(3 + i, -0.05, 0.05), place.chance(4 + i, 0.26, 0.38))
    place.hills(0.84, 0.03, 1.1, 5, (0.82, 0.56, 0.32))


def _cactus(place: Place, x: np.ndarray, size: np.ndarray) -> None:
    green = (0.30, 0.52, 0.32)
    place.disc(green, x, 0.84 - size / 2, 0.034, size * 0.62)
    for side, up in ((-1, 0.40), (1, 0.58)):
        place.box(green, x + side * 0.035, 0.84 - size * up, 0.04, 0.018)
        place.disc(green, x + side * 0.07, 0.84 - size * (up + 0.14), 0.024, size * 0.22)


def _mountains(place: Place) -> None:
    place.sky((0.42, 0.66, 0.88), (0.90, 0.94, 0.96), 0.6)
    _clouds(place)
    peaks = np.float32(0.42) - np.float32(0.20) * wave(place.window.x * 1.5 + spread(place.chance(0, 0, 3)))
    peaks = peaks + np.float32(0.03) * wave(place.window.x * 7.3 + spread(place.chance(1)))
    place.ground(peaks, (0.44, 0.50, 0.62))
    snow = np.clip((peaks + 0.10 + 0.03 * wave(place.window.x * 11.0) - place.window.y) * 40, 0, 1)
    snow = (
        snow
        * np.clip((place.window.y - peaks) * place.window.canvas.size + 0.5, 0, 1)
        * np.clip((0.36 - peaks) * 20, 0, 1)
    )
    place.paint(snow, (0.97, 0.98, 1.0))
    place.hills(0.64, 0.05, 1.6, 2, (0.36, 0.52, 0.44), sharp=True)
    place.hills(0.78, 0.04, 1.1, 3, (0.42, 0.62, 0.36))


def _meadow(place: Place) -> None:
    place.sky((0.45, 0.74, 0.94), (0.88, 0.95, 0.96), 0.6)
    _clouds(place)
    place.hills(0.56, 0.04, 1.3, 1, (0.52, 0.76, 0.44))
    place.hills(0.66, 0.03, 1.0, 2, (0.44, 0.70, 0.36))
    window = place.window
    x, y = window.x + spread(place.chance(3)), window.y + spread(place.chance(4))
    near = np.clip((window.y - 0.66) * 12, 0, 1)
    for i, tone in enumerate(((0.95, 0.35, 0.38), (1.0, 0.85, 0.30), (0.97, 0.97, 1.0), (0.72, 0.45, 0.85))):
        flower = wave(5.0 * x + 1.3 * y + 0.21 * i) + wave(6.0 * y - 1.1 * x + 0.33 * i)
        place.paint(np.clip((flower - 1.50) * 5, 0, 1) * near, tone)


def _night(place: Place) -> None:
    place.sky((0.05, 0.07, 0.20), (0.20, 0.20, 0.42), 0.9)
    window = place.window
    x, y = window.x + spread(place.chance(0)), window.y + spread(place.chance(1))
    for i, sharp in enumerate((1.80, 1.86)):
        star = wave((5.2 + 2.3 * i) * (x + 0.37 * y)) + wave((5.7 + 2.1 * i) * (y - 0.29 * x) + 0.2 * i)
        place.paint(np.clip((star - sharp) * 8, 0, 1), (1.0, 0.98, 0.88))
    moon = place.chance(2, 0.14, 0.86)
    place.glow((0.75, 0.78, 0.95), moon, 0.18, 0.30, 0.30, strength=0.5)
    place.disc((0.97, 0.95, 0.84), moon, 0.18, 0.085, 0.085)
    place.disc((0.86, 0.84, 0.74), moon + 0.02, 0.165, 0.02, 0.02)
    place.disc((0.86, 0.84, 0.74), moon - 0.03, 0.20, 0.015, 0.015)
    place.hills(0.80, 0.05, 1.4, 3, (0.07, 0.09, 0.20))


def _kitchen(place: Place) -> None:
    tiles = along(np.array(((0.90, 0.93, 0.92), (0.93, 0.90, 0.82), (0.80, 0.89, 0.92))), place.chance(0))
    place.sky(tiles, tiles * 0.95)
    window = place.window
    joint = np.maximum(wave(window.x * 8.0), wave(window.y * 8.0))
    place.paint(np.clip((joint - 0.86) * 8, 0, 1) * np.float32(0.5), (0.70, 0.74, 0.74))
    cupboard = along(np.array(((0.62, 0.42, 0.26), (0.36, 0.54, 0.56), (0.86, 0.60, 0.36))), place.chance(1))
    for x in (0.125, 0.375, 0.625, 0.875):
        place.box(cupboard * 0.80, x, 0.08, 0.122, 0.14)
        place.box(cupboard, x, 0.075, 0.108, 0.125)
        place.disc((0.90, 0.86, 0.76), x + 0.08, 0.16, 0.014, 0.014)
    place.box((0.34, 0.36, 0.40), 0.5, 0.395, 0.5, 0.008)
    for i in range(6):
        x = 0.08 + 0.168 * i + place.chance(i, -0.03, 0.03)
        tone = ((0.80, 0.34, 0.24), (0.45, 0.48, 0.52), (0.28, 0.30, 0.34))[i % 3]
        place.box((0.34, 0.36, 0.40), x, 0.43, 0.008, 0.04)
        place.disc(tone, x, 0.51, 0.045, 0.05)
    place.box((0.72, 0.68, 0.62), 0.5, 0.92, 0.5, 0.14)
    place.box((0.84, 0.80, 0.74), 0.5, 0.80, 0.5, 0.025)


def _autumn(place: Place) -> None:
    place.sky((0.86, 0.88, 0.84), (0.98, 0.90, 0.74), 0.7)
    for i in range(5):
        x = 0.04 + 0.23 * i + place.chance(i, -0.05, 0.05)
        place.box((0.40, 0.27, 0.20), x, 0.56, 0.016 + 0.006 * (i % 2), 0.26)
        tone = ((0.86, 0.42, 0.16), (0.92, 0.66, 0.22), (0.72, 0.26, 0.18))[i % 3]
        for dx, dy, size in ((-0.06, 0.03, 0.085), (0.06, 0.02, 0.09), (0.0, -0.07, 0.10)):
            place.disc(
                tone if dy > 0 else place.one(tone) * 1.06,
                x + dx,
                place.chance(i + 3, 0.20, 0.32) + dy,
                size,
                size * 0.95,
            )
    place.hills(0.74, 0.02, 1.4, 2, (0.74, 0.46, 0.22))
    window = place.window
    x, y = window.x + spread(place.chance(4)), window.y + spread(place.chance(5))
    leaf = wave(6.0 * x + 1.7 * y) + wave(7.0 * y - 1.3 * x)
    place.paint(np.clip((leaf - 1.5) * 5, 0, 1) * np.clip((window.y - 0.74) * 12, 0, 1), (0.90, 0.62, 0.20))


def _sunset(place: Place) -> None:
    place.sky((0.36, 0.24, 0.50), (0.99, 0.66, 0.36), 0.62)
    x = place.chance(0, 0.18, 0.82)
    place.glow((1.0, 0.88, 0.55), x, 0.55, 0.45, 0.40, strength=0.7)
    place.disc((1.0, 0.90, 0.62), x, 0.55, 0.10, 0.10)
    for i, y in enumerate((0.18, 0.28, 0.37)):
        place.disc((0.95, 0.52, 0.46), place.chance(1 + i, 0.1, 0.9), y, 0.26, 0.022, strength=0.8)
    place.ground(np.full((place.n, 1, 1), 0.62), (0.42, 0.28, 0.44))
    glitter = np.clip(wave(place.window.y * 17.0 + 0.4 * wave(place.window.x * 5.0)) * 2, 0, 1)
    path = np.maximum(1 - np.abs(place.window.x - spread(x)) * 5, 0)
    place.paint(glitter * path * (place.window.y > 0.63), (1.0, 0.78, 0.48))
    place.hills(0.90, 0.03, 1.3, 5, (0.16, 0.12, 0.22))


_SCENES = {
    "studio": _studio,
    "snowy forest": _snowy_forest,
    "beach": _beach,
    "city": _city,
    "library": _library,
    "desert": _desert,
    "mountains": _mountains,
    "meadow": _meadow,
    "night sky": _night,
    "kitchen": _kitchen,
    "autumn forest": _autumn,
    "sunset": _sunset,
}
