"""A contact sheet: small pictures in rows under their titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import write_atomically

_ZOOM, _GAP_PX, _TITLE_PX, _FONT_PX = 2, 10, 26, 12


def draw_sheet(path: Path, titles: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> Path:
    """rows: (S, S, 3) uint8 pictures, one for each title. Raises OutputError."""
    from PIL import Image, ImageDraw, ImageFont

    side = rows[0][0].shape[0] * _ZOOM
    size = (_GAP_PX + len(titles) * (side + _GAP_PX), _TITLE_PX + len(rows) * (side + _GAP_PX))
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(size=_FONT_PX)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        left = _GAP_PX + column * (side + _GAP_PX)
        draw.text((left + side / 2, _TITLE_PX / 2), title, "black", font, anchor="mm")
        for line, row in enumerate(rows):
            picture = Image.fromarray(np.ascontiguousarray(row[column])).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(picture, (left, _TITLE_PX + line * (side + _GAP_PX)))
    return write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG", optimize=True))
