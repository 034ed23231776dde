"""A part of the picture for each person: from faces, or side by side, with soft edges that add up to the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .errors import MismatchError, SettingsError

Box = tuple[float, float, float, float]  # x0, y0, x1, y1, px

LONGER_SIDE_PX = 512  # of the masks made here; a sampler brings them down to its latents
_COLOURS = ((255, 190, 0), (60, 150, 255), (240, 90, 110), (90, 200, 120), (190, 120, 240), (0, 200, 200),
            (250, 140, 60), (160, 170, 60))  # fmt: skip
_BACKGROUND = (50, 50, 55)


def side_by_side(count: int) -> torch.Tensor:
    """(count, 512, 512) of 0 and 1: columns of one width, from left to right."""
    side = LONGER_SIDE_PX
    column = torch.arange(side) * count // side
    return (column == torch.arange(count)[:, None])[:, None].expand(count, side, side).float()


def around_faces(boxes: Sequence[Box], height: int, width: int, margin: float, to_bottom: bool) -> torch.Tensor:
    """(n, h, w) of 0 and 1, as high and wide as the picture or smaller: the surroundings of every face.

    boxes: px in a picture of `height` x `width` px. margin: what is added on every side, in sizes of the box.
    to_bottom: down to the lower edge, for the body. Where two meet, a pixel goes to the face that is nearer, measured
    in sizes of its box. Raises SettingsError for a margin below 0.
    """
    if not margin >= 0:
        raise SettingsError(f"The margin around faces is {margin:g}, expected 0 or more.")
    scale = min(1.0, LONGER_SIDE_PX / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    # Pixel centres of the mask as places in the picture, whose own pixel centres are at whole numbers.
    y = (torch.arange(h, dtype=torch.float64)[:, None] + 0.5) * height / h - 0.5
    x = (torch.arange(w, dtype=torch.float64)[None] + 0.5) * width / w - 0.5
    far = torch.stack([_distance(box, x, y, to_bottom) for box in boxes])
    nearest = far.argmin(dim=0)
    inside = far <= margin + 0.5
    return ((nearest == torch.arange(len(boxes))[:, None, None]) & inside).float()


def _distance(box: Box, x: torch.Tensor, y: torch.Tensor, to_bottom: bool) -> torch.Tensor:
    """(h, w): from the centre of the box, in boxes, along the axis where it is farther: 0.5 on the edge of the box."""
    x0, y0, x1, y1 = box
    across = (x - (x0 + x1) / 2).abs() / (x1 - x0)
    down = (y - (y0 + y1) / 2) / (y1 - y0)
    along = torch.where(down > 0, torch.zeros_like(down), -down) if to_bottom else down.abs()
    return torch.maximum(across.expand(len(y), x.shape[1]), along.expand(len(y), x.shape[1]))


def soften(masks: torch.Tensor, feather: float) -> torch.Tensor:
    """(n, h, w) -> the same with soft edges; what was split between masks without a gap stays so.

    feather: the standard deviation of the blur as a part of the shorter side, 0 to 0.5. Raises SettingsError.
    """
    if not 0 <= feather <= 0.5:
        raise SettingsError(f"The feather is {feather:g}, expected 0 to 0.5 of the shorter side.")
    sigma = feather * min(masks.shape[1:])
    if sigma < 0.3:  # px; weaker than the step from one pixel to the next
        return masks
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).to(masks)
    soft = F.conv2d(F.pad(masks[:, None], (reach, reach, 0, 0), "replicate"), weights.view(1, 1, 1, -1))
    return F.conv2d(F.pad(soft, (0, 0, reach, reach), "replicate"), weights.view(1, 1, -1, 1))[:, 0].clamp(0, 1)


def background(masks: torch.Tensor, inside: float) -> torch.Tensor:
    """(n, h, w) -> (h, w): what is left, and `inside` (0..1) of it where the people are. Raises SettingsError."""
    if not 0 <= inside <= 1:
        raise SettingsError(f"The background inside the regions is {inside:g}, expected 0 to 1.")
    return 1 - (1 - inside) * masks.sum(dim=0).clamp(0, 1)


def require_masks(masks: torch.Tensor, count: int) -> torch.Tensor:
    """(n, h, w) or (h, w) -> (count, h, w) in 0..1, of 512 px at most: one for each person and none empty, else
    MismatchError."""
    masks = (masks if masks.ndim == 3 else masks[None]).to("cpu", torch.float32).clamp(0, 1)
    if len(masks) != count:
        raise MismatchError(
            f"{len(masks)} masks for {count} people. Give each connected person one, as a batch in the same order."
        )
    empty = [i for i, mask in enumerate(masks) if not mask.max() > 0]
    if empty:
        raise MismatchError(f"Mask number {empty[0]} (counted from 0) is empty. Paint where the person is to be.")
    scale = LONGER_SIDE_PX / max(masks.shape[1:])
    if scale >= 1:
        return masks
    size = [max(1, round(side * scale)) for side in masks.shape[1:]]
    return F.interpolate(masks[:, None], size, mode="area")[:, 0]


def draw_regions(masks: torch.Tensor) -> np.ndarray:
    """(n, h, w) -> (h, w, 3) uint8: a colour for each person, in their order, to look at."""
    colours = torch.tensor([_COLOURS[i % len(_COLOURS)] for i in range(len(masks))], dtype=torch.float32)
    shares = masks / masks.sum(dim=0).clamp_min(1)
    picture = torch.einsum("nhw,nc->hwc", shares, colours)
    picture += background(shares, 0.0)[..., None] * torch.tensor(_BACKGROUND, dtype=torch.float32)
    return picture.round().to(torch.uint8).numpy()
