"""The run that trains an identity encoder: what is watched, verified, saved and written.

Besides the files of every run (f2d_core.train.run):

RUN/
    msid.safetensors          the encoder so far, without the heads, which only training needs
    verification/             what `verify` writes, one folder per time
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..constants import WEIGHTS_FORMAT, WEIGHTS_FORMAT_VERSION
from ..data.identities import Identities
from ..errors import TrainingError
from ..msid import MSIDEncoder
from ..weights import write_safetensors
from .checkpoint import Checkpoint, Metadata
from .distributed import World
from .metrics import Row
from .msid_config import FREE, MSIDTrainConfig
from .msid_task import MSIDTask
from .run import VALIDATION, Moment, Report, Watcher, carry_out
from .settings import as_values
from .state import TrainState
from .trainer import StopRequest

ENCODER_FILE = "msid.safetensors"
WEIGHTS, HEADS, MOMENTS = "msid.safetensors", "heads.safetensors", "moments.safetensors"  # of a checkpoint
VERIFICATION = "verification"
# The part of a level that is too small or too large for equal ones; 0.15 and 0.40 of four levels.
_LEAST_SHARE, _GREATEST_SHARE = 0.6, 1.6
_LOSSES_LOOKED_AT = 100  # steps whose mean says whether a run is stuck

log = logging.getLogger("face2diffusion")

# (encoder in eval mode, a folder for pictures) -> figures. Runs in the first process alone.
Verify = Callable[[MSIDEncoder, Path], Mapping[str, float]]


@dataclass(frozen=True)
class MSIDResult:
    """finished: all steps are done; otherwise the same call continues. encoder: the file of the result so far."""

    step: int
    finished: bool
    encoder: Path
    folder: Path


def train_msid(
    data: Identities,
    config: MSIDTrainConfig,
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    verify: Verify | None = None,
    progress: Callable[[Report], None] | None = None,
    should_stop: StopRequest | None = None,
    world: World | None = None,
) -> MSIDResult:
    """Train an identity encoder in `folder`, or go on with the one that is there, with any number of processes.

    With the same number of processes a continued run ends at the same bits; another number shares samples and classes
    out differently, which changes the statistics of the batch norms a little. Raises as `run.carry_out` does, and
    TrainingError for a run that is stuck.
    """
    config = with_steps(config, len(data))
    world = world or World()
    watcher = Watcher(progress, should_stop)
    make = partial(MSIDJob, data, config, torch.device(device), world, verify)
    done = carry_out(make, folder, world, watcher, config.deterministic)
    return MSIDResult(done.step, done.finished, done.folder / ENCODER_FILE, done.folder)


def with_steps(config: MSIDTrainConfig, pictures: int) -> MSIDTrainConfig:
    """`config` with the number of steps that its epochs take, where it names none."""
    return config if config.steps else replace(config, steps=-(-config.epochs * pictures // config.batch))


class MSIDJob:
    """A `run.Job`."""

    free, folders, curves = FREE, (VERIFICATION,), ("loss",)

    def __init__(
        self, data: Identities, config: MSIDTrainConfig, device: torch.device, world: World, verify: Verify | None
    ):
        self.task = MSIDTask(data, config, device, world)
        self.config, self.world = config, world
        self.state = TrainState(self.task.groups, self.task.optimisation, self.task.network.buffers())
        self._verify = verify
        self._losses: list[float] = []

    def values(self) -> dict[str, Any]:
        return {**as_values(self.config), "data": self.task.data.fingerprint}

    def tensors(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """The heads and their moments are brought together, so that any number of processes can go on."""
        moments = self.state.moments()
        own = {name: self._collected(value) for name, value in moments.items() if _of_head(name)}
        heads = {name: self._collected(value.detach()) for name, value in self.task.head_parameters.items()}
        return {WEIGHTS: self.task.network.state_dict(), HEADS: heads, MOMENTS: {**moments, **own}}

    def metadata(self) -> Metadata:
        return {WEIGHTS: self.facts()}

    def restore(self, checkpoint: Checkpoint) -> None:
        classes = slice(self.task.classes.start, self.task.classes.stop)
        tensors = checkpoint.tensors
        moments = {name: v[classes] if _of_head(name) else v for name, v in tensors[MOMENTS].items()}
        heads = {name: value[classes] for name, value in tensors[HEADS].items()}
        self.task.network.load_state_dict(tensors[WEIGHTS])  # with the statistics of the batch norms
        self.state.restore(checkpoint.step, {**tensors[WEIGHTS], **heads}, {}, moments, checkpoint.scale)

    def look(self, moment: Moment) -> list[Row]:
        """At the end of every epoch: the shares of the levels, verification. TrainingError when stuck."""
        self._losses = [*self._losses, moment.result.loss][-_LOSSES_LOOKED_AT:]
        epoch = self._epoch_that_ends(moment.step)
        if epoch is None:
            return []
        rows = [{"kind": "epoch", "step": moment.step, "epoch": epoch, **self._shares(moment, epoch)}]
        verifies = self._verify is not None and self.config.verify_every and epoch % self.config.verify_every == 0
        if verifies and moment.world.writes:
            rows.append({"kind": VALIDATION, "step": moment.step, **self._verified(moment)})
        self._require_progress(moment.step)
        return rows

    def write_results(self, folder: Path) -> None:
        write_safetensors(folder / ENCODER_FILE, self.task.network.state_dict(), self.facts())

    def facts(self) -> dict[str, object]:
        """The metadata of an encoder file."""
        config, data = self.config, self.task.data
        return {
            "format": WEIGHTS_FORMAT,
            "format_version": str(WEIGHTS_FORMAT_VERSION),
            "kind": "msid",
            "features": config.network.own_features,
            "levels": " ".join(str(level + 1) for level in config.network.levels),
            "loss": f"{config.margin_kind} {config.margin_size:g}, scale {config.scale:g}, {config.loss}",
            "data": data.title,
            "data_fingerprint": data.fingerprint,
            "licence": config.licence,
            "seed": str(config.seed),
            "step": str(self.state.step),
        }

    def _collected(self, rows: torch.Tensor) -> torch.Tensor:
        """All rows of a head in the first process; elsewhere our own, which nobody writes."""
        sizes = [len(World(rank, self.world.size).share(self.task.data.people)) for rank in range(self.world.size)]
        found = self.world.collect(rows, sizes)
        return rows if found is None else found

    def _epoch_that_ends(self, step: int) -> int | None:
        """The number of the epoch that ends with this step, counted from 1."""
        before, now = ((at * self.config.batch) // len(self.task.data) for at in (step - 1, step))
        return now if now > before or step == self.config.steps else None

    def _shares(self, moment: Moment, epoch: int) -> dict[str, float]:
        """Of the levels, in the features of the step's batch and in the rows of the head."""
        names = self.task.shares
        if not names:
            return {}
        found = {name: moment.result.figures[name] for name in names}
        low, high = _LEAST_SHARE / len(names), _GREATEST_SHARE / len(names)
        bad = [f"{name.removeprefix('share_')}: {value:.2f}" for name, value in found.items() if not low < value < high]
        if bad and self.world.writes:
            log.warning(
                "Epoch %d: the share of level %s in the cosine is outside %.2f to %.2f: a level with a small share "
                'hardly learns. Expected about equal shares; the loss "sum" gives each level a head of its own.',
                *(epoch, ", ".join(bad), low, high),
            )
        rows = dict(zip((f"class_{name}" for name in names), self.task.class_shares().tolist(), strict=True))
        return {**found, **rows}

    def _verified(self, moment: Moment) -> Mapping[str, float]:
        network = self.task.network
        folder = moment.folder / VERIFICATION / f"step_{moment.step:09}"
        network.eval()
        try:
            with torch.no_grad():
                return self._verify(network, folder)
        finally:
            network.train()

    def _require_progress(self, step: int) -> None:
        """A vision transformer with ArcFace may stagnate (InsightFace issues 2017, 2043, 2144)."""
        limit, mean = self.config.stuck_loss, sum(self._losses) / len(self._losses) / self.task.head_count
        if (
            not limit
            or mean <= limit
            or step < watched_from(self.config, len(self.task.data))
            or step >= self.config.steps
        ):
            return
        raise TrainingError(
            f"The run is stuck: its mean loss is {mean:.1f} at step {step}, an epoch after the margin reached its full "
            f"size; expected less than stuck_loss, {limit:g}. Begin a new run with half the learning_rate "
            f'({self.config.learning_rate / 2:g}), and if that is stuck too with margin_kind = "cosface".'
        )


def watched_from(config: MSIDTrainConfig, pictures: int) -> int:
    """The first step at whose epoch's end a run may count as stuck: one epoch after the margin is full.

    Rounded down: an epoch ends at a rounded step too, which would else be one too early for some sets.
    """
    return config.warm_up_steps + pictures // config.batch


def _of_head(name: str) -> bool:
    return "head." in name
