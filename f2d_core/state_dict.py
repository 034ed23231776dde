"""State dicts against networks: which keys and shapes a network has, and whether a state dict fits.

A state dict comes here clean: bare published key names, fp32 (weights.py reads and cleans files).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from .errors import WeightsError

StateDict = Mapping[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]
# A namespace with Linear, LayerNorm and Conv2d: torch.nn, or a host's own casting layers.
Operations = ModuleType | type
Network = TypeVar("Network", bound=nn.Module)


def shape_of(found: StateDict, key: str, dimensions: int, what: str) -> tuple[int, ...]:
    """The shape of the entry that a size is read from. WeightsError if it is not there or has other dimensions."""
    if key not in found:
        raise WeightsError(f"{what}: key {key} is missing, expected {dimensions} dimensions; {_remedy(what)}")
    shape = tuple(found[key].shape)
    if len(shape) != dimensions:
        raise WeightsError(f"{what}: key {key} has shape {shape}, expected {dimensions} dimensions; {_remedy(what)}")
    return shape


def indices(found: StateDict, before: str, after: str = ".") -> list[int]:
    """The sorted numbers n of the keys that start with `before` n `after`."""
    numbers = set()
    for key in found:
        number, separator, _ = key.removeprefix(before).partition(after)
        if key.startswith(before) and separator and number.isascii() and number.isdigit():
            numbers.add(int(number))
    return sorted(numbers)


def expected_shapes(make: Callable[[], nn.Module]) -> Shapes:
    """Key -> shape of the network that `make` builds; nothing is allocated."""
    with torch.device("meta"):
        network = make()
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def check_state_dict(found: StateDict, expected: Shapes, optional: Collection[str], what: str) -> None:
    """WeightsError naming the first key that is missing (and not optional), of another shape, or not known.

    Unknown keys are refused because a network with further parts would compute something else.
    """
    for key, shape in expected.items():
        if key not in found:
            if key not in optional:
                raise WeightsError(f"{what}: key {key} is missing, expected shape {shape}; {_remedy(what)}")
        elif tuple(found[key].shape) != shape:
            raise WeightsError(
                f"{what}: key {key} has shape {tuple(found[key].shape)}, expected {shape}; {_remedy(what)}"
            )
    for key in found:
        if key not in expected:
            raise WeightsError(f"{what}: unknown key {key}, expected none besides its own; {_remedy(what)}")


def build(make: Callable[[Any], Network], state_dict: StateDict, operations: Operations, what: str) -> Network:
    """`make(operations)` with the tensors of `state_dict`: checked, frozen, in eval mode, where the tensors are.

    The tensors are used, not copied; a trainer that unfreezes the network gives copies.
    """
    check_state_dict(state_dict, expected_shapes(lambda: make(nn)), (), what)
    with torch.device("meta"):
        network = make(operations)
    network.load_state_dict(state_dict, assign=True)
    return network.requires_grad_(False).eval()


def _remedy(what: str) -> str:
    return f"load a file that holds the {what}, undamaged and with the published key names"
