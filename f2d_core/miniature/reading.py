"""Teaching the text encoder to read, before a denoiser listens to it: what CLIP's pre-training is to Stable Diffusion.

From the mean of a caption's states a linear layer has to tell what the picture shows, in the renderer's own numbers. No
picture is needed for that. The words that people without a name are called by are learnt along with it. Taught by the
denoiser alone, the text encoder of a short training tells scenes apart and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..train.randomness import NOISE, generator
from .calling import CaptionEncoder, inexact
from .job import Rows, fast, seeded
from .latents import token_ids
from .pictures import PictureSet

_MEASURED_ON = range(1 << 40, (1 << 40) + 2000)  # pictures that say how much each number differs; no step sees them


class ReadingLesson:
    """A `job.Lesson`: the facts of pictures from their captions, each in units of its own spread."""

    figures = ("loss",)

    def __init__(self, encoder: CaptionEncoder, pictures: PictureSet, tokenizer: Any, batch: int, seed: int):
        facts = pictures.facts(_MEASURED_ON)
        self._middle, self._spread = facts.mean(axis=0), facts.std(axis=0) + 1e-3
        head = seeded(lambda: torch.nn.Linear(encoder.width, facts.shape[1]), seed)
        self.modules = {"text": encoder.text_encoder.train(), "calls": encoder.calls, "head": head}
        self._encoder, self._head, self._batch, self._seed = encoder, head, batch, seed
        self._pictures, self._tokenizer = pictures, tokenizer

    def rows(self, step: int, slots: range) -> Rows:
        numbers = range(step * self._batch + slots.start, step * self._batch + slots.stop)
        ids = token_ids(self._tokenizer, self._pictures.captions(numbers)).astype(np.int64)
        facts = (self._pictures.facts(numbers) - self._middle) / self._spread
        noise = np.stack([inexact(generator(self._seed, NOISE, step, slot), self._encoder.width) for slot in slots])
        people = self._pictures.people(numbers)
        tensors = {"ids": ids, "facts": facts.astype(np.float32), "people": people.astype(np.float32), "noise": noise}
        return Rows(numbers, {name: torch.from_numpy(values) for name, values in tensors.items()})

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        with fast():
            states = self._encoder.states(rows["ids"], rows["people"], rows["noise"])
        told = self._head(states.float().mean(dim=1))
        return {"loss": (told - rows["facts"]).square().mean(dim=1)}
