"""Who is told how far the trainings of this world are."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..cli.progress import note
from ..duration import duration
from ..ports import Progress
from ..train.run import Report, Watcher

Tell = Callable[[str], Progress]  # the title of a piece of work -> who is told how far it is
_EVERY_S = 20.0


class Lines:
    """A `Tell` that writes a line now and then, with the time left: several processes may write at once."""

    def __call__(self, title: str) -> Progress:
        told, first = 0.0, None

        def progress(done: int, total: int) -> None:
            nonlocal told, first
            now = time.monotonic()
            first = first or (now, done)  # a run that goes on does not begin at 0
            if now - told < _EVERY_S and done < total:
                return
            told, (began, before) = now, first
            left = duration((now - began) / (done - before) * (total - done)) if done > before else "unknown time"
            note(f"{title}: {done} of {total}, {left} left")

        return progress


def silent(_title: str) -> Progress:
    """A `Tell` that says nothing."""
    return lambda done, total: None


def watching(progress: Progress) -> Watcher:
    """A run's watcher that hands the count of steps on."""

    def report(told: Report) -> None:
        progress(told.result.step, told.steps)

    return Watcher(progress=report)
