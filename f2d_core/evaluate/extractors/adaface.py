"""AdaFace (Kim et al. 2022): the residual networks IR-18 to IR-101 that it was trained with.

Key names of the published checkpoints (github.com/mk-minchul/AdaFace, adaface_ir50_ms1mv2.ckpt and others), bare.
Depth and widths come from the state dict. Input: 112 px crops, blue first, in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import nn

from ...errors import WeightsError
from ...state_dict import StateDict, indices, shape_of

WHAT = "AdaFace network"
SIGN = "input_layer.0.weight"
_FINAL_PX = 7  # 112 halved four times
_LAYERS = {8: 18, 16: 34, 24: 50, 49: 101}  # residual blocks -> the number in the name


def adaface_kind(state_dict: StateDict) -> str:
    """ "adaface_ir50" or another depth. WeightsError for a depth that was never published."""
    blocks = len(indices(state_dict, "body."))
    if blocks not in _LAYERS:
        raise WeightsError(
            f"{WHAT}: {blocks} residual blocks found, expected one of {', '.join(map(str, _LAYERS))}; load another file"
        )
    return f"adaface_ir{_LAYERS[blocks]}"


def adaface_network(state_dict: StateDict) -> AdaFace:
    """The network, empty, of the sizes that `state_dict` says. WeightsError if it says none."""
    shapes = [shape_of(state_dict, f"body.{i}.res_layer.1.weight", 4, WHAT) for i in indices(state_dict, "body.")]
    widths = [(inputs, outputs) for outputs, inputs, *_ in shapes]
    features, _ = shape_of(state_dict, "output_layer.3.weight", 2, WHAT)
    return AdaFace(widths, features)


class AdaFace(nn.Module):
    """Faces -> features. Names of attributes are those of the published keys."""

    def __init__(self, widths: list[tuple[int, int]], features: int):
        """widths: channels that enter and leave each residual block."""
        super().__init__()
        stem, last = widths[0][0], widths[-1][1]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.PReLU(stem)
        )
        # The first block of each of the four stages halves the size; only that of the first keeps its width.
        self.body = nn.Sequential(*(Block(a, b, 2 if i == 0 or a != b else 1) for i, (a, b) in enumerate(widths)))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Identity(),  # dropout, in training
            nn.Flatten(),
            nn.Linear(last * _FINAL_PX * _FINAL_PX, features),
            nn.BatchNorm1d(features, affine=False),
        )

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, 112, 112) BGR in [-1, 1] -> (B, features), not normalised."""
        return self.output_layer(self.body(self.input_layer(faces)))


class Block(nn.Module):
    """A residual block that normalises first and rectifies once, between its two convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride) if inputs == outputs else _resized(inputs, outputs, stride)
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.res_layer(features) + self.shortcut_layer(features)


def _resized(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
