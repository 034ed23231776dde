"""Small histograms side by side as a PNG, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import write_atomically

WIDTH, HEIGHT = 300, 190  # px of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 12, 12, 38, 22  # px around the bars
_BINS = 69
_SAME, _OTHER = (31, 111, 180), (209, 73, 91)
_TAIL = 0.001  # of the values may lie left of what is shown


@dataclass(frozen=True)
class Panel:
    """same, other: cosines of pairs of one person and of two people, (n,) each."""

    title: str
    same: np.ndarray
    other: np.ndarray


def draw_panels(path: Path, panels: Sequence[Panel]) -> Path:
    """From left to right, each with a scale of its own that ends at 1. Raises OutputError."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH * len(panels), HEIGHT), "white")
    draw = ImageDraw.Draw(image, "RGBA")
    for i, panel in enumerate(panels):
        _draw(draw, panel, i * WIDTH)
    return write_atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


def _draw(draw, panel: Panel, left: int) -> None:
    low = min(float(np.quantile(np.concatenate((panel.same, panel.other)), _TAIL)), 0.99)
    edges = np.linspace(low, 1, _BINS + 1)
    heights = [np.histogram(values, edges)[0] / len(values) for values in (panel.other, panel.same)]
    floor, across = HEIGHT - _BOTTOM, (WIDTH - _LEFT - _RIGHT) // _BINS
    up = (floor - _TOP) / max(float(max(height.max() for height in heights)), 1e-9)
    for height, colour in zip(heights, (_OTHER, _SAME), strict=True):
        for at, value in enumerate(height):
            x = left + _LEFT + at * across
            draw.rectangle((x, floor - up * value, x + across - 1, floor), fill=(*colour, 140))
    end = left + _LEFT + across * _BINS
    draw.line((left + _LEFT, floor, end, floor), fill="black")
    for value in np.linspace(low, 1, 4):
        x = left + _LEFT + (value - low) / (1 - low) * across * _BINS
        draw.line((x, floor, x, floor + 3), fill="black")
        draw.text((x - 11, floor + 6), f"{value:.2f}", fill="black")
    draw.text((left + _LEFT, 6), panel.title, fill="black")
    draw.text((left + _LEFT, 20), "same person", fill=_SAME)
    draw.text((left + _LEFT + 80, 20), "two people", fill=_OTHER)
