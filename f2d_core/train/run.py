"""A training run as a folder: begun, continued, stopped and finished by the same call.

RUN/
    run.json                  the settings, and what data and models it is made of
    checkpoints/              f2d_core.train.checkpoint
    metrics.jsonl  loss.png   figures of every step and of every validation
    previews/step_000002000.png
    mapping.safetensors       the result so far, written at every stop; mapping_ema.safetensors the averaged copy
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..constants import AUTO, INJECTION_SUM
from ..errors import MismatchError, SettingsError, WeightsError
from ..files import require_plain_name, write_atomically
from ..image import write_png
from ..ports import TrainingData
from ..state_dict import StateDict
from ..weights import read_weights, write_safetensors
from .checkpoint import EMA, MOMENTS, WEIGHTS, Checkpoint, clean, load_checkpoint, prune, save_checkpoint
from .config import TrainConfig, as_values, differences
from .distributed import World
from .memory import fitting_micro_batch
from .metrics import Metrics, read_metrics
from .plot import plot_losses
from .preview import preview_pictures, validation_losses
from .state import TrainState
from .task import MappingTask, TrainingParts
from .trainer import StepResult, StopRequest, Trainer

SETTINGS_FILE = "run.json"
PREVIEWS = "previews"
MAPPING_FILE, EMA_FILE = "mapping.safetensors", "mapping_ema.safetensors"

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
class TrainResult:
    """finished: all steps are done; otherwise the same call continues. mapping: the file of the result so far."""

    step: int
    finished: bool
    mapping: Path
    folder: Path


@dataclass(frozen=True)
class Watcher:
    """Who is told what. progress and should_stop may raise, also what is no Exception: the run then saves first and
    raises it again. on_preview: (n, 3, H, W) in [-1, 1]."""

    progress: Callable[[Report], None] | None = None
    should_stop: StopRequest | None = None
    on_preview: Callable[[torch.Tensor], None] | None = None


def run_folder(root: str | Path, name: str) -> Path:
    """The folder of the run `name` under `root`. SettingsError for a name that would lead out of it."""
    return Path(root) / require_plain_name(name, "The run name")


def train(
    parts: TrainingParts,
    data: TrainingData,
    config: TrainConfig,
    folder: str | Path,
    *,
    progress: Callable[[Report], None] | None = None,
    should_stop: StopRequest | None = None,
    on_preview: Callable[[torch.Tensor], None] | None = None,
    world: World | None = None,
) -> TrainResult:
    """Train a mapping network in `folder`, or go on with the one that is there; the models are never changed.

    A stop is asked for by should_stop, or by raising from it or from progress: the micro-batch is finished, the step
    forgotten, everything saved, and what was raised is raised again. Raises SettingsError when the folder holds a run
    with other settings (all differences are listed), MismatchError, TrainingError, OutputError.
    """
    with torch.inference_mode(False), torch.enable_grad(), _determinism(config.deterministic):
        run = _Run(parts, data, config, Path(folder), world or World(), Watcher(progress, should_stop, on_preview))
        return run.go()


class _Run:
    def __init__(
        self,
        parts: TrainingParts,
        data: TrainingData,
        config: TrainConfig,
        folder: Path,
        world: World,
        watcher: Watcher,
    ):
        self.folder, self.world, self.watcher = folder, world, watcher
        if config.batch < world.size:
            raise SettingsError(
                f"batch is {config.batch} for {world.size} processes; expected at least one sample each. Raise batch."
            )
        self.task = MappingTask(parts, data, config, _start(config, data) if config.start_from else None)
        self.config = self.task.config
        self.state = TrainState(self.task.parameters, self.config, half=parts.denoiser.dtype == torch.float16)
        self.checkpoints = folder / "checkpoints"
        self.interruption: BaseException | None = None
        self.validation: Mapping[str, float] | None = None
        self._open()
        self.saved_step = self._restore()
        self.trainer = self._make_trainer()
        self.metrics = Metrics(folder, self.state.step, self.config.tensorboard) if world.writes else None

    def go(self) -> TrainResult:
        """Steps until all are done or a stop is asked for; then save, and raise what asked for it."""
        began, first = time.monotonic(), self.state.step
        while self.state.step < self.config.steps:
            result = self.trainer.step(self._stop)
            if result is None:
                break
            self._look(result)
            per_step = (time.monotonic() - began) / (self.state.step - first)
            self._report(result, per_step)
            if self._due(self.config.checkpoint_every) and self.state.step < self.config.steps:
                self._save()
        return self._finish()

    def _open(self) -> None:
        """Begin or continue: the settings on disk must be these."""
        values = {**as_values(self.config), **self._made_of()}
        path = self.folder / SETTINGS_FILE
        if path.is_file():
            _refuse_changes(path, values)
        self.world.wait()  # all have looked before one writes
        if self.world.writes:
            for place in (self.folder, self.checkpoints, self.folder / PREVIEWS):
                clean(place)
            text = json.dumps(values, indent=2, ensure_ascii=False)
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        self.world.wait()

    def _made_of(self) -> dict[str, Any]:
        parts = self.task.parts
        return {
            "data": self.task.data.fingerprint,
            "base_model": parts.base_model_sha256,
            "text_encoder": f"{parts.encoder.key} {parts.encoder.width}",
            "denoiser_dtype": str(parts.denoiser.dtype).removeprefix("torch."),
        }

    def _restore(self) -> int:
        """Take over the newest checkpoint; its step, or -1 where there is none."""
        checkpoint = load_checkpoint(self.checkpoints)
        if checkpoint is None:
            return -1
        tensors = checkpoint.tensors
        self.state.restore(checkpoint.step, tensors[WEIGHTS], tensors[EMA], tensors[MOMENTS], checkpoint.scale)
        log.info("Continuing %s at step %d of %d.", self.folder, checkpoint.step, self.config.steps)
        return checkpoint.step

    def _make_trainer(self) -> Trainer:
        share = len(self.world.share(self.config.batch))
        flexible = self.config.micro_batch == AUTO
        size = 1 if flexible else int(self.config.micro_batch)
        trainer = Trainer(self.task, self.state, self.config.batch, size, self.world, flexible)
        if flexible:
            trainer.micro_batch = fitting_micro_batch(share, self.task.device, trainer.trial)
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

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    def _look(self, result: StepResult) -> None:
        """Write the figures; now and then validate and sample."""
        if not self.world.writes:
            return
        self.metrics.add({"kind": "train", **asdict(result)})
        if self._due(self.config.validate_every):
            found = validation_losses(self.task, self.trainer.micro_batch, self._stop)
            if found is not None:
                self.validation = found
                self.metrics.add({"kind": "validation", "step": self.state.step, **found})
        if self._due(self.config.preview_every) and self.task.parts.codec is not None and not self._stop():
            self._preview()

    def _preview(self) -> None:
        pictures = preview_pictures(self.task)
        row = torch.cat(tuple(pictures), dim=2)  # side by side
        levels = ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
        write_png(self.folder / PREVIEWS / f"step_{self.state.step:09}.png", levels.numpy())
        self._ask(self.watcher.on_preview, pictures)

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
        if self.world.writes and self.saved_step != self.state.step:
            tensors = {WEIGHTS: self._whole(self.state.weights()), EMA: self._whole(self.state.ema)}
            checkpoint = Checkpoint(self.state.step, {**tensors, MOMENTS: self.state.moments()}, self.state.scale)
            save_checkpoint(self.checkpoints, checkpoint, self.task.facts(self.state.step))
            prune(self.checkpoints, self.state.step, self.config.keep_last, self.config.keep_every)
        self.saved_step = self.state.step

    def _finish(self) -> TrainResult:
        self._save()
        if self.world.writes:
            self._write_results()
        self.world.wait()
        if self.interruption is not None:
            raise self.interruption
        return TrainResult(
            self.state.step, self.state.step >= self.config.steps, self.folder / MAPPING_FILE, self.folder
        )

    def _write_results(self) -> None:
        facts = self.task.facts(self.state.step)
        write_safetensors(self.folder / MAPPING_FILE, self._whole(self.state.weights()), facts)
        write_safetensors(self.folder / EMA_FILE, self._whole(self.state.ema), {**facts, "ema": str(self.config.ema)})
        plot_losses(read_metrics(self.folder), self.folder / "loss.png")

    def _whole(self, learnt: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All tensors of a mapping file: with an empty null_exp, which learns nothing, where there is no expression."""
        return {**self.task.network.state_dict(), **learnt}


def _start(config: TrainConfig, data: TrainingData) -> StateDict:
    """The weights of the mapping to train further. MismatchError when it goes with other conventions or features."""
    weights = read_weights(config.start_from, expect="mapping")
    injection = weights.metadata.get("injection", INJECTION_SUM)  # of the published file, which says nothing
    if injection != config.injection:
        raise MismatchError(
            f"{weights.path.name} has injection {injection} and the setting is {config.injection}; expected the same. "
            f"Set injection to {injection}."
        )
    made, prepared = weights.metadata.get("msid_sha256", ""), data.facts.get("msid_sha256", "")
    if made and prepared and made != prepared:
        raise MismatchError(
            f"{weights.path.name} was trained with another encoder (sha256 {made[:12]}…) than the photos were prepared "
            f"with ({prepared[:12]}…). Prepare them with the encoder it was trained with."
        )
    return weights.state_dict


def _refuse_changes(path: Path, values: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is damaged, expected the settings of a run. Choose a new run name.") from error
    changed = differences(before, values)
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
