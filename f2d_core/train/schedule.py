"""Learning rates and margins over a run, as functions of the number of steps that are done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class WarmUp:
    """From value / warm_up in even steps to `value`, which the first step after the warm-up has; then constant, or
    down to 0 at step `end` in a straight line when `end` is given."""

    value: float
    warm_up: int  # steps
    end: int = 0  # steps; 0: no decay

    def __call__(self, step: int) -> float:
        if step < self.warm_up:
            return self.value * (step + 1) / (self.warm_up + 1)
        if not self.end:
            return self.value
        return self.value * max(0, self.end - step) / max(1, self.end - self.warm_up)
