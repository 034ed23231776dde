"""Pictures made by ComfyUI's own MODEL, CLIP and VAE, in this process: ports.PictureMaker for loops that need many.

Another file that names ComfyUI, beside host.py. Models are loaded, offloaded and interrupted as by KSampler; previews
of single steps are left out, since the loop around has pictures to show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import comfy.model_management as devices
import comfy.sample
import comfy.samplers
import numpy as np
import torch

from ..f2d_core.constants import DDIM, EULER_ANCESTRAL, NOISE_TIMESTEPS, SAMPLERS
from ..f2d_core.delayed import class_prompt, class_steps, even_timesteps, switch_percent
from ..f2d_core.errors import SettingsError
from ..f2d_core.ports import PictureRequest, Progress, Sampling
from ..f2d_core.prompt import Person
from . import host, host_training, sockets

LATENT_REDUCTION = 8  # px per latent
_MOST_STEPS = 1000


class PictureMaker:
    """ports.PictureMaker. The sampler "euler_ancestral" is KSampler's with the scheduler "normal"; "ddim" takes the
    timesteps of Stable Diffusion's first code, as f2d_core/backends/diffusers.py does."""

    def __init__(self, model, clip, vae):
        self._model, self._clip, self._vae = model, clip, vae
        self._negative: tuple[str, list] | None = None

    @cached_property
    def key(self) -> str:
        """The weights, LoRAs included, by their hash, and the float type; some seconds for a real model."""
        digest = hashlib.sha256(host_training.base_model_sha256(self._model, self._clip).encode())
        digest.update(host_training.module_sha256(self._vae.first_stage_model).encode())
        dtype = str(host_training.compute_dtype(self._model)).removeprefix("torch.")
        return f"comfyui, {digest.hexdigest()}, {dtype}"

    @torch.inference_mode()
    def make(self, request: PictureRequest, sampling: Sampling, progress: Progress | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises PromptError, MismatchError, SettingsError, and the host's interruption."""
        timesteps = _timesteps(sampling)
        latents = self._sampled(request, sampling, timesteps, progress)
        (picture,) = sockets.pictures(self._vae.decode(latents)[..., :3].clamp(0, 1))
        return picture

    def _sampled(
        self, request: PictureRequest, sampling: Sampling, timesteps: Sequence[float], progress: Progress | None
    ) -> torch.Tensor:
        """(1, C, h, w) latents in the VAE's scale."""
        latents = self._empty(sampling)
        sigmas, noise = self._start(request.seed, sampling, timesteps, latents)
        sampled = comfy.sample.sample_custom(
            self._model,
            noise,
            sampling.cfg,
            comfy.samplers.ksampler("euler" if sampling.sampler == DDIM else sampling.sampler),
            sigmas,
            self._positive(request, timesteps),
            self._encoded_negative(request.negative),
            latents,
            callback=_after_step(progress),
            disable_pbar=True,
            seed=request.seed,
        )
        return sampled / (1 + sigmas[-1].item() ** 2) ** 0.5  # DDIM ends at the first timestep, not without noise

    def _empty(self, sampling: Sampling) -> torch.Tensor:
        channels = self._model.get_model_object("latent_format").latent_channels
        shape = (1, channels, sampling.height // LATENT_REDUCTION, sampling.width // LATENT_REDUCTION)
        return host.intermediate(torch.zeros(shape))

    def _start(
        self, seed: int, sampling: Sampling, timesteps: Sequence[float], latents: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(sigma of every step and after the last, noise (1, C, h, w))."""
        schedule, noise = self._model.get_model_object("model_sampling"), comfy.sample.prepare_noise(latents, seed)
        if sampling.sampler == EULER_ANCESTRAL:
            return comfy.samplers.calculate_sigmas(schedule, "normal", sampling.steps), noise
        sigmas = schedule.sigmas[[*map(int, timesteps), 0]].to("cpu", torch.float32)
        # Where it does not begin at the last timestep, the host multiplies by sigma; DDIM begins with noise alone.
        return sigmas, noise * (1 + 1 / sigmas[0] ** 2) ** 0.5

    def _positive(self, request: PictureRequest, timesteps: Sequence[float]) -> list:
        """CONDITIONING of the prompt, for the first steps with the class words where people come later."""
        count = class_steps(request.subject_steps, len(timesteps)) if request.people else 0
        if count == 0:
            return self._encoded(request.prompt, request.people)
        switch = switch_percent(timesteps, count)
        early = self._encoded(class_prompt(request.prompt, request.people), ())
        if switch == 1:
            return early
        late = self._encoded(request.prompt, request.people)
        return [*host.during(early, 0.0, switch), *host.during(late, switch, 1.0)]

    def _encoded(self, prompt: str, people: Sequence[Person]) -> list:
        if people:
            return host.encode_prompt(self._clip, prompt, people)[0]
        return host.encode_text(self._clip, prompt)

    def _encoded_negative(self, prompt: str) -> list:
        """Kept for the next picture, which has most likely the same."""
        if self._negative is None or self._negative[0] != prompt:
            self._negative = prompt, self._encoded(prompt, ())
        return self._negative[1]


def _timesteps(sampling: Sampling) -> list[float]:
    """Model time of every step, from the noise on. Raises SettingsError."""
    if sampling.sampler not in SAMPLERS:
        raise SettingsError(f'There is no sampler "{sampling.sampler}": expected one of {", ".join(SAMPLERS)}.')
    if not 1 <= sampling.steps <= _MOST_STEPS:
        raise SettingsError(f"steps is {sampling.steps}: expected 1 to {_MOST_STEPS}.")
    if any(side < LATENT_REDUCTION or side % LATENT_REDUCTION for side in (sampling.width, sampling.height)):
        raise SettingsError(
            f"The size {sampling.width} x {sampling.height} cannot be sampled: expected multiples of 8, such as 512."
        )
    if sampling.sampler == EULER_ANCESTRAL:
        return even_timesteps(sampling.steps)
    apart = NOISE_TIMESTEPS // sampling.steps
    return [min(i * apart + 1, NOISE_TIMESTEPS - 1) for i in reversed(range(sampling.steps))]


def _after_step(progress: Progress | None) -> Callable:
    def report(step: int, _denoised, _latents, total: int) -> None:
        devices.throw_exception_if_processing_interrupted()
        if progress is not None:
            progress(step + 1, total)

    return report
