"""`ports.PictureMaker` over a diffusers pipeline: people in prompts, with or without delayed subject conditioning."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import torch

from ..delayed import class_prompt, class_steps
from ..errors import SettingsError
from ..ports import PictureRequest, Progress, Sampling
from ..weights import tensors_sha256
from .diffusers import DiffusersTextEncoder, generate

_PROMPTS_KEPT = 8


class DiffusersPictures:
    """Pictures of one pipeline (`load_pipeline`). `name` is what people call the model; its weights are hashed too."""

    def __init__(self, pipe: Any, name: str = "Stable Diffusion"):
        self._pipe = pipe
        self._name = name
        # Pictures of one prompt mostly follow one another.
        self._encode = functools.lru_cache(_PROMPTS_KEPT)(
            DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer).encode
        )

    @functools.cached_property
    def key(self) -> str:
        """The model by the hash of its weights and the float type it computes in; some seconds for a real one."""
        digest = hashlib.sha256()
        for part in (self._pipe.text_encoder, self._pipe.unet, self._pipe.vae):
            digest.update(tensors_sha256({key: value.cpu() for key, value in part.state_dict().items()}).encode())
        return f"diffusers, {self._name}, {digest.hexdigest()}, {str(self._pipe.unet.dtype).removeprefix('torch.')}"

    def make(self, request: PictureRequest, sampling: Sampling, progress: Progress | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB; the start noise and the added noise come from the request's seed alone.

        Raises PromptError, MismatchError, and SettingsError, also where the GPU's memory is too small.
        """
        people = request.people
        count = class_steps(request.subject_steps, sampling.steps)
        early = self._encode(class_prompt(request.prompt, people)) if count else None
        pictures = generate(
            self._pipe,
            self._encode(request.prompt, people),
            self._encode(request.negative),
            seed=request.seed,
            steps=sampling.steps,
            cfg=sampling.cfg,
            size=(sampling.width, sampling.height),
            sampler=sampling.sampler,
            early=early,
            early_steps=count,
            progress=progress,
        )
        try:
            return np.array(next(pictures))
        except torch.OutOfMemoryError as error:
            raise SettingsError(
                f"The GPU has too little memory free for a picture of {sampling.width} x {sampling.height} px. Close "
                "other programs, or choose a smaller size or the device cpu."
            ) from error
