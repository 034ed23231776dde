"""Draw the README's picture, docs/face-to-word.png: how a face becomes a word in the prompt.

    python docs/make_picture.py [--out docs/face-to-word.png]

Everything shown is computed here by this project: the crop is cut by its alignment, the stripes are an S* of the
portrait. The networks that make them are the small stand-ins of f2d_core/testing.py, since the published weights are
not ours to ship; so the stripes show the form of an S* and nobody's likeness. Needs Pillow, and scikit-image for the
portrait (Eileen Collins, NASA, public domain).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script: it runs without anything of ours being installed

from f2d_core.align import align_face, similarity_transform  # noqa: E402
from f2d_core.cli.demo import portrait  # noqa: E402
from f2d_core.constants import FACE_CROP_SIZE_PX  # noqa: E402
from f2d_core.encode import Crop, encode_faces  # noqa: E402
from f2d_core.image import read_image, rgb_sha256  # noqa: E402
from f2d_core.networks import load_network  # noqa: E402
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict  # noqa: E402
from f2d_core.weights import write_safetensors  # noqa: E402

POINTS_PX = ((203.35, 103.62), (247.52, 104.45), (224.10, 127.69), (203.96, 143.14), (242.91, 143.67))  # by YuNet
SHOWN_PX = (84, 0, 364, 280)  # the part of the portrait that is shown: x0, y0, x1, y1
NUMBERS_SHOWN = 64  # of the 768 of each word

SIZE = (1600, 800)
FINER = 2  # drawn this much larger, then reduced: smooth edges
CLEAR = 255  # number of the transparent colour in the finished file

CARD, PANEL, LINE = (15, 23, 42), (30, 41, 59), (71, 85, 105)
INK, QUIET = (241, 245, 249), (148, 163, 184)
AMBER, AMBER_DARK, SKY = (251, 191, 36), (69, 47, 10), (56, 189, 248)
COLD, WARM = (37, 99, 235), (245, 158, 11)  # negative and positive numbers of a stripe

Box = tuple[float, float, float, float]
Place = tuple[float, float]


class Canvas:
    """Pillow's drawing in the coordinates of the finished picture."""

    def __init__(self, size: tuple[int, int]):
        self.picture = Image.new("RGBA", (size[0] * FINER, size[1] * FINER), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.picture)

    def panel(self, box: Box, fill: tuple, outline: tuple | None = None, radius: float = 18, width: float = 2) -> None:
        self._draw.rounded_rectangle(_finer(box), radius * FINER, fill, outline, round(width * FINER))

    def text(self, at: Place, text: str, size: float, fill: tuple = INK, anchor: str = "mm") -> None:
        font = ImageFont.load_default(size * FINER)
        self._draw.text(_finer(at), text, fill, font, anchor, spacing=10 * FINER, align="center")

    def width_of(self, text: str, size: float) -> float:
        return self._draw.textlength(text, ImageFont.load_default(size * FINER)) / FINER

    def line(self, places: Sequence[Place], fill: tuple, width: float = 3) -> None:
        self._draw.line([_finer(place) for place in places], fill, round(width * FINER), joint="curve")

    def dot(self, at: Place, radius: float, fill: tuple, outline: tuple) -> None:
        x, y = at
        self._draw.ellipse(_finer((x - radius, y - radius, x + radius, y + radius)), fill, outline, 2 * FINER)

    def arrow(self, start: Place, end: Place, fill: tuple = QUIET) -> None:
        """A straight line with a head, along one axis."""
        (x0, y0), (x1, y1) = start, end
        length = max(abs(x1 - x0), abs(y1 - y0))
        along = ((x1 - x0) / length, (y1 - y0) / length)
        neck = (x1 - 12 * along[0], y1 - 12 * along[1])
        self.line([start, neck], fill, 4)
        side = (8 * along[1], 8 * along[0])
        head = [end, (neck[0] + side[0], neck[1] + side[1]), (neck[0] - side[0], neck[1] - side[1])]
        self._draw.polygon([_finer(corner) for corner in head], fill)

    def paste(self, rgb: np.ndarray, box: Box, radius: float = 18) -> None:
        """A picture (H, W, 3) uint8, filling the box, with round corners."""
        x0, y0, x1, y1 = (round(v) for v in _finer(box))
        piece = Image.fromarray(rgb).resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS)
        mask = Image.new("L", piece.size)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, x1 - x0 - 1, y1 - y0 - 1), radius * FINER, 255)
        self.picture.paste(piece, (x0, y0), mask)

    def finished(self) -> Image.Image:
        size = (self.picture.width // FINER, self.picture.height // FINER)
        return self.picture.resize(size, Image.Resampling.LANCZOS)


def _finer(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(value * FINER for value in values)


def stand_in_words(crop: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """(2, 768): S* of the crop by the stand-in networks."""
    with tempfile.TemporaryDirectory() as folder:
        msid = write_safetensors(Path(folder, "msid.safetensors"), tiny_msid_state_dict())
        mapping = write_safetensors(Path(folder, "mapping.safetensors"), tiny_mapping_state_dict())
        networks = load_network(msid, "msid"), load_network(mapping, "mapping")
        (s_star,) = encode_faces([Crop(crop, rgb_sha256(photo), "points given")], *networks)
    return s_star.vectors.numpy()


def draw(photo: np.ndarray) -> Image.Image:
    crop = align_face(photo, np.array(POINTS_PX))
    canvas = Canvas(SIZE)
    canvas.panel((0, 0, SIZE[0] - 1, SIZE[1] - 1), CARD, radius=28)
    _face(canvas, photo, crop)
    _words(canvas, stand_in_words(crop, photo))
    _prompt(canvas)
    _model(canvas)
    _footnote(canvas)
    return canvas.finished()


PHOTO_BOX: Box = (48, 96, 368, 416)
CROP_BOX: Box = (452, 146, 672, 366)


def _face(canvas: Canvas, photo: np.ndarray, crop: np.ndarray) -> None:
    """The photo with five points and the frame of the crop; the crop; lines from one to the other."""
    _title(canvas, PHOTO_BOX, "a photo, five points")
    _title(canvas, CROP_BOX, f"{FACE_CROP_SIZE_PX} px face")
    x0, y0, x1, y1 = SHOWN_PX
    canvas.paste(photo[y0:y1, x0:x1], PHOTO_BOX)
    frame = [_on_photo(corner) for corner in _crop_corners()]
    canvas.line([*frame, frame[0], frame[1]], AMBER, 4)
    canvas.line([frame[1], (CROP_BOX[0], CROP_BOX[1] + 12)], LINE, 3)
    canvas.line([frame[2], (CROP_BOX[0], CROP_BOX[3] - 12)], LINE, 3)
    for point in POINTS_PX:
        canvas.dot(_on_photo(point), 7, SKY, CARD)
    canvas.paste(crop, CROP_BOX)
    canvas.panel(CROP_BOX, None, AMBER, width=4)


def _title(canvas: Canvas, box: Box, text: str) -> None:
    canvas.text(((box[0] + box[2]) / 2, 62), text, 28, QUIET)


def _crop_corners() -> list[Place]:
    """Where the crop's corners lie in the photo, px, clockwise from the upper left."""
    end = FACE_CROP_SIZE_PX - 0.5
    corners = np.array([(-0.5, -0.5, 1), (end, -0.5, 1), (end, end, 1), (-0.5, end, 1)])
    back = corners @ np.linalg.inv(similarity_transform(np.array(POINTS_PX))).T
    return [(float(x), float(y)) for x, y, _ in back]


def _on_photo(place: Place) -> Place:
    """A place in the photo, px, on the canvas."""
    scale = (PHOTO_BOX[2] - PHOTO_BOX[0]) / (SHOWN_PX[2] - SHOWN_PX[0])
    return (
        PHOTO_BOX[0] + (place[0] + 0.5 - SHOWN_PX[0]) * scale,
        PHOTO_BOX[1] + (place[1] + 0.5 - SHOWN_PX[1]) * scale,
    )


STRIPE_X = (1032, 1552)
STRIPES_Y = ((174, 230), (282, 338))


def _words(canvas: Canvas, words: np.ndarray) -> None:
    """The encoder and the mapping network, and the two word vectors as stripes."""
    networks = (736, 186, 968, 326)
    canvas.arrow((684, 256), (724, 256))
    canvas.panel(networks, PANEL, LINE)
    canvas.text((852, 236), "MSID encoder", 24)
    canvas.text((852, 276), "mapping network", 24)
    canvas.arrow((980, 256), (1020, 256))
    canvas.text((sum(STRIPE_X) / 2, 62), "S*: the person as two words", 28, QUIET)
    for number, (word, (top, bottom)) in enumerate(zip(words, STRIPES_Y, strict=True), start=1):
        canvas.paste(_stripe(word[:NUMBERS_SHOWN]), (STRIPE_X[0], top, STRIPE_X[1], bottom), radius=12)
        canvas.panel((STRIPE_X[0], top, STRIPE_X[1], bottom), None, AMBER, radius=12, width=3)
        canvas.text((STRIPE_X[0], top - 22), f"word {number}", 24, INK, "lm")
        canvas.text((STRIPE_X[1], top - 22), f"{len(word)} numbers", 24, QUIET, "rm")


def _stripe(numbers: np.ndarray) -> np.ndarray:
    """(8, n * 8, 3) uint8: a bar for each number, blue below zero, amber above, dark near it."""
    strength = np.clip(np.abs(numbers) / np.quantile(np.abs(numbers), 0.95), 0, 1)[:, None]
    colour = np.where(numbers[:, None] < 0, COLD, WARM)
    bars = np.array(PANEL) + strength * (colour - np.array(PANEL))
    return np.repeat(np.repeat(bars[None].round().astype(np.uint8), 8, axis=0), 8, axis=1)


PROMPT_Y = (484, 548)


def _prompt(canvas: Canvas) -> None:
    """The prompt as token chips, the two slots highlighted, each below its word's arrow."""
    chips = ("a", "photo", "of", "S*", "S*", "as", "a", "chef")
    widths = [canvas.width_of(chip, 30) + 52 for chip in chips]
    gap = 14
    x = 620.0
    centres = []
    for position, (chip, width) in enumerate(zip(chips, widths, strict=True), start=1):
        slot = chip == "S*"
        box = (x, PROMPT_Y[0], x + width, PROMPT_Y[1])
        canvas.panel(box, AMBER if slot else PANEL, None if slot else LINE, radius=14)
        centre = x + width / 2
        canvas.text((centre, sum(PROMPT_Y) / 2), chip, 30, AMBER_DARK if slot else INK)
        canvas.text((centre, PROMPT_Y[1] + 24), str(position), 22, AMBER if slot else QUIET)
        centres += [centre] if slot else []
        x += width + gap
    _into_slots(canvas, centres)
    canvas.text((590, sum(PROMPT_Y) / 2), 'the prompt "a photo of S* as a chef"', 28, QUIET, "rm")
    canvas.text((590, PROMPT_Y[1] + 24), "token", 22, QUIET, "rm")


def _into_slots(canvas: Canvas, centres: Sequence[float]) -> None:
    """From the stripes down to the two slots."""
    middle, level = sum(STRIPE_X) / 2, 410
    canvas.line([(middle, STRIPES_Y[1][1] + 14), (middle, level), (centres[0] - 2, level)], AMBER, 4)
    for centre in centres:
        canvas.arrow((centre, level), (centre, PROMPT_Y[0] - 8), AMBER)


def _model(canvas: Canvas) -> None:
    """What the prompt goes to, unchanged."""
    top, bottom = 652, 722
    canvas.arrow((800, PROMPT_Y[1] + 48), (800, top - 8))
    canvas.text((772, PROMPT_Y[1] + 72), "through the model's own text encoder", 22, QUIET, "rm")
    canvas.text((828, PROMPT_Y[1] + 72), "the model itself is not changed", 22, QUIET, "lm")
    labels = ("any SD 1.x checkpoint", "LoRA", "ControlNet", "sampler")
    widths = [canvas.width_of(label, 28) + 64 for label in labels]
    gap = 20
    x = (SIZE[0] - sum(widths) - gap * (len(labels) - 1)) / 2
    for label, width in zip(labels, widths, strict=True):
        canvas.panel((x, top, x + width, bottom), PANEL, SKY)
        canvas.text((x + width / 2, (top + bottom) / 2), label, 28)
        x += width + gap


def _footnote(canvas: Canvas) -> None:
    source = "Portrait: Eileen Collins, NASA, public domain."
    stand_ins = f"Stripes: the first {NUMBERS_SHOWN} numbers, from small stand-in networks, not the published weights."
    canvas.text((SIZE[0] / 2, 766), f"{source}  {stand_ins}", 20, QUIET)


def save_small(picture: Image.Image, out: Path) -> None:
    """Write a PNG of 255 colours and one that is transparent, for the corners."""
    few = picture.convert("RGB").quantize(CLEAR, Image.Quantize.MEDIANCUT, kmeans=1)
    few.putpalette([*few.getpalette()[: 3 * CLEAR], *CARD])
    few.paste(CLEAR, mask=picture.getchannel("A").point(lambda alpha: 255 * (alpha < 128)))
    few.save(out, optimize=True, transparency=CLEAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "face-to-word.png")
    out = parser.parse_args().out
    picture = draw(read_image(portrait()))
    save_small(picture, out)
    print(f"{out}: {picture.width} x {picture.height} px, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
