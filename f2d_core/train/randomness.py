"""Everything random in training as a function of (seed, step, slot).

Each draw comes from a Philox generator of its own, keyed by (seed, purpose) and counted by (step, slot), so no draw
depends on another: not on how a batch is cut up, on how many processes share it, or on what ran before. Resuming
needs the number of the step and nothing else. The numbers are those of numpy's generator for Philox 4x64; numpy may
change how it turns them into normals between releases, so a run is to be continued with the numpy it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

# Purposes: a key of its own for each, so that switching one off leaves the others as they are.
ORDER, CHOICES, NOISE, POSTERIOR, DROPOUT, VALIDATION, PREVIEW, TRIPLET_ORDER = range(8)


@dataclass(frozen=True)
class Recipe:
    """What is drawn for a sample.

    images: how many photos there are. triplets: how many editing triplets; their numbers follow those of the photos.
    share: of triplets among the samples; None: photos and triplets are one set, of which each is as likely. flip:
    whether half of them are mirrored. timesteps: t is in 0 .. timesteps - 1. expression_drop, dropout: probabilities.
    dropout_shape: (words, layers, hidden).
    """

    seed: int
    batch: int
    images: int
    timesteps: int
    flip: bool
    expression_drop: float
    dropout: float
    dropout_shape: tuple[int, int, int]
    triplets: int = 0
    share: Fraction | None = None


@dataclass(frozen=True)
class Choices:
    """The small draws of B slots. t: (B,) int64. keep_expression: (B,) fp32 of 0 and 1. dropout: (B, words, layers,
    hidden) fp32 factors, 0 or 1 / (1 - p)."""

    images: list[int]
    flips: list[bool]
    t: torch.Tensor
    keep_expression: torch.Tensor
    dropout: torch.Tensor


def generator(seed: int, purpose: int, step: int = 0, slot: int = 0) -> np.random.Generator:
    """The generator of one slot of one step. It counts in the two low words of the counter, which start at 0."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, slot, step]))


def draw(recipe: Recipe, step: int, slots: Sequence[int]) -> Choices:
    """The choices of these slots of the batch of step `step`."""
    drawn = [_choose(recipe, step, slot) for slot in slots]
    return Choices(
        images=[image_of(recipe, step * recipe.batch + slot) for slot in slots],
        flips=[flip for flip, _, _ in drawn],
        t=torch.tensor([t for _, t, _ in drawn]),
        keep_expression=torch.tensor([float(keep) for _, _, keep in drawn]),
        dropout=torch.from_numpy(np.stack([_dropout(recipe, step, slot) for slot in slots])),
    )


def normals(seed: int, purpose: int, step: int, slots: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """(B, *shape) fp32, standard normal."""
    drawn = np.empty((len(slots), *shape), np.float32)
    for row, slot in zip(drawn, slots, strict=True):
        generator(seed, purpose, step, slot).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(drawn)


def image_of(recipe: Recipe, sample: int) -> int:
    """Which photo or triplet sample number `sample` of the whole run is: every epoch is a permutation of its own.

    With a share, photos and triplets have epochs of their own, and of the first n samples the share times n, rounded
    down, are triplets, whatever n.
    """
    if recipe.share is None:
        return _in_epochs(recipe.seed, ORDER, recipe.images + recipe.triplets, sample)
    before, after = (n * recipe.share.numerator // recipe.share.denominator for n in (sample, sample + 1))
    if after > before:
        return recipe.images + _in_epochs(recipe.seed, TRIPLET_ORDER, recipe.triplets, before)
    return _in_epochs(recipe.seed, ORDER, recipe.images, sample - before)


def _in_epochs(seed: int, purpose: int, count: int, sample: int) -> int:
    epoch, position = divmod(sample, count)
    return int(_permutation(seed, purpose, epoch, count)[position])


@lru_cache(maxsize=4)  # a batch may reach over the end of an epoch, of photos and of triplets
def _permutation(seed: int, purpose: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, purpose, epoch).permutation(count)


def _choose(recipe: Recipe, step: int, slot: int) -> tuple[bool, int, bool]:
    """(flip, t, whether the expression is kept); always three draws, so that no setting shifts another."""
    random = generator(recipe.seed, CHOICES, step, slot)
    flip, t, keep = random.random(), int(random.integers(recipe.timesteps)), random.random()
    return recipe.flip and flip < 0.5, t, keep >= recipe.expression_drop


def _dropout(recipe: Recipe, step: int, slot: int) -> np.ndarray:
    if recipe.dropout == 0:
        return np.ones(recipe.dropout_shape, np.float32)
    uniform = generator(recipe.seed, DROPOUT, step, slot).random(recipe.dropout_shape, dtype=np.float32)
    return (uniform >= recipe.dropout).astype(np.float32) / np.float32(1 - recipe.dropout)
