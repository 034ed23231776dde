"""The judges of likeness, text and geometry. None of them, and nothing they learn from, is used in a training of the
method; they see with convolutions where the encoders use a transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..align import align_face, bilinear
from .autoencoder import to_tensor
from .convnet import Pooled
from .job import Rows, fast
from .latents import token_ids

CROP_PX = 64
_WIDTH = 128  # of features
_CHANNELS = (24, 48, 96, 128)
_LIKENESS_SCALE, _LIKENESS_MARGIN = 24.0, 0.25  # CosFace
_READER_SCALE = 20.0  # what cosines are multiplied with before the softmax
_FRAME = 1.9  # half the side of a geometry crop, in mean distances of the points from their middle

Crops = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]  # numbers -> (pixels (n, S, S, 3) uint8, labels)
Captioned = Callable[[Sequence[int]], tuple[np.ndarray, list[str]]]


# --- likeness ---


class LikenessNet(nn.Module):
    """Aligned faces (B, 3, 64, 64) -> (B, 128), of length 1. people: how many it learns to tell apart."""

    def __init__(self, people: int):
        super().__init__()
        self.body = Pooled(_CHANNELS, CROP_PX, _WIDTH)
        self.people = nn.Parameter(torch.randn(people, _WIDTH))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.body(pixels).float())


class LikenessLesson:
    """A `job.Lesson`: CosFace (Wang et al. 2018) over the people of `crops`."""

    figures = ("loss", "right")

    def __init__(self, net: LikenessNet, crops: Crops, batch: int):
        self.modules = {"likeness": net}
        self._net, self._crops, self._batch = net, crops, batch

    def rows(self, step: int, slots: range) -> Rows:
        numbers = [step * self._batch + slot for slot in slots]
        pixels, labels = self._crops(numbers)
        return Rows(numbers, {"pixels": to_tensor(pixels), "labels": torch.from_numpy(labels)})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            features = self._net(rows["pixels"])
        cosines = features @ F.normalize(self._net.people).T
        margin = F.one_hot(rows["labels"], cosines.shape[1]) * _LIKENESS_MARGIN
        loss = F.cross_entropy(_LIKENESS_SCALE * (cosines - margin), rows["labels"], reduction="none")
        return {"loss": loss, "right": (cosines.argmax(dim=1) == rows["labels"]).float()}


class Likeness:
    """A `ports.IdentityExtractor`."""

    name, kind = "miniature likeness", "likeness"

    def __init__(self, net: LikenessNet, sha256: str = ""):
        self._net, self.sha256 = net.eval(), sha256

    @torch.no_grad()
    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        crops = [align_face(rgb, face, CROP_PX) for rgb, face in zip(pictures, points, strict=True)]
        return self._net(to_tensor(np.stack(crops)))


# --- text ---


class ReaderNet(nn.Module):
    """Pictures (B, 3, 64, 64) and token ids (B, 77) -> (B, 128) each, of length 1."""

    def __init__(self, tokens: int, end: int, channels: Sequence[int] = (32, 64, 96, 128)):
        super().__init__()
        self.image = Pooled(channels, CROP_PX, _WIDTH)
        self.words = nn.Embedding(tokens, _WIDTH)
        self.places = nn.Parameter(torch.zeros(77, _WIDTH))
        layer = nn.TransformerEncoderLayer(_WIDTH, 4, 2 * _WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.text = nn.Linear(_WIDTH, _WIDTH)
        self._end = end

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.image(pixels).float())

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The mean over the tokens up to the first end token."""
        inside = (ids == self._end).cumsum(dim=1) <= 1
        longest = int(inside.sum(dim=1).max())
        ids, inside = ids[:, :longest], inside[:, :longest]
        read = self.layers(self.words(ids) + self.places[:longest], src_key_padding_mask=~inside)
        pooled = (read * inside[..., None]).sum(dim=1) / inside.sum(dim=1, keepdim=True)
        return F.normalize(self.text(pooled).float())


class ReaderLesson:
    """A `job.Lesson`: which caption goes with which picture of the batch, both ways (CLIP, Radford et al. 2021)."""

    figures = ("loss", "right")

    def __init__(self, net: ReaderNet, captioned: Captioned, tokenizer: Any, batch: int):
        self.modules = {"reader": net}
        self._net, self._captioned, self._tokenizer, self._batch = net, captioned, tokenizer, batch

    def rows(self, step: int, slots: range) -> Rows:
        numbers = [step * self._batch + slot for slot in slots]
        pixels, captions = self._captioned(numbers)
        ids = torch.from_numpy(token_ids(self._tokenizer, captions).astype(np.int64))
        return Rows(numbers, {"pixels": to_tensor(pixels), "ids": ids})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            seen = self._net.see(rows["pixels"])
            read = self._net.read(rows["ids"])
        scores = _READER_SCALE * seen @ read.T
        right = torch.arange(len(scores), device=scores.device)
        loss = sum(F.cross_entropy(way, right, reduction="none") for way in (scores, scores.T)) / 2
        return {"loss": loss, "right": (scores.argmax(dim=1) == right).float()}


class Reader:
    """A `ports.ImageTextExtractor`; pictures are the size of the world's."""

    kind = "reader"
    logit_scale, logit_bias = _READER_SCALE, 0.0

    def __init__(self, net: ReaderNet, tokenizer: Any, sha256: str = "", name: str = "miniature reader"):
        self._net, self._tokenizer, self.sha256, self.name = net.eval(), tokenizer, sha256, name

    @torch.no_grad()
    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        return self._net.see(to_tensor(np.stack(pictures)))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        return self._net.read(torch.from_numpy(token_ids(self._tokenizer, texts).astype(np.int64)))


# --- geometry ---


class GeometryLesson:
    """A `job.Lesson`: pose and expression, as the renderer has them, from a face crop that is not turned upright.

    net: (B, 3, 64, 64) -> (B, n). scales: (n,), what each figure is divided by before the loss.
    """

    figures = ("loss",)

    def __init__(self, net: Pooled, crops: Crops, scales: np.ndarray, batch: int):
        self.modules = {"geometry": net}
        self._net, self._crops, self._batch = net, crops, batch
        self._scales = torch.from_numpy(scales).float()

    def rows(self, step: int, slots: range) -> Rows:
        numbers = [step * self._batch + slot for slot in slots]
        pixels, values = self._crops(numbers)
        return Rows(numbers, {"pixels": to_tensor(pixels), "values": torch.from_numpy(values).float() / self._scales})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            found = self._net(rows["pixels"])
        return {"loss": F.smooth_l1_loss(found.float(), rows["values"], reduction="none").mean(dim=1)}


class Geometry:
    """Pose and expression of a face in a picture."""

    def __init__(self, net: Pooled, scales: np.ndarray):
        self._net, self._scales = net.eval(), scales

    @torch.no_grad()
    def measure(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> np.ndarray:
        """(B, n): yaw, pitch, roll in degrees, then the coefficients of the expression."""
        crops = [upright_square(rgb, face) for rgb, face in zip(pictures, points, strict=True)]
        return self._net(to_tensor(np.stack(crops))).double().numpy() * self._scales


def upright_square(rgb: np.ndarray, points: np.ndarray, size: int = CROP_PX) -> np.ndarray:
    """(size, size, 3) uint8: the square around five points, as it lies in the picture."""
    middle = points.mean(axis=0)
    half = _FRAME * np.linalg.norm(points - middle, axis=1).mean()
    grid = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    return bilinear(rgb, middle[0] + grid[None, :] + 0 * grid[:, None], middle[1] + grid[:, None] + 0 * grid[None, :])
