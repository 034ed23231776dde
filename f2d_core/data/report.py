"""A contact sheet of a prepared data set: what will be trained on, with the masks over it, and what was left out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..image import read_image, scaled, write_png
from .cache import Photo
from .crop import Square, cut
from .settings import PrepareSettings

_MOST_KEPT, _MOST_REJECTED = 60, 30  # photos shown; of more, ones at even distances
_PICTURE_PX = 160
_GAP_PX = 14
_COLUMNS = 5
_TEXT_PX = 13
_LINE_PX = 17
_NAME_LETTERS, _REASON_LETTERS = 46, 50
_REASON_LINES = 7
_PROMPT_LINES = 2
_PAPER, _INK, _FAINT, _WARNING = (250, 250, 248), (30, 30, 30), (120, 120, 120), (176, 40, 30)
_FACE_TINT = np.array([30, 170, 90], np.float32)
_TINT, _SHADE = 0.35, 0.45  # how strongly the face is coloured, and how bright the rest stays


def write_report(
    path: Path,
    folder: Path,
    kept: Sequence[Photo],
    rejected: Sequence[Photo],
    masks: Sequence[np.ndarray],
    settings: PrepareSettings,
) -> Path:
    """Write the contact sheet as PNG. folder: of the photos. masks: (h, w) uint8 of each kept photo.

    Raises OutputError.
    """
    sheet = _Sheet()
    sheet.line(f"{len(kept)} photos prepared, {len(rejected)} left out", _INK, size=26)
    sheet.line(_summary(masks, settings), _FAINT)
    shown = _evenly(len(kept), _MOST_KEPT)
    sheet.section(f"Prepared{_share(len(shown), len(kept))}: the picture, and the mask over it (green: foreground)")
    sheet.tiles([_kept_tile(folder, kept[i], masks[i], settings) for i in shown])
    if rejected:
        shown = _evenly(len(rejected), _MOST_REJECTED)
        sheet.section(f"Left out{_share(len(shown), len(rejected))}")
        sheet.tiles([_rejected_tile(folder, rejected[i]) for i in shown])
    return write_png(path, sheet.picture())


def write_triplet_report(
    path: Path, folder: Path, kept: Sequence[Photo], rejected: Sequence[Photo], prompts: Mapping[str, str]
) -> Path:
    """Write the contact sheet of triplets as PNG: face, edited picture, prompt. Raises OutputError."""
    sheet = _Sheet()
    sheet.line(f"{len(kept)} triplets prepared, {len(rejected)} left out", _INK, size=26)
    sheet.line("Look for people who are not recognisable, and pictures that do not show what the prompt says.", _FAINT)
    shown = _evenly(len(kept), _MOST_KEPT)
    sheet.section(f"Prepared{_share(len(shown), len(kept))}: the face, and the edited picture")
    sheet.tiles([_triplet_tile(folder, kept[i], prompts[kept[i].name]) for i in shown])
    if rejected:
        shown = _evenly(len(rejected), _MOST_REJECTED)
        sheet.section(f"Left out{_share(len(shown), len(rejected))}")
        sheet.tiles([_rejected_tile(folder, rejected[i]) for i in shown])
    return write_png(path, sheet.picture())


def overlay(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 with a (h, w) uint8 mask over it: the face tinted, the rest darker. (S, S, 3) uint8."""
    size = pixels.shape[0]
    steps = np.arange(size) * mask.shape[0] // size  # each latent as a square, as the trainer uses it
    weight = mask[steps][:, steps, None].astype(np.float32) / 255
    face = pixels * (1 - _TINT) + _FACE_TINT * _TINT
    return np.rint(face * weight + pixels * _SHADE * (1 - weight)).astype(np.uint8)


def _summary(masks: Sequence[np.ndarray], settings: PrepareSettings) -> str:
    text = f"{settings.size} x {settings.size} px"
    if not masks:
        return f"{text}. Nothing can be trained on: see the reasons below."
    shares = np.array([mask.mean() / 255 for mask in masks])
    return (
        f"{text}; foreground {shares.mean():.0%} of the picture on average, from {shares.min():.0%} to "
        f"{shares.max():.0%}. Look for faces cut off, masks that miss the face, and people who did not agree."
    )


def _evenly(count: int, most: int) -> list[int]:
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def _share(shown: int, count: int) -> str:
    return f" ({shown} of {count:,} shown)" if shown < count else ""


Tile = tuple[list[np.ndarray], list[tuple[str, tuple[int, int, int]]]]  # pictures side by side, lines below


def _kept_tile(folder: Path, photo: Photo, mask: np.ndarray, settings: PrepareSettings) -> Tile:
    lines = [(_short(photo.name), _INK), (f"foreground {mask.mean() / 255:.0%}; {photo.how}", _FAINT)]
    if photo.outside:
        lines.append((f"{photo.outside:.0%} outside the photo, filled up", _WARNING))
    try:
        rgb = read_image(folder / photo.name)
    except ImageError:  # moved away since it was prepared
        return [_blank(), _blank()], [*lines, ("the photo is not there any more", _WARNING)]
    square = Square(np.array(photo.square[:2]), np.array(photo.square[2:]))
    crop = scaled(cut(rgb, square, settings.size), _PICTURE_PX, _PICTURE_PX)
    return [crop, overlay(crop, mask)], lines


def _triplet_tile(folder: Path, photo: Photo, prompt: str) -> Tile:
    text = [(line, _INK) for line in textwrap.wrap(prompt, _NAME_LETTERS)[:_PROMPT_LINES]]
    lines = [*text, (_short(photo.name), _FAINT)]
    return [_shown_if_there(folder / photo.face), _shown_if_there(folder / photo.name)], lines


def _shown_if_there(path: Path) -> np.ndarray:
    try:
        return _fitted(read_image(path))
    except ImageError:  # moved away since it was prepared
        return _blank()


def _rejected_tile(folder: Path, photo: Photo) -> Tile:
    reason = textwrap.wrap(photo.reason, _REASON_LETTERS)[:_REASON_LINES]
    lines = [(_short(photo.name), _INK), *((line, _WARNING) for line in reason)]
    return [_shown_if_there(folder / photo.name)], lines


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else f"…{name[1 - _NAME_LETTERS :]}"


def _blank() -> np.ndarray:
    return np.full((_PICTURE_PX, _PICTURE_PX, 3), 225, np.uint8)


def _fitted(rgb: np.ndarray) -> np.ndarray:
    """The whole photo, in the middle of a blank square."""
    height, width = rgb.shape[:2]
    part = _PICTURE_PX / max(height, width)
    small = scaled(rgb, max(1, round(width * part)), max(1, round(height * part)))
    picture = _blank()
    top, left = (_PICTURE_PX - small.shape[0]) // 2, (_PICTURE_PX - small.shape[1]) // 2
    picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    return picture


class _Sheet:
    """Lines of text and rows of tiles, one below the other."""

    def __init__(self):
        from PIL import Image, ImageDraw

        self._tile = 2 * _PICTURE_PX + 4, _PICTURE_PX
        self._width = _COLUMNS * (self._tile[0] + _GAP_PX) + _GAP_PX
        self._bands: list[Any] = []
        self._new = lambda height: Image.new("RGB", (self._width, height), _PAPER)
        self._draw, self._from_array = ImageDraw.Draw, Image.fromarray

    def line(self, text: str, colour: tuple[int, int, int], size: int = _TEXT_PX) -> None:
        band = self._new(size + 12)
        self._draw(band).text((_GAP_PX, 8), text, fill=colour, font=_font(size))
        self._bands.append(band)

    def section(self, text: str) -> None:
        self._bands.append(self._new(_GAP_PX))
        self.line(text, _INK, size=17)

    def tiles(self, tiles: Sequence[Tile]) -> None:
        for start in range(0, len(tiles), _COLUMNS):
            self._bands.append(self._row(tiles[start : start + _COLUMNS]))

    def _row(self, tiles: Sequence[Tile]):
        band = self._new(self._tile[1] + max(len(lines) for _, lines in tiles) * _LINE_PX + 2 * _GAP_PX)
        draw = self._draw(band)
        for column, (pictures, lines) in enumerate(tiles):
            left = _GAP_PX + column * (self._tile[0] + _GAP_PX)
            for i, pixels in enumerate(pictures):
                band.paste(self._from_array(pixels), (left + i * (_PICTURE_PX + 4), 6))
            for i, (text, colour) in enumerate(lines):
                draw.text((left, _PICTURE_PX + 10 + i * _LINE_PX), text, fill=colour, font=_font(_TEXT_PX))
        return band

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return np.concatenate([np.asarray(band) for band in self._bands])


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
