"""A small residual convolutional network: what the judges see with. Unlike the encoders, no transformer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

_GROUPS = 8  # of the group norms


class ConvNet(nn.Module):
    """(B, inputs, S, S) -> (B, channels[-1], S / 2^n, S / 2^n), n the number of entries after the first."""

    def __init__(self, channels: Sequence[int], inputs: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.stages = nn.Sequential(*(nn.Sequential(_Down(a, b), _Residual(b)) for a, b in pairwise(channels)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.stages(self.stem(pixels))


class _Down(nn.Module):
    """Half the size, other channels."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, inputs)
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv(F.silu(self.norm(features)))


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, channels), nn.GroupNorm(_GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(F.silu(self.norm1(features)))
        return features + self.conv2(F.silu(self.norm2(inner)))


class Pooled(nn.Module):
    """A network for whole pictures: (B, 3, S, S) -> (B, outputs)."""

    def __init__(self, channels: Sequence[int], side: int, outputs: int):
        super().__init__()
        self.body = ConvNet(channels)
        cells = (side // 2 ** (len(channels) - 1)) ** 2
        self.norm = nn.GroupNorm(_GROUPS, channels[-1])
        self.head = nn.Linear(channels[-1] * cells, outputs)  # not averaged: where something is matters

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(F.silu(self.norm(self.body(pixels))).flatten(1))
