"""f_map, the mapping network: identity and expression features -> S*, the face as word embeddings.

Face2Diffusion 3.3; key names and sizes of the published mapping.pt, which has two words. Each word has a network
of its own: `i2t_first` and `i2t_last` for two words, `i2t_first` alone for one, and `i2t_first`, `i2t_1`, ...,
`i2t_{k-2}`, `i2t_last` for k of three or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .constants import MAPPING_DROPOUT, MAPPING_SLOPE
from .errors import MismatchError, WeightsError
from .state_dict import Operations, StateDict, build, indices, shape_of

WHAT = "mapping network"


@dataclass(frozen=True)
class MappingConfig:
    """The sizes of a mapping network."""

    id_width: int  # of v_id
    expression_width: int  # of v_exp; 0: takes no expression
    hidden: int  # width of the hidden layers
    words: int  # k, the word vectors that make up S*
    word_width: int
    layers: int  # hidden layers, at least one


def head_names(words: int) -> tuple[str, ...]:
    """The attribute and key names of the networks, in the order of the words."""
    middle = tuple(f"i2t_{i}" for i in range(1, words - 1))
    return ("i2t_first",) if words == 1 else ("i2t_first", *middle, "i2t_last")


def mapping_config(state_dict: StateDict) -> MappingConfig:
    """The sizes of the network that `state_dict` holds. WeightsError if it holds none."""
    (expression_width,) = shape_of(state_dict, "null_exp", 1, WHAT)
    hidden, inputs = shape_of(state_dict, "i2t_first.layers.0.0.weight", 2, WHAT)
    word_width, _ = shape_of(state_dict, "i2t_first.fc_out.weight", 2, WHAT)
    if inputs <= expression_width:
        raise WeightsError(
            f"{WHAT}: i2t_first.layers.0.0.weight takes {inputs} values and null_exp has {expression_width}, expected"
            " fewer, since the identity comes on top; load another file"
        )
    words = len({key.partition(".")[0] for key in state_dict if key.startswith("i2t_")})
    layers = len(indices(state_dict, "i2t_first.layers."))
    return MappingConfig(inputs - expression_width, expression_width, hidden, words, word_width, layers)


def build_mapping(state_dict: StateDict, operations: Operations = nn) -> MappingNetwork:
    """The network with these weights, frozen, in eval mode. WeightsError names a key that is missing or misshapen."""
    config = mapping_config(state_dict)
    return build(lambda ops: MappingNetwork(config, ops), state_dict, operations, WHAT)


class MappingNetwork(nn.Module):
    """v_id and v_exp -> S*. `operations` gives the layers that hold weights."""

    def __init__(self, config: MappingConfig, operations: Operations = nn):
        super().__init__()
        self.config = config
        self.null_exp = nn.Parameter(torch.zeros(config.expression_width))
        for name in head_names(config.words):
            self.add_module(name, MappingHead(config, operations))

    @property
    def heads(self) -> list[MappingHead]:
        """The networks, in the order of the words."""
        return [getattr(self, name) for name in head_names(self.config.words)]

    def forward(
        self,
        v_id: torch.Tensor,
        v_exp: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        dropout: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """v_id: (B, id_width), v_exp: (B, expression_width), mask: (B,) in 0..1. S*: (B, words, word_width).

        Without v_exp, and where the mask is 0, `null_exp` takes its place. dropout: (B, words, layers, hidden), what
        the hidden layers are multiplied with, for a trainer that draws its own; without it the network's own dropout
        is at work (in training mode only). MismatchError if the widths are not this network's.
        """
        self._check("v_id", v_id, self.config.id_width)
        features = torch.cat((v_id, self.expression(v_id, v_exp, mask)), dim=1)
        if dropout is None:
            return torch.stack([head(features) for head in self.heads], dim=1)
        return torch.stack([head(features, dropout[:, i]) for i, head in enumerate(self.heads)], dim=1)

    def expression(self, v_id: torch.Tensor, v_exp: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, expression_width), with the dtype and device of v_id: v_exp where the mask is 1, null_exp where 0."""
        null_exp = self.null_exp.to(v_id).expand(len(v_id), -1)
        if v_exp is None:
            return null_exp
        self._check("v_exp", v_exp, self.config.expression_width)
        if mask is None:
            return v_exp
        return v_exp * mask[:, None] + null_exp * (1 - mask[:, None])

    @staticmethod
    def _check(name: str, features: torch.Tensor, width: int) -> None:
        if features.shape[1] != width:
            raise MismatchError(
                f"{name} has width {features.shape[1]}, this mapping network expects {width};"
                " use the encoder that the mapping was trained with"
            )


class MappingHead(nn.Module):
    """The network of one word."""

    def __init__(self, config: MappingConfig, operations: Operations):
        super().__init__()
        self.fc_out = operations.Linear(config.hidden, config.word_width)
        inputs = [config.id_width + config.expression_width] + [config.hidden] * (config.layers - 1)
        self.layers = nn.Sequential(*(hidden_layer(width, config.hidden, operations) for width in inputs))

    def forward(self, features: torch.Tensor, dropout: torch.Tensor | None = None) -> torch.Tensor:
        """(B, id_width + expression_width) -> (B, word_width). dropout: (B, layers, hidden) in place of its own."""
        if dropout is None:
            return self.fc_out(self.layers(features))
        for i, (linear, _, rectifier) in enumerate(self.layers):
            features = rectifier(linear(features) * dropout[:, i])
        return self.fc_out(features)


def hidden_layer(inputs: int, outputs: int, operations: Operations) -> nn.Sequential:
    """A linear layer, dropout (in training only) and a leaky rectifier."""
    return nn.Sequential(operations.Linear(inputs, outputs), nn.Dropout(MAPPING_DROPOUT), nn.LeakyReLU(MAPPING_SLOPE))
