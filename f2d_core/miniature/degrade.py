"""Pictures of less quality: fewer pixels, spots and grain. A network that knows people in these looks at who somebody
is, and not at how well the picture is drawn."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

SPARED = 0.25  # how many pictures stay as they are
MOST_REDUCED = 2.5  # how many px of the picture become one, along a side
GRAINS_PX = (1, 2, 4, 8)  # how large the spots are
MOST_GRAIN = 8.0  # standard deviation of the spots of one size, of 255


def degraded(rgb: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8 -> the same; by how much is drawn from `random`."""
    spared, reduced, *grains = random.random(2 + len(GRAINS_PX))
    if spared < SPARED:
        return rgb
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    side = picture.shape[-1]
    fewer = round(side / (1 + (MOST_REDUCED - 1) * reduced))
    picture = _resized(F.interpolate(picture, (fewer, fewer), mode="area"), side)
    for size, strength in zip(GRAINS_PX, grains, strict=True):
        spots = random.standard_normal((1, 3, side // size, side // size), dtype=np.float32)
        picture += MOST_GRAIN * strength * _resized(torch.from_numpy(spots), side)
    return picture.round().clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()


def _resized(picture: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(picture, (side, side), mode="bilinear", align_corners=False)
