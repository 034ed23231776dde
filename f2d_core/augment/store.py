"""The folder of an editing data set, written so that it can be stopped at any moment, and by several processes at once.

    augment.json        what every picture was made with, the prompts, the names
    faces/, edited/     the pictures
    work/               while the set is in the making: a journal for each process, one line per picture or score
    pictures.jsonl      when all is done: every picture with its scores, its rank and whether it is kept
    kept.jsonl          the triplets to train on: face, editing prompt with S*, edited picture
    report.png          the best and the worst of every prompt

A picture is there when its file is whole and a journal has its line; what has none is made again, to the same bytes.
The process that finds everything done writes the last three files and removes `work`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..data.settings import differences
from ..errors import CacheError, OutputError
from ..files import write_atomically
from .plan import Shard

FORMAT, VERSION = "f2d-editing-data", 1
HEAD, WORK = "augment.json", "work"
PICTURES, KEPT, REPORT = "pictures.jsonl", "kept.jsonl", "report.png"
PATH, SCORED_BY = "path", "scored_by"
_SCORES = ("identity", "text", "similarity", "like")
_OF_THE_CHOICE = (*_SCORES, SCORED_BY, "rank", "kept", "left_out")
Record = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What all pictures of a folder have in common. models: what made them and found their faces. prompts: may grow."""

    settings: Mapping[str, Any]
    models: Mapping[str, str]
    prompts: Sequence[str]
    others: Mapping[str, Any]  # what may change: names, networks of the scores, …

    def to_json(self, finished: bool) -> str:
        kind = {"format": FORMAT, "version": VERSION, "finished": finished}
        content = {**kind, "settings": self.settings, "models": self.models, "prompts": self.prompts, **self.others}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


class Store:
    """What is known of the pictures in a folder, and where this process writes down more."""

    def __init__(self, folder: str | Path, made: Made, shard: Shard):
        """Open a folder, or begin one. Raises CacheError for a strange one or one made otherwise, OutputError."""
        self.folder = Path(folder)
        self._shard = shard
        self._journal: BinaryIO | None = None
        self._made = made
        if _check_head(self.folder, made) != made.to_json(finished=True):
            self._write_head(finished=False)
        self._read()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def picture(self, path: str) -> Record | None:
        """What is known of a picture; None where it is still to be made."""
        record = self._pictures.get(path)
        return record if record is not None and ("rejected" in record or (self.folder / path).is_file()) else None

    def score(self, path: str, by: str) -> Record | None:
        """Its scores by the networks `by`; None where it is still to be scored."""
        return self._scores.get((path, by))

    def add(self, record: Record) -> None:
        """Write down a picture that is there, or a score. On the disk when this returns. Raises OutputError."""
        with self._writing():
            if self._journal is None:
                self._work.mkdir(parents=True, exist_ok=True)
                self._journal = _opened(self._work / f"{self._shard.index}_of_{self._shard.count}.jsonl")
            _write_all(self._journal, _line(record))
            os.fsync(self._journal.fileno())
        self._take(record)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process is in here; then read again what others have done. For `finish`, at the end."""
        with _locked(self.folder):
            self._read()
            yield

    @property
    def finished(self) -> bool:
        """Whether the lists in the folder are those of all that is known, and made as is wanted now."""
        same = _check_head(self.folder, self._made) == self._made.to_json(finished=True)
        return same and not self._work.is_dir() and all((self.folder / n).is_file() for n in (PICTURES, KEPT, REPORT))

    def finish(self, pictures: Iterable[Record], kept: Iterable[Record]) -> None:
        """Write the lists, say that all is done, then clear up: the report must be there by now."""
        for name, records in ((PICTURES, pictures), (KEPT, kept)):
            content = b"".join(map(_line, records))
            write_atomically(self.folder / name, lambda part, content=content: part.write_bytes(content))
        self._write_head(finished=True)
        with self._writing():
            for rest in self.folder.rglob(".*.part"):  # of a process that was killed while it wrote
                rest.unlink(missing_ok=True)
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            shutil.rmtree(self._work, ignore_errors=True)

    @property
    def known(self) -> Mapping[str, Record]:
        """All pictures, whether they are in the plan or not."""
        return self._pictures

    @property
    def _work(self) -> Path:
        return self.folder / WORK

    def _write_head(self, finished: bool) -> None:
        text = self._made.to_json(finished)
        write_atomically(self.folder / HEAD, lambda part: part.write_text(text, encoding="utf-8"))

    def _read(self) -> None:
        self._pictures: dict[str, Record] = {}
        self._scores: dict[tuple[str, str], Record] = {}
        # The journals first: another process may be about to put all into the list and to remove them.
        journals = [_read_lines(path) for path in sorted(self._work.glob("*.jsonl"))]
        for records in (_read_lines(self.folder / PICTURES), *journals):
            for record in records:
                self._take(record)

    def _take(self, record: Record) -> None:
        scores = {name: record[name] for name in _SCORES if name in record}
        if SCORED_BY in record:
            self._scores[record[PATH], record[SCORED_BY]] = scores
        if "kind" in record:
            self._pictures[record[PATH]] = {k: v for k, v in record.items() if k not in _OF_THE_CHOICE}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Cannot write to {self.folder}: {error.strerror or error}. What is done so far is kept: make room, or "
                "mend the folder, and run it again."
            ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; a killed one lets go. Without locks (Windows, some network drives) all may go on."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take a part of it only, when the disk gets full: the rest then raises OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _opened(path: Path) -> BinaryIO:
    """A journal to go on with. A line that was cut off in mid-writing gets an end, so that the next one is whole."""
    journal = open(path, "ab", buffering=0)
    if journal.tell() and not path.read_bytes().endswith(b"\n"):
        journal.write(b"\n")
    return journal


def _read_lines(path: Path) -> list[Record]:
    """What the lines of a file say; one that was cut off in mid-writing says nothing. Raises CacheError."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"Cannot read {path}: {error.strerror or error}. Check the folder.") from error
    return [record for record in map(_parsed, lines) if record is not None]


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get(PATH), str) else None


def _check_head(folder: Path, made: Made) -> str | None:
    """The text of augment.json; None where the folder is new. Raises CacheError."""
    path = folder / HEAD
    try:
        text = path.read_text(encoding="utf-8")
        before = json.loads(text)
        found = before["format"], before["version"]
        settings, models, prompts = (before[name] for name in ("settings", "models", "prompts"))
        if found != (FORMAT, VERSION) or not isinstance(settings, dict) or not isinstance(models, dict):
            raise ValueError(f"format {found}")
    except (FileNotFoundError, NotADirectoryError):
        _require_empty(folder)
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path} cannot be read ({error!r:.100}): expected the settings of an editing data set, version {VERSION}. "
            "Choose another folder."
        ) from error
    lines = differences(settings, made.settings) + differences(models, made.models)
    if list(made.prompts[: len(prompts)]) != prompts:
        lines.append(
            f"prompts: {'; '.join(prompts)}, now {'; '.join(made.prompts)} (new ones may only be added at the end)"
        )
    if lines:
        raise CacheError(
            f"The editing data in {folder} were made otherwise ({'; '.join(lines)}): expected the same settings. Set "
            "them back, or choose another folder."
        )
    return text


def _require_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CacheError(f"{folder} is a file: expected a folder for the data set. Choose another name.")
    strangers = (
        sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []
    )
    if strangers:
        raise CacheError(
            f"{folder} holds other files ({', '.join(strangers[:3])} …) and no editing data: expected a new or an "
            "empty folder. Choose another one."
        )
