"""Small networks for tests and for the demo: stand-ins for the published weights, which are not ours to ship.

The layout and the key names are the published ones; the values are pseudo-random and the same on every machine,
and mean nothing: two faces get two different S*, neither of which looks like the person.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .constants import MSID_HEAD_WIDTH, RECON_PARTS
from .expression import ExpressionConfig, Stage, published_shapes
from .mapping import MappingConfig, MappingNetwork
from .msid import MSIDConfig, MSIDEncoder
from .state_dict import Shapes, expected_shapes

TINY_MSID = MSIDConfig(
    image_size=112, patch=16, width=2 * MSID_HEAD_WIDTH, depth=4, heads=2, mlp=128, levels=(0, 1, 2, 3)
)
TINY_MAPPING = MappingConfig(id_width=256, expression_width=64, hidden=128, words=2, word_width=768, layers=2)
TINY_EXPRESSION = ExpressionConfig(
    stem=8,
    stages=(Stage(4, 16, 2), Stage(8, 32, 1), Stage(8, 32, 1), Stage(16, 64, 1)),
    parts=tuple(RECON_PARTS.values()),
)


def tiny_msid_state_dict(config: MSIDConfig = TINY_MSID, seed: int = 0) -> dict[str, torch.Tensor]:
    """An encoder for 112 px crops, v_id of width 256."""
    return filled(expected_shapes(lambda: MSIDEncoder(config)), seed)


def tiny_mapping_state_dict(config: MappingConfig = TINY_MAPPING, seed: int = 0) -> dict[str, torch.Tensor]:
    """A mapping network from the tiny encoder's v_id and v_exp of 64 to two words of 768."""
    return filled(expected_shapes(lambda: MappingNetwork(config)), seed)


def tiny_recon_state_dict(config: ExpressionConfig = TINY_EXPRESSION, seed: int = 0) -> dict[str, torch.Tensor]:
    """A face reconstruction network (`net_recon` of epoch_20.pth) for 224 px crops, 257 coefficients."""
    return filled(published_shapes(config), seed)


def filled(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Pseudo-random fp32 weights of a size that keeps features near unit scale, whatever the depth."""
    # The legacy generator, because numpy promises its numbers for all versions.
    random = np.random.RandomState(seed)
    return {key: _entry(key, shape, random) for key, shape in shapes.items()}


def _entry(key: str, shape: tuple[int, ...], random: np.random.RandomState) -> torch.Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    uniform = torch.from_numpy(random.uniform(-1, 1, shape)).float()
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return 1 + 0.2 * uniform
    if len(shape) == 1:
        return 0.1 * uniform
    fan_in = shape[-1] if len(shape) == 3 else math.prod(shape[1:])
    return uniform * math.sqrt(3 / fan_in)
