"""Uniform numbers as a function of (seed, purpose, row): a set can be cut into batches anywhere and stays the same.

They come from the raw output of Philox 4x64, which no release of numpy may change.
"""

from __future__ import annotations

import numpy as np

IDENTITY, SITUATION = range(2)  # purposes
_BLOCK = 4  # numbers that one count of the generator gives


def uniforms(seed: int, purpose: int, start: int, n: int, width: int) -> np.ndarray:
    """(n, width) float64 in [0, 1): rows start to start + n of the endless table of this seed and purpose."""
    blocks = -(-width // _BLOCK)
    raw = np.random.Philox(key=[seed, purpose], counter=[start * blocks, 0, 0, 0]).random_raw(n * blocks * _BLOCK)
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(n, blocks * _BLOCK)[:, :width]
