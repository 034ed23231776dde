"""Invented people as pictures: the one renderer of this project, entered here.

Nobody is real and no art is borrowed: every shape is a formula (face, hair, clothes, scene), so any size can be
drawn, and every factor of a picture is known. The same people, situations and size give the same bytes, whatever else
is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SettingsError
from . import clothes, face, hair, hats, props, scene, skin
from .canvas import Canvas, spread
from .captions import PERSON, captions
from .figure import Figure
from .people import Identities
from .situations import Situations, shared

SIZE = 64  # px
_SMALLEST = 16
_CHUNK_PIXELS = 256 * SIZE * SIZE  # drawn at once: fewer, and numpy's calls cost more than their work


@dataclass(frozen=True)
class Rendered:
    """B pictures and what is known of them.

    pixels: (B, S, S, 3) uint8 RGB. points: (B, 5, 2) float64 px in the project's order; of people drawn together
    (B, people, 5, 2). mask: (B, S, S) fp32 in [0, 1], how much of a pixel is face (skin, features, glasses, ears,
    beard; no hair, hat or neck). expression: (B, 11) and pose: (B, 6), as in situations.py, of the first person.
    captions: B lines; of several people, what is true of all.
    """

    pixels: np.ndarray
    points: np.ndarray
    mask: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    captions: list[str]


def render(
    identities: Identities, situations: Situations, size: int = SIZE, names: Sequence[str] | None = None
) -> Rendered:
    """Person i in situation i. names: who they are in the captions (default "a person"). Raises SettingsError."""
    drawn = render_together([identities], [situations], size, None if names is None else [names])
    return Rendered(**{**vars(drawn), "points": drawn.points[:, 0]})


def render_together(
    people: Sequence[Identities],
    situations: Sequence[Situations],
    size: int = SIZE,
    names: Sequence[Sequence[str]] | None = None,
) -> Rendered:
    """Several people in each picture, the first one furthest behind; the scene and the light are the first one's.

    situations.side_by_side places two. Raises SettingsError.
    """
    _check(people, situations, size)
    count, step = len(people[0]), max(1, _CHUNK_PIXELS // (size * size))
    chunks = [np.arange(i, min(i + step, count)) for i in range(0, count, step)]
    parts = [_draw([p.take(c) for p in people], [s.take(c) for s in situations], size) for c in chunks]
    pixels, points, mask = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    who = [" and ".join(group) for group in zip(*(names or [[PERSON] * count] * len(people)), strict=True)]
    first = situations[0]
    return Rendered(pixels, points, mask, first.expression, first.framing, captions(shared(situations), who))


def render_scenes(identities: Identities, situations: Situations, size: int = SIZE) -> np.ndarray:
    """(n, S, S, 3) uint8: the scenes of the situations and their light, with nobody there."""
    figure = Figure(Canvas(len(situations), size), np.arange(len(situations)), identities, situations)
    scene.draw_scene(figure)
    figure.canvas.planes[:3] *= _light(figure)
    return _levels(figure.canvas)


def _check(people: Sequence[Identities], situations: Sequence[Situations], size: int) -> None:
    lengths = {len(part) for part in (*people, *situations)}
    if len(lengths) != 1 or 0 in lengths or len(people) != len(situations):
        raise SettingsError(
            f"{[len(p) for p in people]} identities and {[len(s) for s in situations]} situations given; expected as"
            " many of each, and at least one. Use take() to choose and to repeat them."
        )
    if size < _SMALLEST:
        raise SettingsError(f"Pictures of {size} px asked for; expected {_SMALLEST} px or more. Choose a larger size.")


def _draw(
    people: list[Identities], situations: list[Situations], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    canvas = Canvas(len(people[0]), size)
    rows = np.arange(canvas.count)
    figures = [Figure(canvas, rows, who, how) for who, how in zip(people, situations, strict=True)]
    scene.draw_scene(figures[0])
    for figure in figures:
        _draw_person(figure)
    canvas.planes[:3] *= _light(figures[0])
    points = np.stack([face.points(figure) for figure in figures], axis=1) * size - 0.5
    return _levels(canvas), points, canvas.planes[3].copy()


def _levels(canvas: Canvas) -> np.ndarray:
    """(n, S, S, 3) uint8."""
    levels = np.rint(np.clip(canvas.planes[:3], 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 3, 0))


def _draw_person(figure: Figure) -> None:
    """From back to front."""
    props.draw_props(figure, behind=True)
    hair.draw_back_hair(figure)
    skin.draw_neck(figure)
    clothes.draw_clothes(figure)
    face.draw_head(figure)
    hair.draw_front_hair(figure)
    hats.draw_hats(figure)
    props.draw_props(figure, behind=False)


def _light(figure: Figure) -> np.ndarray:
    """(3, n, 1, 1): the colour of the light."""
    _, _, _, warmth, brightness = figure.how.light.T
    return np.stack([spread(brightness * (1 + share * warmth)) for share in (0.05, 0.0, -0.06)])
