"""Teaching the text encoder to read, before a denoiser listens to it: what CLIP's pre-training is to Stable Diffusion.

From the mean of a caption's states a linear layer has to tell what the picture shows, in the renderer's own numbers. No
picture is needed for that. Taught by the denoiser alone, the text encoder of a short training tells scenes apart and
nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .job import Rows, fast, seeded
from .latents import token_ids
from .pictures import PictureSet

_MEASURED_ON = range(1 << 40, (1 << 40) + 2000)  # pictures that say how much each number differs; no step sees them


class ReadingLesson:
    """A `job.Lesson`: the facts of pictures from their captions, each in units of its own spread."""

    figures = ("loss",)

    def __init__(self, text_encoder: Any, pictures: PictureSet, tokenizer: Any, batch: int, seed: int):
        facts = pictures.facts(_MEASURED_ON)
        self._middle, self._spread = facts.mean(axis=0), facts.std(axis=0) + 1e-3
        head = seeded(lambda: torch.nn.Linear(text_encoder.config.hidden_size, facts.shape[1]), seed)
        self.modules = {"text": text_encoder.train(), "head": head}
        self._text, self._head = text_encoder, head
        self._pictures, self._tokenizer, self._batch = pictures, tokenizer, batch

    def rows(self, step: int, slots: range) -> Rows:
        numbers = range(step * self._batch + slots.start, step * self._batch + slots.stop)
        ids = token_ids(self._tokenizer, self._pictures.captions(numbers)).astype(np.int64)
        facts = (self._pictures.facts(numbers) - self._middle) / self._spread
        return Rows(numbers, {"ids": torch.from_numpy(ids), "facts": torch.from_numpy(facts).float()})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            states = self._text(input_ids=rows["ids"]).last_hidden_state
        told = self._head(states.float().mean(dim=1))
        return {"loss": (told - rows["facts"]).square().mean(dim=1)}
