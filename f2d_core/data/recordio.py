"""InsightFace's RecordIO sets (`.rec` with `.idx`), read without mxnet.

A record is the magic number, a word with a flag in its top 3 bits and a length in the lower 29, the payload, and zeros
up to a multiple of 4 bytes. A payload that contains the magic number at such a multiple is split there into parts
(flags 1, 2 … 2, 3), and the magic is left out between them. The payload of a picture is a header (flag, label, two
ids), `flag` further labels if flag > 0, then the encoded picture. In InsightFace's sets record 0 is a header of the
set: labels [first key of the records of people, end], and such a record has the labels [first key, end) of the
person's pictures. Sources: dmlc-core include/dmlc/recordio.h and src/recordio.cc, mxnet python/mxnet/recordio.py,
InsightFace recognition/arcface_torch/dataset.py.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import warnings
from pathlib import Path

import numpy as np

from ..errors import DataError

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD = struct.Struct("<II")
_LABELS = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_MOST = 2**53  # of a label; more is damage
_EXACT = 2**24  # up to here fp32, in which labels are written, has every whole number


class RecordFile:
    """Records by their offset. The file is mapped when the first one is asked for. Raises DataError."""

    def __init__(self, path: Path):
        self.path = path
        self._map: mmap.mmap | None = None

    @property
    def content(self) -> mmap.mmap:
        if self._map is None:
            try:
                with open(self.path, "rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                reason = getattr(error, "strerror", None) or error
                raise DataError(f"Cannot read {self.path}: {reason}. Expected a RecordIO file.") from error
        return self._map

    def record(self, offset: int) -> bytes:
        """The payload of the record that begins there, its parts joined."""
        flag, payload, end = self._part(offset)
        if flag == _WHOLE:
            return payload
        parts = [payload]
        if flag != _FIRST:
            raise self._damaged(offset, f"a part with flag {flag}, expected the beginning of a record")
        while flag != _LAST:
            flag, payload, end = self._part(end)
            if flag not in (_MIDDLE, _LAST):
                raise self._damaged(offset, f"a part with flag {flag} inside a record of several parts")
            parts.append(payload)
        return _MAGIC_BYTES.join(parts)

    def following(self, offset: int) -> int:
        """Where the record after the one at `offset` begins."""
        flag, _, end = self._part(offset)
        while flag in (_FIRST, _MIDDLE):
            flag, _, end = self._part(end)
        return end

    def _part(self, offset: int) -> tuple[int, bytes, int]:
        """(flag, payload, offset of the next part)."""
        content = self.content
        try:
            magic, word = _HEAD.unpack_from(content, offset)
        except struct.error as error:
            raise self._damaged(offset, f"the end of the file ({len(content):,} bytes)") from error
        if magic != MAGIC:
            raise self._damaged(offset, f"{magic:#010x}, expected the magic number {MAGIC:#010x}")
        start = offset + _HEAD.size
        end = start + (word & ((1 << _LENGTH_BITS) - 1))
        if end > len(content):
            raise self._damaged(offset, f"a record that ends at {end:,} in a file of {len(content):,} bytes")
        return word >> _LENGTH_BITS, content[start:end], end + -end % 4

    def _damaged(self, offset: int, found: str) -> DataError:
        return DataError(
            f"{self.path} is damaged or cut off: at byte {offset:,} there is {found}. Copy or download it again, with "
            "its .idx."
        )


def split_labels(payload: bytes) -> tuple[np.ndarray, bytes]:
    """(labels, encoded picture) of a payload. ValueError when it is too short."""
    if len(payload) < _LABELS.size:
        raise ValueError(f"{len(payload)} bytes, expected a header of {_LABELS.size}")
    flag, label, _, _ = _LABELS.unpack_from(payload)
    rest = payload[_LABELS.size :]
    if flag == 0:
        return np.array([label], np.float32), rest
    if len(rest) < 4 * flag:
        raise ValueError(f"{len(rest)} bytes after the header, expected {flag} labels")
    return np.frombuffer(rest, "<f4", flag), rest[4 * flag :]


class RecordSource:
    """An `identities.Source`. Labels come from the records of people where the set has them, else from each record.

    Raises DataError.
    """

    def __init__(self, path: Path):
        self._file = RecordFile(path)
        keys, offsets = _index(self._file)
        self._check(offsets)
        self._offsets, people = self._arranged(keys, offsets)
        self.labels = np.unique(people, return_inverse=True)[1].astype(np.int64)
        if not len(self.labels):
            raise DataError(f"{path} has no pictures, expected at least one. Choose another file.")
        self.fingerprint = self._fingerprint()
        self.title = f"{path.name} ({len(self.labels)} pictures of {self.labels.max() + 1} people, RecordIO)"

    def encoded(self, index: int) -> bytes:
        return self._split(self._offsets[index])[1]

    def name(self, index: int) -> str:
        return f"{self._file.path.name} at byte {self._offsets[index]:,}"

    def _split(self, offset: int) -> tuple[np.ndarray, bytes]:
        try:
            return split_labels(self._file.record(int(offset)))
        except ValueError as error:
            raise self._file._damaged(int(offset), f"a record with {error}") from error

    def _check(self, offsets: np.ndarray) -> None:
        size = len(self._file.content)
        if len(offsets) and not (offsets.min() >= 0 and offsets.max() < size):
            raise DataError(
                f"{self._file.path} has {size:,} bytes and {self._file.path.stem}.idx names byte {offsets.max():,}; "
                "expected a file of the same set, whole. Copy or download both again."
            )

    def _arranged(self, keys: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(offsets, people) of the pictures, in the order of their keys."""
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        header = self._split(offsets[0])[0] if len(keys) and keys[0] == 0 else np.empty(0)
        if len(header) < 2:  # made by im2rec, or shuffled: every record is a picture
            return offsets, self._labels_of(offsets)
        first_person, end = self._whole(offsets[0], header[:2])
        pictures = (keys >= 1) & (keys < first_person)
        own = keys[pictures]
        people = _people(self, keys, offsets, first_person, end)
        labels = np.full(len(own), -1, np.int64)
        for number, (start, stop) in enumerate(people):
            low, high = np.searchsorted(own, (start, stop))
            labels[low:high] = number
        if (labels < 0).any() or end > _EXACT:  # records of people are missing, or rounded: ask every picture
            labels = self._labels_of(offsets[pictures])
        return offsets[pictures], labels

    def _labels_of(self, offsets: np.ndarray) -> np.ndarray:
        return np.array([self._whole(offset, self._split(offset)[0][:1])[0] for offset in offsets], np.int64)

    def _whole(self, offset: int, labels: np.ndarray) -> list[int]:
        """Labels as numbers that count something."""
        found = labels.tolist()
        if not all(0 <= label < _MOST for label in found):  # false for what is no number, too
            raise self._file._damaged(int(offset), f"a record with the labels {found}, expected whole numbers")
        return [int(label) for label in found]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self._offsets)
        digest.update(self.labels)
        digest.update(str(len(self._file.content)).encode())
        return digest.hexdigest()


def record_file(path: Path) -> Path | None:
    """The .rec file that is meant by itself, its .idx, or its folder (train.rec where there are several)."""
    if path.is_file():
        found = path.with_suffix(".rec") if path.suffix in (".rec", ".idx") else None
        return found if found is not None and found.is_file() else None
    found = sorted(path.glob("*.rec"))
    if len(found) > 1 and path / "train.rec" not in found:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{path} has several .rec files ({names}), expected one or a train.rec. Name the file.")
    return path / "train.rec" if len(found) > 1 else next(iter(found), None)


def _people(source: RecordSource, keys: np.ndarray, offsets: np.ndarray, first: int, end: int) -> list[tuple[int, int]]:
    """[first key, end) of the pictures of each person."""
    found = []
    for offset in offsets[(keys >= first) & (keys < end)]:
        labels = source._split(offset)[0]
        if len(labels) < 2:
            raise source._file._damaged(int(offset), "a record of a person without its two labels")
        found.append(tuple(source._whole(offset, labels[:2])))
    return found


def _index(file: RecordFile) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets), (n,) int64 each, of the .idx; found by going through the records where there is none."""
    path = file.path.with_suffix(".idx")
    if not path.is_file():
        offsets = _walked(file)
        return np.arange(len(offsets)), offsets
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's way of saying that it met something else than a number
            numbers = np.fromstring(path.read_text(encoding="ascii"), np.int64, sep=" ")
    except (OSError, ValueError, DeprecationWarning) as error:
        raise DataError(f"Cannot read {path}: {error}. Expected lines of a key and a byte offset.") from error
    if len(numbers) % 2:
        raise DataError(f"{path} has {len(numbers)} numbers, expected two a line: it is cut off. Copy it again.")
    return numbers[::2], numbers[1::2]


def _walked(file: RecordFile) -> np.ndarray:
    offsets, offset = [], 0
    while offset < len(file.content):
        offsets.append(offset)
        offset = file.following(offset)
    return np.array(offsets, np.int64)
