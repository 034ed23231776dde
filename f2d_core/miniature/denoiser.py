"""Training the denoiser of the small Stable Diffusion on captioned pictures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backends.single_file import NOISE_SCHEDULE
from ..train.randomness import CHOICES, DROPOUT, NOISE, POSTERIOR, generator, normals
from .calling import CaptionEncoder, inexact
from .job import Rows, device, fast
from .latents import LatentSet

NO_CAPTION = 0.1  # how often the caption is left out: what classifier-free guidance needs
# What a short training gains by, besides v-prediction (Salimans & Ho 2022, App. D): a loss whose weight on the picture
# grows no further with little noise (as in min-SNR weighting, Hang et al. 2023); and heads, small as they are and hard
# to draw, that weigh more than the rest.
MOST_WEIGHT = 6.0  # of the error of the picture, in units of the noise's share
HEAD_WEIGHT = 5.0  # of a latent of a face or near one, where hair is; others count 1
_NEAR = 3  # latents
# Begun from a true picture at t = 400, people came out as hard to recognise as begun from noise: what makes faces is
# drawn at little noise. So less noisy pictures come more often, the share up to t growing with its power of 3/4.
_TOWARDS_DETAIL = 4 / 3


class DenoiserLesson:
    """A `job.Lesson`: predict the velocity of latents from the caption. What reads the captions stays as it is."""

    figures = ("loss", "mse")

    def __init__(self, unet: Any, encoder: CaptionEncoder, data: LatentSet, seed: int):
        unet.train().to(memory_format=torch.channels_last)  # a quarter less time on a CPU
        warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")  # measured: faster
        self.modules = {"unet": unet}
        for module in (encoder.text_encoder, encoder.calls):
            module.requires_grad_(False).eval().to(device())
        self._unet, self._encoder, self._data, self._seed = unet, encoder, data, seed
        self._levels = noise_levels()
        self._weights = (MOST_WEIGHT * (1 - self._levels)).clamp(max=1.0)

    def rows(self, step: int, slots: range) -> Rows:
        drawn = np.stack([generator(self._seed, CHOICES, step, slot).random(3) for slot in slots])
        numbers = (drawn[:, 0] * len(self._data)).astype(int).tolist()
        t = torch.from_numpy((drawn[:, 1] ** _TOWARDS_DETAIL * len(self._levels)).astype(np.int64))
        mean, logvar = self._data.posterior(numbers)
        shape = mean.shape[1:]
        z_0 = mean + (logvar / 2).exp() * normals(self._seed, POSTERIOR, step, slots, shape)
        noise = normals(self._seed, NOISE, step, slots, shape)
        level = self._levels[t][:, None, None, None]
        ids = self._data.tokens(numbers, drawn[:, 2] < NO_CAPTION)
        signal, spread = level.sqrt(), (1 - level).sqrt()
        z_t, velocity = signal * z_0 + spread * noise, signal * noise - spread * z_0
        heads = F.max_pool2d(self._data.faces(numbers), 2 * _NEAR + 1, stride=1, padding=_NEAR)
        own = {"heads": heads, "ids": ids, "people": self._data.people(numbers)}
        blur = np.stack([inexact(generator(self._seed, DROPOUT, step, slot), self._encoder.width) for slot in slots])
        return Rows(numbers, {"z_t": z_t, "velocity": velocity, "t": t, "blur": torch.from_numpy(blur), **own})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast(), sdpa_kernel(SDPBackend.MATH):  # the other one is slow backwards on a CPU
            context = self._encoder.states(rows["ids"], rows["people"], rows["blur"])
            z_t = rows["z_t"].contiguous(memory_format=torch.channels_last)
            found = self._unet(z_t, rows["t"], context).sample.float()
        wrong = (found - rows["velocity"]).square().mean(dim=1)
        mse = wrong.flatten(1).mean(dim=1)
        weighed = (wrong * (1 + (HEAD_WEIGHT - 1) * rows["heads"])).flatten(1).mean(dim=1)
        return {"loss": weighed * self._weights.to(mse.device)[rows["t"]], "mse": mse}


def noise_levels() -> torch.Tensor:
    """(1000,): the share of the picture's variance in z_t, Stable Diffusion's schedule."""
    first, last = (NOISE_SCHEDULE[name] ** 0.5 for name in ("beta_start", "beta_end"))
    betas = torch.linspace(first, last, NOISE_SCHEDULE["num_train_timesteps"], dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()
