"""The denoising losses of Face2Diffusion and DreamIdentity's penalty on words, as pure functions.

`reconstruction` is Eq. 1, `cgdr` (class-guided denoising regularisation) Eq. 7, `masked` Eq. 8 of the paper. All are
means over all elements of a sample; a batch's loss is the mean over its samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..constants import CGDR, L2_SQUARED, MASKED


class Losses(NamedTuple):
    """Of B samples, (B,) each. total: the loss itself. foreground: squared deviation from the noise per element of
    the face. background: squared deviation from the class prompt's prediction per element of the rest, from the
    noise where there is no such prediction."""

    total: torch.Tensor
    foreground: torch.Tensor
    background: torch.Tensor


def denoising_losses(
    eps_pred: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor, eps_c: torch.Tensor | None, variant: str
) -> Losses:
    """eps_pred, noise, eps_c: (B, 4, h, w). mask: (B, 1, h, w) in 0..1, 1 = face. Only `total` carries a gradient.

    eps_c: the class prompt's prediction; `cgdr` needs it, the others take it for `background` alone.
    """
    error = eps_pred - _target(noise, mask, eps_c, variant)
    if variant == MASKED:
        error = error * mask
    with torch.no_grad():
        rest = noise if eps_c is None else eps_c
        foreground = weighted_mean((eps_pred - noise) ** 2, mask)
        background = weighted_mean((eps_pred - rest) ** 2, 1 - mask)
    return Losses((error**2).flatten(1).mean(dim=1), foreground, background)


def word_penalty(words: torch.Tensor, kind: str) -> torch.Tensor:
    """(B,): the sum over the k words of an S*, (B, k, width), of their lengths: DreamIdentity's Eq. 4 as it is printed.

    kind "squared": of the squared lengths, as in E4T (Gal et al. 2023), which it refers to.
    """
    lengths = torch.linalg.vector_norm(words, dim=-1)
    return (lengths.square() if kind == L2_SQUARED else lengths).sum(dim=1)


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B,): mean of values (B, C, h, w) weighted by (B, 1, h, w); 0 where there is no weight at all."""
    weight = weight.expand_as(values)
    return (values * weight).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1).clamp(min=1e-12)


def _target(noise: torch.Tensor, mask: torch.Tensor, eps_c: torch.Tensor | None, variant: str) -> torch.Tensor:
    if variant != CGDR:
        return noise
    return noise * mask + eps_c * (1 - mask)
