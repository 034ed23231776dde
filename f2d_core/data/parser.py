"""The face parser: BiSeNet on a ResNet-18, 19 classes of what a pixel of a face picture shows.

BiSeNet (Yu et al. 2018) in the form of github.com/zllrunning/face-parsing.PyTorch and github.com/xinntao/facexlib,
whose key names parsing_bisenet.pth bears. Its two auxiliary heads serve training only; they are not built, and their
entries in a file are passed over. Classes: f2d_core/data/masks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..catalogue import PUBLISHED
from ..errors import ImageError, WeightsError
from ..state_dict import check_state_dict, expected_shapes
from ..weights import describe, read_tensors, tensors_sha256

WHAT = "face parser"
CLASSES = 19
PARSER_SIZE_PX = 512
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AUXILIARY = ("conv_out16.", "conv_out32.")
_SIGN = "cp.resnet.conv1.weight"


@dataclass(frozen=True)
class FaceParser:
    """A loaded parser. run: (B, 3, 512, 512) fp32 -> (B, 19, 512, 512) on the CPU. sha256: of its tensors."""

    run: Callable[[torch.Tensor], torch.Tensor]
    sha256: str
    title: str

    def labels(self, crops: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 RGB -> (B, 512, 512) uint8: the class of every pixel. Raises ImageError."""
        scores = self.run(parser_input(crops))
        return scores.argmax(dim=1).to("cpu", torch.uint8).numpy()


def load_parser(
    path: str | Path, place: Callable[[nn.Module], Callable[..., torch.Tensor]] | None = None
) -> FaceParser:
    """The parser in a local file (parsing_bisenet.pth, or the same as safetensors).

    place: turns the module into what runs it, on a device of the host's; without it, the CPU. Raises WeightsError.
    """
    path = Path(path)
    content, _ = read_tensors(path, missing_help=PUBLISHED["parser"].how_to_get("a folder of your choice"))
    if _SIGN not in content:
        raise WeightsError(
            f"{path.name} is {describe(content)}, expected a face parser (BiSeNet with {CLASSES} classes). "
            f"{PUBLISHED['parser'].how_to_get('a folder of your choice')}"
        )
    state = {key: _fp32(value) for key, value in content.items() if _is_read(key, value)}
    try:
        module = build_parser(state)
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    return FaceParser((place or torch.inference_mode())(module), tensors_sha256(state), path.name)


def build_parser(state_dict: dict[str, torch.Tensor]) -> BiSeNet:
    """The network with these weights, frozen, in eval mode. WeightsError names a key that is missing or misshapen."""
    expected = expected_shapes(BiSeNet)
    counters = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    check_state_dict(state_dict, expected, counters, WHAT)
    with torch.device("meta"):
        network = BiSeNet()
    network.load_state_dict({**counters, **state_dict}, assign=True)
    return network.requires_grad_(False).eval()


def parser_input(crops: np.ndarray) -> torch.Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, 512, 512) fp32, ImageNet mean 0 and deviation 1. Raises ImageError."""
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ImageError(f"The crops have shape {crops.shape} and type {crops.dtype}: expected (n, S, S, 3) uint8.")
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[-2:] != (PARSER_SIZE_PX, PARSER_SIZE_PX):
        size = (PARSER_SIZE_PX, PARSER_SIZE_PX)
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (pixels - mean) / std


def _is_read(key: object, value: object) -> bool:
    return isinstance(value, torch.Tensor) and not str(key).startswith(_AUXILIARY)


def _fp32(value: torch.Tensor) -> torch.Tensor:
    """fp32 in memory of its own: CPU kernels round differently by the alignment of a file's buffer."""
    return value.detach().to(torch.float32, copy=True) if value.is_floating_point() else value.clone()


class BiSeNet(nn.Module):
    """Pictures -> class scores. Names of attributes are those of the published keys."""

    def __init__(self):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256, 256)
        self.conv_out = Head(256, 256, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W), H and W multiples of 32 -> (B, 19, H, W)."""
        fine, context = self.cp(pixels)
        scores = self.conv_out(self.ffm(fine, context))
        return F.interpolate(scores, size=pixels.shape[-2:], mode="bilinear", align_corners=True)


class ConvNorm(nn.Module):
    """Convolution, batch norm, rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(features)))


class Head(nn.Module):
    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.conv = ConvNorm(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv_out(self.conv(features))


class ContextPath(nn.Module):
    """Features at 1/8 as they are, and those at 1/32 and 1/16, refined and brought up to 1/8."""

    def __init__(self):
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = Refinement(256, 128)
        self.arm32 = Refinement(512, 128)
        self.conv_head32 = ConvNorm(128, 128)
        self.conv_head16 = ConvNorm(128, 128)
        self.conv_avg = ConvNorm(512, 128, kernel=1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at_8, at_16, at_32 = self.resnet(pixels)
        whole = self.conv_avg(at_32.mean(dim=(2, 3), keepdim=True))
        up_16 = self.conv_head32(_up_to(self.arm32(at_32) + whole, at_16))
        return at_8, self.conv_head16(_up_to(self.arm16(at_16) + up_16, at_8))


class Refinement(nn.Module):
    """Channels weighted by what the whole picture shows."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = ConvNorm(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.conv(features)
        weights = self.bn_atten(self.conv_atten(features.mean(dim=(2, 3), keepdim=True)))
        return features * torch.sigmoid(weights)


class FeatureFusion(nn.Module):
    """Fine and context features joined, the channels weighted as above, on top of what they were."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.convblk = ConvNorm(inputs, outputs, kernel=1)
        self.conv1 = nn.Conv2d(outputs, outputs // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs // 4, outputs, 1, bias=False)

    def forward(self, fine: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        features = self.convblk(torch.cat([fine, context], dim=1))
        weights = self.conv2(F.relu(self.conv1(features.mean(dim=(2, 3), keepdim=True))))
        return features * (1 + torch.sigmoid(weights))


class ResNet18(nn.Module):
    """The features at 1/8, 1/16 and 1/32 of a ResNet-18 (He et al. 2016)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _two_blocks(64, 64, 1)
        self.layer2 = _two_blocks(64, 128, 2)
        self.layer3 = _two_blocks(128, 256, 2)
        self.layer4 = _two_blocks(256, 512, 2)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = F.max_pool2d(F.relu(self.bn1(self.conv1(pixels))), 3, stride=2, padding=1)
        at_8 = self.layer2(self.layer1(features))
        at_16 = self.layer3(at_8)
        return at_8, at_16, self.layer4(at_16)


def _two_blocks(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut, which gets one of its own where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs or stride != 1:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample.extend([shortcut, nn.BatchNorm2d(outputs)])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.downsample(features) + self.bn2(self.conv2(inner)))


def _up_to(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="nearest")
