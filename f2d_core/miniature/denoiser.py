"""Training the denoiser and the text encoder of the small Stable Diffusion on captioned pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backends.single_file import NOISE_SCHEDULE
from ..train.randomness import CHOICES, NOISE, POSTERIOR, generator, normals
from .job import Rows, fast
from .latents import LatentSet

NO_CAPTION = 0.1  # how often the caption is left out: what classifier-free guidance needs
MOST_SNR = 5.0  # min-SNR weighting of the loss (Hang et al. 2023, Eq. 5), which a short training gains by


class DenoiserLesson:
    """A `job.Lesson`: predict the noise in latents from the caption. The text encoder learns along."""

    figures = ("loss", "mse")

    def __init__(self, unet: Any, text_encoder: Any, data: LatentSet, seed: int):
        self.modules = {"unet": unet.train(), "text": text_encoder.train()}
        self._unet, self._text, self._data, self._seed = unet, text_encoder, data, seed
        self._levels = noise_levels()
        snr = self._levels / (1 - self._levels)
        self._weights = snr.clamp(max=MOST_SNR) / snr

    def rows(self, step: int, slots: range) -> Rows:
        drawn = np.stack([generator(self._seed, CHOICES, step, slot).random(3) for slot in slots])
        numbers = (drawn[:, 0] * len(self._data)).astype(int).tolist()
        t = torch.from_numpy((drawn[:, 1] * len(self._levels)).astype(np.int64))
        mean, logvar = self._data.posterior(numbers)
        shape = mean.shape[1:]
        z_0 = mean + (logvar / 2).exp() * normals(self._seed, POSTERIOR, step, slots, shape)
        noise = normals(self._seed, NOISE, step, slots, shape)
        level = self._levels[t][:, None, None, None]
        ids = self._data.tokens(numbers, drawn[:, 2] < NO_CAPTION)
        z_t = level.sqrt() * z_0 + (1 - level).sqrt() * noise
        return Rows(numbers, {"z_t": z_t, "noise": noise, "t": t, "ids": ids})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast(), sdpa_kernel(SDPBackend.MATH):  # the other one is slow backwards on a CPU
            context = self._text(input_ids=rows["ids"]).last_hidden_state
            found = self._unet(rows["z_t"], rows["t"], context).sample.float()
        mse = (found - rows["noise"]).square().flatten(1).mean(dim=1)
        return {"loss": mse * self._weights.to(mse.device)[rows["t"]], "mse": mse}


def noise_levels() -> torch.Tensor:
    """(1000,): the share of the picture's variance in z_t, Stable Diffusion's schedule."""
    first, last = (NOISE_SCHEDULE[name] ** 0.5 for name in ("beta_start", "beta_end"))
    betas = torch.linspace(first, last, NOISE_SCHEDULE["num_train_timesteps"], dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()
