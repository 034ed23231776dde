"""The foreground mask M of Eq. 7: which part of a picture is the face.

Labels are those of facexlib's BiSeNet (f2d_core/data/parser.py): 0 background, 1 skin, 2 and 3 brows, 4 and 5 eyes,
6 glasses, 7 and 8 ears, 9 earring, 10 nose, 11 mouth, 12 and 13 lips, 14 neck, 15 necklace, 16 cloth, 17 hair, 18 hat.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..constants import MASK_PRESETS
from ..detect import Box
from ..errors import ImageError

_HARD_LEVEL = 0.5


def face_region(labels: np.ndarray, preset: str, box: Box) -> np.ndarray:
    """(H, W) labels -> (H, W) float32, 1 where the main face is, in the sense of `preset`.

    box: of the main face, px of the label map. Of several connected parts only those that reach into the box count,
    so a bystander does not. Raises ImageError where nothing is left.
    """
    region = np.isin(labels, list(MASK_PRESETS[preset]))
    main = connected_to(region, _box_area(region.shape, box))
    if not main.any():
        raise ImageError(
            f'The face parser sees nothing of the mask "{preset}" where the face is: expected a face that is not '
            "covered. Leave the photo out, or give a mask of it."
        )
    return main.astype(np.float32)


def to_latent(region: np.ndarray, shape: tuple[int, int], hard: bool) -> np.ndarray:
    """(H, W) in 0..1 -> (h, w) uint8 in 0..255: the mean over each latent's area; hard: 0 or 255, from one half up.

    Raises ImageError for an empty mask.
    """
    mean = F.interpolate(torch.from_numpy(region)[None, None].float(), size=shape, mode="area")[0, 0].numpy()
    if hard:
        mean = (mean >= _HARD_LEVEL).astype(np.float32)
    mask = np.rint(mean * 255).astype(np.uint8)
    if not mask.any():
        raise ImageError("The mask is empty: expected white where the face is. Give another mask, or leave it out.")
    return mask


def connected_to(region: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected parts (also over corners) of a (H, W) bool region that share a pixel with `seed` (H, W) bool.

    Runs of pixels along the rows are the nodes of a graph; those in neighbouring rows that touch are linked.
    """
    run = _runs(region)
    above, below = _links(run)
    reached = np.zeros(run.max() + 1, dtype=bool)
    reached[run[region & seed]] = True
    count = -1
    while count != (count := int(reached.sum())):
        linked = reached[above] | reached[below]
        reached[above[linked]] = True
        reached[below[linked]] = True
    part = np.zeros_like(region)
    part[region] = reached[run[region]]
    return part


def _runs(region: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (H, W) int64: the number of the run each pixel belongs to, -1 outside the region."""
    starts = region.copy()
    starts[:, 1:] &= ~region[:, :-1]
    return np.where(region, np.cumsum(starts).reshape(region.shape) - 1, -1)


def _links(run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of runs that touch, upper and lower; a few of the pairs may come more than once."""
    width = run.shape[1]
    links = []
    for dx in (-1, 0, 1):
        pair = np.stack([run[:-1, max(0, -dx) : width - max(0, dx)], run[1:, max(0, dx) : width - max(0, -dx)]])
        pair = pair[:, (pair >= 0).all(axis=0)]
        changes = (pair[:, 1:] != pair[:, :-1]).any(axis=0)
        links.append(pair[:, np.concatenate([np.ones(min(1, pair.shape[1]), bool), changes])])
    return tuple(np.concatenate(links, axis=1))


def _box_area(shape: tuple[int, int], box: Box) -> np.ndarray:
    """(H, W) bool: the pixels inside the box."""
    x, y = np.arange(shape[1]), np.arange(shape[0])
    return ((y >= box[1]) & (y <= box[3]))[:, None] & ((x >= box[0]) & (x <= box[2]))[None]
