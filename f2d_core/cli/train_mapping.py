"""`train-mapping`: train a mapping network from a TOML file, on one device or, with torchrun, on many.

    python -m f2d_core train-mapping --defaults > train.toml
    python -m f2d_core train-mapping train.toml --set model=sd14.safetensors --set data=cache
    torchrun --nproc-per-node 8 -m f2d_core train-mapping train.toml

Ctrl-C and SIGTERM stop after the current micro-batch and save; the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..backends.diffusers_training import load_training_parts
from ..constants import FEATURES_MSID
from ..data.cache import Cache, Triplets
from ..errors import SettingsError
from ..train import Report, TrainConfig, TrainResult, config_from, read_toml, run_folder, to_toml, train, with_overrides
from ..train.distributed import World, joined_world
from ..train.presets import PRESETS, require_data, with_preset
from .folders import shared_tokenizer
from .progress import announce
from .training import INTERRUPTED, StatusLine, chosen_device, keep_settings, pace, stop_signals

_PARTS = {"foreground": "face", "background": "rest", "edited": "edited"}  # figures of a step, as the line calls them


@dataclass(frozen=True)
class Places:
    """What the file says besides the settings of f2d_core.train. Empty: the default."""

    model: str = ""  # a diffusers folder or a checkpoint file
    tokenizer: str = ""  # a folder; needed for a checkpoint file (default: ComfyUI's, found by COMFYUI_PATH)
    data: str = ""  # a cache made by `prepare`
    triplets: str = ""  # one made by `prepare --triplets` (default: none)
    preset: str = ""  # settings to begin with: face2diffusion (the default), dreamidentity, dreamidentity+cgdr
    runs: str = "runs"
    name: str = "mapping"  # of the run: its folder is runs/name
    device: str = ""  # cpu, cuda, … (default: the best there is)


def run(arguments: argparse.Namespace) -> int:
    if arguments.defaults:
        places, config = _settings(arguments.config, arguments.set)
        print(to_toml({**asdict(places), **asdict(config)}), end="")
        return 0
    places, config = read_settings(arguments.config, arguments.set)
    device = chosen_device(places.device)
    with joined_world(device) as world, stop_signals() as stop:
        result = _train(places, config, device, world, stop)
    if world.writes:
        _conclude(result)
    return 0 if result.finished else INTERRUPTED


def read_settings(file: Path | None, overrides: list[str]) -> tuple[Places, TrainConfig]:
    """The settings of `file` with "key=value" pairs on top. Raises SettingsError."""
    places, config = _settings(file, overrides)
    needed = ("model", "data", "triplets") if places.preset and PRESETS[places.preset].triplets else ("model", "data")
    for name in needed:
        if not getattr(places, name):
            raise SettingsError(
                f'The setting {name} is missing; expected a path. Add {name} = "…" to the file or --set {name}=….'
            )
    return places, config


def _settings(file: Path | None, overrides: list[str]) -> tuple[Places, TrainConfig]:
    """The same, where nothing need be there."""
    values = with_overrides(read_toml(file) if file is not None else {}, overrides)
    names = asdict(Places())
    places = Places(**{name: str(values.pop(name)) for name in names if name in values})
    return places, config_from(with_preset(places.preset, values), names)


def _train(
    places: Places, config: TrainConfig, device: torch.device, world: World, stop: Callable[[], bool]
) -> TrainResult:
    folder = run_folder(places.runs, places.name)
    data, triplets = Cache.open(places.data), Triplets.open(places.triplets) if places.triplets else None
    require_data(places.preset, data.facts.get("features", FEATURES_MSID), triplets is not None)
    if world.writes:
        announce(f"Loading {places.model}")
    parts = load_training_parts(
        places.model,
        tokenizer=places.tokenizer or (shared_tokenizer() if Path(places.model).is_file() else None),
        device=device,
        precision=config.precision,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    keep_settings(folder, {**asdict(places), **asdict(config)}, world)
    progress = StatusLine(status) if world.writes else None
    return train(parts, data, config, folder, progress=progress, should_stop=stop, world=world, triplets=triplets)


def _conclude(result: TrainResult) -> None:
    print(f"{result.mapping}: step {result.step}")
    if not result.finished:
        announce("Stopped and saved; the same command goes on")


def status(report: Report) -> str:
    """The figures of a step in words."""
    result, figures = report.result, report.result.figures
    # A step without photos or without triplets does not have all of them.
    parts = [f"{word} {figures[name]:.4f}" for name, word in _PARTS.items() if name in figures]
    parts += [f"validation {report.validation['loss']:.4f}"] if report.validation else []
    return f"step {result.step}/{report.steps}: loss {result.loss:.4f} ({', '.join(parts)}), {pace(report)}"
