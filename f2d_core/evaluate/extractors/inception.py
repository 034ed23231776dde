"""The Inception v3 of FID and KID: TensorFlow's network of 2015-12-05, whose numbers all published FIDs are.

Key names of pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid) and of the same weights in
github.com/toshas/torch-fidelity. It differs from the usual Inception v3 (Szegedy et al. 2015) in four ways: 3 x 3
means leave the padding out, the last block takes the maximum where the others take means, pictures are resized as
TensorFlow 1 did (positions from the corner, no smoothing), and levels become (level - 128) / 128.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .layers import ConvNorm

WHAT = "Inception of FID"
SIGN = "Mixed_7c.branch3x3dbl_3b.conv.weight"
FEATURES = 2048
SIZE_PX = 299


def inception_input(pictures: list[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) uint8 RGB, any sizes -> (B, 3, 299, 299) fp32."""
    return torch.stack([_resized(picture) for picture in pictures])


def _resized(picture: np.ndarray) -> torch.Tensor:
    """Bilinear between the pixels at i * old / new, in fp32 as the reference."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
    rows, lower, down = _taps(pixels.shape[1])
    columns, right, across = _taps(pixels.shape[2])
    upper = pixels[:, rows][:, :, columns] + (pixels[:, rows][:, :, right] - pixels[:, rows][:, :, columns]) * across
    below = pixels[:, lower][:, :, columns] + (pixels[:, lower][:, :, right] - pixels[:, lower][:, :, columns]) * across
    return (upper + (below - upper) * down[:, None] - 128) / 128


def _taps(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each of 299 places: the pixel before it, the pixel after it, and how far it is on the way."""
    places = torch.arange(SIZE_PX, dtype=torch.float32) * (length / SIZE_PX)
    before = places.floor().long()
    return before, (before + 1).clamp(max=length - 1), places - before


def _mean_3x3(features: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """At 35 x 35: 1 x 1, 5 x 5, twice 3 x 3, mean."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = ConvNorm(inputs, 64, 1)
        self.branch5x5_1 = ConvNorm(inputs, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        parts = (self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_mean_3x3(x)))
        return torch.cat(parts, dim=1)


class BlockB(nn.Module):
    """From 35 x 35 to 17 x 17."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = ConvNorm(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(inputs, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)), dim=1)


class BlockC(nn.Module):
    """At 17 x 17: 7 x 7 taken apart, once and twice."""

    def __init__(self, inputs: int, inner: int):
        super().__init__()
        wide, tall = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = ConvNorm(inputs, 192, 1)
        self.branch7x7_1 = ConvNorm(inputs, inner, 1)
        self.branch7x7_2 = ConvNorm(inner, inner, **wide)
        self.branch7x7_3 = ConvNorm(inner, 192, **tall)
        self.branch7x7dbl_1 = ConvNorm(inputs, inner, 1)
        self.branch7x7dbl_2 = ConvNorm(inner, inner, **tall)
        self.branch7x7dbl_3 = ConvNorm(inner, inner, **wide)
        self.branch7x7dbl_4 = ConvNorm(inner, inner, **tall)
        self.branch7x7dbl_5 = ConvNorm(inner, 192, **wide)
        self.branch_pool = ConvNorm(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat((self.branch1x1(x), once, twice, self.branch_pool(_mean_3x3(x))), dim=1)


class BlockD(nn.Module):
    """From 17 x 17 to 8 x 8."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3_1 = ConvNorm(inputs, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(inputs, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((self.branch3x3_2(self.branch3x3_1(x)), long, F.max_pool2d(x, 3, stride=2)), dim=1)


class BlockE(nn.Module):
    """At 8 x 8: 3 x 3 spread into a wide and a tall one. maximum: the quirk of the last block."""

    def __init__(self, inputs: int, maximum: bool):
        super().__init__()
        self._maximum = maximum
        wide, tall = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = ConvNorm(inputs, 320, 1)
        self.branch3x3_1 = ConvNorm(inputs, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, **wide)
        self.branch3x3_2b = ConvNorm(384, 384, **tall)
        self.branch3x3dbl_1 = ConvNorm(inputs, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, **wide)
        self.branch3x3dbl_3b = ConvNorm(384, 384, **tall)
        self.branch_pool = ConvNorm(inputs, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self._maximum else _mean_3x3(x)
        parts = (self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once))
        more = (self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.branch_pool(pooled))
        return torch.cat(parts + more, dim=1)


class Inception(nn.Module):
    """Pictures -> the features that FID and KID compare. Names of attributes are those of the published keys."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.maxpool_1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.maxpool_2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, 299, 299), levels as (level - 128) / 128 -> (B, 2048)."""
        features = pictures
        for part in self.children():
            features = part(features)
        return features.mean(dim=(2, 3))
