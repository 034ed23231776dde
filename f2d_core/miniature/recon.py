"""f_exp of the miniature world: the ordinary reconstruction network with smaller numbers, taught the renderer's own.

Every coefficient group of the real network has its counterpart among the factors of a picture: shape and colour of the
face, expression, pose, light, place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..align import align_expression, expression_input
from ..constants import RECON_PARTS, WEIGHTS_FORMAT, WEIGHTS_FORMAT_VERSION
from ..expression import BATCH_NORM_EPS, ExpressionConfig, ExpressionEncoder, Stage, norm_of, published_shapes
from ..files import write_atomically
from ..ports import Progress
from ..train.randomness import CHOICES, generator
from ..train.run import carry_out
from ..weights import write_safetensors
from .job import ModuleJob, Rows, Settings, fast, load_result, seeded
from .people import TRAITS, sample_identities
from .render import render
from .situations import EXPRESSION, LIGHT, sample_situations
from .watching import Tell, watching

PICTURES, _PART, _SEED = 4000, 500, 4400
SETTINGS = Settings(steps=1200, batch=32, learning_rate=2e-3, seed=41, checkpoint_every=200)
_COLOURS = ("skin_tone", "skin_warmth", "blush", "freckles")
_EXPRESSION_WEIGHT = 4.0  # of the group that is used, in the loss
_WIDTHS = {
    "identity": len(TRAITS) - len(_COLOURS),
    "expression": len(EXPRESSION),
    "texture": len(_COLOURS),
    "angle": 3,
    "light": len(LIGHT),
    "shift_xy": 2,
    "shift_z": 1,
}
CONFIG = ExpressionConfig(
    stem=16,
    stages=(Stage(8, 32, 1), Stage(16, 64, 1), Stage(24, 96, 1), Stage(32, 128, 1)),
    parts=tuple(_WIDTHS[name] for name in RECON_PARTS),
)
_POSE_SCALES = np.array((15.0, 8.0, 8.0, 0.045, 0.07, 0.035))


class ReconLesson:
    """A `job.Lesson`. crops: (n, 224, 224, 3) uint8; factors: (n, sum of the parts)."""

    figures = ("loss", "expression")

    def __init__(self, net: ExpressionEncoder, crops: np.ndarray, factors: np.ndarray, batch: int, seed: int):
        self.modules = {"recon": net.train()}
        self._net, self._crops, self._factors, self._seed = net, crops, factors, seed

    def rows(self, step: int, slots: range) -> Rows:
        drawn = [generator(self._seed, CHOICES, step, slot).random() for slot in slots]
        numbers = [int(value * len(self._crops)) for value in drawn]
        faces = expression_input(np.stack([self._crops[n] for n in numbers]))
        return Rows(numbers, {"faces": faces, "factors": torch.from_numpy(self._factors[numbers]).float()})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            found = self._net(rows["faces"])
        wrong = F.smooth_l1_loss(found.float(), rows["factors"], reduction="none")
        expression = wrong[:, self._net.expression_part].mean(dim=1)
        return {"loss": wrong.mean(dim=1) + _EXPRESSION_WEIGHT * expression, "expression": expression}


def make_recon(work: Path, out: Path, tell: Tell) -> Path:
    """Train f_exp in `work` as far as it is not done, and write it in the published layout. The file."""
    crops = _crops(work / "crops", tell("expression crops"))
    net = seeded(_new, SETTINGS.seed)
    lesson = ReconLesson(net, crops, factors(PICTURES), SETTINGS.batch, SETTINGS.seed)
    carry_out(lambda: ModuleJob(lesson, SETTINGS), work, watcher=watching(tell("expression encoder")))
    load_result(lesson.modules, work)
    facts = {
        "format": WEIGHTS_FORMAT,
        "format_version": str(WEIGHTS_FORMAT_VERSION),
        "kind": "recon",
        "licence": "free: made of invented people",
    }
    return write_safetensors(out, as_published(net), facts)


def factors(count: int, start: int = 0) -> np.ndarray:
    """(count, sum of the parts): what the network is to find in picture start + i, each near unit scale."""
    who, how = sample_identities(_SEED, count, start), sample_situations(_SEED, count, start)
    coloured = np.isin(TRAITS, _COLOURS)
    pose = (how.framing - (0, 0, 0, 0.275, 0, 0)) / _POSE_SCALES
    groups = {
        "identity": 2 * who.traits[:, ~coloured] - 1,
        "expression": how.expression,
        "texture": 2 * who.traits[:, coloured] - 1,
        "angle": pose[:, :3],
        "light": how.light,
        "shift_xy": pose[:, 4:],
        "shift_z": pose[:, 3:4],
    }
    return np.concatenate([groups[name] for name in RECON_PARTS], axis=1)


def as_published(net: ExpressionEncoder) -> dict[str, torch.Tensor]:
    """The network's weights in the layout of published files: with batch norms that only carry the biases."""
    state = net.state_dict()
    published = {key: state[key].detach().clone() for key in published_shapes(net.config) if key in state}
    for key in [key for key in state if key.startswith("backbone.") and key.endswith(".bias")]:
        bias, norm = state[key], norm_of(key.removesuffix(".bias"))
        published |= {
            f"{norm}.weight": torch.ones_like(bias),
            f"{norm}.bias": bias.detach().clone(),
            f"{norm}.running_mean": torch.zeros_like(bias),
            f"{norm}.running_var": torch.full_like(bias, 1 - BATCH_NORM_EPS),
            f"{norm}.num_batches_tracked": torch.tensor(0),
        }
    return published


def _new() -> ExpressionEncoder:
    """First weights that keep the scale of features through the rectifiers; every block begins as its shortcut."""
    net = ExpressionEncoder(CONFIG)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
            if name.endswith("conv3"):
                nn.init.zeros_(module.weight)
    for layer in net.final_layers:
        nn.init.normal_(layer.weight, std=0.01)
    return net


def _crops(folder: Path, progress: Progress) -> np.ndarray:
    """(PICTURES, 224, 224, 3) uint8, cut in parts into `folder`; what is there is kept."""
    parts = []
    for start in range(0, PICTURES, _PART):
        file = folder / f"crops_{start:05}.npy"
        if not file.is_file():
            crops = _cut(start)
            write_atomically(file, lambda path, crops=crops: _save(path, crops))
        parts.append(np.load(file, mmap_mode="r"))
        progress(start + _PART, PICTURES)
    return np.concatenate(parts)


def _cut(start: int) -> np.ndarray:
    drawn = render(sample_identities(_SEED, _PART, start), sample_situations(_SEED, _PART, start))
    return np.stack([align_expression(rgb, face) for rgb, face in zip(drawn.pixels, drawn.points, strict=True)])


def _save(path: Path, array: Any) -> None:
    with open(path, "wb") as file:  # numpy would add an extension to a path
        np.save(file, array)
