"""Pictures of many people, to train an identity encoder on: aligned face crops, each with the number of its person.

They come as a folder per person, as InsightFace's RecordIO (`.rec`, `.idx`) or as tar shards. Whatever the form, a
picture is found by its number alone, so any order of them can be drawn and a run resumes exactly.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

import numpy as np

from ..constants import FACE_CROP_SIZE_PX
from ..errors import DataError, ImageError
from ..image import image_from_bytes
from .recordio import RecordSource, record_file
from .tar_index import TarSource, shards

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FORMS = "a folder with one folder of pictures per person, InsightFace's .rec with its .idx, or .tar shards"


class Source(Protocol):
    """Encoded pictures by number. labels: (n,) int64, people counted from 0. title: for people to read."""

    labels: np.ndarray
    fingerprint: str  # changes whenever a picture or label does
    title: str

    def encoded(self, index: int) -> bytes: ...

    def name(self, index: int) -> str:
        """Where picture `index` is, for messages."""
        ...


class Identities:
    """A set of face crops of one size. side: px. resize: squares of another size are scaled, instead of refused.

    Raises DataError for a set without at least two people.
    """

    def __init__(self, source: Source, side: int = FACE_CROP_SIZE_PX, resize: bool = False):
        self.labels, self.fingerprint, self.title = source.labels, source.fingerprint, source.title
        self.people = int(self.labels.max(initial=-1)) + 1
        self.side = side
        self._source, self._resize = source, resize
        if self.people < 2:
            raise DataError(f"{self.title}: there are pictures of {self.people} people, expected at least 2. Add more.")

    def __len__(self) -> int:
        return len(self.labels)

    def pictures(self, indices: Sequence[int], workers: Executor | None = None) -> np.ndarray:
        """(B, side, side, 3) uint8 RGB. workers: decode in these threads. Raises DataError for one that is damaged or
        of another size."""
        found = np.empty((len(indices), self.side, self.side, 3), np.uint8)
        decoded = (workers.map if workers is not None else map)(self.picture, indices)
        for row, picture in zip(found, decoded, strict=True):
            row[:] = picture
        return found

    def picture(self, index: int) -> np.ndarray:
        """(side, side, 3) uint8 RGB."""
        name = self._source.name(index)
        try:
            rgb = image_from_bytes(self._source.encoded(index), name)
        except ImageError as error:
            raise DataError(f"{error} It is picture {index} of {self.title}.") from error
        if rgb.shape[:2] == (self.side, self.side):
            return rgb
        return self._resized(rgb, name)

    def _resized(self, rgb: np.ndarray, name: str) -> np.ndarray:
        height, width = rgb.shape[:2]
        if not self._resize or height != width:
            remedy = "Align and crop the faces first" + (", or have them scaled (resize)." if height == width else ".")
            raise DataError(
                f"{name} is {width} x {height} px, expected an aligned face crop of {self.side} x {self.side}. {remedy}"
            )
        from PIL import Image

        return np.asarray(Image.fromarray(rgb).resize((self.side, self.side), Image.Resampling.BICUBIC))


def open_identities(path: str | Path, side: int = FACE_CROP_SIZE_PX, resize: bool = False) -> Identities:
    """The set at `path`, whichever form it has. Raises DataError."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist, expected {_FORMS}. Check the path.")
    if record := record_file(path):
        return Identities(RecordSource(record), side, resize)
    if found := shards(path):
        return Identities(TarSource(found), side, resize)
    if not path.is_dir():
        raise DataError(f"{path} is no set of face crops, expected {_FORMS}. Choose one.")
    return Identities(FolderSource(path), side, resize)


class FolderSource:
    """One folder per person, in the order of their names; pictures in sub-folders count too.

    Raises DataError when there is none.
    """

    def __init__(self, root: Path):
        self._root = root
        names, labels = [], []
        try:
            people = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        except OSError as error:
            raise DataError(f"Cannot read {root}: {error.strerror or error}. Check the folder.") from error
        with_pictures = 0
        for person in people:
            found = _pictures_under(root, person)
            names += found
            labels += [with_pictures] * len(found)
            with_pictures += bool(found)
        if not names:
            raise DataError(f"{root} has no pictures in folders, expected one folder of pictures per person.")
        self.labels = np.array(labels, np.int64)
        self._names = Names(names)
        self.fingerprint = _folder_fingerprint(root, self._names)
        self.title = f"{root.name} ({len(names)} pictures of {with_pictures} people, a folder each)"

    def encoded(self, index: int) -> bytes:
        try:
            return (self._root / self._names[index]).read_bytes()
        except OSError as error:
            raise DataError(f"Cannot read {self.name(index)}: {error.strerror or error}. Restore the file.") from error

    def name(self, index: int) -> str:
        return str(self._root / self._names[index])


class Names:
    """Many texts in two arrays: a list of millions of them would take several times the memory."""

    def __init__(self, names: Sequence[str]):
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self.text = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = self.ends[index - 1] if index else 0
        return self.text[start : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")


def _pictures_under(root: Path, person: str) -> list[str]:
    """Paths relative to `root`, with forward slashes, sorted."""
    found = []
    for folder, _, files in os.walk(root / person):
        inside = Path(folder).relative_to(root).as_posix()
        found += [f"{inside}/{file}" for file in files if file.lower().endswith(EXTENSIONS) and file[0] != "."]
    return sorted(found)


def _folder_fingerprint(root: Path, names: Names) -> str:
    """Of all names and sizes."""
    digest = hashlib.sha256(names.text)
    try:
        sizes = np.array([(root / names[i]).stat().st_size for i in range(len(names))], np.int64)
    except OSError as error:  # a link to nowhere, or a file that has just gone
        raise DataError(f"Cannot read {error.filename}: {error.strerror or error}. Restore or remove it.") from error
    digest.update(sizes)
    return digest.hexdigest()
