"""Which device a command computes on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import SettingsError

Placer = Callable[[torch.nn.Module], Callable[..., torch.Tensor]]  # see `networks.load_network`


def usable_device(name: str | None) -> torch.device:
    """The device of that name; none: a GPU if there is one. Raises SettingsError for one that cannot be used here."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for a device
        raise SettingsError(f'The device "{name}" cannot be used here; expected cpu, cuda or mps.') from error
    return torch.device(name)


def placed_on(device: torch.device) -> Placer:
    """What puts a network on the device; tensors come from the CPU and go back there."""

    def place(module: torch.nn.Module) -> Callable[..., torch.Tensor]:
        module.to(device)
        return torch.inference_mode()(lambda tensor, *settings: module(tensor.to(device), *settings).to("cpu"))

    return place
