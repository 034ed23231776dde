"""Pictures of invented people as an ordinary identity set: a folder of aligned face crops for each person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..align import align_face
from ..files import write_atomically
from ..ports import Progress
from .people import sample_identities
from .render import render
from .situations import sample_situations

_PICTURE_PER_CROP = 5 / 3  # a picture this much larger than the crop shows the face at about the crop's scale


@dataclass(frozen=True)
class IdentitySet:
    """Which people, and how many crops of `side` px of each: every one in a situation of its own, so that pose, light,
    expression, clothes and background vary. Another seed: other people, in other situations."""

    seed: int
    people: int
    pictures: int
    side: int

    def crops(self, person: int) -> np.ndarray:
        """(pictures, side, side, 3) uint8: the face of person number `person`, aligned by its known points."""
        who = sample_identities(self.seed, 1, person).take(np.zeros(self.pictures, np.int64))
        how = sample_situations(self.seed, self.pictures, person * self.pictures)
        drawn = render(who, how, round(self.side * _PICTURE_PER_CROP))
        pairs = zip(drawn.pixels, drawn.points, strict=True)
        return np.stack([align_face(rgb, points, self.side) for rgb, points in pairs])


def write_identity_set(wanted: IdentitySet, folder: Path, progress: Progress | None = None) -> Path:
    """folder/PERSON/PICTURE.png; people whose last picture is there are not drawn again. Raises OutputError."""
    for person in range(wanted.people):
        paths = [folder / f"{person:04}" / f"{i:03}.png" for i in range(wanted.pictures)]
        if not paths[-1].is_file():
            for path, rgb in zip(paths, wanted.crops(person), strict=True):
                _write_png(path, rgb)
        if progress is not None:
            progress(person + 1, wanted.people)
    return folder


def _write_png(path: Path, rgb: np.ndarray) -> None:
    from PIL import Image

    write_atomically(path, lambda temporary: Image.fromarray(rgb).save(temporary, format="PNG"))
