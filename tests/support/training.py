"""Small stand-ins for the ports that training asks for: milliseconds per step, any float type, no optional package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from f2d_core.constants import INJECTION_SUM
from f2d_core.data.samples import Samples
from f2d_core.train import TrainConfig, TrainingParts

WIDTH, TOKENS, STEPS = 8, 6, 1000
ID_WIDTH, EXPRESSION_WIDTH, SIDE = 5, 3, 4


def seeded(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TinyEncoder:
    """Words are looked up by their letters; one self-attention mixes them."""

    key = "l"

    def __init__(self, dtype: torch.dtype = torch.float32, width: int = WIDTH):
        self.width = width
        self._table = seeded(64, width, seed=1).to(dtype)
        self._positions = seeded(TOKENS, width, seed=2).to(dtype)
        self._mix = (seeded(width, width, seed=3) / width**0.5).to(dtype)

    def position_embedding(self) -> torch.Tensor:
        return self._positions.float()

    def word_embeddings(self, text: str) -> torch.Tensor:
        return torch.stack([self._table[sum(map(ord, word)) % 64] for word in text.split()]).float()

    def encode_words(self, template, marker: str, words: torch.Tensor, injection: str) -> torch.Tensor:
        if not isinstance(template, str):
            rows = zip(template, words.split(1), strict=True)
            return torch.cat([self.encode_words(text, marker, own, injection) for text, own in rows])
        before, after = (self._rows(part) for part in template.split(marker))
        at = slice(len(before), len(before) + words.shape[1])
        own = words if injection == INJECTION_SUM else words + self._positions[at]
        rest = TOKENS - at.stop
        after = torch.cat((after, self._table[:1].expand(TOKENS, -1)))[:rest]
        rows = [(before + self._positions[: at.start]), (after + self._positions[at.stop :])]
        before, after = (row.expand(len(words), -1, -1) for row in rows)
        return self._mixed(torch.cat((before, own, after), dim=1))

    def encode_text(self, text: str) -> torch.Tensor:
        rows = torch.cat((self._rows(text), self._table[:1].expand(TOKENS, -1)))[:TOKENS]
        return self._mixed((rows + self._positions)[None])

    def _rows(self, text: str) -> torch.Tensor:
        rows = [self._table[sum(map(ord, word)) % 64] for word in text.split()]
        return torch.stack(rows) if rows else self._table[:0]

    def _mixed(self, rows: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(rows @ self._mix, rows, rows) + rows


class TinyDenoiser(nn.Module):
    """Two convolutions with a cross-attention between them. `prediction`: what its output stands for."""

    steps = STEPS

    def __init__(self, dtype: torch.dtype = torch.float32, width: int = WIDTH, channels: int = 8):
        super().__init__()
        self.first = nn.Conv2d(4, channels, 3, padding=1)
        self.query = nn.Linear(channels, width)
        self.value = nn.Linear(width, channels)
        self.last = nn.Conv2d(channels, 4, 3, padding=1)
        for i, value in enumerate(self.parameters()):
            value.data = seeded(*value.shape, seed=10 + i) / value[0].numel() ** 0.5
        self.requires_grad_(False).to(dtype)
        self.device, self.dtype = torch.device("cpu"), dtype
        self._alphas = torch.linspace(0.999, 0.01, STEPS, dtype=torch.float64)

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alphas = self._alphas[t].to(z_0)[:, None, None, None]
        return alphas.sqrt() * z_0 + (1 - alphas).sqrt() * noise

    def predict_noise(self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        z, context = z_t.to(self.dtype), context.to(self.dtype)
        hidden = F.silu(self.first(z) + (t / STEPS).to(z)[:, None, None, None])
        rows = hidden.flatten(2).transpose(1, 2)
        seen = F.scaled_dot_product_attention(self.query(rows), context, context)
        rows = rows + self.value(seen)
        return self.last(F.silu(rows.transpose(1, 2).reshape(hidden.shape))).to(z_t.dtype)


class TinyCodec:
    """A latent is a picture with every pixel repeated."""

    reduction = 8

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = F.avg_pool2d(pixels, 8)
        mean = torch.cat((small, small.mean(dim=1, keepdim=True)), dim=1)
        return mean, torch.full_like(mean, -10.0)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return F.interpolate(latents[:, :3].tanh(), scale_factor=8)


class MemoryData:
    """`count` pseudo-random photos; the mirrored version has features of its own, as prepared data has."""

    def __init__(self, count: int = 10, side: int = SIDE, fingerprint: str = "f"):
        self.fingerprint, self.facts = fingerprint, {"msid_sha256": "m" * 64}
        self.count = count
        self.mean = seeded(2, count, 4, side, side, seed=20)
        self.logvar = seeded(2, count, 4, side, side, seed=21) - 4
        self.v_id = seeded(2, count, ID_WIDTH, seed=22)
        self.v_exp = seeded(2, count, EXPRESSION_WIDTH, seed=23)
        self.mask = seeded(2, count, 1, side, side, seed=24).sigmoid()

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        at = ([int(flip) for flip in flips], list(indices))
        return Samples(self.mean[at], self.logvar[at], self.v_id[at], self.v_exp[at], self.mask[at])


class MemoryTriplets(MemoryData):
    """`count` pseudo-random edited pictures with four prompts in turn."""

    prompts = ("Oil painting style, S* face", "S* as a chef", "S* wearing a hat", "pencil art, S* face")

    def __init__(self, count: int = 6, side: int = SIDE, fingerprint: str = "t"):
        super().__init__(count, side, fingerprint)
        self.mean, self.v_id = self.mean + 0.5, self.v_id * 0.9

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        samples = super().batch(indices, flips)
        prompts = tuple(self.prompts[index % len(self.prompts)] for index in indices)
        return replace(samples, v_exp=samples.v_exp[:, :0], mask=torch.ones_like(samples.mask), prompts=prompts)


def parts(dtype: torch.dtype = torch.float32, codec: TinyCodec | None = None) -> TrainingParts:
    encoder_dtype = torch.promote_types(dtype, torch.float32)
    return TrainingParts(TinyEncoder(encoder_dtype), TinyDenoiser(dtype), codec, "b" * 64)


def config(**changes) -> TrainConfig:
    """Small and quick: 20 steps of a batch of 32, nothing on the side."""
    small = {
        **{"hidden": 16, "batch": 32, "steps": 20, "seed": 7, "template": "a photo of S*", "learning_rate": 1e-2},
        **{"micro_batch": 8, "checkpoint_every": 1000, "validate_every": 0, "preview_every": 0, "ema": 0.9},
    }
    return TrainConfig(**{**small, **changes})
