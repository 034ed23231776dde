"""A single SD 1.x checkpoint file (.safetensors, .ckpt) becomes the parts of a diffusers pipeline, offline.

diffusers' own reader fetches configurations from the network; here the sizes are read from the tensors. The layout
is that of github.com/CompVis/stable-diffusion: `model.diffusion_model.` UNet, `first_stage_model.` autoencoder,
`cond_stage_model.transformer.` CLIP text encoder. What no tensor tells is fixed for all of SD 1.x.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..constants import CHUNK_TOKENS, WORD_WIDTHS
from ..errors import MismatchError, WeightsError
from ..weights import describe, read_tensors

Tensors = Mapping[str, torch.Tensor]

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."

UNET_HEADS = 8  # at every level of SD 1.x
CLIP_HEAD_WIDTH = 64
VAE_SCALING = 0.18215  # latents = encoded * this
LATENT_REDUCTION = 8  # px per latent
DEFAULT_SIDE_PX = 512
_TRAINING_ONLY = f"{VAE}loss."  # in some old files
_MISFIT = (KeyError, ValueError, RuntimeError, IndexError, StopIteration)  # from tensors that are missing or misshapen
NOISE_SCHEDULE = {  # SD 1.x training
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def load_single_file(path: Path) -> dict[str, Any]:
    """The parts `unet`, `vae`, `text_encoder` and `scheduler`, fp32 on the CPU.

    Raises WeightsError for a file that is damaged or no checkpoint, MismatchError for one of another family.
    """
    tensors, _ = read_tensors(path)
    tensors = tensors.get("state_dict", tensors)
    _check_layout(path, tensors)
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel

    return {
        "unet": _converted(UNet2DConditionModel, path, tensors, UNET, unet_config),
        "vae": _converted(AutoencoderKL, path, tensors, VAE, vae_config),
        "text_encoder": _text_encoder(path, text_tensors(tensors)),
        "scheduler": EulerAncestralDiscreteScheduler(**NOISE_SCHEDULE),
    }


def text_tensors(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The text encoder's tensors, named as transformers names them, without `text_model.`.

    Some programs write checkpoints without that part of the name, and older ones store the numbers 0 to 76 too.
    """
    found = {key.removeprefix("text_model."): value for key, value in _part(tensors, TEXT).items()}
    return {key: value for key, value in found.items() if not key.endswith("position_ids")}


def unet_config(unet: Tensors) -> dict[str, Any]:
    """diffusers settings of the UNet with these tensors, named without prefix."""
    levels, attention = _unet_levels(unet)
    first = unet["input_blocks.0.0.weight"]
    context = next(value.shape[1] for key, value in unet.items() if key.endswith("attn2.to_k.weight"))
    return {
        "sample_size": DEFAULT_SIDE_PX // LATENT_REDUCTION,
        "in_channels": first.shape[1],
        "out_channels": unet["out.2.weight"].shape[0],
        "block_out_channels": [channels[0] for channels in levels],
        "layers_per_block": len(levels[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)],
        "cross_attention_dim": context,
        "attention_head_dim": UNET_HEADS,  # diffusers' name for the number of heads
    }


def vae_config(vae: Tensors) -> dict[str, Any]:
    """diffusers settings of the autoencoder with these tensors, named without prefix."""
    levels = _count(vae, "encoder.down.{}.block.0.conv1.weight")
    channels = [vae[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    return {
        "block_out_channels": channels,
        "layers_per_block": _count(vae, "encoder.down.0.block.{}.conv1.weight"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": vae["post_quant_conv.weight"].shape[1],
        "scaling_factor": VAE_SCALING,
        "sample_size": DEFAULT_SIDE_PX,
    }


def text_config(text: Tensors) -> dict[str, Any]:
    """transformers settings of the text encoder with these tensors (see `text_tensors`)."""
    vocabulary, width = text["embeddings.token_embedding.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": text["encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": _count(text, "encoder.layers.{}.mlp.fc1.weight"),
        "num_attention_heads": width // CLIP_HEAD_WIDTH,
        "max_position_embeddings": CHUNK_TOKENS,
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def _check_layout(path: Path, tensors: Tensors) -> None:
    if f"{UNET}input_blocks.0.0.weight" not in tensors:
        raise WeightsError(
            f"{path.name} is {describe(tensors)}, expected a Stable Diffusion 1.x checkpoint. Choose such a file."
        )
    if "embeddings.token_embedding.weight" not in text_tensors(tensors):
        raise MismatchError(
            f"{path.name} has no CLIP-L text encoder ({TEXT}…), expected one, width {WORD_WIDTHS['l']} (SD 1.x). "
            "Choose an SD 1.x checkpoint, not SD 2.x, SDXL or a UNet alone."
        )
    if f"{VAE}decoder.conv_in.weight" not in tensors:
        raise WeightsError(
            f"{path.name} has no autoencoder ({VAE}decoder…), expected one. Choose a complete checkpoint."
        )


def _part(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of one part, named without its prefix."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _unet_levels(unet: Tensors) -> tuple[list[list[int]], list[bool]]:
    """(channels of the residual blocks of each level, whether the level attends to the prompt)."""
    levels: list[list[int]] = [[]]
    attention = [False]
    for block in range(1, _count_input_blocks(unet)):
        if f"input_blocks.{block}.0.op.weight" in unet:  # the reduction between two levels
            levels.append([])
            attention.append(False)
            continue
        levels[-1].append(unet[f"input_blocks.{block}.0.out_layers.3.weight"].shape[0])
        attention[-1] |= f"input_blocks.{block}.1.proj_in.weight" in unet
    return levels, attention


def _count_input_blocks(unet: Tensors) -> int:
    return 1 + max(int(key.split(".")[1]) for key in unet if key.startswith("input_blocks."))


def _count(tensors: Tensors, key: str) -> int:
    """How many of the keys made from 0, 1, 2, … are there without a gap."""
    number = 0
    while key.format(number) in tensors:
        number += 1
    return number


def _converted(model: Any, path: Path, tensors: Tensors, prefix: str, config: Callable[[Tensors], dict]) -> Any:
    """The diffusers model of one part, fp32; diffusers does the renaming."""
    part = {key: value for key, value in tensors.items() if key.startswith(prefix) and _TRAINING_ONLY not in key}
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(config(_part(tensors, prefix))), encoding="utf-8")
            loaded = model.from_single_file(part, config=folder, local_files_only=True).float()
    except _MISFIT as error:
        raise WeightsError(_incomplete(path, model.__name__, error)) from error
    used, given = (sum(value.numel() for value in values) for values in (loaded.parameters(), part.values()))
    if used != given:  # diffusers only warns of what it leaves out
        raise WeightsError(_incomplete(path, model.__name__, f"{given:,} numbers, of which the model takes {used:,}"))
    return loaded


def _text_encoder(path: Path, tensors: dict[str, torch.Tensor]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    try:
        model = CLIPTextModel(CLIPTextConfig(**text_config(tensors)))
        prefix = "text_model." if hasattr(model, "text_model") else ""  # gone in transformers 5
        model.load_state_dict({prefix + key: value for key, value in tensors.items()})
    except _MISFIT as error:
        raise WeightsError(_incomplete(path, "text encoder", error)) from error
    return model.eval()


def _incomplete(path: Path, part: str, error: object) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{path.name}: the {part} is incomplete or of another kind ({reason}). Expected SD 1.x: get the file again."
