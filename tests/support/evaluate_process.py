"""The command `evaluate` in processes that can be killed, on a small model, with judges that need no weights."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from f2d_core import cli
from f2d_core.backends.stand_in import write_stand_in
from f2d_core.cli import evaluate as command
from f2d_core.detect import Face
from f2d_core.evaluate.extractors import Extractors
from f2d_core.image import write_png
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict
from f2d_core.weights import write_safetensors

from .extractors import FakeIdentity, FakeImageText, FakeInception

with contextlib.suppress(ImportError):  # read lazily else, by every child anew
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    _READ = (AutoencoderKL, EulerAncestralDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel)
    _READ += (CLIPTextModel, CLIPTokenizer)

# The server process reads torch and diffusers once and computes nothing; its children start in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

POINTS = np.array([[0.34, 0.46], [0.66, 0.46], [0.5, 0.64], [0.37, 0.82], [0.63, 0.82]])  # of the sides
PHOTO_PX = 96
DARK = 112.3  # of 255; noise has 127.5

PLAN = """
title = "Small <protocol> & more"
paper = "face2diffusion"
pictures = 2
steps = 2
width = 64
height = 64

[methods.face2diffusion]

[methods.delayed]
subject_steps = 0.6

[prompts.job]
chef = "A photo of S* as a chef"
king = "A photo of S* as a king"

[prompts.location]
venice = "A photo of S* in Venice"
"""


class FakeDetector:
    """Sees the same face in every photo, and in pictures that are not too dark in the middle."""

    name = "fake"

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        height, width = rgb.shape[:2]
        middle = rgb[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
        if middle.mean() < DARK or not rgb[:2].any():  # a black border, put around to look once more
            return []
        return [Face((0.0, 0.0, float(width), float(height)), POINTS * (width, height), 0.9)]


def judges() -> Extractors:
    """The paper's six metrics, and FID."""
    identity = {
        kind: FakeIdentity(name=f"Fake {kind}", kind=kind, sha256=str(i) * 64)
        for i, kind in enumerate(("adaface_ir50", "sphereface", "facenet"))
    }
    siglip = FakeImageText("Fake SigLIP", "siglip_so400m", "8" * 64, logit_scale=10.0, logit_bias=-3.0)
    return Extractors(identity, {"clip_h14": FakeImageText(), "siglip_so400m": siglip}, FakeInception(), {})


def write_world(folder: Path, faces: int = 2, plan: str = PLAN) -> list[str]:
    """A model, networks, photos and a plan in `folder` -> the command's arguments but for --out."""
    write_stand_in(folder / "model")
    write_safetensors(folder / "msid.safetensors", tiny_msid_state_dict())
    write_safetensors(folder / "mapping.safetensors", tiny_mapping_state_dict())
    for i in range(faces):
        rgb = np.random.RandomState(i).randint(0, 256, (PHOTO_PX, PHOTO_PX, 3)).astype(np.uint8)
        write_png(folder / "faces" / f"person {i}.png", rgb)
    (folder / "plan.toml").write_text(plan, encoding="utf-8")
    files = {"faces": "faces", "model": "model", "msid": "msid.safetensors", "mapping": "mapping.safetensors"}
    options = [part for name, file in files.items() for part in (f"--{name}", str(folder / file))]
    return ["evaluate", str(folder / "plan.toml"), *options, "--device", "cpu"]


def start(arguments: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None) -> Any:
    """A process that runs the command; what it says goes to `log`."""
    process = PROCESSES.Process(target=_run, args=(list(arguments), dict(environment or {}), log))
    process.start()
    return process


def run_here(arguments: Sequence[str]) -> int:
    """The command in this process; the exit code."""
    command.usable_extractors = lambda folders, device: judges()
    command.find_extractors = lambda folders: {}
    command.chosen_detector = lambda name, weights: FakeDetector()
    with warnings.catch_warnings():  # diffusers 0.42 under numpy 2, at every scheduler
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        return cli.main(arguments)


def _run(arguments: list[str], environment: dict[str, str], log: Path | None) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= environment
    if log is not None:
        sys.stdout = sys.stderr = log.open("a", encoding="utf-8", buffering=1)
    sys.exit(run_here(arguments))
