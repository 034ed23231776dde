"""The small Stable Diffusion of the miniature world: the standard classes with smaller numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from ..backends.diffusers import load_tokenizer, quietly
from ..backends.single_file import NOISE_SCHEDULE
from ..constants import CHUNK_TOKENS
from .job import seeded

AUTOENCODER_FOLDER = "vae"  # of a model
PREDICTION = "v_prediction"  # of the denoiser

SIDE_PX = 64
REDUCTION = 2  # px per latent: at 64 px every pixel counts, and four numbers cannot stand for more of them
LATENT_SIDE = SIDE_PX // REDUCTION
WORD_WIDTH = 128

_VAE = {
    "block_out_channels": [16, 32],
    "norm_num_groups": 1,  # more would take the ratios of the colours away
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "sample_size": SIDE_PX,
}
_UNET = {
    "sample_size": LATENT_SIDE,
    "block_out_channels": [64, 96, 128, 160],  # multiples of 32: what matrix units of CPUs take at once
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "cross_attention_dim": WORD_WIDTH,
    "attention_head_dim": 2,  # the number of heads, in spite of the name; few, since narrow ones are slow on a CPU
    "resnet_time_scale_shift": "scale_shift",
    "addition_embed_type": "text",  # the text as a whole also reaches every block, where the time does
    "addition_embed_type_num_heads": 2,
}
_TEXT = {
    "hidden_size": WORD_WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": CHUNK_TOKENS,
    "hidden_act": "quick_gelu",
}


def new_autoencoder(seed: int) -> Any:
    """An untrained `AutoencoderKL`: (B, 3, 64, 64) <-> (B, 4, 32, 32)."""
    from diffusers import AutoencoderKL

    return seeded(lambda: _passing_on(AutoencoderKL(**_VAE)), seed)


def _passing_on(vae: Any) -> Any:
    """First weights with which the blocks hand on what comes in and the other layers lose little of it: a training of
    a thousand steps is too short to find that out."""
    for name, module in vae.named_modules():
        if isinstance(module, torch.nn.Conv2d) and not name.endswith("conv1"):
            torch.nn.init.zeros_(module.bias)
            if name.endswith("conv2"):
                torch.nn.init.zeros_(module.weight)
            else:
                torch.nn.init.orthogonal_(module.weight)
    return vae


def new_unet(seed: int) -> Any:
    """An untrained `UNet2DConditionModel`."""
    from diffusers import UNet2DConditionModel

    return seeded(lambda: UNet2DConditionModel(**_UNET), seed)


def new_text_encoder(tokenizer: Any, seed: int) -> Any:
    """An untrained `CLIPTextModel` for the vocabulary of `tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPTextConfig(vocab_size=len(tokenizer), **special, **_TEXT)
    return seeded(lambda: CLIPTextModel(config), seed)


def save_autoencoder(folder: Path, vae: Any) -> None:
    """Write the autoencoder of a model, in fp16, before the rest of it is there: whole or not at all."""
    part = folder / f"{AUTOENCODER_FOLDER}.part"
    with quietly():
        vae.half().save_pretrained(str(part))
    part.rename(folder / AUTOENCODER_FOLDER)


def load_autoencoder(folder: Path) -> Any:
    """What `save_autoencoder` wrote, in fp32."""
    from diffusers import AutoencoderKL

    with quietly():
        vae = AutoencoderKL.from_pretrained(str(folder), subfolder=AUTOENCODER_FOLDER, torch_dtype=torch.float32)
    vae.register_to_config(_name_or_path="")  # diffusers would save where on this machine it lay
    return vae.requires_grad_(False).eval()


def save_model(folder: str | Path, tokenizer: Path, vae: Any, unet: Any, text_encoder: Any) -> Path:
    """Write the whole model in diffusers layout, its weights in fp16, as `load_pipeline` reads it."""
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        unet=unet.half(),
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=load_tokenizer(tokenizer),
        scheduler=EulerAncestralDiscreteScheduler(**NOISE_SCHEDULE, prediction_type=PREDICTION),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with quietly():
        pipe.save_pretrained(str(folder))
    for file in ("vocab.json", "merges.txt"):  # newer versions of transformers write another form alone
        shutil.copyfile(tokenizer / file, Path(folder) / "tokenizer" / file)
    return Path(folder)
