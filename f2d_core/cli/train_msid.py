"""`train-msid`: train an identity encoder from a TOML file, on one device or, with torchrun, on many.

    python -m f2d_core train-msid --defaults > msid.toml
    python -m f2d_core train-msid msid.toml --set data=ms1m --set 'pairs="lfw.bin, agedb_30.bin"'
    torchrun --nproc-per-node 8 -m f2d_core train-msid msid.toml

Ctrl-C and SIGTERM stop after the current micro-batch and save; the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..data.identities import open_identities
from ..data.pairs import read_pairs
from ..errors import SettingsError
from ..evaluate.verification_report import ACCURACY, unique_names, verify
from ..msid import MSIDEncoder
from ..train import MSIDResult, MSIDTrainConfig, Report, read_toml, run_folder, to_toml, train_msid, with_overrides
from ..train.distributed import World, joined_world
from ..train.msid_run import Verify
from ..train.settings import settings_from
from .progress import announce
from .training import INTERRUPTED, StatusLine, chosen_device, keep_settings, pace, stop_signals

PEOPLE = "people"  # what figures call the people of `folder`


@dataclass(frozen=True)
class Places:
    """What the file says besides the settings of f2d_core.train. Empty: none, or the default."""

    data: str = ""  # a folder per person, a .rec with its .idx, or .tar shards
    pairs: str = ""  # .bin pair sets to verify on, separated by commas
    folder: str = ""  # other people, a folder each: the pair AUC of every level
    runs: str = "runs"
    name: str = "msid"  # of the run: its folder is runs/name
    device: str = ""  # cpu, cuda, … (default: the best there is)


def run(arguments: argparse.Namespace) -> int:
    if arguments.defaults:
        print(to_toml({**asdict(Places()), **asdict(MSIDTrainConfig())}), end="")
        return 0
    places, config = read_settings(arguments.config, arguments.set)
    device = chosen_device(places.device)
    with joined_world(device) as world, stop_signals() as stop:
        result = _train(places, config, device, world, stop)
    if world.writes:
        _conclude(result)
    return 0 if result.finished else INTERRUPTED


def read_settings(file: Path | None, overrides: list[str]) -> tuple[Places, MSIDTrainConfig]:
    """The settings of `file` with "key=value" pairs on top. Raises SettingsError."""
    values = with_overrides(read_toml(file) if file is not None else {}, overrides)
    names = asdict(Places())
    places = Places(**{name: str(values.pop(name)) for name in names if name in values})
    if not places.data:
        raise SettingsError('The setting data is missing; expected a path. Add data = "…" to the file or --set data=….')
    return places, settings_from(MSIDTrainConfig, values, names)


def _train(
    places: Places, config: MSIDTrainConfig, device: torch.device, world: World, stop: Callable[[], bool]
) -> MSIDResult:
    folder = run_folder(places.runs, places.name)
    if world.writes:
        announce(f"Opening {places.data}")
    data = open_identities(places.data, config.image_size, config.resize)
    keep_settings(folder, {**asdict(places), **asdict(config)}, world)
    return train_msid(
        data,
        config,
        folder,
        device=device,
        verify=_verification(places, config, world),
        progress=StatusLine(status) if world.writes else None,
        should_stop=stop,
        world=world,
    )


def _verification(places: Places, config: MSIDTrainConfig, world: World) -> Verify | None:
    """What is measured at the end of an epoch; the sets are read now, so that a mistake is told at once."""
    files = [Path(file.strip()) for file in places.pairs.split(",") if file.strip()]
    if not world.writes or not (files or places.folder):
        return None
    names = unique_names(files, taken=[PEOPLE])
    pairs = {names[file]: read_pairs(file, config.image_size) for file in files}
    people = {PEOPLE: open_identities(places.folder, config.image_size, config.resize)} if places.folder else {}

    def measured(encoder: MSIDEncoder, folder: Path) -> dict[str, float]:
        found = verify(encoder, pairs, people)
        found.write(folder)
        return found.figures()

    return measured


def status(report: Report) -> str:
    """The figures of a step in words."""
    result = report.result
    found = report.validation or {}
    shown = {name: value for name, value in found.items() if name.endswith(ACCURACY)} or found
    checked = "".join(f", {name} {value:.4f}" for name, value in shown.items())
    return (
        f"step {result.step}/{report.steps}: loss {result.loss:.4f}, cosine {result.figures['cosine']:.3f}{checked}, "
        f"{pace(report)}"
    )


def _conclude(result: MSIDResult) -> None:
    print(f"{result.encoder}: step {result.step}")
    if not result.finished:
        announce("Stopped and saved; the same command goes on")
