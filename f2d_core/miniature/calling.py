"""Calling people by words that nobody else has: what the names of thousands do in Stable Diffusion's vocabulary.

With sixty names alone, the space of word vectors is empty between them: no mapping found anybody else there. So most
people without a name are called, while the base model learns, by two word vectors made of what they look like, in the
place of two tokens and a little inexact. The method knows nothing of it: its mapping has to find such vectors itself,
from photos, by the base model's errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .job import seeded
from .people import sample_identities

CALLED = ("s s", "t t")  # in captions, the first person and the second: letters stand for themselves nowhere else
NAME_WORDS = 2
MOST_NOISE = 0.5  # of a vector, in units of its own size
_FIRST_SIZE = 0.02  # of a number of a vector: as all words of a CLIP model begin
_SEED, _MEASURED_ON = 62_000, 2000  # people who say how much each number of a person differs


class Calls(torch.nn.Module):
    """Two people of each picture as word vectors: (B, 2, numbers) -> (B, 2, NAME_WORDS, width)."""

    def __init__(self, width: int):
        super().__init__()
        people = sample_identities(_SEED, _MEASURED_ON).numbers
        self.register_buffer("middle", torch.from_numpy(people.mean(axis=0)).float())
        self.register_buffer("spread", torch.from_numpy(people.std(axis=0) + 1e-3).float())
        self.words = torch.nn.Linear(people.shape[1], NAME_WORDS * width, bias=False)
        torch.nn.init.normal_(self.words.weight, std=_FIRST_SIZE / people.shape[1] ** 0.5)

    def forward(self, numbers: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """noise: (B, 2, NAME_WORDS, width), in units of the vectors' size."""
        vectors = self.words((numbers - self.middle) / self.spread).unflatten(-1, (NAME_WORDS, -1))
        size = vectors.detach().square().mean(dim=(-2, -1), keepdim=True).sqrt()
        return vectors + noise * size


@dataclass(frozen=True)
class CaptionEncoder:
    """The text encoder, the words of people who are called, and the token that stands for each of CALLED."""

    text_encoder: Any
    calls: Calls
    letters: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.text_encoder.config.hidden_size

    def states(self, ids: torch.Tensor, people: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(B, 77, width). ids: (B, 77). people: (B, 2, numbers) the first person of each caption and the second. noise:
        see `Calls`."""
        words = self.calls(people, noise)

        # Not DiffusersTrainableText.encode_words: here the table of words learns too, and captions hold two people.
        def with_words(_module: Any, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
            embedded = embedded.clone()
            for person, letter in enumerate(self.letters):
                there = ids == letter
                row, at = there.nonzero(as_tuple=True)
                word = (there.cumsum(dim=1) - 1)[row, at]
                embedded[row, at] = words[row, person, word].to(embedded)
            return embedded

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(with_words)
        try:
            return self.text_encoder(input_ids=ids).last_hidden_state
        finally:
            hook.remove()


def caption_encoder(text_encoder: Any, tokenizer: Any, seed: int) -> CaptionEncoder:
    """With untrained words."""
    calls = seeded(lambda: Calls(text_encoder.config.hidden_size), seed)
    letters = tuple(tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in CALLED)
    return CaptionEncoder(text_encoder, calls, letters)


def inexact(random: np.random.Generator, width: int) -> np.ndarray:
    """(2, NAME_WORDS, width) fp32: noise for one picture, anything between none and MOST_NOISE."""
    most = MOST_NOISE * random.random()
    return most * random.standard_normal((len(CALLED), NAME_WORDS, width), dtype=np.float32)
