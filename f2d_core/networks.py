"""From a weight file to a network that can be called, with what the file said of it. The one loader for all hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .catalogue import PUBLISHED
from .constants import DEFAULT_CLASS_WORD, DEFAULT_TEMPLATE, FEATURES, FEATURES_MSID, INJECTION_SUM, WORD_WIDTHS
from .errors import WeightsError
from .expression import build_expression
from .mapping import build_mapping
from .msid import build_msid
from .packed import pack_for_cpu
from .weights import Weights, read_weights

_BUILDERS = {"msid": build_msid, "mapping": build_mapping, "recon": build_expression}


@dataclass(frozen=True)
class Network:
    """A loaded network.

    module: its sizes and parameters (`.config`). run: calls it; a host may move it to a device first. Its tensors,
    given and returned, are fp32 on the CPU. facts: what the file's metadata says, with the published defaults.
    """

    module: torch.nn.Module
    run: Callable[..., torch.Tensor]
    sha256: str
    licence: str
    facts: dict[str, str]
    path: Path

    @property
    def title(self) -> str:
        return self.path.name


def load_network(
    path: str | Path,
    kind: str,
    operations: ModuleType | Any = torch.nn,
    place: Callable[[torch.nn.Module], Callable[..., torch.Tensor]] | None = None,
) -> Network:
    """Load "msid", "mapping" or "recon" from a file.

    operations: the layer classes (torch.nn, or a host's that cast and move weights). place: turns the module into
    the callable that runs it with tensors and settings; without it the module runs on the CPU. Raises WeightsError.
    """
    weights = read_weights(path, expect=kind)
    try:
        module = _BUILDERS[kind](weights.state_dict, operations)
    except WeightsError as error:
        raise WeightsError(f"{weights.path.name}: {error}") from error
    facts = _facts(weights)
    if kind == "mapping" and facts["features"] not in FEATURES:
        raise WeightsError(
            f"{weights.path.name} is made for features called {facts['features']}, expected one of "
            f"{', '.join(FEATURES)}. Update Face2Diffusion to use it."
        )
    run = (place or on_cpu)(module)
    return Network(module, run, weights.sha256, _licence(weights), facts, weights.path)


def on_cpu(module: torch.nn.Module) -> Callable[..., torch.Tensor]:
    """The module as a function for inference on the CPU, as fast as this machine allows."""
    return torch.inference_mode()(pack_for_cpu(module))


def _licence(weights: Weights) -> str:
    """A file without metadata is taken for the published one, whose licence is the strictest there is."""
    return weights.metadata.get("licence", PUBLISHED[weights.kind].licence)


def _facts(weights: Weights) -> dict[str, str]:
    defaults = {
        "features": FEATURES_MSID,
        "injection": INJECTION_SUM,
        "class_word": DEFAULT_CLASS_WORD,
        "template": DEFAULT_TEMPLATE,
        "msid_sha256": "",
        "base_model_sha256": "",
    }
    if weights.kind == "mapping":  # a published file says nothing of its encoder, but the width of its words does
        width = weights.state_dict["i2t_first.fc_out.weight"].shape[0]
        defaults["encoder_key"] = next((key for key, known in WORD_WIDTHS.items() if known == width), f"w{width}")
    return {**defaults, **weights.metadata}
