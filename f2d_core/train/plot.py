"""The loss curve as a PNG, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..files import write_atomically
from .metrics import Row

WIDTH, HEIGHT = 960, 540  # px
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 20, 40, 50  # px around the curves
_COLOURS = ("#1f6fb4", "#d1495b", "#3a7d44", "#7b4fa3")  # of the figures, in order
_VALIDATION, _VALIDATION_COLOUR = "validation loss", "#8f6f00"
LOSS_AND_PARTS = ("loss", "foreground", "background")
_POINTS = 400  # per curve: more cannot be told apart

Curve = list[tuple[float, float]]


def plot_losses(rows: Sequence[Row], path: str | Path, figures: Sequence[str] = LOSS_AND_PARTS) -> Path:
    """Draw the figures (at most four) over the steps, and the validation loss where there is one.

    Raises OutputError.
    """
    from PIL import Image, ImageDraw

    curves = {name: curve for name, curve in curves_of(rows, figures).items() if curve}
    colours = {**dict(zip(figures, _COLOURS, strict=False)), _VALIDATION: _VALIDATION_COLOUR}
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    if curves:
        box = _limits(list(curves.values()))
        _draw_axes(draw, box)
        for i, (name, curve) in enumerate(curves.items()):
            draw.line([_place(x, y, box) for x, y in curve], fill=colours[name], width=2)
            draw.text((_LEFT + 160 * i, 12), name, fill=colours[name])
    return write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))


def curves_of(rows: Sequence[Row], figures: Sequence[str] = LOSS_AND_PARTS) -> dict[str, Curve]:
    """Name -> points (step, value), each the mean over a stretch of steps."""
    training = [row for row in rows if row.get("kind") == "train"]
    curves = {name: [(row["step"], row[name]) for row in training if name in row] for name in figures}
    checked = [row for row in rows if row.get("kind") == "validation" and "loss" in row]
    curves[_VALIDATION] = [(row["step"], row["loss"]) for row in checked]
    return {name: _thinned(curve) for name, curve in curves.items()}


def _thinned(curve: Curve) -> Curve:
    size = max(1, math.ceil(len(curve) / _POINTS))
    groups = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _limits(curves: Sequence[Curve]) -> tuple[float, float, float, float]:
    """(first step, last step, least value, greatest value), never empty."""
    xs = [x for curve in curves for x, _ in curve]
    ys = [y for curve in curves for _, y in curve]
    low, high = min(0.0, *ys), max(ys)
    return min(xs), max(max(xs), min(xs) + 1), low, high if high > low else low + 1


def _place(x: float, y: float, box: tuple[float, float, float, float]) -> tuple[float, float]:
    first, last, low, high = box
    across = (x - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)
    up = (y - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
    return _LEFT + across, HEIGHT - _BOTTOM - up


def _draw_axes(draw, box: tuple[float, float, float, float]) -> None:
    first, last, low, high = box
    for i in range(5):
        x, y = first + (last - first) * i / 4, low + (high - low) * i / 4
        (left, at_y), (right, _) = _place(first, y, box), _place(last, y, box)
        at_x, bottom = _place(x, low, box)
        draw.line([(left, at_y), (right, at_y)], fill="#dddddd")
        draw.text((8, at_y - 6), f"{y:.4g}", fill="black")
        draw.text((at_x - 12, bottom + 10), f"{x:.0f}", fill="black")
