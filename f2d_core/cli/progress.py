"""Progress on stderr: a bar on a terminal, now and then a line elsewhere, nothing at all for what is quick."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..duration import duration

QUIET_S = 1.0  # nothing is shown before
REDRAW_S = 0.1
LINE_EVERY_S = 10.0  # where output is a file
_WIDTH = 24


class Bar:
    """`ports.Progress`: called with (done, total) after every piece of work."""

    def __init__(self, label: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._label = label
        self._stream = stream or sys.stderr
        self._clock = clock
        self._start = clock()
        self._shown_at: float | None = None

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        drawing = self._stream.isatty()
        last = self._start if self._shown_at is None else self._shown_at
        due = QUIET_S if self._shown_at is None else REDRAW_S if drawing else LINE_EVERY_S
        finished = done >= total
        if now - last < due and not (finished and self._shown_at is not None):
            return
        self._shown_at = now
        self._write(self._line(done, total, now - self._start), drawing, finished)

    def _line(self, done: int, total: int, elapsed_s: float) -> str:
        filled = _WIDTH * done // max(total, 1)
        unfinished = 0 < done < total
        time = f"about {duration(elapsed_s / done * (total - done))} left" if unfinished else duration(elapsed_s)
        return f"{self._label} {'█' * filled}{'·' * (_WIDTH - filled)} {done}/{total}, {time}"

    def _write(self, line: str, drawing: bool, finished: bool) -> None:
        before, after = ("\r", "\033[K") if drawing else ("", "")
        end = "\n" if finished or not drawing else ""
        self._stream.write(f"{before}{_writable(line, self._stream)}{after}{end}")
        self._stream.flush()


def announce(text: str) -> None:
    """Say what is going on, before something that may take a while and cannot be counted."""
    note(f"{text} …")


def note(text: str) -> None:
    """Say something beside the results, which go to stdout."""
    print(text if _takes(text, sys.stderr) else text.replace("…", "..."), file=sys.stderr, flush=True)


def _writable(line: str, stream: TextIO) -> str:
    """With plain signs where the terminal's encoding has no blocks."""
    return line if _takes("█·", stream) else line.replace("█", "#").replace("·", "-")


def _takes(signs: str, stream: TextIO) -> bool:
    try:
        signs.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
