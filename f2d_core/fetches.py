"""Downloads that somebody asked for with a click: each in a thread of its own, to be watched, stopped, gone on with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .catalogue import PUBLISHED, Published
from .errors import DownloadError, F2DError, SettingsError
from .fetch import Fetched, address_of, fetch
from .published import check_file

log = logging.getLogger("face2diffusion")

RUNNING, STOPPING, DONE, STOPPED, FAILED = "running", "stopping", "done", "stopped", "failed"
_MOST_MIRROR = 1000  # characters


@dataclass(frozen=True)
class State:
    """done, total: bytes; total 0 before the first came. error: one line. sha256, published: as Fetched, when done."""

    kind: str
    file: str
    state: str
    done: int = 0
    total: int = 0
    error: str = ""
    sha256: str = ""
    published: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _StoppedError(Exception):
    """The user does not want it any more; what has come stays, to go on with."""


class Fetches:
    """Fetches of catalogue entries, one at a time of each file. All methods may be called from any thread."""

    def __init__(self, run: Callable[..., Fetched] = fetch):
        self._run = run
        self._lock = threading.Lock()
        self._states: dict[str, State] = {}

    def start(self, kind: str, folder: Path, mirror: str = "") -> State:
        """Begin, or say how it is going where it has begun. Raises SettingsError, DownloadError."""
        entry = _entry(kind)
        address_of(entry, _checked_mirror(mirror))
        with self._lock:
            if self._busy(entry.file):
                return self._states[kind] if kind in self._states else self._refuse(entry)
            self._states[kind] = State(kind, entry.file, RUNNING)
        threading.Thread(
            target=self._fetch, args=(entry, folder, mirror), name=f"f2d-fetch-{kind}", daemon=True
        ).start()
        return self._states[kind]

    def _busy(self, file: str) -> bool:
        return any(state.file == file and state.state in (RUNNING, STOPPING) for state in self._states.values())

    def _refuse(self, entry: Published) -> State:
        raise DownloadError(f"Another {entry.file} is being fetched. Wait until it is done.")

    def stop(self, kind: str) -> State | None:
        """Stop at the next block; None where nothing of that kind is known."""
        with self._lock:
            state = self._states.get(kind)
            if state is not None and state.state == RUNNING:
                state = self._states[kind] = replace(state, state=STOPPING)
        return state

    def states(self) -> list[State]:
        with self._lock:
            return list(self._states.values())

    def _fetch(self, entry: Published, folder: Path, mirror: str) -> None:
        try:
            found = self._run(
                entry,
                folder,
                lambda path: check_file(entry, path),
                mirror=mirror,
                progress=lambda done, total: self._progress(entry.kind, done, total),
            )
        except _StoppedError:
            self._set(entry.kind, state=STOPPED)
        except F2DError as error:
            self._set(entry.kind, state=FAILED, error=str(error))
        except Exception as error:
            log.exception("%s could not be fetched", entry.file)
            self._set(entry.kind, state=FAILED, error=f"{type(error).__name__}. The log says more.")
        else:
            self._set(entry.kind, state=DONE, sha256=found.sha256, published=found.published)

    def _progress(self, kind: str, done: int, total: int) -> None:
        self._set(kind, done=done, total=total)
        if self._states[kind].state == STOPPING:
            raise _StoppedError

    def _set(self, kind: str, **values: Any) -> None:
        with self._lock:
            self._states[kind] = replace(self._states[kind], **values)


def _entry(kind: str) -> Published:
    if kind not in PUBLISHED:
        raise SettingsError(f'There is no published file "{kind[:60]}"; expected one of: {", ".join(PUBLISHED)}.')
    return PUBLISHED[kind]


def _checked_mirror(mirror: str) -> str:
    """Only addresses of web servers: others would read files of this machine."""
    try:
        parts = urlsplit(mirror)
        fits = not mirror or (
            parts.scheme in ("http", "https") and bool(parts.hostname) and len(mirror) <= _MOST_MIRROR
        )
    except ValueError:
        fits = False
    if not fits:
        raise SettingsError(
            f'The mirror "{mirror[:60]}" is no web address; expected one such as https://example.org/weights.'
        )
    return mirror
