"""Judges whose answers can be worked out by hand: a picture's "face" lies in a direction in the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from f2d_core.constants import FACE_TEMPLATE_PX
from f2d_core.errors import MissingPackageError
from f2d_core.evaluate.judges import Portraits

POINTS = np.array(FACE_TEMPLATE_PX)


def picture(degrees: int, seed: int = 0) -> np.ndarray:
    """A small picture whose first pixel says the direction, 0 to 359; pictures of other seeds differ elsewhere."""
    rgb = np.full((8, 8, 3), seed, np.uint8)
    rgb[0, 0] = (degrees % 180, degrees // 180, 7)
    return rgb


def people(*degrees: int, missing: Sequence[int] = ()) -> Portraits:
    """Pictures in these directions; those at the places `missing` have no face."""
    pictures = tuple(picture(d, seed) for seed, d in enumerate(degrees))
    return Portraits(pictures, tuple(None if i in missing else POINTS for i in range(len(degrees))))


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


class Protractor:
    """ports.IdentityExtractor: the direction of each picture, times `stretch`. batches: how many came at once."""

    def __init__(self, name: str = "Protractor", stretch: float = 1.0, kind: str = ""):
        self.name, self.sha256, self.kind, self.stretch = name, name, kind, stretch
        self.batches: list[int] = []

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        if any(five.shape != (5, 2) for five in points):
            raise ValueError("a picture without a face came to the judge")
        self.batches.append(len(pictures))
        angles = np.radians([self.stretch * (int(p[0, 0, 0]) + 180 * int(p[0, 0, 1])) for p in pictures])
        return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1)).float()


class Broken(Protractor):
    """One that cannot work here."""

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        raise MissingPackageError("This judge needs a package that is not there: pip install it.")


class Vectors(Protractor):
    """ports.IdentityExtractor: rows of a table, by the direction of each picture."""

    def __init__(self, rows: np.ndarray):
        super().__init__()
        self.rows = torch.from_numpy(rows)

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        return self.rows[[int(p[0, 0, 0]) for p in pictures]]


class Reader:
    """ports.ImageTextExtractor in the plane: pictures lie as Protractor sees them, every text at 0 degrees."""

    sha256 = "reader"

    def __init__(self, name: str = "Reader", scale: float = 1.0, bias: float = 0.0):
        self.name, self.logit_scale, self.logit_bias = name, scale, bias
        self.texts: list[str] = []

    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        return Protractor().features(pictures, [POINTS] * len(pictures))

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts += texts
        return torch.tensor([[1.0, 0.0]] * len(texts))


class BrokenReader(Reader):
    """One that cannot work here."""

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        raise MissingPackageError("open_clip is not there: pip install it.")
