"""The loop: gradient pass in micro-batches, one reduction over all processes, one update.

It knows no model: a task gives it batches and losses. Every step is a function of the state before it and of its
number, so an interrupted step is simply forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..errors import TrainingError
from .distributed import World
from .state import Group, Optimisation, TrainState

LOSS = "loss"
_LISTED = 16  # photos that a message names

StopRequest = Callable[[], bool]


class Batch(Protocol):
    """Samples that are ready for the gradient pass. images: their numbers in the data set."""

    images: Sequence[int]

    def __len__(self) -> int: ...

    def part(self, start: int, size: int) -> Batch:
        """The samples start .. start + size - 1."""
        ...


class Task(Protocol):
    """What the loop trains.

    figures: the names of what `measure` gives, "loss" first. together: the losses of a sample need the samples of all
    processes, so that all go through each micro-batch at the same time. memory_help: what lowers the need of memory.
    """

    groups: Sequence[Group]
    optimisation: Optimisation
    figures: Sequence[str]
    together: bool
    memory_help: str

    def ready_batch(self, step: int, slots: range, micro_batch: int) -> Batch:
        """These slots of the batch of step `step`, with everything that needs no gradient. micro_batch: how many
        samples a gradient pass has; a pass without gradient may take more."""
        ...

    def measure(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """The figures of the samples, (B,) each; the loss carries the gradient."""
        ...


@dataclass(frozen=True)
class StepResult:
    """Means over the batch of one step. gradient_norm: before clipping; infinite where an fp16 overflow skipped the
    update. figures: what the task tells besides the loss; one that is NaN, because no sample has it, is left out."""

    step: int  # that are done, this one included
    loss: float
    gradient_norm: float
    figures: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """All of it, as a line of the run's figures."""
        return {"step": self.step, LOSS: self.loss, **self.figures, "gradient_norm": self.gradient_norm}


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
        total, own_squares = self._reduced(sums)
        means, stopped = total[:-1].tolist(), bool(total[-1])
        if stopped:
            self.state.forget()
            return None
        figures = dict(zip(self.task.figures, means, strict=True))
        loss = figures.pop(LOSS)
        self._require_number(loss, batch, losses)
        figures = {name: value for name, value in figures.items() if not math.isnan(value)}
        norm = self._update(batch, own_squares)
        self.state.step += 1
        return StepResult(self.state.step, loss, norm, figures)

    def gradient(self) -> torch.Tensor:
        """(n,): of the next step over all processes, before clipping; the state stays as it is."""
        batch = self._prepare(self.world.share(self.batch))
        sums, _ = self._gradient_pass(batch, lambda: False)
        self._reduced(sums)
        self.state.forget()
        return self.state.gradient / self.state.scale.value

    def trial(self, samples: int) -> None:
        """A gradient pass over the first samples of the next step, for its memory; the state stays as it is."""
        batch = self._prepare(range(samples))
        self.state.begin()
        self._backward(batch)
        self.state.forget()
        self.state.clear_gradient()

    def _prepare(self, slots: range) -> Batch:
        return self.task.ready_batch(self.state.step, slots, self.micro_batch)

    def _attempt(self, stop: StopRequest) -> tuple[Batch, torch.Tensor, torch.Tensor] | None:
        """(batch, sums, losses), or None when memory ran out and smaller parts are to be tried."""
        try:
            batch = self._prepare(self.world.share(self.batch))
            return batch, *self._gradient_pass(batch, stop)
        except torch.OutOfMemoryError as error:
            self._take_less(error)
            self.state.forget()
            return None

    def _gradient_pass(self, batch: Batch, stop: StopRequest) -> tuple[torch.Tensor, torch.Tensor]:
        """(sums, losses). sums: (n + 1,), this process' share of the n figures, and whether to stop. losses: of every
        sample that was reached."""
        self.state.begin()
        self.state.clear_gradient()
        sums = self.state.gradient.new_zeros(len(self.task.figures) + 1)
        losses = []
        for at, size in self._parts(len(batch)):
            if self._stops(stop):
                sums[-1] = 1
                break
            figures = self._backward(batch.part(at, size))
            losses.append(figures[0])
            sums[:-1] += figures.sum(dim=1) / self.batch
        return sums, torch.cat(losses) if losses else sums[:0]

    def _parts(self, samples: int) -> list[tuple[int, int]]:
        """(start, size) of every micro-batch; where processes work together, all have the same number of them."""
        if not self.task.together:
            return [(at, self.micro_batch) for at in range(0, samples, self.micro_batch)]
        most = max(len(World(rank, self.world.size).share(self.batch)) for rank in range(self.world.size))
        parts = -(-most // self.micro_batch)
        ends = [samples * (i + 1) // parts for i in range(parts)]
        return [(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]

    def _stops(self, stop: StopRequest) -> bool:
        if not self.task.together or self.world.size == 1:
            return stop()
        return self.world.any(stop(), self.state.gradient.device)

    def _backward(self, part: Batch) -> torch.Tensor:
        """Add the gradient of some samples; (n, B): their figures."""
        figures = self.task.measure(part)
        # Divided by the whole batch, not by this part, so that any way of cutting it up gives the same sum.
        (figures[LOSS].sum() * (self.state.scale.value / self.batch)).backward()
        return torch.stack([figures[name].detach() for name in self.task.figures])

    def _reduced(self, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`sums` and the squares of the gradients that are each process' own, over all processes; the shared
        gradient is added up in the same message."""
        own_squares = self.state.own_squares()
        if self.world.size == 1:
            return sums, own_squares
        shared = self.state.shared_gradient
        message = torch.cat((shared, sums, own_squares))
        self.world.add_up(message)
        shared.copy_(message[: len(shared)])
        return message[len(shared) : -1], message[-1:]

    def _update(self, batch: Batch, own_squares: torch.Tensor) -> float:
        scale = self.state.scale
        norm = self.state.update(own_squares)
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
                f"The memory of the device is too small for {self.micro_batch} samples at once; {self.task.memory_help}"
            ) from error
        self.micro_batch //= 2


def _listed(images: Sequence[int]) -> str:
    rest = f" and {len(images) - _LISTED} more" if len(images) > _LISTED else ""
    return f"photos {', '.join(str(image) for image in images[:_LISTED])}{rest}"
