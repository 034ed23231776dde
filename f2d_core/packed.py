"""The same networks, faster on a CPU: weights laid out once the way the processor reads them.

A plain linear layer lays its weights out anew on every call. oneDNN, which comes with torch, can keep them in its own
layout, and can add or rectify a result while that is still in the cache; torch reaches this through operations it
made for its compiled models. Where they are missing (some processors and builds of torch) a network stays as it is.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from .constants import MAPPING_SLOPE
from .mapping import MappingHead, MappingNetwork
from .msid import Block, MSIDEncoder

# The number of rows oneDNN is told to lay weights out for. From 16 on its layout is the same, and good for all.
ROWS = 256


def pack_for_cpu(network: nn.Module) -> nn.Module:
    """A twin of `network` for inference on the CPU: the same calls and, within rounding, results; faster.

    It holds packed copies of the weights of linear layers, so it has no state dict to save and does not follow later
    changes; all other tensors are shared. `network` itself is returned where nothing is gained: it is neither an
    MSID encoder nor a mapping network, its weights are not fp32 on the CPU, or this torch is without oneDNN.
    """
    plain = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in network.parameters())
    packed = _packed_parts(network) if plain and can_pack() else {}
    if not packed:
        return network
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    # A memo tells deepcopy what stands in the copy for what it meets in the original.
    return copy.deepcopy(network, memo=shared | packed)


def can_pack() -> bool:
    """Whether this torch has what packing needs."""
    operations = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operations)


def _packed_parts(network: nn.Module) -> dict[int, nn.Module]:
    """id of a part of the network -> what takes its place."""
    if isinstance(network, MSIDEncoder):
        *blocks, last = network.blocks[: network.config.levels[-1] + 1]
        return {id(block): PackedBlock(block) for block in blocks} | {id(last): PackedLastBlock(last)}
    if isinstance(network, MappingNetwork):
        return {id(head): PackedHead(head) for head in network.heads}
    return {}


class PackedLinear:
    """A linear layer whose weight is in oneDNN's layout."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = bias.detach()

    @classmethod
    def of(cls, linear: nn.Linear) -> PackedLinear:
        return cls(linear.weight, linear.bias)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), fp32."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")

    def gelu(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same, then GELU by erf."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "gelu", [], "none")

    def leaky_relu(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same, then the leaky rectifier of the mapping network."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "leaky_relu", [MAPPING_SLOPE], "")

    def plus(self, other: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The same, added to `other`: (..., out), contiguous."""
        return torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.weight, self.bias, "add")


class PackedBlock(nn.Module):
    """A block of the encoder; see msid.Block."""

    def __init__(self, block: Block):
        super().__init__()
        self.heads = block.attn.heads
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv, self.proj = PackedLinear.of(block.attn.qkv), PackedLinear.of(block.attn.proj)
        self.fc1, self.fc2 = PackedLinear.of(block.mlp.fc1), PackedLinear.of(block.mlp.fc2)

    def forward(self, tokens: torch.Tensor, queries: None = None) -> torch.Tensor:
        """(B, N, width) -> (B, N, width). queries: None, which stands for all tokens."""
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = self.proj.plus(tokens, attended)
        return self.fc2.plus(tokens, self.fc1.gelu(self.norm2(tokens)))


class PackedLastBlock(nn.Module):
    """The block after which only the class token is read; no token's key or value is ever computed.

    With the normalised tokens x_n, key K x_n + b and value V x_n + c, the class token's query q and its attention p_n:
    q . (K x_n + b) = (K^T q) . x_n + a number equal for all n, which the softmax takes out, and
    sum_n p_n (V x_n + c) = V (sum_n p_n x_n) + c. So K and V each meet one vector per head instead of all tokens.
    """

    def __init__(self, block: Block):
        super().__init__()
        qkv = block.attn.qkv
        (q, k, v), (q_bias, _, v_bias) = qkv.weight.detach().chunk(3), qkv.bias.detach().chunk(3)
        per_head = (block.attn.heads, -1)
        self.key, self.value, self.value_bias = k.unflatten(0, per_head), v.unflatten(0, per_head), v_bias
        self.heads = block.attn.heads
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.query, self.proj = PackedLinear(q, q_bias), PackedLinear.of(block.attn.proj)
        self.fc1, self.fc2 = PackedLinear.of(block.mlp.fc1), PackedLinear.of(block.mlp.fc2)

    def forward(self, tokens: torch.Tensor, queries: int) -> torch.Tensor:
        """(B, N, width) -> (B, 1, width): the class token. queries: 1."""
        token = tokens[:, :1] + self.proj(self.attend(self.norm1(tokens)))
        return token + self.fc2(self.fc1.gelu(self.norm2(token)))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, 1, width)."""
        q = self.query(x[:, 0]).unflatten(1, (self.heads, -1)) * self.key.shape[1] ** -0.5
        scores = torch.einsum("bhd,hdw->bhw", q, self.key) @ x.transpose(1, 2)
        seen = scores.softmax(dim=-1) @ x
        return torch.einsum("bhw,hdw->bhd", seen, self.value).flatten(1)[:, None] + self.value_bias


class PackedHead(nn.Module):
    """The network of one word; see mapping.MappingHead."""

    def __init__(self, head: MappingHead):
        super().__init__()
        self.layers = [PackedLinear.of(layer[0]) for layer in head.layers]
        self.fc_out = PackedLinear.of(head.fc_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, id_width + expression_width) -> (B, word_width)."""
        for layer in self.layers:
            features = layer.leaky_relu(features)
        return self.fc_out(features)
