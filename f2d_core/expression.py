"""f_exp: the 3D face reconstruction network, of whose 257 coefficients 64 are the expression (v_exp).

Deep3DFaceRecon: a ResNet-50 and one 1 x 1 convolution per group of coefficients; key names of `net_recon` in
epoch_20.pth. The sizes come from the state dict. The network here is for inference only: every batch norm is
folded into the convolution before it, so its own state dict is not the published one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .constants import RECON_PARTS
from .state_dict import Operations, Shapes, StateDict, build, check_state_dict, expected_shapes, indices, shape_of

WHAT = "expression encoder"
BATCH_NORM_EPS = 1e-5
STAGES = 4
EXPRESSION_HEAD = list(RECON_PARTS).index("expression")


@dataclass(frozen=True)
class Stage:
    """A run of residual blocks of one size."""

    inner: int  # channels of the 3 x 3 convolution
    outer: int  # channels that leave a block
    blocks: int


@dataclass(frozen=True)
class ExpressionConfig:
    """The sizes of a network of four stages."""

    stem: int  # channels of the first convolution
    stages: tuple[Stage, ...]
    parts: tuple[int, ...]  # coefficients per group


def expression_config(state_dict: StateDict) -> ExpressionConfig:
    """The sizes of the network that `state_dict` holds. WeightsError if it holds none."""
    stem = shape_of(state_dict, "backbone.conv1.weight", 4, WHAT)[0]
    stages = tuple(_stage(state_dict, f"backbone.layer{i + 1}.") for i in range(STAGES))
    parts = tuple(shape_of(state_dict, f"final_layers.{i}.weight", 4, WHAT)[0] for i in range(len(RECON_PARTS)))
    return ExpressionConfig(stem, stages, parts)


def _stage(state_dict: StateDict, prefix: str) -> Stage:
    inner = shape_of(state_dict, f"{prefix}0.conv1.weight", 4, WHAT)[0]
    outer = shape_of(state_dict, f"{prefix}0.conv3.weight", 4, WHAT)[0]
    return Stage(inner, outer, len(indices(state_dict, prefix)))


def build_expression(state_dict: StateDict, operations: Operations = nn) -> ExpressionEncoder:
    """The network with these weights, frozen, in eval mode. WeightsError names a key that is missing or misshapen.

    The counters of the batch norms, which inference never reads, may be absent.
    """
    config = expression_config(state_dict)
    expected = published_shapes(config)
    check_state_dict(state_dict, expected, [key for key in expected if key.endswith("num_batches_tracked")], WHAT)
    return build(lambda ops: ExpressionEncoder(config, ops), fold_batch_norms(state_dict), operations, WHAT)


def published_shapes(config: ExpressionConfig) -> Shapes:
    """Key -> shape of the published layout, in which batch norms stand beside convolutions without bias."""
    published = {}
    for key, shape in expected_shapes(lambda: ExpressionEncoder(config)).items():
        if not key.startswith("backbone.") or key.endswith(".weight"):
            published[key] = shape
        else:
            norm = norm_of(key.removesuffix(".bias"))
            published |= {f"{norm}.{name}": shape for name in ("weight", "bias", "running_mean", "running_var")}
            published[f"{norm}.num_batches_tracked"] = ()
    return published


def norm_of(convolution: str) -> str:
    """The name of the batch norm that follows a convolution of the backbone."""
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    before, _, number = convolution.rpartition("conv")
    return f"{before}bn{number}"


def fold_batch_norms(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """The published layout -> convolutions with bias that include their batch norms."""
    folded = {key: value for key, value in state_dict.items() if not key.startswith("backbone.")}
    for key, weight in state_dict.items():
        if key.startswith("backbone.") and weight.dim() == 4:
            convolution = key.removesuffix(".weight")
            folded[key], folded[f"{convolution}.bias"] = _folded(weight, state_dict, norm_of(convolution))
    return folded


def _folded(weight: torch.Tensor, state_dict: StateDict, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    gain, bias, mean, variance = (
        state_dict[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / torch.sqrt(variance + BATCH_NORM_EPS)
    return weight * gain.to(weight)[:, None, None, None], (bias - mean * gain).to(weight)


class ExpressionEncoder(nn.Module):
    """Faces -> coefficients of a 3D face. `operations` gives the layers that hold weights."""

    def __init__(self, config: ExpressionConfig, operations: Operations = nn):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config, operations)
        pooled = config.stages[-1].outer
        self.final_layers = nn.ModuleList(operations.Conv2d(pooled, part, 1) for part in config.parts)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """faces: (B, 3, 224, 224), RGB in [0, 1]. All coefficients: (B, 257)."""
        pooled = self.backbone(faces)
        return torch.cat([layer(pooled) for layer in self.final_layers], dim=1).flatten(1)

    def expression(self, faces: torch.Tensor) -> torch.Tensor:
        """faces: (B, 3, 224, 224), RGB in [0, 1]. v_exp: (B, 64)."""
        return self(faces)[:, self.expression_part]

    @property
    def expression_part(self) -> slice:
        """Which of the coefficients are the expression."""
        start = sum(self.config.parts[:EXPRESSION_HEAD])
        return slice(start, start + self.config.parts[EXPRESSION_HEAD])


class Backbone(nn.Module):
    """A ResNet with bottleneck blocks, up to its pooled features."""

    def __init__(self, config: ExpressionConfig, operations: Operations):
        super().__init__()
        self.conv1 = operations.Conv2d(3, config.stem, 7, stride=2, padding=3)
        inputs = config.stem
        for i, stage in enumerate(config.stages):
            self.add_module(f"layer{i + 1}", _stage_layers(inputs, stage, 1 if i == 0 else 2, operations))
            inputs = stage.outer

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, channels, 1, 1)."""
        features = F.max_pool2d(F.relu(self.conv1(faces)), 3, stride=2, padding=1)
        for i in range(STAGES):
            features = getattr(self, f"layer{i + 1}")(features)
        return features.mean(dim=(2, 3), keepdim=True)


def _stage_layers(inputs: int, stage: Stage, stride: int, operations: Operations) -> nn.Sequential:
    first = Bottleneck(inputs, stage, stride, operations)
    return nn.Sequential(first, *(Bottleneck(stage.outer, stage, 1, operations) for _ in range(stage.blocks - 1)))


class Bottleneck(nn.Module):
    """A residual block. A change of size puts a convolution on its shortcut."""

    def __init__(self, inputs: int, stage: Stage, stride: int, operations: Operations):
        super().__init__()
        self.conv1 = operations.Conv2d(inputs, stage.inner, 1)
        self.conv2 = operations.Conv2d(stage.inner, stage.inner, 3, stride=stride, padding=1)
        self.conv3 = operations.Conv2d(stage.inner, stage.outer, 1)
        self.downsample = nn.Sequential()
        if inputs != stage.outer or stride != 1:
            self.downsample.append(operations.Conv2d(inputs, stage.outer, 1, stride=stride))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outer, H / stride, W / stride)."""
        inner = F.relu(self.conv2(F.relu(self.conv1(features))))
        return F.relu(self.conv3(inner) + self.downsample(features))
