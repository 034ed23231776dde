"""What all commands that train share: where they run, how they are stopped, what they show."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..duration import duration
from ..files import write_atomically
from ..train import Report, to_toml
from ..train.distributed import World, local_rank
from ..train.run import begun
from .device import usable_device
from .progress import LINE_EVERY_S, REDRAW_S

CONFIG_FILE = "config.toml"
INTERRUPTED = 130


def keep_settings(folder: Path, values: Mapping[str, Any], world: World) -> None:
    """The resolved settings beside the run, as a file that this command takes; those it was begun with stay."""
    path = folder / CONFIG_FILE
    if world.writes and not (path.exists() and begun(folder)):
        write_atomically(path, lambda temporary: temporary.write_text(to_toml(values), encoding="utf-8"))


def chosen_device(name: str) -> torch.device:
    """The device of that name, by default the best there is; with several GPUs the one of this process.

    Raises SettingsError for one that cannot be used here.
    """
    device = usable_device(name)
    if device.type == "cuda":
        device = torch.device("cuda", device.index if device.index is not None else local_rank())
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32 where fp32 is multiplied
    return device


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A question that is answered with yes after Ctrl-C or SIGTERM. A second Ctrl-C stops at once."""
    asked = []

    def ask(number: int, _frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StatusLine:
    """One line of figures on stderr: redrawn on a terminal, now and then a new one elsewhere. status: puts them in
    words."""

    def __init__(self, status: Callable[[Report], str], clock: Callable[[], float] = time.monotonic):
        self._status, self._clock = status, clock
        self._shown_at = -LINE_EVERY_S

    def __call__(self, report: Report) -> None:
        drawing = sys.stderr.isatty()
        last = report.result.step >= report.steps
        if not last and self._clock() - self._shown_at < (REDRAW_S if drawing else LINE_EVERY_S):
            return
        self._shown_at = self._clock()
        start, end = ("\r", "\033[K" + ("\n" if last else "")) if drawing else ("", "\n")
        sys.stderr.write(f"{start}{self._status(report)}{end}")
        sys.stderr.flush()


def pace(report: Report) -> str:
    """Speed and time left in words."""
    return f"{report.images_per_s:.1f} images/s, {duration(report.seconds_left)} left"
