"""The networks of the official code as one would plainly write them: the fixed yardstick of bench/encode.py.

Nothing here is slowed down on purpose and nothing is tuned: stock layers, all tokens through every block, fp32.
It shares no code with f2d_core; only the key names, which are the published ones, are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = (2, 5, 8, 11)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.attn["proj"](attended)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PlainMSID(nn.Module):
    """(B, 3, 112, 112) in [-1, 1] -> (B, 1536)."""

    def __init__(self, width: int = 384, heads: int = 12, depth: int = 12, patch: int = 8):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (112 // patch) ** 2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        norms = {f"layer_{i}": nn.Sequential(nn.BatchNorm1d(width), nn.LayerNorm(width)) for i in LEVELS}
        self.norms = nn.ModuleDict(norms)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](faces).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in LEVELS:
                features.append(self.norms[f"layer_{i}"](x[:, 0]))
        return torch.cat(features, dim=1)


class PlainHead(nn.Module):
    def __init__(self, inputs: int, hidden: int, width: int):
        super().__init__()
        layers = [nn.Sequential(nn.Linear(n, hidden), nn.Dropout(0.1), nn.LeakyReLU(0.2)) for n in (inputs, hidden)]
        self.layers = nn.Sequential(*layers)
        self.fc_out = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc_out(self.layers(x))


class PlainMapping(nn.Module):
    """(B, 1536) -> (B, 2, 768), no expression given."""

    def __init__(self, id_width: int = 1536, expression_width: int = 64, hidden: int = 1536, width: int = 768):
        super().__init__()
        self.null_exp = nn.Parameter(torch.zeros(expression_width))
        self.i2t_first = PlainHead(id_width + expression_width, hidden, width)
        self.i2t_last = PlainHead(id_width + expression_width, hidden, width)

    def forward(self, v_id: torch.Tensor) -> torch.Tensor:
        x = torch.cat((v_id, self.null_exp.expand(len(v_id), -1)), dim=1)
        return torch.stack((self.i2t_first(x), self.i2t_last(x)), dim=1)


class PlainEncoder(nn.Module):
    """Crop -> S*: (B, 3, 112, 112) in [-1, 1] -> (B, 2, 768). Loads the published state dicts strictly."""

    def __init__(self, msid: dict[str, torch.Tensor], mapping: dict[str, torch.Tensor]):
        super().__init__()
        self.msid, self.mapping = PlainMSID(), PlainMapping()
        self.msid.load_state_dict(msid)
        self.mapping.load_state_dict(mapping)
        self.eval()

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.mapping(self.msid(faces))
