"""Preview pictures and the validation loss: both fixed, and neither touches what training draws."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..ports import Denoiser
from .randomness import PREVIEW, normals
from .task import MappingTask

GUIDANCE = 7.0  # of the paper's pictures


@torch.no_grad()
def validation_losses(task: MappingTask, micro_batch: int, stop: Callable[[], bool]) -> dict[str, float] | None:
    """Mean loss, foreground and background over a fixed grid of images, timesteps and noise; None when stopped.

    The images are the held-out ones, or the first of the data set where none are held out; the timesteps lie evenly
    in the schedule. The background is always measured against the class prompt's prediction, whatever the variant.
    """
    config = task.config
    count = min(config.validation_images, config.hold_out or len(task.data))
    first = len(task.data) - config.hold_out if config.hold_out else 0
    steps = task.parts.denoiser.steps
    times = [(2 * i + 1) * steps // (2 * config.validation_timesteps) for i in range(config.validation_timesteps)]
    grid = [(image, t) for image in range(first, first + count) for t in times]
    figures = []
    for at in range(0, len(grid), micro_batch):
        if stop():
            return None
        images, timesteps = zip(*grid[at : at + micro_batch], strict=True)
        losses, _ = task.losses(task.guide(task.fixed(images, timesteps)))
        figures.append(torch.stack(losses))
    loss, foreground, background = torch.cat(figures, dim=1).mean(dim=1).tolist()
    return {"loss": loss, "foreground": foreground, "background": background}


@torch.no_grad()
def preview_pictures(task: MappingTask) -> torch.Tensor:
    """(n, 3, H, W) in [-1, 1]: the first faces of the data set, sampled from noise that never changes."""
    config = task.config
    images = list(range(min(config.preview_faces, len(task.data))))
    batch = task.fixed(images, [0] * len(images))
    noise = normals(config.seed, PREVIEW, 0, images, task.latent_shape).to(batch.z_t)
    encoder = task.parts.encoder
    context = encoder.encode_words(config.template, config.marker, task.words(batch), config.injection)
    empty = encoder.encode_text("")
    # One face at a time: previews fit wherever training does.
    rows = range(len(images))
    latents = [sample(task.parts.denoiser, noise[i, None], context[i, None], empty, config.preview_steps) for i in rows]
    return torch.cat([task.parts.codec.decode(latent).to("cpu", torch.float32) for latent in latents])


@torch.no_grad()
def sample(denoiser: Denoiser, z: torch.Tensor, context: torch.Tensor, empty: torch.Tensor, steps: int) -> torch.Tensor:
    """DDIM without added noise (Song et al., Eq. 12), guided away from the empty prompt. z: (1, 4, h, w) of noise."""
    times = torch.linspace(denoiser.steps - 1, 0, steps).round().long().tolist()
    for t, following in zip(times, [*times[1:], None], strict=True):
        at = torch.tensor([t], device=z.device)
        plain = denoiser.predict_noise(z, at, empty)
        eps = plain + GUIDANCE * (denoiser.predict_noise(z, at, context) - plain)
        signal, noise = _levels(denoiser, z, at)
        z_0 = (z - noise * eps) / signal
        z = z_0 if following is None else denoiser.add_noise(z_0, eps, torch.tensor([following], device=z.device))
    return z


def _levels(denoiser: Denoiser, z: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of the picture and how much of the noise there is in z_t: what `add_noise` does to a one."""
    one, zero = torch.ones_like(z[:, :1, :1, :1]), torch.zeros_like(z[:, :1, :1, :1])
    return denoiser.add_noise(one, zero, t), denoiser.add_noise(zero, one, t)
