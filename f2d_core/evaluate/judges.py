"""The networks that judge pictures, as many as are present: faces for identity, pictures and texts for the prompt.

One that cannot be loaded or fails is left out and named with its reason; the others go on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from ..align import align_face, similarity_transform
from ..encode import identity_features
from ..errors import F2DError, ImageError
from ..locate import Located
from ..ports import IdentityExtractor, ImageTextExtractor, Progress

if TYPE_CHECKING:
    from ..networks import Network

T = TypeVar("T")
BATCH = 8  # pictures that go to a judge at once: between two batches a run can be cancelled


@dataclass(frozen=True)
class Judges:
    """identity: judge who it is. text: judge whether the picture shows what the prompt says. problems: who is not
    among them, and why, one line each."""

    identity: tuple[IdentityExtractor, ...] = ()
    text: tuple[ImageTextExtractor, ...] = ()
    problems: tuple[str, ...] = ()

    def __add__(self, other: Judges) -> Judges:
        """Those of both, each network once."""
        return Judges(
            _each_once(self.identity + other.identity),
            _each_once(self.text + other.text),
            self.problems + other.problems,
        )


def _each_once(judges: Sequence[T]) -> tuple[T, ...]:
    return tuple({(judge.name, judge.sha256): judge for judge in judges}.values())


def load_each(loaders: Sequence[Callable[[], T]]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """(what could be loaded, the messages of what could not)."""
    loaded, problems = [], []
    for load in loaders:
        try:
            loaded.append(load())
        except F2DError as error:
            problems.append(str(error))
    return tuple(loaded), tuple(problems)


class EncoderJudge:
    """The MSID encoder as ports.IdentityExtractor, for where nothing better is present.

    Not independent: S* is made from its features, so it sees in a picture what S* could carry, and not what it lost.
    """

    kind = "msid"

    def __init__(self, network: Network):
        self.name = "MSID encoder (not independent: S* is made with it)"
        self.sha256 = network.sha256
        self._network = network

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, n) fp32, of length 1."""
        crops = [align_face(rgb, five) for rgb, five in zip(pictures, points, strict=True)]
        return torch.nn.functional.normalize(identity_features(crops, self._network), dim=1)


@dataclass(frozen=True, eq=False)
class Portraits:
    """Pictures, (H, W, 3) uint8 each, and the (5, 2) points of the face meant in each; None: no face to judge by."""

    pictures: tuple[np.ndarray, ...]
    points: tuple[np.ndarray | None, ...]

    @property
    def found(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([points is not None for points in self.points], dtype=bool)

    def only(self, indices: Sequence[int]) -> Portraits:
        return Portraits(tuple(self.pictures[i] for i in indices), tuple(self.points[i] for i in indices))


def portraits(pictures: Sequence[np.ndarray], found: Sequence[Located | ImageError]) -> Portraits:
    """The pictures with what `locate` found in them. Points that cannot be aligned count as no face."""
    return Portraits(tuple(pictures), tuple(_points(item) for item in found))


def _points(item: Located | ImageError) -> np.ndarray | None:
    if not isinstance(item, Located):
        return None
    try:
        similarity_transform(item.face.points)
    except ImageError:
        return None
    return item.face.points


@dataclass
class Work:
    """Counts batches of several judges as one piece of work. total: pictures times judges."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)


def in_batches(count: int, compute: Callable[[slice], torch.Tensor], work: Work) -> np.ndarray:
    """(count, n) float64 from `compute(slice)`, which gives the rows of a slice; `work` is told after each."""
    rows = []
    for start in range(0, count, BATCH):
        part = slice(start, min(start + BATCH, count))
        rows.append(compute(part).double().numpy())
        work.add(part.stop - part.start)
    return np.concatenate(rows) if rows else np.empty((0, 0))
