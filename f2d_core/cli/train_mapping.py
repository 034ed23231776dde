"""`train-mapping`: train a mapping network from a TOML file, on one device or, with torchrun, on many.

    python -m f2d_core train-mapping --defaults > train.toml
    python -m f2d_core train-mapping train.toml --set model=sd14.safetensors --set data=cache
    torchrun --nproc-per-node 8 -m f2d_core train-mapping train.toml

Ctrl-C and SIGTERM stop after the current micro-batch and save; the same command goes on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..backends.diffusers_training import load_training_parts
from ..data.cache import Cache
from ..errors import SettingsError
from ..files import write_atomically
from ..train import Report, TrainConfig, TrainResult, config_from, read_toml, run_folder, to_toml, train, with_overrides
from ..train.distributed import World, joined_world, local_rank
from .folders import shared_tokenizer
from .progress import LINE_EVERY_S, REDRAW_S, announce

CONFIG_FILE = "config.toml"
INTERRUPTED = 130


@dataclass(frozen=True)
class Places:
    """What the file says besides the settings of f2d_core.train. Empty: the default."""

    model: str = ""  # a diffusers folder or a checkpoint file
    tokenizer: str = ""  # a folder; needed for a checkpoint file (default: ComfyUI's, found by COMFYUI_PATH)
    data: str = ""  # a cache made by `prepare`
    runs: str = "runs"
    name: str = "mapping"  # of the run: its folder is runs/name
    device: str = ""  # cpu, cuda, … (default: the best there is)


def run(arguments: argparse.Namespace) -> int:
    if arguments.defaults:
        print(to_toml({**asdict(Places()), **asdict(TrainConfig())}), end="")
        return 0
    places, config = read_settings(arguments.config, arguments.set)
    device = _device(places)
    with joined_world(device) as world, _stop_signals() as stop:
        result = _train(places, config, device, world, stop)
    if world.writes:
        _conclude(result)
    return 0 if result.finished else INTERRUPTED


def read_settings(file: Path | None, overrides: list[str]) -> tuple[Places, TrainConfig]:
    """The settings of `file` with "key=value" pairs on top. Raises SettingsError."""
    values = with_overrides(read_toml(file) if file is not None else {}, overrides)
    names = asdict(Places())
    places = Places(**{name: str(values.pop(name)) for name in names if name in values})
    for name in ("model", "data"):
        if not getattr(places, name):
            raise SettingsError(
                f'The setting {name} is missing; expected a path. Add {name} = "…" to the file or --set {name}=….'
            )
    return places, config_from(values)


def _train(
    places: Places, config: TrainConfig, device: torch.device, world: World, stop: Callable[[], bool]
) -> TrainResult:
    folder = run_folder(places.runs, places.name)
    data = Cache.open(places.data)
    if world.writes:
        announce(f"Loading {places.model}")
    parts = load_training_parts(
        places.model,
        tokenizer=places.tokenizer or (shared_tokenizer() if Path(places.model).is_file() else None),
        device=device,
        precision=config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    _keep_settings(folder, {**asdict(places), **asdict(config)}, world)
    progress = StatusLine() if world.writes else None
    return train(parts, data, config, folder, progress=progress, should_stop=stop, world=world)


def _keep_settings(folder: Path, values: Mapping[str, Any], world: World) -> None:
    """The resolved settings beside the run, as a file that this command takes; those it was begun with stay."""
    path = folder / CONFIG_FILE
    if world.writes and not path.exists():
        write_atomically(path, lambda temporary: temporary.write_text(to_toml(values), encoding="utf-8"))


def _device(places: Places) -> torch.device:
    device = torch.device(places.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda":
        device = torch.device("cuda", device.index if device.index is not None else local_rank())
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32 in the text encoder, the only fp32 part that costs
    return device


def _conclude(result: TrainResult) -> None:
    print(f"{result.mapping}: step {result.step}")
    if not result.finished:
        announce("Stopped and saved; the same command goes on")


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
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
    """One line of figures on stderr: redrawn on a terminal, now and then a new one elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._shown_at = -LINE_EVERY_S

    def __call__(self, report: Report) -> None:
        drawing = sys.stderr.isatty()
        last = report.result.step >= report.steps
        if not last and self._clock() - self._shown_at < (REDRAW_S if drawing else LINE_EVERY_S):
            return
        self._shown_at = self._clock()
        start, end = ("\r", "\033[K" + ("\n" if last else "")) if drawing else ("", "\n")
        sys.stderr.write(f"{start}{status(report)}{end}")
        sys.stderr.flush()


def status(report: Report) -> str:
    """The figures of a step in words."""
    result = report.result
    checked = f", validation {report.validation['loss']:.4f}" if report.validation else ""
    return (
        f"step {result.step}/{report.steps}: loss {result.loss:.4f} (face {result.foreground:.4f}, "
        f"rest {result.background:.4f}{checked}), {report.images_per_s:.1f} images/s, "
        f"{_duration(report.seconds_left)} left"
    )


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{hours} h"
