"""Layers as a host has them: weights of any dtype, arithmetic in the dtype of the input."""

import torch
import torch.nn.functional as F
from torch import nn


class CastingOperations:
    """The namespace `operations` of the networks' builders."""

    class Linear(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return F.linear(inputs, self.weight.to(inputs), self.bias.to(inputs))

    class LayerNorm(nn.LayerNorm):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            weight, bias = self.weight.to(inputs), self.bias.to(inputs)
            return F.layer_norm(inputs, self.normalized_shape, weight, bias, self.eps)

    class Conv2d(nn.Conv2d):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(inputs, self.weight.to(inputs), self.bias.to(inputs))
