"""What a method costs (Face2Diffusion, Table 2): how much is trained, and how long a face takes to become S*.

Trained is f_map alone. Timed are f_id and f_map alone, from a face crop to words; finding and cropping the face are
not. The paper gives 1.20e7 parameters, and 0.006 s on an A100.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..encode import check_parts, identity_features
from ..errors import SettingsError

if TYPE_CHECKING:
    from ..networks import Network

_WARM_UP = 3


@dataclass(frozen=True)
class EncodeCost:
    """parameters: of f_map. seconds: the median over `repeats` faces, one at a time; device: where they ran."""

    parameters: int
    seconds: float
    repeats: int
    device: str


def trained_parameters(network: nn.Module) -> int:
    """How many numbers the network has that training changes; buffers are not among them."""
    return sum(parameter.numel() for parameter in network.parameters())


def encode_cost(
    msid: Network,
    mapping: Network,
    repeats: int = 20,
    device: str | torch.device = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> EncodeCost:
    """Time one face through f_id and f_map, `repeats` times, after a warm-up.

    device: where the networks run, waited for before the clock is read. Raises SettingsError, MismatchError.
    """
    if repeats < 1:
        raise SettingsError(f"{repeats} repeats were asked for: expected at least 1.")
    check_parts(msid, mapping)
    size = msid.module.config.image_size
    face = np.random.RandomState(0).randint(0, 256, (size, size, 3)).astype(np.uint8)
    seconds = [_timed(lambda: _encode(face, msid, mapping), device, clock) for _ in range(_WARM_UP + repeats)]
    return EncodeCost(trained_parameters(mapping.module), median(seconds[_WARM_UP:]), repeats, str(device))


def _encode(face: np.ndarray, msid: Network, mapping: Network) -> torch.Tensor:
    return mapping.run(identity_features([face], msid, features=mapping.facts["features"]), None)


def _timed(work: Callable[[], object], device: str | torch.device, clock: Callable[[], float]) -> float:
    _wait_for(device)
    start = clock()
    work()
    _wait_for(device)
    return clock() - start


def _wait_for(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
