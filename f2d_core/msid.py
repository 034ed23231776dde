"""f_id, the multi-scale identity encoder: a vision transformer and the class token of several of its blocks.

Face2Diffusion 3.2; key names and sizes of the published msid.pt. The sizes come from the state dict, so an
encoder of another width, depth or patch, or with other levels, loads too.

An encoder that normalises its last block alone is a plain ArcFace encoder. It gives DreamIdentity's features as well:
V = [v3, v6, v9, v12, v_final] (DreamIdentity, Eq. 2), the raw class token at each quarter of the depth, and the
normalised one that its recognition loss was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .constants import FEATURES_DREAMIDENTITY, FEATURES_MSID, MSID_BLOCK_EPS, MSID_HEAD_WIDTH, MSID_LEVEL_EPS
from .errors import MismatchError, WeightsError
from .state_dict import Operations, StateDict, build, indices, shape_of

WHAT = "MSID encoder"
QUARTERS = 4  # of the depth, at whose ends DreamIdentity reads the class token


@dataclass(frozen=True)
class MSIDConfig:
    """The sizes of an encoder."""

    image_size: int  # px, height and width
    patch: int  # px
    width: int
    depth: int  # blocks
    heads: int
    mlp: int  # hidden width
    levels: tuple[int, ...]  # blocks, counted from 0, whose class token becomes a part of v_id

    @property
    def features(self) -> int:
        """The width of v_id as Face2Diffusion makes it."""
        return self.width_of(FEATURES_MSID)

    @property
    def plain(self) -> bool:
        """Whether this is a plain ArcFace encoder: its last block alone is normalised."""
        return self.levels == (self.depth - 1,)

    @property
    def own_features(self) -> str:
        """The kind of v_id that this encoder was made for."""
        return FEATURES_DREAMIDENTITY if self.plain and self.depth >= QUARTERS else FEATURES_MSID

    @property
    def quarters(self) -> tuple[int, ...]:
        """The blocks, counted from 0, that end a quarter of the depth: 2, 5, 8 and 11 of 12."""
        return tuple(self.depth * i // QUARTERS - 1 for i in range(1, QUARTERS + 1))

    def width_of(self, features: str) -> int:
        """The width of v_id of that kind."""
        parts = QUARTERS + 1 if features == FEATURES_DREAMIDENTITY else len(self.levels)
        return parts * self.width


def msid_config(state_dict: StateDict) -> MSIDConfig:
    """The sizes of the encoder that `state_dict` holds. WeightsError if it holds none."""
    width, _, patch, _ = shape_of(state_dict, "patch_embed.proj.weight", 4, WHAT)
    _, tokens, _ = shape_of(state_dict, "pos_embed", 3, WHAT)
    mlp, _ = shape_of(state_dict, "blocks.0.mlp.fc1.weight", 2, WHAT)
    side = round((tokens - 1) ** 0.5)
    depth, levels = len(indices(state_dict, "blocks.")), tuple(indices(state_dict, "norms.layer_"))
    if width % MSID_HEAD_WIDTH or side < 1 or side * side != tokens - 1:
        raise WeightsError(
            f"{WHAT}: width {width} and {tokens} tokens found, expected a multiple of {MSID_HEAD_WIDTH} and a square"
            " number of patches plus one; load another file"
        )
    if not levels or levels[-1] >= depth:
        raise WeightsError(
            f"{WHAT}: norms for blocks {levels} of {depth} blocks found, expected at least one (norms.layer_N), all of"
            " them of existing blocks; load another file"
        )
    return MSIDConfig(side * patch, patch, width, depth, width // MSID_HEAD_WIDTH, mlp, levels)


def require_features(config: MSIDConfig, features: str, title: str) -> None:
    """Raise MismatchError where the encoder `title` cannot give v_id of that kind."""
    if features == FEATURES_DREAMIDENTITY and config.own_features != FEATURES_DREAMIDENTITY:
        normalised = ", ".join(str(level) for level in config.levels)
        raise MismatchError(
            f"{title} normalises the class token of blocks {normalised} of {config.depth}, expected a plain ArcFace "
            f"encoder, which normalises the last of at least {QUARTERS} blocks alone: DreamIdentity's features come "
            "from one. Load such an encoder."
        )


def build_msid(state_dict: StateDict, operations: Operations = nn) -> MSIDEncoder:
    """The encoder with these weights, frozen, in eval mode. WeightsError names a key that is missing or misshapen.

    Entries that inference never reads (the final norm, the batch counters) may be absent.
    """
    config = msid_config(state_dict)
    complete = {**_unread_entries(config), **state_dict}
    return build(lambda ops: MSIDEncoder(config, ops), complete, operations, WHAT)


def _unread_entries(config: MSIDConfig) -> dict[str, torch.Tensor]:
    counters = {f"norms.layer_{level}.0.num_batches_tracked": torch.tensor(0) for level in config.levels}
    return {"norm.weight": torch.ones(config.width), "norm.bias": torch.zeros(config.width), **counters}


class MSIDEncoder(nn.Module):
    """Faces -> v_id. `operations` gives the layers that hold weights."""

    def __init__(self, config: MSIDConfig, operations: Operations = nn):
        super().__init__()
        self.config = config
        patches = (config.image_size // config.patch) ** 2
        patch_layer = operations.Conv2d(3, config.width, config.patch, stride=config.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, config.width))
        self.patch_embed = nn.ModuleDict({"proj": patch_layer})
        self.blocks = nn.ModuleList(Block(config, operations) for _ in range(config.depth))
        # Never called: it is in published files, so it has to be in ours for other programs to load them.
        self.norm = operations.LayerNorm(config.width, eps=MSID_BLOCK_EPS)
        self.norms = nn.ModuleDict({f"layer_{level}": level_norm(config.width, operations) for level in config.levels})

    def forward(self, faces: torch.Tensor, features: str = FEATURES_MSID) -> torch.Tensor:
        """faces: (B, 3, S, S), RGB in [-1, 1], S the configured size. v_id: (B, config.width_of(features)).

        features: one of constants.FEATURES; see `require_features`.
        """
        if features == FEATURES_DREAMIDENTITY:
            raw = self.class_tokens(faces, self.config.quarters)
            return torch.cat((*raw, self._normalised(self.config.quarters[-1], raw[-1])), dim=1)
        levels = self.config.levels
        tokens = self.class_tokens(faces, levels)
        return torch.cat([self._normalised(i, token) for i, token in zip(levels, tokens, strict=True)], dim=1)

    def class_tokens(self, faces: torch.Tensor, levels: tuple[int, ...]) -> list[torch.Tensor]:
        """The raw class token after each of these blocks, counted from 0 and in order: (B, width) each."""
        tokens, found = self.embed(faces), []
        for i, block in zip(range(levels[-1] + 1), self.blocks, strict=False):
            # Of the last block only the class token is read, so only it asks there.
            tokens = block(tokens, queries=1 if i == levels[-1] else None)
            if i in levels:
                found.append(tokens[:, 0])
        return found

    def _normalised(self, level: int, token: torch.Tensor) -> torch.Tensor:
        return self.norms[f"layer_{level}"](token)

    def embed(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, 1 + patches, width): the class token and the patches, with their positions."""
        patches = self.patch_embed["proj"](faces).flatten(2).transpose(1, 2)
        class_token = self.cls_token.to(patches).expand(len(faces), -1, -1)
        return torch.cat((class_token, patches), dim=1) + self.pos_embed.to(patches)


class Block(nn.Module):
    """A transformer block, normalised before its two parts."""

    def __init__(self, config: MSIDConfig, operations: Operations):
        super().__init__()
        self.norm1 = operations.LayerNorm(config.width, eps=MSID_BLOCK_EPS)
        self.attn = Attention(config, operations)
        self.norm2 = operations.LayerNorm(config.width, eps=MSID_BLOCK_EPS)
        self.mlp = MLP(config, operations)

    def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
        """tokens: (B, N, width). The first `queries` tokens of the result, (B, queries, width); None: all."""
        tokens, attended = tokens[:, :queries], self.attn(self.norm1(tokens), queries)
        tokens = tokens + attended
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: MSIDConfig, operations: Operations):
        super().__init__()
        self.heads = config.heads
        self.qkv = operations.Linear(config.width, 3 * config.width)
        self.proj = operations.Linear(config.width, config.width)

    def forward(self, tokens: torch.Tensor, queries: int | None) -> torch.Tensor:
        """(B, N, width) -> (B, queries, width): the first `queries` tokens look at all N; None: all do."""
        # The rows of qkv are q, k, v, and inside each head by head.
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q[:, :, :queries], k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with an erf GELU between them."""

    def __init__(self, config: MSIDConfig, operations: Operations):
        super().__init__()
        self.fc1 = operations.Linear(config.width, config.mlp)
        self.fc2 = operations.Linear(config.mlp, config.width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class LevelBatchNorm(nn.BatchNorm1d):
    """A batch norm that, at inference, works with its statistics on another device or in another dtype."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, width) -> (B, width)."""
        if self.training:
            return super().forward(features)
        gain = self.weight.to(features) * torch.rsqrt(self.running_var.to(features) + self.eps)
        return torch.addcmul(self.bias.to(features), features - self.running_mean.to(features), gain)


def level_norm(width: int, operations: Operations) -> nn.Sequential:
    """What a class token goes through on its way into v_id: batch norm, then layer norm."""
    return nn.Sequential(LevelBatchNorm(width, eps=MSID_LEVEL_EPS), operations.LayerNorm(width, eps=MSID_LEVEL_EPS))
