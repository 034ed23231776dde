"""What `verify-msid` and a training run show of an encoder: figures, histograms, the paper's figures beside them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.identities import Identities
from ..data.pairs import PairSet
from ..files import safe_stem, write_atomically
from ..msid import MSIDConfig, MSIDEncoder
from ..ports import Progress
from .verification import DRAWS, LevelResult, PairResult, verify_levels, verify_pairs

REPORT_FILE = "verification.json"
ACCURACY = "_accuracy"  # ends the name of such a figure
# Face2Diffusion, Fig. 4, on VGGFace2, in percent: layer -> of a plain ArcFace encoder, of the multi-scale one.
PAPER_PLAIN, PAPER_MSID = {3: 93.99, 12: 99.97}, {3: 99.46}
_PAPER_DEPTH = 12
_BINS, _WIDTH, _HEIGHT = 100, 960, 540  # px
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 30, 40, 40  # px around a histogram
_SAME, _OTHER = (31, 111, 180), (209, 73, 91)


@dataclass(frozen=True)
class Verification:
    """Results by the name of the set."""

    pairs: Mapping[str, PairResult]
    levels: Mapping[str, LevelResult]

    def figures(self) -> dict[str, float]:
        """Flat: NAME_accuracy and NAME_auc_LAYER, 0..1; no AUC (NaN) of pairs that are all of one kind."""
        found = {f"{name}{ACCURACY}": result.accuracy for name, result in self.pairs.items()}
        for name, result in {**self.pairs, **self.levels}.items():
            found |= {f"{name}_auc_{layer}": value for layer, value in result.auc.items() if value == value}
        return found

    def write(self, folder: Path) -> None:
        """verification.json, and a histogram of the cosines of every level. Raises OutputError."""
        text = json.dumps(self.figures(), indent=2)
        write_atomically(folder / REPORT_FILE, lambda path: path.write_text(text, encoding="utf-8"))
        for name, result in self.levels.items():
            for layer, auc in result.auc.items():
                title = f"{name}, layer {layer}: AUC {100 * auc:.2f} ({result.people} people)"
                file = folder / f"{safe_stem(name)}_layer_{layer}.png"
                draw_histogram(file, result.same[layer], result.other[layer], title)


def unique_names(paths: Sequence[Path], taken: Collection[str] = ()) -> dict[Path, str]:
    """What each set is called in reports: its file's stem; of equal ones the later get a number."""
    found: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        stem, count = path.resolve().stem, 1
        name = stem
        while name in found.values() or name in taken:
            count += 1
            name = f"{stem}_{count}"
        found[path] = name
    return found


def verify(
    encoder: MSIDEncoder,
    pairs: Mapping[str, PairSet],
    people: Mapping[str, Identities],
    draws: int = DRAWS,
    batch: int = 64,
    progress: Progress | None = None,
) -> Verification:
    """All sets, by their names. Raises DataError."""
    return Verification(
        {name: verify_pairs(encoder, found, batch, progress) for name, found in pairs.items()},
        {name: verify_levels(encoder, found, draws, 0, batch, progress) for name, found in people.items()},
    )


def paper_auc(config: MSIDConfig, layer: int) -> float | None:
    """What Face2Diffusion reports for such an encoder, in percent, where it does: VGGFace2, 12 blocks."""
    if config.depth != _PAPER_DEPTH:
        return None
    return (PAPER_PLAIN if config.plain else PAPER_MSID).get(layer)


def draw_histogram(path: str | Path, same: np.ndarray, other: np.ndarray, title: str) -> Path:
    """The cosines of both kinds of pairs as a PNG. Raises OutputError."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image, "RGBA")
    low = min(-0.2, float(min(same.min(), other.min())))
    edges = np.linspace(low, 1.0, _BINS + 1)
    heights = [np.histogram(values, edges)[0] / len(values) for values in (other, same)]
    top = max(height.max() for height in heights)
    floor, across = _HEIGHT - _BOTTOM, (_WIDTH - _LEFT - _RIGHT) / _BINS
    for height, colour in zip(heights, (_OTHER, _SAME), strict=True):
        for i, value in enumerate(height):
            at = _LEFT + i * across
            draw.rectangle((at, floor - (floor - _TOP) * value / top, at + across, floor), fill=(*colour, 150))
    draw.line((_LEFT, floor, _WIDTH - _RIGHT, floor), fill="black")
    for tick in np.arange(np.ceil(low / 0.2), 6) / 5:
        at = _LEFT + (tick - low) / (1 - low) * (_WIDTH - _LEFT - _RIGHT)
        draw.line((at, floor, at, floor + 5), fill="black")
        draw.text((at - 8, floor + 10), f"{tick + 0.0:.1f}", fill="black")
    draw.text((_LEFT, 12), title, fill="black")
    draw.text((_WIDTH - 260, 12), "same person", fill=_SAME)
    draw.text((_WIDTH - 140, 12), "two people", fill=_OTHER)
    return write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
