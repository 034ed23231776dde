"""The loop: class pass, gradient pass in micro-batches, one reduction over all processes, one update.

It knows no model: a task gives it batches and losses. Every step is a function of the state before it and of its
number, so an interrupted step is simply forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..errors import TrainingError
from .distributed import World
from .losses import Losses
from .state import TrainState
from .task import Batch

CLASS_PASS_FACTOR = 4  # a pass without gradient takes about an eighth of the memory of one with

StopRequest = Callable[[], bool]


class Task(Protocol):
    """What the loop trains."""

    guided: bool

    def prepare(self, step: int, slots: range) -> Batch: ...

    def guide(self, batch: Batch) -> Batch: ...

    def losses(self, batch: Batch) -> tuple[Losses, torch.Tensor]: ...


@dataclass(frozen=True)
class StepResult:
    """Means over the batch of one step. gradient_norm: before clipping; infinite where an fp16 overflow skipped the
    update. word_length: of the word vectors of S*."""

    step: int  # that are done, this one included
    loss: float
    foreground: float
    background: float
    gradient_norm: float
    word_length: float


class Trainer:
    """Moves a state forward, one step at a time. micro_batch: samples per gradient pass; halved when memory runs out
    and `flexible`."""

    def __init__(
        self,
        task: Task,
        state: TrainState,
        batch: int,
        micro_batch: int,
        world: World | None = None,
        flexible: bool = True,
    ):
        self.task, self.state, self.batch = task, state, batch
        self.world = world or World()
        self.micro_batch = micro_batch
        self._flexible = flexible

    def step(self, stop: StopRequest) -> StepResult | None:
        """One step, or None when a stop was asked for in any process; the state is then as before.

        Raises TrainingError for a loss or gradient that is not a number, and when memory runs out for good.
        """
        attempt = None
        while attempt is None:
            attempt = self._attempt(stop)
        batch, sums, losses = attempt
        total = self._reduced(sums)
        means, stopped = total[:-1].tolist(), bool(total[-1])
        if stopped:
            return None
        loss, foreground, background, word_length = means
        self._require_number(loss, batch, losses)
        norm = self._update(batch)
        self.state.step += 1
        return StepResult(self.state.step, loss, foreground, background, norm, word_length)

    def gradient(self) -> torch.Tensor:
        """(n,): of the next step over all processes, before clipping; the state stays as it is."""
        batch = self._prepare(self.world.share(self.batch))
        sums, _ = self._gradient_pass(batch, lambda: False)
        self._reduced(sums)
        return self.state.gradient / self.state.scale.value

    def trial(self, samples: int) -> None:
        """A gradient pass over the first samples of the next step, for its memory; the state stays as it is."""
        batch = self._prepare(range(samples))
        self._backward(batch)
        self.state.clear_gradient()

    def _prepare(self, slots: range) -> Batch:
        batch = self.task.prepare(self.state.step, slots)
        if not self.task.guided:
            return batch
        size = max(1, self.micro_batch * CLASS_PASS_FACTOR)
        guided = [self.task.guide(batch.part(at, size)).eps_c for at in range(0, len(batch), size)]
        return batch.with_class_prediction(torch.cat(guided))

    def _attempt(self, stop: StopRequest) -> tuple[Batch, torch.Tensor, torch.Tensor] | None:
        """(batch, sums, losses), or None when memory ran out and smaller parts are to be tried."""
        try:
            batch = self._prepare(self.world.share(self.batch))
            return batch, *self._gradient_pass(batch, stop)
        except torch.OutOfMemoryError as error:
            self._take_less(error)
            return None

    def _gradient_pass(self, batch: Batch, stop: StopRequest) -> tuple[torch.Tensor, torch.Tensor]:
        """(sums, losses). sums: (5,), this process' share of loss, foreground, background and word length, and
        whether to stop. losses: of every sample that was reached."""
        self.state.clear_gradient()
        sums = self.state.gradient.new_zeros(5)
        losses = []
        for at in range(0, len(batch), self.micro_batch):
            if stop():
                sums[-1] = 1
                break
            figures = self._backward(batch.part(at, self.micro_batch))
            losses.append(figures[0])
            sums[:-1] += figures.sum(dim=1) / self.batch
        return sums, torch.cat(losses) if losses else sums[:0]

    def _backward(self, part: Batch) -> torch.Tensor:
        """Add the gradient of some samples; (4, B): their figures."""
        losses, lengths = self.task.losses(part)
        # Divided by the whole batch, not by this part, so that any way of cutting it up gives the same sum.
        (losses.total.sum() * (self.state.scale.value / self.batch)).backward()
        return torch.stack((losses.total.detach(), losses.foreground, losses.background, lengths.mean(dim=1)))

    def _reduced(self, sums: torch.Tensor) -> torch.Tensor:
        """`sums` over all processes; the gradient is added up in the same message."""
        if self.world.size == 1:
            return sums
        message = torch.cat((self.state.gradient, sums))
        self.world.add_up(message)
        self.state.gradient.copy_(message[: -len(sums)])
        return message[-len(sums) :]

    def _update(self, batch: Batch) -> float:
        scale = self.state.scale
        norm = self.state.update()
        if math.isfinite(norm):
            scale.grow()
        elif not scale.shrink():
            raise TrainingError(
                f"The gradient of step {self.state.step} is not finite ({_listed(batch.images)}), expected numbers."
                " The last checkpoint is kept: lower learning_rate, or take precision fp32, and continue."
            )
        return norm

    def _require_number(self, loss: float, batch: Batch, losses: torch.Tensor) -> None:
        if math.isfinite(loss):
            return
        bad = [image for image, fine in zip(batch.images, losses.isfinite().tolist(), strict=True) if not fine]
        where = f"from {_listed(bad)} of the batch {_listed(batch.images)}" if bad else "in another process"
        raise TrainingError(
            f"The loss of step {self.state.step} is {loss} ({where}), expected a number. The last checkpoint is kept: "
            "look at these photos in the data set, or take precision fp32, and continue."
        )

    def _take_less(self, error: torch.OutOfMemoryError) -> None:
        if self.micro_batch == 1 or not self._flexible:
            raise TrainingError(
                f"The memory of the device is too small for {self.micro_batch} samples at once; expected about 1 GB "
                "free for each at 512 px. Close other programs, lower micro_batch, or set gradient_checkpointing."
            ) from error
        self.micro_batch //= 2


def _listed(images: Sequence[int]) -> str:
    return f"photos {', '.join(str(image) for image in images)}"
