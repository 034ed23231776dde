"""Making editing data in processes that can be killed: the function on stand-ins, and the whole command."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import f2d_core.cli.augment as command
from f2d_core.augment.plan import Shard
from f2d_core.augment.run import Models, augment
from f2d_core.augment.settings import AugmentSettings
from f2d_core.cli import main

from . import augment as stand_ins
from .extractors import FakeIdentity, FakeImageText
from .train_process import PROCESSES

# Both users of the one server, whichever is imported first; and what is slow to import (left out where it is missing).
PROCESSES.set_forkserver_preload(["tests.support.train_process", "tests.support.diffusers_preload", __name__])

# What changes files; a process may be killed before each of them.
_FILE_CALLS = ("fsync", "replace", "rmdir", "unlink", "mkdir")


@dataclass
class OvalFace(stand_ins.FakeDetector):
    """Sees a face in every picture: those of a stand-in model are coloured noise."""

    def detect(self, rgb, threshold):
        marked = rgb.copy()
        marked[0, 0] = 2
        return super().detect(marked, threshold)


def start(folder: Path, kill_at: int | None = None, shard: tuple[int, int] = (0, 1)) -> Any:
    """A process that makes the data of two names; it kills itself before file call number `kill_at`."""
    process = PROCESSES.Process(target=_augment, args=(folder, kill_at, shard))
    process.start()
    return process


def start_command(arguments: list[str]) -> Any:
    """`f2d augment …` with a detector that sees faces in noise, and a stand-in for CLIP. It ends as the command."""
    process = PROCESSES.Process(target=_command, args=(arguments,))
    process.start()
    return process


def _augment(folder: Path, kill_at: int | None, shard: tuple[int, int]) -> None:
    torch.set_num_threads(1)
    if kill_at is not None:
        _kill_before_call(kill_at)
    models = Models(stand_ins.FakePictures(), stand_ins.FakeDetector(), FakeIdentity(), FakeImageText())
    settings = AugmentSettings(faces_per_name=1, size=stand_ins.SIZE, min_face_px=20, steps=2)
    augment(stand_ins.NAMES, stand_ins.PROMPTS, folder, models, settings, shard=Shard(*shard))


def _command(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    stand_in(command)
    raise SystemExit(main(["augment", *arguments]))


def stand_in(module: Any, patch: Any = setattr) -> None:
    """Put the stand-ins into f2d_core.cli.augment."""
    patch(module, "chosen_detector", lambda name, weights: OvalFace())
    patch(module, "load_image_text_extractor", lambda path, device, model: FakeImageText())


def _kill_before_call(number: int) -> None:
    calls = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in _FILE_CALLS:
        setattr(os, name, counted(getattr(os, name)))
