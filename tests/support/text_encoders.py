"""Text encoders built inside ComfyUI's classes: any layer count, any weight type, from given tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tests.support import small_checkpoint

if TYPE_CHECKING:
    from tests.support.in_process import Host

FEWEST_LAYERS = 3  # ComfyUI asserts that the layer of "clip skip 2" exists


def clip_l(host: Host, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """A `comfy.sd.CLIP` of SD 1.x whose weights are `tensors` (keys `text_model.…`) held in `dtype`."""
    from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer
    from comfy.supported_models_base import ClipTarget

    layers = len({key.split(".")[3] for key in tensors if key.startswith("text_model.encoder.layers.")})
    options = {"dtype": dtype, "clip_l_model_config": {"num_hidden_layers": layers}}
    clip = host.sd.CLIP(
        ClipTarget(SD1Tokenizer, SD1ClipModel),
        embedding_directory=host.folder_paths.get_folder_paths("embeddings"),
        model_options=options,
    )
    clip.load_sd({f"clip_l.transformer.{key}": tensor for key, tensor in tensors.items()}, full_model=True)
    return clip


def tiny(host: Host, dtype: torch.dtype = torch.float32) -> Any:
    """CLIP-L with the fewest layers that ComfyUI takes: same tokenizer, same widths, quick on a CPU."""
    return clip_l(host, small_checkpoint.text_encoder(FEWEST_LAYERS), dtype)


def foreign(host: Host, kind: str) -> Any:
    """An encoder that S* is not made for: "sdxl" (two encoders, l and g) or "sd2" (h, width 1024)."""
    if kind == "sdxl":
        from comfy.sdxl_clip import SDXLClipModel as Model
        from comfy.sdxl_clip import SDXLTokenizer as Tokenizer
    else:
        from comfy.text_encoders.sd2_clip import SD2ClipModel as Model
        from comfy.text_encoders.sd2_clip import SD2Tokenizer as Tokenizer
    from comfy.supported_models_base import ClipTarget

    few = {"num_hidden_layers": FEWEST_LAYERS}
    options = {"dtype": torch.float32} | {f"clip_{key}_model_config": few for key in "lgh"}
    clip = host.sd.CLIP(
        ClipTarget(Tokenizer, Model),
        embedding_directory=host.folder_paths.get_folder_paths("embeddings"),
        model_options=options,
    )
    _fill(clip.cond_stage_model)
    return clip


def _fill(module: torch.nn.Module) -> None:
    """Small reproducible weights: ComfyUI's layers leave their memory as they find it."""
    generator = torch.Generator().manual_seed(small_checkpoint.SEED)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            elif parameter.ndim > 1:
                parameter.normal_(std=0.02, generator=generator)
            elif "logit_scale" not in name:
                parameter.zero_()
