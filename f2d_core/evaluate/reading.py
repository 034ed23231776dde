"""Pictures on disk -> faces and features; each picture is read, searched and judged once, however often it is used."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..align import similarity_transform
from ..detect import DEFAULT_THRESHOLD, find_faces
from ..errors import ImageError
from ..image import read_image
from ..ports import Detector, IdentityExtractor, ImageTextExtractor, Progress
from .extractors import InceptionExtractor
from .features import FeatureCache, cache_name, identity_key, text_key
from .judges import Judges

BATCH = 32  # pictures in memory at a time
_FACE_ROW = 11  # score (0: no face), then five points (x, y) px


@dataclass(frozen=True, eq=False)
class Features:
    """Of n pictures. found: (n,) bool, a face was found; identity, text: name of the network -> (n, d), of length 1.

    Rows of `identity` where no face was found are zeros.
    """

    found: np.ndarray
    identity: dict[str, torch.Tensor]
    text: dict[str, torch.Tensor]

    def rows(self, indices: Sequence[int]) -> Features:
        at = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        pick = {name: rows[at] for name, rows in self.identity.items()}
        return Features(self.found[at.numpy()], pick, {name: rows[at] for name, rows in self.text.items()})


class Reader:
    """Features of pictures and texts, kept in `cache`.

    detector: None where identity is not judged. inception: for FID, fed while a picture is in memory anyway.

    counts: how often something was really done: "decoded", "searched", and the rows of each network.
    """

    def __init__(
        self,
        cache: FeatureCache,
        judges: Judges,
        detector: Detector | None,
        inception: InceptionExtractor | None = None,
        batch: int = BATCH,
    ):
        self._cache, self._judges, self._detector, self._batch = cache, judges, detector, batch
        self._inception = inception
        self.counts: Counter[str] = Counter()

    def pictures(self, paths: Sequence[Path], progress: Progress | None = None, doubtful: bool = False) -> Features:
        """doubtful: faces count that were found only with the threshold lowered, as they do where S* is made.

        Raises ImageError, OutputError and what the networks raise.
        """
        parts = []
        for start in range(0, len(paths), self._batch):
            parts.append(self._read(paths[start : start + self._batch], doubtful))
            if progress is not None:
                progress(min(start + self._batch, len(paths)), len(paths))
        return _joined(parts)

    def texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Name of the network -> (n, d), of length 1."""
        return {judge.name: self._text_rows(judge, texts) for judge in self._judges.text}

    def spread(self, paths: Sequence[Path], progress: Progress | None = None) -> torch.Tensor:
        """(n, 2048): what FID and KID are of; only with `inception`. Raises ImageError, OutputError."""
        parts = []
        for start in range(0, len(paths), self._batch):
            part = paths[start : start + self._batch]
            parts.append(self._inception_rows([_file_key(path) for path in part], self._decoder(part)))
            if progress is not None:
                progress(start + len(part), len(paths))
        return torch.cat(parts)

    def _read(self, paths: Sequence[Path], doubtful: bool) -> Features:
        picture, keys = self._decoder(paths), [_file_key(path) for path in paths]
        text = {
            judge.name: self._counted(
                cache_name(judge), keys, lambda at, judge=judge: judge.image_features([picture(i) for i in at])
            )
            for judge in self._judges.text
        }
        if self._inception is not None:
            self._inception_rows(keys, picture)
        found, points = self._faces(keys, picture, doubtful)
        identity = {
            judge.name: self._identity_rows(judge, keys, picture, found, points) for judge in self._judges.identity
        }
        return Features(found, identity, text)

    def _inception_rows(self, keys: Sequence[str], picture: Callable[[int], np.ndarray]) -> torch.Tensor:
        inception = self._inception
        return self._counted(cache_name(inception), keys, lambda at: inception.features([picture(i) for i in at]))

    def _decoder(self, paths: Sequence[Path]) -> Callable[[int], np.ndarray]:
        @functools.cache
        def picture(i: int) -> np.ndarray:
            self.counts["decoded"] += 1
            return read_image(paths[i])

        return picture

    def _faces(
        self, keys: Sequence[str], picture: Callable[[int], np.ndarray], doubtful: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """((n,) bool, (n, 5, 2) px) of the largest face of each picture."""
        if self._detector is None or not self._judges.identity:
            return np.zeros(len(keys), bool), np.zeros((len(keys), 5, 2))
        name = f"faces {self._detector.name} {DEFAULT_THRESHOLD:g}"

        def search(indices: Sequence[int]) -> torch.Tensor:
            self.counts["searched"] += len(indices)
            return torch.stack([_face_row(self._detector, picture(i)) for i in indices])

        rows = self._cache.rows(name, keys, search, batch=self._batch).numpy()
        found = (rows[:, 0] > 0) if doubtful else (rows[:, 0] >= np.float32(DEFAULT_THRESHOLD))
        return found, rows[:, 1:].astype(np.float64).reshape(-1, 5, 2)

    def _identity_rows(
        self,
        judge: IdentityExtractor,
        keys: Sequence[str],
        picture: Callable[[int], np.ndarray],
        found: np.ndarray,
        points: np.ndarray,
    ) -> torch.Tensor:
        at = np.flatnonzero(found).tolist()
        if not at:
            return torch.zeros(len(keys), 1)
        rows = self._counted(
            cache_name(judge),
            [identity_key(keys[i], points[i]) for i in at],
            lambda k: judge.features([picture(at[i]) for i in k], [points[at[i]] for i in k]),
        )
        spread = torch.zeros(len(keys), rows.shape[1])
        spread[at] = rows
        return spread

    def _text_rows(self, judge: ImageTextExtractor, texts: Sequence[str]) -> torch.Tensor:
        name = f"{cache_name(judge)} text"
        return self._counted(
            name, [text_key(text) for text in texts], lambda at: judge.text_features([texts[i] for i in at])
        )

    def _counted(
        self, name: str, keys: Sequence[str], compute: Callable[[Sequence[int]], torch.Tensor]
    ) -> torch.Tensor:
        def counted(indices: Sequence[int]) -> torch.Tensor:
            self.counts[name] += len(indices)
            return compute(indices)

        return self._cache.rows(name, keys, counted, batch=self._batch)


def _file_key(path: Path) -> str:
    """SHA-256 of the file: the same picture is the same work wherever it lies. Raises ImageError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror}. Expected a picture. Check the path.") from error


def _face_row(detector: Detector, rgb: np.ndarray) -> torch.Tensor:
    """(11,): the largest face, with the detector's score: below the threshold where it had to be lowered."""
    for face in find_faces(detector, rgb, DEFAULT_THRESHOLD).faces:
        if _can_be_aligned(face.points):
            return torch.tensor([face.score, *np.asarray(face.points).ravel()], dtype=torch.float32)
    return torch.zeros(_FACE_ROW)


def _can_be_aligned(points: np.ndarray) -> bool:
    try:
        similarity_transform(points)
    except ImageError:
        return False
    return True


def _joined(parts: Sequence[Features]) -> Features:
    widths = {name: max(part.identity[name].shape[1] for part in parts) for name in parts[0].identity}
    identity = {
        name: torch.cat([_widened(part.identity[name], width) for part in parts]) for name, width in widths.items()
    }
    text = {name: torch.cat([part.text[name] for part in parts]) for name in parts[0].text}
    return Features(np.concatenate([part.found for part in parts]), identity, text)


def _widened(rows: torch.Tensor, width: int) -> torch.Tensor:
    """Rows of a batch without any face, as wide as those of the others."""
    return rows if rows.shape[1] == width else torch.zeros(len(rows), width)
