"""FaceNet (Schroff et al. 2015) as Inception-ResNet v1 (Szegedy et al. 2016) in David Sandberg's form.

Key names of github.com/timesler/facenet-pytorch (20180402-114759-vggface2.pt). Its class weights (`logits`) serve
training only and are passed over. Input: 160 px crops, RGB, (level - 127.5) / 128.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .layers import BATCH_NORM_EPS, ConvNorm

WHAT = "FaceNet"
SIGN = "repeat_1.0.branch0.conv.weight"
FEATURES = 512
# Times the repeated blocks add to what they get (Inception-v4, section 3.3, "scaling of the residuals").
_SCALE_35, _SCALE_17, _SCALE_8 = 0.17, 0.10, 0.20


class Branches(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        for i, branch in enumerate(branches):
            self.add_module(f"branch{i}", branch)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(features) for branch in self.children()], dim=1)


class Residual(nn.Module):
    """What joined branches say, projected and scaled, on top of what they got."""

    def __init__(self, width: int, scale: float, branches: dict[str, nn.Module], joined: int, rectify: bool = True):
        super().__init__()
        self._scale, self._rectify, self._branches = scale, rectify, tuple(branches)
        for name, branch in branches.items():
            self.add_module(name, branch)
        self.conv2d = nn.Conv2d(joined, width, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.get_submodule(name)(features) for name in self._branches], dim=1)
        features = features + self._scale * self.conv2d(joined)
        return F.relu(features) if self._rectify else features


def _block_35() -> Residual:
    """At 17 x 17."""
    branches = {
        "branch0": ConvNorm(256, 32, 1),
        "branch1": nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1)),
        "branch2": nn.Sequential(ConvNorm(256, 32, 1), ConvNorm(32, 32, 3, padding=1), ConvNorm(32, 32, 3, padding=1)),
    }
    return Residual(256, _SCALE_35, branches, 96)


def _block_17() -> Residual:
    """At 8 x 8."""
    long = nn.Sequential(
        ConvNorm(896, 128, 1), ConvNorm(128, 128, (1, 7), padding=(0, 3)), ConvNorm(128, 128, (7, 1), padding=(3, 0))
    )
    return Residual(896, _SCALE_17, {"branch0": ConvNorm(896, 128, 1), "branch1": long}, 256)


def _block_8(scale: float = _SCALE_8, rectify: bool = True) -> Residual:
    """At 3 x 3."""
    long = nn.Sequential(
        ConvNorm(1792, 192, 1), ConvNorm(192, 192, (1, 3), padding=(0, 1)), ConvNorm(192, 192, (3, 1), padding=(1, 0))
    )
    return Residual(1792, scale, {"branch0": ConvNorm(1792, 192, 1), "branch1": long}, 384, rectify)


def _mixed_6a() -> Branches:
    return Branches(
        ConvNorm(256, 384, 3, stride=2),
        nn.Sequential(ConvNorm(256, 192, 1), ConvNorm(192, 192, 3, padding=1), ConvNorm(192, 256, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


def _mixed_7a() -> Branches:
    return Branches(
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 384, 3, stride=2)),
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, stride=2)),
        nn.Sequential(ConvNorm(896, 256, 1), ConvNorm(256, 256, 3, padding=1), ConvNorm(256, 256, 3, stride=2)),
        nn.MaxPool2d(3, stride=2),
    )


class FaceNet(nn.Module):
    """Faces -> features. Names of attributes are those of the published keys."""

    def __init__(self):
        super().__init__()
        self.conv2d_1a = ConvNorm(3, 32, 3, stride=2)
        self.conv2d_2a = ConvNorm(32, 32, 3)
        self.conv2d_2b = ConvNorm(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = ConvNorm(64, 80, 1)
        self.conv2d_4a = ConvNorm(80, 192, 3)
        self.conv2d_4b = ConvNorm(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block_35() for _ in range(5)))
        self.mixed_6a = _mixed_6a()
        self.repeat_2 = nn.Sequential(*(_block_17() for _ in range(10)))
        self.mixed_7a = _mixed_7a()
        self.repeat_3 = nn.Sequential(*(_block_8() for _ in range(5)))
        self.block8 = _block_8(scale=1.0, rectify=False)
        self.last_linear = nn.Linear(1792, FEATURES, bias=False)
        self.last_bn = nn.BatchNorm1d(FEATURES, eps=BATCH_NORM_EPS)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, 160, 160) RGB about [-1, 1] -> (B, 512), not normalised."""
        *trunk, linear, norm = self.children()
        features = faces
        for part in trunk:
            features = part(features)
        return norm(linear(features.mean(dim=(2, 3))))
