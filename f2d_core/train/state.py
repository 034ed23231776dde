"""What learning changes: parameters, optimiser moments, the averaged copy and the loss scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .config import TrainConfig

Tensors = dict[str, torch.Tensor]
_MOMENTS = ("exp_avg", "exp_avg_sq")
_FIRST_SCALE = 2.0**14
_LEAST_SCALE = 2.0**-8
_DOUBLE_AFTER = 2000  # updates without an overflow


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
    """The state of a run after `step` steps. Gradients are views of one flat buffer, which is reduced in one go."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig, half: bool):
        self.step = 0
        self.parameters = dict(parameters)
        self.scale = LossScale(_FIRST_SCALE, dynamic=True) if half else LossScale()
        self.ema = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._config = config
        self._sample = next(iter(self.parameters.values()))
        self._optimiser = _adamw(self.parameters, config, self._sample.device)
        self._gradient = self._sample.new_zeros(sum(value.numel() for value in self.parameters.values()))
        self.clear_gradient()

    @property
    def gradient(self) -> torch.Tensor:
        """(n,): of all parameters, in their order, multiplied by the loss scale until `update`."""
        return self._gradient

    def clear_gradient(self) -> None:
        self._gradient.zero_()
        at = 0
        for value in self.parameters.values():
            value.grad = self._gradient[at : at + value.numel()].view_as(value)
            at += value.numel()

    def update(self) -> float:
        """One AdamW step along the gradient, clipped to the norm of the settings; the norm before that.

        A gradient that is not finite changes nothing.
        """
        norm = float(self._gradient.div_(self.scale.value).norm())
        if not math.isfinite(norm):
            return norm
        self._gradient.mul_(min(1.0, self._config.grad_clip / (norm + 1e-6)))
        self._optimiser.step()
        for name, value in self.parameters.items():
            self.ema[name].lerp_(value.detach(), 1 - self._config.ema)
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
            self.ema[name].copy_(ema[name])
            if updates:
                state = {moment: moments[f"{moment}.{name}"].to(value) for moment in _MOMENTS}
                count = updates.to(value.device) if value.device.type == "cuda" else updates
                self._optimiser.state[value] = {"step": count.clone(), **state}


def _adamw(parameters: Mapping[str, torch.nn.Parameter], config: TrainConfig, device: torch.device):
    """Weight decay on matrices alone: not on biases, not on null_exp."""
    decayed = [value for value in parameters.values() if value.ndim > 1]
    others = [value for value in parameters.values() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind = {"fused": True} if device.type == "cuda" else {"foreach": True}
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), **kind)
