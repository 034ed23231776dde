"""How good edited pictures are: like their source face, and like their prompt. Pictures are read from the disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..data.prepare import SUFFIXES
from ..detect import DEFAULT_THRESHOLD
from ..errors import ImageError, MismatchError, NoFaceError
from ..image import read_image
from ..ports import Detector, IdentityExtractor, ImageTextExtractor
from .pictures import main_face
from .plan import EditJob, with_subject
from .settings import AugmentSettings
from .store import PATH, SCORED_BY, Record
from .texts import NAME


@dataclass(frozen=True)
class HeldOut:
    """Faces that are kept for testing. features: (n, d), of length 1."""

    names: tuple[str, ...]
    features: torch.Tensor
    digest: str  # of files and network


def read_held_out(folder: str | Path, detector: Detector, identity: IdentityExtractor) -> HeldOut:
    """The main face of every picture in a folder. Raises ImageError, NoFaceError naming the file that is of no use."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ImageError(f"{folder} has no pictures of held-out faces: expected a folder with some. Check the path.")
    digest, rows = hashlib.sha256(identity.sha256.encode()), []
    for file in files:
        rgb = read_image(file)
        try:
            face, _ = main_face(detector, rgb, DEFAULT_THRESHOLD)
        except NoFaceError as error:
            raise NoFaceError(f"The held-out picture {file} shows no face: {error} Or take it out.") from error
        rows.append(_features(identity, rgb, face.points))
        digest.update(rows[-1].numpy().tobytes())
    return HeldOut(tuple(file.relative_to(folder).as_posix() for file in files), torch.stack(rows), digest.hexdigest())


class Scores:
    """Scores one picture at a time, so that no score depends on what was scored beside it."""

    def __init__(
        self,
        folder: Path,
        detector: Detector,
        identity: IdentityExtractor,
        text: ImageTextExtractor,
        settings: AugmentSettings,
        held_out: HeldOut | None = None,
    ):
        self._folder, self._detector, self._identity, self._text = folder, detector, identity, text
        self._settings, self._held_out = settings, held_out
        self._text_row = cache(lambda words: text.text_features([words])[0])
        self._source: tuple[str, torch.Tensor] | None = None
        self.edits_by = _digest(identity.name, identity.sha256, text.name, text.sha256, settings.subject)
        self.faces_by = _digest(held_out.digest) if held_out else ""

    def edit(self, job: EditJob, face: Record) -> Record:
        """Identity (None without a face) and text, as cosines. Raises ImageError, MismatchError."""
        rgb = self._read(job.path)
        row = self._text.image_features([rgb])[0]
        words = with_subject(job.prompt, self._settings.subject.replace(NAME, job.face.name))
        scores = {"identity": self._likeness(rgb, face), "text": _cosine(row, self._text_row(words), job.path)}
        return {PATH: job.path, SCORED_BY: self.edits_by, **scores}

    def face(self, face: Record) -> Record:
        """How like a source face is to the nearest of the held-out ones, and to which."""
        likeness = self._held_out.features @ self._row(face)
        nearest = int(likeness.argmax())
        similarity = _finite(likeness[nearest].item(), face[PATH])
        return {
            PATH: face[PATH],
            SCORED_BY: self.faces_by,
            "similarity": similarity,
            "like": self._held_out.names[nearest],
        }

    def _likeness(self, rgb: np.ndarray, face: Record) -> float | None:
        try:
            found, _ = main_face(self._detector, rgb, self._settings.threshold)
            row = _features(self._identity, rgb, found.points)
        except ImageError:  # no face, or none that can be aligned
            return None
        return _cosine(row, self._row(face), face[PATH])

    def _row(self, face: Record) -> torch.Tensor:
        """Features of a source face; kept for its next edit."""
        if self._source is None or self._source[0] != face[PATH]:
            rgb = self._read(face[PATH])
            self._source = face[PATH], _features(self._identity, rgb, np.array(face["points"]))
        return self._source[1]

    def _read(self, path: str) -> np.ndarray:
        try:
            return read_image(self._folder / path)
        except ImageError as error:
            raise ImageError(f"{error} Or delete {self._folder / path} and run this again: it is made anew.") from error


def _features(identity: IdentityExtractor, rgb: np.ndarray, points: np.ndarray) -> torch.Tensor:
    return identity.features([rgb], [points])[0].to(torch.float64)


def _cosine(a: torch.Tensor, b: torch.Tensor, path: str) -> float:
    return _finite(torch.dot(a.to(torch.float64), b.to(torch.float64)).item(), path)


def _finite(value: float, path: str) -> float:
    if not np.isfinite(value):
        raise MismatchError(
            f"The score of {path} is {value}: expected a number. The weight file of the network that scores is damaged."
        )
    return value


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
