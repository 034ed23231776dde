"""A contact sheet for people: the best and the worst pictures of every prompt, each beside its source face."""

from __future__ import annotations

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..image import read_image, scaled, write_png
from .clean import Ranked
from .plan import EditJob, FaceJob

_SHOWN = 5  # best, and worst, of each prompt
_MOST_PROMPTS, _MOST_REASONS = 40, 12
_PICTURE_PX, _GAP_PX, _TEXT_PX, _LINE_PX = 150, 14, 13, 17
_TILE_PX = 2 * _PICTURE_PX + 4
_WIDTH_PX = _SHOWN * (_TILE_PX + _GAP_PX) + _GAP_PX
_NAME_LETTERS, _LINE_LETTERS = 42, 200
_PAPER, _INK, _FAINT, _WARNING, _GOOD = (250, 250, 248), (30, 30, 30), (120, 120, 120), (176, 40, 30), (20, 120, 60)
_BLANK = 225

Colour = tuple[int, int, int]


def write_report(
    path: Path,
    folder: Path,
    prompts: Sequence[str],
    ranked: Sequence[Sequence[Ranked]],
    edits: Mapping[str, EditJob],
    rejected: Mapping[str, str],
) -> Path:
    """Write the sheet as PNG. ranked: of each prompt, best first. rejected: face -> why. Raises OutputError."""
    every = [r for of_prompt in ranked for r in of_prompt]
    bands = [
        _text(f"{sum(r.kept for r in every):,} of {len(every):,} edited pictures kept", _INK, size=26),
        _text(_advice(), _FAINT),
    ]
    for prompt, of_prompt in list(zip(prompts, ranked, strict=True))[:_MOST_PROMPTS]:
        bands += _of_prompt(folder, prompt, of_prompt, edits)
    if len(prompts) > _MOST_PROMPTS:
        bands.append(_text(f"… and {len(prompts) - _MOST_PROMPTS} more prompts", _FAINT))
    bands += _rejected(rejected)
    return write_png(path, np.concatenate(bands))


def _advice() -> str:
    return (
        "Left the source face, right the edit. Look for edits that do not follow the prompt, for faces that are not "
        "the same person, and for names the model does not know."
    )


def _of_prompt(folder: Path, prompt: str, ranked: Sequence[Ranked], edits: Mapping[str, EditJob]) -> list[np.ndarray]:
    kept, faceless = sum(r.kept for r in ranked), sum(r.candidate.identity is None for r in ranked)
    note = f", {faceless:,} without a face" if faceless else ""
    bands = [_text(f"{prompt}   ({kept:,} of {len(ranked):,} kept{note})", _INK, size=18)]
    for title, some in (("best", ranked[:_SHOWN]), ("worst", ranked[_SHOWN:][-_SHOWN:])):
        if some:
            bands += [_text(title, _FAINT), _row(folder, some, edits)]
    return bands


def _row(folder: Path, ranked: Sequence[Ranked], edits: Mapping[str, EditJob]) -> np.ndarray:
    lines = [_lines(r, edits[r.candidate.path]) for r in ranked]
    band, draw = _band(_PICTURE_PX + 8 + _LINE_PX * len(lines[0]))
    for column, (r, texts) in enumerate(zip(ranked, lines, strict=True)):
        left = _GAP_PX + column * (_TILE_PX + _GAP_PX)
        for i, place in enumerate((edits[r.candidate.path].face.path, r.candidate.path)):
            band.paste(_picture(folder / place), (left + i * (_PICTURE_PX + 4), 0))
        for i, (text, colour) in enumerate(texts):
            draw.text((left, _PICTURE_PX + 4 + i * _LINE_PX), text, fill=colour, font=_font(_TEXT_PX))
    return np.asarray(band)


def _lines(ranked: Ranked, edit: EditJob) -> list[tuple[str, Colour]]:
    found = ranked.candidate
    identity = "no face" if found.identity is None else f"identity {found.identity:.3f}"
    state = ("kept", _GOOD) if ranked.kept else ("not kept", _WARNING)
    name = textwrap.shorten(_drawable(edit.face), _NAME_LETTERS, placeholder="…")
    return [
        (name, _INK),
        (f"{identity}, text {found.text:.3f}", _FAINT),
        (f"{state[0]}, rank {ranked.rank:g}", state[1]),
    ]


def _drawable(face: FaceJob) -> str:
    """The name in letters that Pillow's own font has; the file name where it has none of them."""
    plain = unicodedata.normalize("NFKD", face.name).encode("ascii", "ignore").decode()
    return plain if any(map(str.isalpha, plain)) else face.slug


def _rejected(rejected: Mapping[str, str]) -> list[np.ndarray]:
    """The reasons, the most frequent first."""
    if not rejected:
        return []
    reasons = Counter(rejected.values()).most_common()
    bands = [_text(f"{len(rejected):,} source faces left out", _INK, size=18)]
    bands += [_text(f"{count:,} of them: {reason}", _WARNING) for reason, count in reasons[:_MOST_REASONS]]
    if len(reasons) > _MOST_REASONS:
        bands.append(_text("… and others: see pictures.jsonl", _FAINT))
    return bands


def _picture(path: Path) -> Any:
    """In the middle of a blank square; the blank alone where it is gone."""
    from PIL import Image

    tile = np.full((_PICTURE_PX, _PICTURE_PX, 3), _BLANK, np.uint8)
    try:
        rgb = read_image(path)
    except ImageError:
        return Image.fromarray(tile)
    part = _PICTURE_PX / max(rgb.shape[:2])
    small = scaled(rgb, max(1, round(rgb.shape[1] * part)), max(1, round(rgb.shape[0] * part)))
    top, left = (_PICTURE_PX - small.shape[0]) // 2, (_PICTURE_PX - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return Image.fromarray(tile)


def _text(text: str, colour: Colour, size: int = _TEXT_PX) -> np.ndarray:
    band, draw = _band(size + 12)
    draw.text((_GAP_PX, 8), textwrap.shorten(text, _LINE_LETTERS, placeholder=" …"), fill=colour, font=_font(size))
    return np.asarray(band)


def _band(height: int) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw

    band = Image.new("RGB", (_WIDTH_PX, height), _PAPER)
    return band, ImageDraw.Draw(band)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
