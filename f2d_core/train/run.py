"""A training run as a folder: begun, continued, stopped and finished by the same call, whatever it trains.

RUN/
    run.json                  the settings, and what data and models it is made of
    checkpoints/              f2d_core.train.checkpoint
    metrics.jsonl  loss.png   figures of every step, and what is measured now and then
    and the result so far, written at every stop
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..constants import AUTO
from ..errors import F2DError, SettingsError, WeightsError
from ..files import require_plain_name, write_atomically
from .checkpoint import Checkpoint, Metadata, any_checkpoint, clean, load_checkpoint, prune, save_checkpoint
from .distributed import World
from .memory import fitting_micro_batch
from .metrics import Metrics, Row, read_metrics
from .plot import plot_losses
from .settings import differences
from .state import TrainState
from .trainer import StepResult, StopRequest, Task, Trainer

SETTINGS_FILE, CHECKPOINTS = "run.json", "checkpoints"
VALIDATION = "validation"  # kind of a line of figures

log = logging.getLogger("face2diffusion")


@dataclass(frozen=True)
class Report:
    """Told after every step. validation: the newest figures, None before the first."""

    result: StepResult
    steps: int
    images_per_s: float
    seconds_left: float
    validation: Mapping[str, float] | None


@dataclass(frozen=True)
class RunResult:
    """finished: all steps are done; otherwise the same call continues."""

    step: int
    finished: bool
    folder: Path


@dataclass(frozen=True)
class Watcher:
    """Who is told what. progress and should_stop may raise, also what is no Exception: the run then saves first and
    raises it again. on_preview: (n, 3, H, W) in [-1, 1]."""

    progress: Callable[[Report], None] | None = None
    should_stop: StopRequest | None = None
    on_preview: Callable[[torch.Tensor], None] | None = None


class RunSettings(Protocol):
    """The settings that every kind of run has. micro_batch: a number, or "auto"."""

    batch: int
    micro_batch: int | str
    steps: int
    deterministic: bool
    tensorboard: bool
    checkpoint_every: int
    keep_last: int
    keep_every: int


@dataclass(frozen=True)
class Moment:
    """A run right after a step. show: hands pictures to whoever watches."""

    result: StepResult
    folder: Path
    micro_batch: int
    world: World
    stop: StopRequest
    show: Callable[[torch.Tensor], None]

    @property
    def step(self) -> int:
        return self.result.step

    def due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0


class Job(Protocol):
    """What a run trains, and everything that is particular to it. Its methods are called in all processes at once.

    free: settings that decide nothing about the result of a given step, and may change when a run is continued.
    folders: under the run's, where it writes files of its own. curves: the figures that are drawn.
    """

    config: RunSettings
    task: Task
    state: TrainState
    free: Collection[str]
    folders: Sequence[str]
    curves: Sequence[str]

    def values(self) -> dict[str, Any]:
        """All that decides about the result, by name: settings, data, models."""
        ...

    def tensors(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        """File name -> tensors of a checkpoint."""
        ...

    def metadata(self) -> Metadata:
        """File name -> what the file says besides."""
        ...

    def restore(self, checkpoint: Checkpoint) -> None: ...

    def look(self, moment: Moment) -> list[Row]:
        """After every step: measure, preview. Further lines of figures, each with its kind and step.

        An F2DError that it raises ends the run once everything is saved.
        """
        ...

    def write_results(self, folder: Path) -> None:
        """The result so far. The first process alone is asked."""
        ...


def run_folder(root: str | Path, name: str) -> Path:
    """The folder of the run `name` under `root`. SettingsError for a name that would lead out of it."""
    return Path(root) / require_plain_name(name, "The run name")


def begun(folder: Path) -> bool:
    """Whether there is anything in the folder of a run that it can go on with."""
    return any_checkpoint(folder / CHECKPOINTS)


def carry_out(
    make_job: Callable[[], Job],
    folder: str | Path,
    world: World | None = None,
    watcher: Watcher | None = None,
    deterministic: bool = False,
) -> RunResult:
    """Train in `folder` what `make_job` makes, or go on with the run that is there.

    A stop is asked for by should_stop, or by raising from it or from progress: the micro-batch is finished, the step
    forgotten, everything saved, and what was raised is raised again. Raises SettingsError when the folder holds a run
    with other settings (all differences are listed), TrainingError, OutputError, and what `make_job` raises.
    """
    with torch.inference_mode(False), torch.enable_grad(), _determinism(deterministic):
        return _Run(make_job(), Path(folder), world or World(), watcher or Watcher()).go()


def require_samples(batch: int, world: World) -> None:
    """SettingsError when there are more processes than samples in a batch."""
    if batch < world.size:
        raise SettingsError(
            f"batch is {batch} for {world.size} processes; expected at least one sample each. Raise batch."
        )


class _Run:
    def __init__(self, job: Job, folder: Path, world: World, watcher: Watcher):
        self.job, self.folder, self.world, self.watcher = job, folder, world, watcher
        self.config, self.state = job.config, job.state
        self.checkpoints = folder / CHECKPOINTS
        self.interruption: BaseException | None = None
        self.validation: Mapping[str, float] | None = None
        self._open()
        self.saved_step = self._restore()
        self.trainer = self._make_trainer()
        self.metrics = Metrics(folder, self.state.step, self.config.tensorboard) if world.writes else None

    def go(self) -> RunResult:
        """Steps until all are done or a stop is asked for; then save, and raise what asked for it."""
        began, first = time.monotonic(), self.state.step
        while self.state.step < self.config.steps:
            result = self.trainer.step(self._stop)
            if result is None:
                break
            self._look(result)
            per_step = (time.monotonic() - began) / (self.state.step - first)
            self._report(result, per_step)
            if self.state.step % self.config.checkpoint_every == 0 and self.state.step < self.config.steps:
                self._save()
        return self._finish()

    def _open(self) -> None:
        """Begin or continue: the settings on disk must be these, once anything is saved that came of them."""
        values = self.job.values()
        path = self.folder / SETTINGS_FILE
        if path.is_file() and begun(self.folder):
            _refuse_changes(path, values, self.job.free)
        self.world.wait()  # all have looked before one writes
        if self.world.writes:
            for place in (self.folder, self.checkpoints, *(self.folder / name for name in self.job.folders)):
                clean(place)
            text = json.dumps(values, indent=2, ensure_ascii=False)
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        self.world.wait()

    def _restore(self) -> int:
        """Take over the newest checkpoint; its step, or -1 where there is none."""
        checkpoint = load_checkpoint(self.checkpoints)
        if checkpoint is None:
            return -1
        self.job.restore(checkpoint)
        log.info("Continuing %s at step %d of %d.", self.folder, checkpoint.step, self.config.steps)
        return checkpoint.step

    def _make_trainer(self) -> Trainer:
        share = len(self.world.share(self.config.batch))
        flexible = self.config.micro_batch == AUTO
        size = 1 if flexible else int(self.config.micro_batch)
        trainer = Trainer(self.job.task, self.state, self.config.batch, size, self.world, flexible)
        if flexible:
            trainer.micro_batch = fitting_micro_batch(share, self.state.gradient.device, trainer.trial)
        return trainer

    def _stop(self) -> bool:
        return self.interruption is not None or bool(self._ask(self.watcher.should_stop))

    def _ask(self, question: Callable[..., Any] | None, *values: Any) -> Any:
        """Call the host; what it raises is kept for after the save."""
        if question is None:
            return None
        try:
            return question(*values)
        except BaseException as error:  # ComfyUI's interruption is none of Exception's
            self.interruption = error
            return None

    def _look(self, result: StepResult) -> None:
        """Write the figures; now and then the job measures and samples."""
        self._write({"kind": "train", **result.row()})
        micro_batch, show = self.trainer.micro_batch, lambda pictures: self._ask(self.watcher.on_preview, pictures)
        try:
            found = self.job.look(Moment(result, self.folder, micro_batch, self.world, self._stop, show))
        except F2DError as error:
            self.interruption = error
            return
        for row in found:
            self._write(row)
            if row["kind"] == VALIDATION:
                self.validation = {name: value for name, value in row.items() if name not in ("kind", "step")}

    def _write(self, row: Row) -> None:
        if self.metrics is not None:
            self.metrics.add(row)

    def _report(self, result: StepResult, seconds_per_step: float) -> None:
        report = Report(
            result=result,
            steps=self.config.steps,
            images_per_s=self.config.batch / max(seconds_per_step, 1e-9),
            seconds_left=seconds_per_step * (self.config.steps - self.state.step),
            validation=self.validation,
        )
        self._ask(self.watcher.progress, report)

    def _save(self) -> None:
        if self.saved_step == self.state.step:
            return
        tensors = self.job.tensors()
        if self.world.writes:
            checkpoint = Checkpoint(self.state.step, tensors, self.state.scale)
            save_checkpoint(self.checkpoints, checkpoint, self.job.metadata())
            prune(self.checkpoints, self.state.step, self.config.keep_last, self.config.keep_every)
        self.saved_step = self.state.step

    def _finish(self) -> RunResult:
        self._save()
        if self.world.writes:
            self.job.write_results(self.folder)
            plot_losses(read_metrics(self.folder), self.folder / "loss.png", self.job.curves)
        self.world.wait()
        if self.interruption is not None:
            raise self.interruption
        return RunResult(self.state.step, self.state.step >= self.config.steps, self.folder)


def _refuse_changes(path: Path, values: Mapping[str, Any], free: Collection[str]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is damaged, expected the settings of a run. Choose a new run name.") from error
    changed = differences(before, values, free)
    if changed:
        raise SettingsError(
            f"The run {path.parent.name} was begun with other settings: {'; '.join(changed)}. Expected the same: set "
            "them back, or choose a new run name."
        )


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """torch's deterministic algorithms while training; the host's setting afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
