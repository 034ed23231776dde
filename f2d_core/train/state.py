"""What learning changes: parameters, optimiser moments, the averaged copy and the loss scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

Tensors = dict[str, torch.Tensor]
_MOMENTS = ("exp_avg", "exp_avg_sq")
_FIRST_SCALE = 2.0**14
_LEAST_SCALE = 2.0**-8
_DOUBLE_AFTER = 2000  # updates without an overflow


@dataclass(frozen=True)
class Group:
    """Parameters that are decayed alike. own: every process has a part of its own of them, which no other one sees;
    the others are the same in all processes."""

    parameters: Mapping[str, torch.nn.Parameter]
    weight_decay: float
    own: bool = False


@dataclass(frozen=True)
class Optimisation:
    """How AdamW moves parameters. learning_rate: of the update after so many steps. grad_clip: the greatest norm of
    the whole gradient. ema: of the averaged copy, 0 for none. half: fp16, whose loss is scaled."""

    learning_rate: Callable[[int], float]
    beta1: float
    beta2: float
    grad_clip: float
    ema: float = 0.0
    half: bool = False


@dataclass
class LossScale:
    """What an fp16 loss is multiplied with so that small gradients stay above zero; fixed at 1 in other precisions."""

    value: float = 1.0
    dynamic: bool = False
    since_change: int = 0

    def grow(self) -> None:
        """After an update that went well."""
        self.since_change += 1
        if self.dynamic and self.since_change >= _DOUBLE_AFTER:
            self.value, self.since_change = self.value * 2, 0

    def shrink(self) -> bool:
        """After an overflow; False when there is nothing left to shrink."""
        if not self.dynamic or self.value <= _LEAST_SCALE:
            return False
        self.value, self.since_change = self.value / 2, 0
        return True


class TrainState:
    """The state of a run after `step` steps. Gradients are views of one flat buffer, those that all processes share
    in front, so that they are added up in one go.

    buffers: what a forward pass changes by itself, as a batch norm its statistics.
    """

    def __init__(self, groups: Sequence[Group], rule: Optimisation, buffers: Iterable[torch.Tensor] = ()):
        self.step = 0
        self._buffers = list(buffers)
        self.begin()
        self.parameters = {name: value for group in _shared_first(groups) for name, value in group.parameters.items()}
        self.scale = LossScale(_FIRST_SCALE, dynamic=True) if rule.half else LossScale()
        self.ema = {name: value.detach().clone() for name, value in self.parameters.items()} if rule.ema else {}
        self._rule = rule
        sample = next(iter(self.parameters.values()))
        self._optimiser = _adamw(groups, rule, sample.device)
        self._gradient = sample.new_zeros(sum(value.numel() for value in self.parameters.values()))
        self._shared = sum(v.numel() for group in groups if not group.own for v in group.parameters.values())
        self.clear_gradient()

    @property
    def gradient(self) -> torch.Tensor:
        """(n,): of all parameters, in their order, multiplied by the loss scale until `update`."""
        return self._gradient

    @property
    def shared_gradient(self) -> torch.Tensor:
        """(m,): the part of the parameters that all processes have."""
        return self._gradient[: self._shared]

    def own_squares(self) -> torch.Tensor:
        """(1,): the squared norm of the rest."""
        return self._gradient[self._shared :].square().sum().reshape(1)

    def clear_gradient(self) -> None:
        self._gradient.zero_()
        at = 0
        for value in self.parameters.values():
            value.grad = self._gradient[at : at + value.numel()].view_as(value)
            at += value.numel()

    def begin(self) -> None:
        """Remember the buffers as they are before a step."""
        self._before = [value.clone() for value in self._buffers]

    def forget(self) -> None:
        """Put the buffers back: the step that was begun does not count."""
        for value, before in zip(self._buffers, self._before, strict=True):
            value.copy_(before)

    def update(self, own_squares: torch.Tensor | None = None) -> float:
        """One AdamW step along the gradient, clipped to the norm of the settings; the norm before that.

        own_squares: those of all processes together, (1,). A gradient that is not finite changes nothing.
        """
        squares = self.own_squares() if own_squares is None else own_squares
        norm = float((self.shared_gradient.norm() ** 2 + squares).sqrt()) / self.scale.value
        if not math.isfinite(norm):
            return norm
        self._gradient.mul_(min(1.0, self._rule.grad_clip / (norm + 1e-6)) / self.scale.value)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rule.learning_rate(self.step)
        self._optimiser.step()
        for name, value in self.ema.items():
            value.lerp_(self.parameters[name].detach(), 1 - self._rule.ema)
        return norm

    def weights(self) -> Tensors:
        return {name: value.detach() for name, value in self.parameters.items()}

    def moments(self) -> Tensors:
        """AdamW's moments as `exp_avg.NAME` and `exp_avg_sq.NAME`, and its count of updates."""
        found = {"updates": torch.zeros(1)}
        for name, value in self.parameters.items():
            state = self._optimiser.state.get(value, {})
            for moment in _MOMENTS:
                found[f"{moment}.{name}"] = state.get(moment, torch.zeros_like(value))
            found["updates"] = state.get("step", torch.zeros(())).detach().reshape(1)
        return found

    def restore(self, step: int, weights: Tensors, ema: Tensors, moments: Tensors, scale: LossScale) -> None:
        """Take over the state that a checkpoint holds."""
        self.step, self.scale = step, scale
        updates = moments["updates"].reshape(()).to(torch.float32)
        for name, value in self.parameters.items():
            with torch.no_grad():
                value.copy_(weights[name])
            if self.ema:
                self.ema[name].copy_(ema[name])
            if updates:
                state = {moment: moments[f"{moment}.{name}"].to(value) for moment in _MOMENTS}
                count = updates.to(value.device) if value.device.type == "cuda" else updates
                self._optimiser.state[value] = {"step": count.clone(), **state}


def _shared_first(groups: Sequence[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: group.own)


def _adamw(groups: Sequence[Group], rule: Optimisation, device: torch.device):
    parts = [{"params": list(g.parameters.values()), "weight_decay": g.weight_decay} for g in groups if g.parameters]
    kind = {"fused": True} if device.type == "cuda" else {"foreach": True}
    return torch.optim.AdamW(parts, lr=rule.learning_rate(0), betas=(rule.beta1, rule.beta2), **kind)
