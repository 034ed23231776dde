"""A small Stable Diffusion 1.x model made on the spot, for the demo and for tests, where no real one is at hand.

The layout is a real one and S* goes through it as through a real one; the weights are pseudo-random, so its pictures
are coloured noise. The tokenizer knows letters, not words: no vocabulary is shipped or fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..constants import CHUNK_TOKENS, WORD_WIDTHS
from ..testing import filled
from .diffusers import load_tokenizer, quietly, require_packages
from .single_file import LATENT_REDUCTION, NOISE_SCHEDULE, VAE_SCALING

SIDE_PX = 256
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"  # as CLIP's own vocabulary writes them

_TEXT = {
    "vocab_size": 2 * 256 + 2,
    "hidden_size": WORD_WIDTHS["l"],
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "max_position_embeddings": CHUNK_TOKENS,
    "hidden_act": "quick_gelu",
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}
_UNET = {
    "sample_size": SIDE_PX // LATENT_REDUCTION,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": WORD_WIDTHS["l"],
    "attention_head_dim": 8,
}
_VAE = {
    "block_out_channels": [16, 16, 32, 32],
    "norm_num_groups": 16,
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "scaling_factor": VAE_SCALING,
    "sample_size": SIDE_PX,
}


def write_stand_in(folder: str | Path) -> Path:
    """Write the model in diffusers layout (about 40 MB); the same files every time. Raises MissingPackageError."""
    require_packages()
    from diffusers import (
        AutoencoderKL,
        EulerAncestralDiscreteScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = Path(folder)
    pipe = StableDiffusionPipeline(
        unet=_filled(UNet2DConditionModel(**_UNET), seed=1),
        vae=_filled(AutoencoderKL(**_VAE), seed=2),
        text_encoder=_filled(CLIPTextModel(CLIPTextConfig(**_TEXT)), seed=3),
        tokenizer=load_tokenizer(write_letter_tokenizer(folder / "tokenizer")),
        scheduler=EulerAncestralDiscreteScheduler(**NOISE_SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with quietly():
        pipe.save_pretrained(str(folder))
    return folder


def write_letter_tokenizer(folder: str | Path) -> Path:
    """Write vocab.json and merges.txt of a CLIP tokenizer whose tokens are single bytes; nothing is merged."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    letters = byte_letters()
    names = [*letters, *(letter + WORD_END for letter in letters), START, END]
    vocabulary = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


def byte_letters() -> list[str]:
    """The sign that byte-level tokenizers write for each byte: itself where printable, else one from 256 upwards."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def _filled(model: torch.nn.Module, seed: int) -> Any:
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict(filled(shapes, seed))
    return model.eval()
