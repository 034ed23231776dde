"""Pictures for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .detect import Face, sort_faces

_COLOUR = (255, 190, 0)
_INK = (20, 20, 20)


def draw_faces(rgb: np.ndarray, faces: Sequence[Face], order: str) -> np.ndarray:
    """A copy of (H, W, 3) uint8 with every face framed, its points dotted and its index by `order` written on it."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    unit = max(1, round(min(picture.size) / 250))  # px; lines stay visible in large pictures
    font = ImageFont.load_default(size=12 * unit)
    for index, face in enumerate(sort_faces(faces, order)):
        draw.rectangle(face.box, outline=_COLOUR, width=2 * unit)
        for x, y in face.points:
            draw.ellipse((x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit), fill=_COLOUR)
        _label(draw, str(index), face.box, font, unit)
    return np.asarray(picture)


def _label(draw, text: str, box, font, unit: int) -> None:
    """A filled tag in the upper left corner of the frame, moved inside the picture where it would be cut."""
    x, y = max(0, box[0]), max(0, box[1])
    _, _, right, bottom = draw.textbbox((x + 3 * unit, y + unit), text, font=font)
    draw.rectangle((x, y, right + 3 * unit, bottom + 2 * unit), fill=_COLOUR)
    draw.text((x + 3 * unit, y + unit), text, fill=_INK, font=font)
