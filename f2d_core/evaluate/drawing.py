"""Pictures with what was found of them: the face framed, the findings written below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..detect import Face

GOOD, FAIR, POOR, UNKNOWN = "good", "fair", "poor", "not judged"
_COLOURS = {GOOD: (70, 160, 80), FAIR: (255, 190, 0), POOR: (215, 60, 50), UNKNOWN: (140, 140, 140)}
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_LETTERS = 44  # font size: this part of the width of the picture, but never too small to read
_LEAST_FONT_PX = 9
_LEADING = 1.35


@dataclass(frozen=True, eq=False)
class Note:
    """What to draw on one picture. tag: on the frame of the face. lines: (level, text) below the picture."""

    face: Face | None
    level: str
    tag: str
    lines: tuple[tuple[str, str], ...]


def draw_notes(pictures: Sequence[np.ndarray], notes: Sequence[Note]) -> list[np.ndarray]:
    """Copies of (H, W, 3) uint8 pictures, each with its note; pictures of one size stay of one size."""
    texts = [_rows(note, rgb.shape[1]) for rgb, note in zip(pictures, notes, strict=True)]
    most = max((len(rows) for rows in texts), default=0)
    return [
        np.concatenate([_framed(rgb, note), _strip(rows, most, rgb.shape[1])])
        for rgb, note, rows in zip(pictures, notes, texts, strict=True)
    ]


def _font(width: int):
    from PIL import ImageFont

    return ImageFont.load_default(size=_font_px(width))


def _font_px(width: int) -> int:
    return max(_LEAST_FONT_PX, round(width / _LETTERS))


def _row_px(width: int) -> int:
    return round(_LEADING * _font_px(width))


def _framed(rgb: np.ndarray, note: Note) -> np.ndarray:
    """The face with its points, and the tag in the upper left corner of its frame, inside the picture."""
    from PIL import Image, ImageDraw

    if note.face is None:
        return rgb
    picture = Image.fromarray(rgb)
    draw, colour = ImageDraw.Draw(picture), _COLOURS[note.level]
    unit = max(1, round(min(picture.size) / 250))
    draw.rectangle(note.face.box, outline=colour, width=2 * unit)
    for x, y in note.face.points:
        draw.ellipse((x - unit, y - unit, x + unit, y + unit), fill=colour)
    if note.tag:
        font = _font(rgb.shape[1])
        x, y = max(0, note.face.box[0]), max(0, note.face.box[1])
        _, _, right, bottom = draw.textbbox((x + 3 * unit, y + unit), note.tag, font=font)
        draw.rectangle((x, y, right + 3 * unit, bottom + 2 * unit), fill=colour)
        draw.text((x + 3 * unit, y + unit), note.tag, fill=_INK, font=font)
    return np.asarray(picture)


def _rows(note: Note, width: int) -> list[tuple[str | None, str]]:
    return [row for line in note.lines for row in _wrapped(line, width)]


def _wrapped(line: tuple[str, str], width: int) -> list[tuple[str | None, str]]:
    """The text in rows that fit below the picture; the level only with the first, where the mark goes."""
    font, room = _font(width), width - 3 * _row_px(width) // 2
    rows, row = [], ""
    for word in line[1].split():
        longer = f"{row} {word}".strip()
        if row and font.getlength(longer) > room:
            rows.append(row)
            row = word
        else:
            row = longer
    return [(line[0] if i == 0 else None, text) for i, text in enumerate([*rows, row])]


def _strip(rows: Sequence[tuple[str | None, str]], most: int, width: int) -> np.ndarray:
    """(h, width, 3): the rows as text, each first one behind a mark in the colour of its level."""
    from PIL import Image, ImageDraw

    step = _row_px(width)
    strip = Image.new("RGB", (width, step * most + (step // 2 if most else 0)), _PAPER)
    draw, font = ImageDraw.Draw(strip), _font(width)
    for i, (level, text) in enumerate(rows):
        y = step // 4 + i * step
        if level is not None:
            draw.rectangle((step // 3, y + step // 4, step // 3 + step // 2, y + 3 * step // 4), fill=_COLOURS[level])
        draw.text((step * 5 // 4, y), text, fill=_INK, font=font)
    return np.asarray(strip)
