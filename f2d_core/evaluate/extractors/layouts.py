"""The key names of transformers' CLIP and SigLIP -> those of open_clip, so that one network serves both layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

StateDict = dict[str, torch.Tensor]

# What differs between the two, in the order of application. (CLIP keeps the names of its vision tower in open_clip,
# SigLIP has those of timm.)
_LAYER = r"encoder\.layers\.(\d+)\."
_CLIP_BLOCK = (
    (r"layer_norm(\d)\.", r"ln_\1."),
    (r"self_attn\.out_proj\.", "attn.out_proj."),
    (r"mlp\.fc1\.", "mlp.c_fc."),
    (r"mlp\.fc2\.", "mlp.c_proj."),
)
_TIMM_BLOCK = ((r"layer_norm(\d)\.", r"norm\1."), (r"self_attn\.out_proj\.", "attn.proj."))
_TEXT = (
    (rf"^text_model\.{_LAYER}", r"text.transformer.resblocks.\1."),
    (r"^text_model\.embeddings\.token_embedding\.", "text.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "text.ln_final."),
)
_CLIP_VISION = (
    (rf"^vision_model\.{_LAYER}", r"visual.transformer.resblocks.\1."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_projection\.weight$", "text.text_projection"),
)
_SIGLIP_VISION = (
    (rf"^vision_model\.{_LAYER}", r"visual.trunk.blocks.\1."),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.trunk.patch_embed.proj."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.trunk.pos_embed"),
    (r"^vision_model\.post_layernorm\.", "visual.trunk.norm."),
    (r"^vision_model\.head\.probe$", "visual.trunk.attn_pool.latent"),
    (r"^vision_model\.head\.attention\.out_proj\.", "visual.trunk.attn_pool.proj."),
    (r"^vision_model\.head\.attention\.in_proj_", "visual.trunk.attn_pool.in_proj_"),
    (r"^vision_model\.head\.layernorm\.", "visual.trunk.attn_pool.norm."),
    (r"^vision_model\.head\.mlp\.", "visual.trunk.attn_pool.mlp."),
    (r"^text_model\.head\.", "text.text_projection."),
)
_TRANSPOSED = ("visual.proj", "text.text_projection")
_BUFFERS = ("embeddings.position_ids",)


def is_transformers(keys: Mapping[str, object]) -> bool:
    """Whether these are the keys of transformers' CLIPModel or SiglipModel."""
    return "vision_model.post_layernorm.weight" in keys and "text_model.final_layer_norm.weight" in keys


def from_transformers(state: Mapping[str, torch.Tensor]) -> StateDict:
    """A CLIPModel's or SiglipModel's state dict -> open_clip's, with the text tower below `text.`."""
    siglip = "vision_model.head.probe" in state
    rules = (*_TEXT, *(_SIGLIP_VISION if siglip else _CLIP_VISION))
    named = {_renamed(key, rules, siglip): value for key, value in state.items() if not key.endswith(_BUFFERS)}
    joined = _joined(named)
    if siglip:
        joined["visual.trunk.pos_embed"] = joined["visual.trunk.pos_embed"][None]
        return _split_pool({key: _scalar(key, value) for key, value in joined.items()})
    return {key: value.T.contiguous() if key in _TRANSPOSED else _scalar(key, value) for key, value in joined.items()}


def _renamed(key: str, rules: tuple, siglip: bool) -> str:
    for pattern, new in rules:
        key = re.sub(pattern, new, key)
    block = _TIMM_BLOCK if siglip and key.startswith("visual.trunk.blocks.") else _CLIP_BLOCK
    if re.match(r"(visual\.trunk\.blocks|(visual|text)\.transformer\.resblocks)\.", key):
        for pattern, new in block:
            key = re.sub(pattern, new, key)
    return key


def _joined(state: StateDict) -> StateDict:
    """q, k and v, three entries in transformers, as the one entry that the other layouts have."""
    joined = dict(state)
    for key in state:
        if key.endswith("self_attn.q_proj.weight") or key.endswith("self_attn.q_proj.bias"):
            before, _, ending = key.rpartition("self_attn.q_proj.")
            parts = [joined.pop(f"{before}self_attn.{name}_proj.{ending}") for name in "qkv"]
            new = f"attn.qkv.{ending}" if before.startswith("visual.trunk.") else f"attn.in_proj_{ending}"
            joined[before + new] = torch.cat(parts)
    return joined


def _split_pool(state: StateDict) -> StateDict:
    """The attention pool asks with one vector, so timm keeps q apart from k and v."""
    pool = "visual.trunk.attn_pool."
    for ending in ("weight", "bias"):
        q, kv = state.pop(f"{pool}in_proj_{ending}").tensor_split([state[f"{pool}latent"].shape[-1]])
        state[f"{pool}q.{ending}"], state[f"{pool}kv.{ending}"] = q, kv
    return state


def _scalar(key: str, value: torch.Tensor) -> torch.Tensor:
    return value.reshape(()) if key in ("logit_scale", "logit_bias") else value
