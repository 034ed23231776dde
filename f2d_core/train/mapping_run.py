"""The run that trains a mapping network: what it starts from, what is validated, previewed and written.

Besides the files of every run (f2d_core.train.run):

RUN/
    previews/step_000002000.png
    mapping.safetensors       the result so far; mapping_ema.safetensors the averaged copy
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..constants import FEATURES_MSID, INJECTION_SUM
from ..errors import MismatchError
from ..image import write_png
from ..ports import TrainingData, TripletData
from ..state_dict import StateDict
from ..weights import read_weights, write_safetensors
from .checkpoint import Checkpoint, Metadata
from .config import FREE, TrainConfig, recorded
from .distributed import World
from .metrics import Row
from .preview import preview_pictures, validation_losses
from .run import VALIDATION, Moment, Report, Watcher, carry_out, require_samples
from .state import TrainState
from .task import MappingTask, TrainingParts
from .trainer import StopRequest

PREVIEWS = "previews"
MAPPING_FILE, EMA_FILE = "mapping.safetensors", "mapping_ema.safetensors"
WEIGHTS, EMA, MOMENTS = "mapping.safetensors", "ema.safetensors", "moments.safetensors"  # of a checkpoint


@dataclass(frozen=True)
class TrainResult:
    """finished: all steps are done; otherwise the same call continues. mapping: the file of the result so far."""

    step: int
    finished: bool
    mapping: Path
    folder: Path


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
    triplets: TripletData | None = None,
) -> TrainResult:
    """Train a mapping network in `folder`, or go on with the one that is there; the models are never changed.

    data: photos to reconstruct. triplets: edited pictures to learn beside them. A stop is asked for by should_stop, or
    by raising from it or from progress: the micro-batch is finished, the step forgotten, everything saved, and what
    was raised is raised again. Raises SettingsError when the folder holds a run with other settings (all differences
    are listed), MismatchError, PromptError, TrainingError, OutputError.
    """
    require_samples(config.batch, world or World())
    watcher = Watcher(progress, should_stop, on_preview)
    done = carry_out(lambda: MappingJob(parts, data, config, triplets), folder, world, watcher, config.deterministic)
    return TrainResult(done.step, done.finished, done.folder / MAPPING_FILE, done.folder)


class MappingJob:
    """A `run.Job`."""

    free, folders = FREE, (PREVIEWS,)

    def __init__(
        self, parts: TrainingParts, data: TrainingData, config: TrainConfig, triplets: TripletData | None = None
    ):
        self.task = MappingTask(parts, data, config, _start(config, data) if config.start_from else None, triplets)
        self.curves = tuple(name for name in self.task.figures if name != "word_length")
        self.config = self.task.config
        self.state = TrainState(self.task.groups, self.task.optimisation)

    def values(self) -> dict[str, Any]:
        parts = self.task.parts
        return {
            **recorded(self.config),
            "data": self.task.data.fingerprint,
            **({"triplets": self.task.triplets.fingerprint} if self.task.triplets is not None else {}),
            "base_model": parts.base_model_sha256,
            "text_encoder": f"{parts.encoder.key} {parts.encoder.width}",
            "denoiser_dtype": str(parts.denoiser.dtype).removeprefix("torch."),
        }

    def tensors(self) -> dict[str, Mapping[str, torch.Tensor]]:
        weights, ema = self._whole(self.state.weights()), self._whole(self.state.ema)
        return {WEIGHTS: weights, EMA: ema, MOMENTS: self.state.moments()}

    def metadata(self) -> Metadata:
        facts = self.task.facts(self.state.step)
        return {WEIGHTS: facts, EMA: facts}

    def restore(self, checkpoint: Checkpoint) -> None:
        tensors = checkpoint.tensors
        self.state.restore(checkpoint.step, tensors[WEIGHTS], tensors[EMA], tensors[MOMENTS], checkpoint.scale)

    def look(self, moment: Moment) -> list[Row]:
        """Now and then validate and sample."""
        if not moment.world.writes:
            return []
        rows = []
        if moment.due(self.config.validate_every):
            found = validation_losses(self.task, moment.micro_batch, moment.stop)
            rows += [{"kind": VALIDATION, "step": moment.step, **found}] if found is not None else []
        if moment.due(self.config.preview_every) and self.task.parts.codec is not None and not moment.stop():
            self._preview(moment)
        return rows

    def write_results(self, folder: Path) -> None:
        facts = self.task.facts(self.state.step)
        write_safetensors(folder / MAPPING_FILE, self._whole(self.state.weights()), facts)
        write_safetensors(folder / EMA_FILE, self._whole(self.state.ema), {**facts, "ema": str(self.config.ema)})

    def _preview(self, moment: Moment) -> None:
        pictures = preview_pictures(self.task)
        row = torch.cat(tuple(pictures), dim=2)  # side by side
        levels = ((row.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
        write_png(moment.folder / PREVIEWS / f"step_{moment.step:09}.png", levels.numpy())
        moment.show(pictures)

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
    features, given = (facts.get("features", FEATURES_MSID) for facts in (weights.metadata, data.facts))
    if features != given:
        raise MismatchError(
            f"{weights.path.name} takes {features} features and the photos were prepared with {given} features; "
            "expected the same. Prepare them with the encoder it was trained with."
        )
    made, prepared = weights.metadata.get("msid_sha256", ""), data.facts.get("msid_sha256", "")
    if made and prepared and made != prepared:
        raise MismatchError(
            f"{weights.path.name} was trained with another encoder (sha256 {made[:12]}…) than the photos were prepared "
            f"with ({prepared[:12]}…). Prepare them with the encoder it was trained with."
        )
    return weights.state_dict
