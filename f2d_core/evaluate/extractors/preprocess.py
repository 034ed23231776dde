"""Pictures as CLIP and SigLIP take them: Pillow's bicubic resize, then levels to a mean and a deviation.

CLIP (openai/CLIP, open_clip): the short side to the network's size, the centre cut out. SigLIP (big_vision): both
sides to the network's size, whatever the shape of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN, SIGLIP_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Preprocess:
    """size: px, height and width of the network's input. squash: both sides resized, else the centre is cut out."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    squash: bool

    def __call__(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB, any sizes -> (B, 3, size, size) fp32."""
        levels = np.stack([self._resized(picture) for picture in pictures])
        pixels = torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous().float() / 255
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def _resized(self, rgb: np.ndarray) -> np.ndarray:
        from PIL import Image

        height, width = rgb.shape[:2]
        if self.squash:
            new_width = new_height = self.size
        else:  # the long side is rounded down, as in torchvision
            short = min(width, height)
            new_width, new_height = self.size * width // short, self.size * height // short
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        if picture.size != (new_width, new_height):
            picture = picture.resize((new_width, new_height), Image.Resampling.BICUBIC)
        left, top = round((new_width - self.size) / 2), round((new_height - self.size) / 2)
        return np.asarray(picture)[top : top + self.size, left : left + self.size]
