"""Pictures of invented people as an ordinary identity set: a folder of aligned face crops for each person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..align import align_face
from ..image import write_png
from ..ports import Progress
from .people import sample_identities
from .render import Rendered, render
from .situations import EXPRESSIONS, ROLES, sample_situations

_PICTURE_PER_CROP = 5 / 3  # a picture this much larger than the crop shows the face no smaller than the crop


@dataclass(frozen=True)
class IdentitySet:
    """Which people, and how many crops of `side` px of each: every one in a situation of its own, so that pose, light,
    expression, clothes and background vary. Another seed: other people, in other situations. drawn_px: the side of the
    pictures that the crops are cut from; 0: so large that nothing is enlarged. photographed: see
    `Situations.photographed`."""

    seed: int
    people: int
    pictures: int
    side: int
    drawn_px: int = 0
    photographed: bool = False

    def crops(self, person: int) -> np.ndarray:
        """(pictures, side, side, 3) uint8: the face of person number `person`, aligned by its known points."""
        who = sample_identities(self.seed, 1, person).take(np.zeros(self.pictures, np.int64))
        how = sample_situations(self.seed, self.pictures, person * self.pictures)
        how = how.photographed if self.photographed else how
        return face_crops(render(who, how, self.drawn_px or round(self.side * _PICTURE_PER_CROP)), self.side)


@dataclass(frozen=True)
class DoingSet:
    """The same, sorted by what people do and wear instead of by who they are: every person of the set is another one.

    A network that learns it is to the face encoder what a general picture encoder is.
    """

    seed: int
    pictures: int
    side: int
    drawn_px: int

    @property
    def people(self) -> int:
        """Of its classes, one for each mood in each role."""
        return len(EXPRESSIONS) * len(ROLES)

    def crops(self, person: int) -> np.ndarray:
        mood, role = divmod(person, len(ROLES))
        who = sample_identities(self.seed, self.pictures, person * self.pictures)
        how = sample_situations(self.seed, self.pictures, person * self.pictures)
        return face_crops(render(who, how.named(list(EXPRESSIONS)[mood], ROLES[role]), self.drawn_px), self.side)


def face_crops(drawn: Rendered, side: int) -> np.ndarray:
    """(n, side, side, 3) uint8: the faces, aligned by their known points."""
    return np.stack([align_face(rgb, points, side) for rgb, points in zip(drawn.pixels, drawn.points, strict=True)])


def write_identity_set(wanted: IdentitySet | DoingSet, folder: Path, progress: Progress | None = None) -> Path:
    """folder/PERSON/PICTURE.png; people whose last picture is there are not drawn again. Raises OutputError."""
    for person in range(wanted.people):
        paths = [folder / f"{person:04}" / f"{i:03}.png" for i in range(wanted.pictures)]
        if not paths[-1].is_file():
            for path, rgb in zip(paths, wanted.crops(person), strict=True):
                write_png(path, rgb)
        if progress is not None:
            progress(person + 1, wanted.people)
    return folder
