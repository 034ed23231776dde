"""Writing a cache so that it can be stopped at any moment, by kill -9 or a full disk, and gone on with.

Photos come in batches. The rows of a batch go to the arrays and to the disk first; then one line in the journal
counts the batch. What no line counts is written again by the next run. At the end the manifest replaces the old one
in a single step, the rows that it no longer names are overwritten with zeros, and the journal goes. A finished cache
that gets more photos stays as it was for its readers until then: rows that its manifest names are never written to.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from ..errors import CacheError, OutputError
from ..files import write_atomically
from .cache import (
    ARRAYS,
    JOURNAL,
    MANIFEST,
    Made,
    Manifest,
    Photo,
    check_made,
    entry_of,
    head_of,
    made_from,
    photo_from,
    read_manifest,
)

_HEADER_BYTES = 256
_NPY_MAGIC = b"\x93NUMPY\x01\x00"  # format version 1.0 (numpy.lib.format)


class CacheWriter:
    """A cache being made. `known` -> `start` -> `add` … -> `finish`; a context manager that closes the files.

    Raises CacheError for a folder that holds something else or a cache made otherwise, OutputError when writing fails.
    """

    def __init__(self, folder: str | Path, made: Made):
        self.folder = Path(folder)
        self._made = made
        self._manifest = read_manifest(self.folder)
        journal = _read_journal(self.folder / JOURNAL)
        if self._manifest is None and journal is None:
            _require_empty(self.folder)
        for before in filter(None, (self._manifest and self._manifest.made, journal and journal[0])):
            check_made(self.folder, before, made.settings, made.models)
        finished = (*self._manifest.photos, *self._manifest.rejected) if self._manifest else ()
        self.known: dict[str, Photo] = {photo.name: photo for photo in (*finished, *(journal[1] if journal else ()))}
        self.unfinished = journal is not None or self._manifest is None
        self._live: dict[str, Photo] = {}
        self._rows: Iterator[int] = count()
        self._journal: BinaryIO | None = None
        self._arrays: dict[str, _ArrayFile] = {}

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._journal, *self._arrays.values()):
            if file is not None:
                file.close()

    def start(self, live: Mapping[str, Photo]) -> None:
        """Begin or go on with a run. live: those of `known` that are still right; all others are forgotten."""
        self._live = dict(live)
        finished = {photo.name: photo for photo in self._finished}
        fresh = [photo for photo in live.values() if finished.get(photo.name) != photo]
        head = {**head_of(self._made), **self._made.as_dict()}
        lines = [json.dumps(head), json.dumps([*map(entry_of, fresh)])]
        path = self.folder / JOURNAL
        write_atomically(path, lambda part: part.write_text("\n".join(lines) + "\n", encoding="utf-8"))
        with self._writing():
            _remove_leftovers(self.folder)
            self._journal = open(path, "ab", buffering=0)
        taken = {photo.row for photo in (*finished.values(), *live.values())}
        self._rows = (row for row in count() if row not in taken)

    def add(self, photos: Sequence[Photo], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a batch and count it. arrays: name -> (kept photos of `photos`, …); rejected ones have a reason."""
        placed = [photo if photo.reason else replace(photo, row=next(self._rows)) for photo in photos]
        rows = [photo.row for photo in placed if photo.kept]
        with self._writing():
            if rows:
                for name, values in arrays.items():
                    self._array(name, values).write(rows, values)
            line = json.dumps([*map(entry_of, placed)]) + "\n"
            _write_all(self._journal, line.encode())
            os.fsync(self._journal.fileno())
        self._live.update((photo.name, photo) for photo in placed)

    @property
    def photos(self) -> list[Photo]:
        """All that count, kept and rejected, in the order of their names."""
        return sorted(self._live.values(), key=lambda photo: photo.name)

    def finish(self, captions: Mapping[str, str]) -> None:
        """Make the cache readable: write the manifest and clear up. captions: of every kept photo."""
        kept = tuple(photo for photo in self.photos if photo.kept)
        manifest = Manifest(self._made, kept, tuple(p for p in self.photos if not p.kept), captions)
        named = {photo.row for photo in kept}
        rows, still_named = 1 + max(named), 1 + max((photo.row for photo in self._finished), default=-1)
        arrays = [_ArrayFile(path) for name in ARRAYS if (path := self.folder / f"{name}.npy").exists()]
        try:
            with self._writing():
                for array in arrays:
                    array.set_rows(max(rows, still_named))
            text = manifest.to_json()
            write_atomically(self.folder / MANIFEST, lambda part: part.write_text(text, encoding="utf-8"))
            with self._writing():
                for array in arrays:
                    array.clear(sorted(set(range(rows)) - named))
                    array.set_rows(rows)
                self._journal.close()
                (self.folder / JOURNAL).unlink()
        finally:
            for array in arrays:
                array.close()

    @property
    def _finished(self) -> tuple[Photo, ...]:
        return (*self._manifest.photos, *self._manifest.rejected) if self._manifest else ()

    def _array(self, name: str, values: np.ndarray) -> _ArrayFile:
        if name not in self._arrays:
            path = self.folder / f"{name}.npy"
            self._arrays[name] = _ArrayFile(path, np.dtype(ARRAYS[name]), values.shape[1:])
        return self._arrays[name]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Cannot write the cache {self.folder}: {error.strerror or error}. What is done so far is kept: "
                "make room, or mend the folder, and run `prepare` again."
            ) from error


class _ArrayFile:
    """A .npy file that grows. Its header, of a fixed size, names the rows as of `set_rows`."""

    def __init__(self, path: Path, dtype: np.dtype | None = None, shape: tuple[int, ...] = ()):
        """Open a file; with a dtype and the shape of a row make it if need be. Raises CacheError, OSError."""
        self._path = path
        if dtype is None or path.exists():
            self._file = open(path, "r+b", buffering=0)
            self._dtype, self._shape = self._read_header()
            if dtype is not None and (self._dtype, self._shape) != (dtype, shape):
                self._file.close()
                raise CacheError(
                    f"{path} has rows of {self._dtype} {self._shape}, expected {dtype} {shape}. "
                    "Prepare the photos into another folder."
                )
        else:
            write_atomically(path, lambda part: part.write_bytes(_npy_header(dtype, (0, *shape))))
            self._file, self._dtype, self._shape = open(path, "r+b", buffering=0), dtype, shape
        self._row_bytes = self._dtype.itemsize * int(np.prod(self._shape))

    def write(self, rows: Sequence[int], values: np.ndarray) -> None:
        """values: one for each row. On the disk when this returns."""
        for row, value in zip(rows, values, strict=True):
            self._file.seek(_HEADER_BYTES + row * self._row_bytes)
            _write_all(self._file, np.ascontiguousarray(value, self._dtype).tobytes())
        os.fsync(self._file.fileno())

    def clear(self, rows: Sequence[int]) -> None:
        """Overwrite rows with zeros, so that nothing of a removed photo is left."""
        empty = np.zeros(self._shape, self._dtype)
        self.write(rows, [empty] * len(rows))

    def set_rows(self, rows: int) -> None:
        """Make the file that long, and say so in its header; what lies behind is cut off."""
        self._file.truncate(_HEADER_BYTES + rows * self._row_bytes)
        self._file.seek(0)
        _write_all(self._file, _npy_header(self._dtype, (rows, *self._shape)))
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _read_header(self) -> tuple[np.dtype, tuple[int, ...]]:
        try:
            if np.lib.format.read_magic(self._file) != (1, 0):
                raise ValueError("another version of the .npy format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(self._file)
        except (ValueError, EOFError) as error:
            self._file.close()
            raise CacheError(
                f"{self._path} is damaged ({error!s:.100}): expected an array of the cache. "
                "Delete the folder and prepare the photos again."
            ) from error
        return dtype, shape[1:]


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file, always of the same size, so that it can be replaced when the array has grown."""
    text = repr({"descr": dtype.str, "fortran_order": False, "shape": shape}).encode("latin1")
    room = _HEADER_BYTES - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + struct.pack("<H", room) + text.ljust(room - 1) + b"\n"


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take a part of it only, when the disk gets full: the rest then raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read_journal(path: Path) -> tuple[Made, list[Photo]] | None:
    """The head and all counted photos; None where there is no journal. Raises CacheError.

    A last line that was cut off in mid-writing is not counted.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(f"Cannot read {path}: {error.strerror}. Check the folder.") from error
    try:
        made = made_from(json.loads(lines[0]), path)
        return made, [photo_from(entry) for line in lines[1:] for entry in json.loads(line)]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CacheError(
            f"{path} is damaged ({error!r:.100}): expected the journal of a cache in the making. "
            "Delete the folder and prepare the photos again."
        ) from error


def _require_empty(folder: Path) -> None:
    """Raise CacheError for a folder with files of somebody's in it."""
    if folder.exists() and not folder.is_dir():
        raise CacheError(f"{folder} is a file: expected a folder for the cache. Choose another name.")
    strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    if strangers:
        raise CacheError(
            f"{folder} holds other files ({', '.join(sorted(strangers)[:3])} …) and no cache: expected a new or an "
            "empty folder. Choose another one."
        )


def _remove_leftovers(folder: Path) -> None:
    """Temporary files of a run that was killed while it wrote them."""
    for path in folder.glob(".*.part"):
        path.unlink()
