"""A table as a PNG, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import write_atomically

_FONT_PX, _ROW_PX, _GAP_PX, _MARGIN_PX = 15, 30, 22, 16
_INK, _FAINT, _STRIPE = (25, 25, 25), (110, 110, 110), (241, 244, 248)


def draw_table(path: Path, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """First column to the left, the others to the right. Raises OutputError."""
    from PIL import Image, ImageDraw, ImageFont

    font, large = ImageFont.load_default(size=_FONT_PX), ImageFont.load_default(size=_FONT_PX + 5)
    widths = [max(font.getlength(row[i]) for row in (header, *rows)) for i in range(len(header))]
    inner = max(sum(widths) + _GAP_PX * (len(widths) - 1), large.getlength(title))
    width = int(inner + 2 * _MARGIN_PX)
    image = Image.new("RGB", (width, 2 * _MARGIN_PX + _ROW_PX * (len(rows) + 2)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN_PX, _MARGIN_PX), title, _INK, large)
    for line, row in enumerate((header, *rows)):
        top = _MARGIN_PX + _ROW_PX * (line + 1)
        if line % 2:
            draw.rectangle((0, top - 4, width, top + _ROW_PX - 5), fill=_STRIPE)
        right = float(_MARGIN_PX)
        for i, (text, own) in enumerate(zip(row, widths, strict=True)):
            right += own
            left = _MARGIN_PX if i == 0 else right - font.getlength(text)
            draw.text((left, top), text, _INK if line else _FAINT, font)
            right += _GAP_PX
    return write_atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))
