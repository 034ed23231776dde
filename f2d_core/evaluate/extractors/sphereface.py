"""SphereFace-20a (Liu et al. 2017): twenty layers without batch norm.

Key names of github.com/clcarwin/sphereface_pytorch (model/sphere20a_20171020.7z, LFW 99.22 %). Its class weights
(`fc6`) serve training only and are passed over. Input: crops of 112 rows and 96 columns, blue first, in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import nn

WHAT = "SphereFace network"
SIGN = "conv4_3.weight"
_STAGES = ((64, 1), (128, 2), (256, 4), (512, 1))  # channels, residual units
_FINAL = 7 * 6
FEATURES = 512


class SphereFace(nn.Module):
    """Faces -> features. Names of attributes are those of the published keys."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for stage, (width, units) in enumerate(_STAGES, start=1):
            for layer in range(1, 2 * units + 2):
                stride = 2 if layer == 1 else 1
                self.add_module(f"conv{stage}_{layer}", nn.Conv2d(inputs, width, 3, stride=stride, padding=1))
                self.add_module(f"relu{stage}_{layer}", nn.PReLU(width))
                inputs = width
        self.fc5 = nn.Linear(inputs * _FINAL, FEATURES)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, 112, 96) BGR in [-1, 1] -> (B, 512), not normalised."""
        features = faces
        for stage, (_, units) in enumerate(_STAGES, start=1):
            features = self._layer(stage, 1, features)
            for unit in range(units):
                inner = self._layer(stage, 2 * unit + 2, features)
                features = features + self._layer(stage, 2 * unit + 3, inner)
        return self.fc5(features.flatten(1))

    def _layer(self, stage: int, layer: int, features: torch.Tensor) -> torch.Tensor:
        name = f"{stage}_{layer}"
        return self.get_submodule(f"relu{name}")(self.get_submodule(f"conv{name}")(features))
