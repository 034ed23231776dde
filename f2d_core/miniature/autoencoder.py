"""Training the autoencoder of the small Stable Diffusion: pictures -> latents -> pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..train.randomness import POSTERIOR, normals
from .job import Rows, device, fast
from .models import LATENT_SIDE
from .pictures import PictureSet

FACE_WEIGHT = 4.0  # of a pixel that is all face, while the decoder goes on learning
EDGES = 0.5  # weight of differences between neighbouring pixels, without which small features blur
KL = 1e-4  # of the mean over the elements of a latent
SCALE_PICTURES = 512


class AutoencoderLesson:
    """A `job.Lesson`: every step sees pictures that no step before it saw."""

    figures = ("loss", "pixels", "kl")

    def __init__(self, vae: Any, pictures: PictureSet, batch: int, seed: int):
        self.modules = {"vae": vae.train()}
        self._vae, self._pictures, self._batch, self._seed = vae, pictures, batch, seed

    def rows(self, step: int, slots: range) -> Rows:
        numbers = range(step * self._batch + slots.start, step * self._batch + slots.stop)
        noise = normals(self._seed, POSTERIOR, step, slots, (4, LATENT_SIDE, LATENT_SIDE))
        return Rows(numbers, {"pixels": to_tensor(self._pictures.pictures(numbers)), "noise": noise})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        pixels = rows["pixels"]
        with fast():
            posterior = self._vae.encode(pixels).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            drawn = self._vae.decode(mean + (logvar / 2).exp() * rows["noise"]).sample.float()
        kl = _mean((mean.square() + logvar.exp() - 1 - logvar) / 2)
        wrong = drawn - pixels
        return {"loss": _distance(wrong) + KL * kl, "pixels": _mean(wrong.abs()), "kl": kl}


class DecoderLesson:
    """A `job.Lesson`: the decoder learns on while the encoder stays, as the latents that are there must. Faces, small
    as they are, count more than the rest."""

    figures = ("loss", "pixels")

    def __init__(self, vae: Any, pictures: PictureSet, batch: int, seed: int):
        vae.requires_grad_(False).train().to(device())
        self.modules = {"decoder": vae.decoder, "before_decoder": vae.post_quant_conv}
        for module in self.modules.values():
            module.requires_grad_(True)
        self._vae, self._pictures, self._batch, self._seed = vae, pictures, batch, seed

    def rows(self, step: int, slots: range) -> Rows:
        numbers = range(step * self._batch + slots.start, step * self._batch + slots.stop)
        drawn = self._pictures.render(numbers)
        noise = normals(self._seed, POSTERIOR, step, slots, (4, LATENT_SIDE, LATENT_SIDE))
        weights = 1 + (FACE_WEIGHT - 1) * torch.from_numpy(drawn.mask)[:, None]
        return Rows(numbers, {"pixels": to_tensor(drawn.pixels), "weights": weights, "noise": noise})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        pixels = rows["pixels"]
        with fast():
            with torch.no_grad():
                posterior = self._vae.encode(pixels).latent_dist
            latents = posterior.mean.float() + (posterior.logvar.float() / 2).exp() * rows["noise"]
            wrong = self._vae.decode(latents).sample.float() - pixels
        return {"loss": _distance(wrong, rows["weights"]), "pixels": _mean(wrong.abs())}


def _distance(wrong: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """(B,): how wrong pixels are, and differences between neighbours. weights: (B, 1, H, W)."""
    weights = torch.ones_like(wrong[:, :1]) if weights is None else weights
    edges = sum(_mean(wrong.diff(dim=i).abs() * weights.narrow(i, 1, weights.shape[i] - 1)) for i in (2, 3))
    return _mean(wrong.abs() * weights) + EDGES * edges


@torch.no_grad()
def scaling_factor(vae: Any, pictures: PictureSet) -> float:
    """1 / standard deviation of the latents, so that the denoiser sees them at unit scale."""
    with fast():
        means = vae.eval().encode(to_tensor(pictures.pictures(range(SCALE_PICTURES)))).latent_dist.mean
    return round(1 / means.float().std().item(), 4)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) fp32 in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _mean(values: torch.Tensor) -> torch.Tensor:
    """(B, …) -> (B,)."""
    return values.flatten(1).mean(dim=1)
