"""Training the autoencoder of the small Stable Diffusion: pictures -> latents -> pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..train.randomness import POSTERIOR, normals
from .job import Rows, fast
from .models import LATENT_SIDE
from .pictures import PictureSet

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
        wrong = _mean(F.l1_loss(drawn, pixels, reduction="none"))
        kl = _mean((mean.square() + logvar.exp() - 1 - logvar) / 2)
        loss = wrong + EDGES * sum(_mean((_steps(drawn, i) - _steps(pixels, i)).abs()) for i in (2, 3)) + KL * kl
        return {"loss": loss, "pixels": wrong, "kl": kl}


@torch.no_grad()
def scaling_factor(vae: Any, pictures: PictureSet) -> float:
    """1 / standard deviation of the latents, so that the denoiser sees them at unit scale."""
    with fast():
        means = vae.eval().encode(to_tensor(pictures.pictures(range(SCALE_PICTURES)))).latent_dist.mean
    return round(1 / means.float().std().item(), 4)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) fp32 in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _steps(pixels: torch.Tensor, axis: int) -> torch.Tensor:
    return pixels.diff(dim=axis)


def _mean(values: torch.Tensor) -> torch.Tensor:
    """(B, …) -> (B,)."""
    return values.flatten(1).mean(dim=1)
