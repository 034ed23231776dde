"""Tar shards as numbered pictures: an index of member offsets, so that any of them is one read away.

A person is the first folder of a member's name ("0001/a.jpg"), or the whole number in the `.cls` beside the picture, as
WebDataset writes it ("000001.jpg", "000001.cls").
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_CLASS = ".cls"
_CLASS_BYTES = 64  # more than any number takes


@dataclass(frozen=True)
class _Member:
    """One picture of a shard. person: its folder or class."""

    offset: int
    size: int
    person: str


class TarSource:
    """An `identities.Source` over shards in the order of their names. Raises DataError."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = list(paths)
        rows, people = [], []
        for number, path in enumerate(self._paths):
            for member in _members(path):
                rows.append((number, member.offset, member.size))
                people.append(member.person)
        if not rows:
            raise DataError(f"{self._paths[0].parent} has no pictures in its .tar files, expected some. Check them.")
        self._shard, self._offset, self._size = np.array(rows, np.int64).T.copy()
        numbers = {person: number for number, person in enumerate(sorted(set(people)))}
        self.labels = np.array([numbers[person] for person in people], np.int64)
        self.fingerprint = hashlib.sha256(np.stack((self.labels, self._shard, self._offset, self._size))).hexdigest()
        self.title = f"{len(paths)} tar shards ({len(rows)} pictures of {self.labels.max() + 1} people)"

    def encoded(self, index: int) -> bytes:
        shard, offset, size = (int(array[index]) for array in (self._shard, self._offset, self._size))
        try:
            with open(self._paths[shard], "rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"Cannot read {self.name(index)}: {error.strerror or error}.") from error
        if len(data) < size:
            raise DataError(f"{self.name(index)} is cut off: {len(data)} of {size} bytes. Copy the file again.")
        return data

    def name(self, index: int) -> str:
        return f"{self._paths[self._shard[index]].name} at byte {self._offset[index]:,}"


def shards(path: Path) -> list[Path]:
    """The tar files that are meant: the file itself, or those of a folder."""
    if path.is_file():
        return [path] if path.suffix == ".tar" else []
    return sorted(path.glob("*.tar"))


def _members(path: Path) -> Iterator[_Member]:
    """The pictures of one shard, in their order."""
    pictures: list[tuple[str, str, int, int]] = []
    classes: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, ending = _split(member.name)
                if member.isfile() and ending.endswith(_PICTURES):
                    pictures.append((stem, ending, member.offset_data, member.size))
                elif member.isfile() and ending == _CLASS:
                    classes[stem] = archive.extractfile(member).read(_CLASS_BYTES).decode("ascii").strip()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}. Expected a whole .tar file, not compressed.") from error
    for stem, ending, offset, size in pictures:
        # "a.seg.png" beside "a.cls" is something else of that sample; in a person's folder it is a picture like others.
        if ending in _PICTURES or ("/" in stem and stem not in classes):
            yield _Member(offset, size, _person(path, stem, classes))


def _split(name: str) -> tuple[str, str]:
    """("a/b", ".jpg") of "a/b.JPG"; WebDataset's key ends at the first full stop of the file's name."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", f".{ending.lower()}"


def _person(path: Path, stem: str, classes: dict[str, str]) -> str:
    if stem in classes:
        return classes[stem]
    folder, slash, _ = stem.partition("/")
    if not slash:
        raise DataError(
            f"{path.name} has {stem} without a person: expected a folder before it or a file {stem}.cls with a number."
        )
    return folder
