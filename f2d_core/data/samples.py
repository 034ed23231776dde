"""What a training set gives to the trainer."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Samples:
    """B prepared photos or triplets, fp32 on the CPU.

    latent_mean, latent_logvar: (B, 4, h, w), the autoencoder's posterior in the denoiser's scale. v_id: (B, n).
    v_exp: (B, m); m is 0 where none was prepared. mask: (B, 1, h, w) in 0..1, 1 = what is learnt: the face, or all of
    an edited picture. prompts: what each edited picture shows, with DEFAULT_MARKER for the person; none for photos.
    """

    latent_mean: torch.Tensor
    latent_logvar: torch.Tensor
    v_id: torch.Tensor
    v_exp: torch.Tensor
    mask: torch.Tensor
    prompts: tuple[str, ...] = ()
