"""A small SD 1.5 checkpoint of random numbers, made on the spot: what ComfyUI's detector takes for SD 1.5.

One level, one residual block and one transformer in the UNet, a full-height text encoder whose
twelve layers share one set of weights, and a tiny autoencoder as VAE. The files keep shared
storage, which brings 300 MB down to about 47. Pictures made with it mean nothing; they are finite,
reproducible, and depend on every word of the prompt.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

SEED = 20240328
VOCABULARY, POSITIONS, WIDTH, LAYERS = 49408, 77, 768, 12
CHANNELS, TIME_WIDTH, LATENT_CHANNELS = 320, 1280, 4
TAESD_CHANNELS = 64

Tensors = dict[str, torch.Tensor]


class _Filler:
    """Draws the tensors of a model: matrices and kernels N(0, 1/fan_in), biases 0, norms 1 and 0."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.tensors: Tensors = {}

    def normal(self, *shape: int, std: float) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator) * std

    def linear(self, key: str, *shape: int, bias: bool = True) -> None:
        """shape: (out, in) of a linear layer, or (out, in, kernel, kernel) of a convolution."""
        fan_in = torch.Size(shape[1:]).numel()
        self.tensors[f"{key}.weight"] = self.normal(*shape, std=fan_in**-0.5)
        if bias:
            self.tensors[f"{key}.bias"] = torch.zeros(shape[0])

    def norm(self, key: str, width: int) -> None:
        self.tensors[f"{key}.weight"] = torch.ones(width)
        self.tensors[f"{key}.bias"] = torch.zeros(width)


def text_encoder(layers: int = LAYERS, seed: int = SEED) -> Tensors:
    """CLIP-L in the key names of a transformers file (`text_model.…`), fp32; all layers share storage."""
    fill = _Filler(seed)
    # Row i of the token table starts one number after row i - 1: 50,175 numbers instead of 38 million.
    pool = fill.normal(VOCABULARY + WIDTH - 1, std=0.02)
    layer = _text_layer(fill)
    tensors = {
        "embeddings.token_embedding.weight": pool.as_strided((VOCABULARY, WIDTH), (1, 1)),
        "embeddings.position_embedding.weight": fill.normal(POSITIONS, WIDTH, std=0.02),
        "final_layer_norm.weight": torch.ones(WIDTH),
        "final_layer_norm.bias": torch.zeros(WIDTH),
    }
    for i in range(layers):
        tensors |= {f"encoder.layers.{i}.{key}": tensor for key, tensor in layer.items()}
    return {f"text_model.{key}": tensor for key, tensor in tensors.items()}


def _text_layer(fill: _Filler) -> Tensors:
    fill.tensors = {}
    for name in ("layer_norm1", "layer_norm2"):
        fill.norm(name, WIDTH)
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        fill.linear(f"self_attn.{name}", WIDTH, WIDTH)
    fill.linear("mlp.fc1", 4 * WIDTH, WIDTH)
    fill.linear("mlp.fc2", WIDTH, 4 * WIDTH)
    return fill.tensors


def _unet(fill: _Filler) -> Tensors:
    fill.tensors = {}
    fill.linear("time_embed.0", TIME_WIDTH, CHANNELS)
    fill.linear("time_embed.2", TIME_WIDTH, TIME_WIDTH)
    fill.linear("input_blocks.0.0", CHANNELS, LATENT_CHANNELS, 3, 3)
    _residual(fill, "input_blocks.1.0", CHANNELS)
    _transformer(fill, "input_blocks.1.1")
    for block in ("output_blocks.0.0", "output_blocks.1.0"):
        _residual(fill, block, 2 * CHANNELS)
        fill.linear(f"{block}.skip_connection", CHANNELS, 2 * CHANNELS, 1, 1)
    fill.norm("out.0", CHANNELS)
    fill.linear("out.2", LATENT_CHANNELS, CHANNELS, 3, 3)
    return fill.tensors


def _residual(fill: _Filler, key: str, width_in: int) -> None:
    fill.norm(f"{key}.in_layers.0", width_in)
    fill.linear(f"{key}.in_layers.2", CHANNELS, width_in, 3, 3)
    fill.linear(f"{key}.emb_layers.1", CHANNELS, TIME_WIDTH)
    fill.norm(f"{key}.out_layers.0", CHANNELS)
    fill.linear(f"{key}.out_layers.3", CHANNELS, CHANNELS, 3, 3)


def _transformer(fill: _Filler, key: str) -> None:
    fill.norm(f"{key}.norm", CHANNELS)
    for name in ("proj_in", "proj_out"):
        fill.linear(f"{key}.{name}", CHANNELS, CHANNELS, 1, 1)
    block = f"{key}.transformer_blocks.0"
    for name in ("norm1", "norm2", "norm3"):
        fill.norm(f"{block}.{name}", CHANNELS)
    for attention, context_width in (("attn1", CHANNELS), ("attn2", WIDTH)):
        fill.linear(f"{block}.{attention}.to_q", CHANNELS, CHANNELS, bias=False)
        fill.linear(f"{block}.{attention}.to_k", CHANNELS, context_width, bias=False)
        fill.linear(f"{block}.{attention}.to_v", CHANNELS, context_width, bias=False)
        fill.linear(f"{block}.{attention}.to_out.0", CHANNELS, CHANNELS)
    fill.linear(f"{block}.ff.net.0.proj", 8 * CHANNELS, CHANNELS)
    fill.linear(f"{block}.ff.net.2", CHANNELS, 4 * CHANNELS)


def _taesd(fill: _Filler) -> Tensors:
    """The tiny autoencoder, in the layer numbers of ComfyUI's comfy/taesd/taesd.py."""
    fill.tensors = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    encoder, decoder = "taesd_encoder", "taesd_decoder"
    fill.linear(f"{encoder}.0", TAESD_CHANNELS, 3, 3, 3)
    for down in (2, 6, 10):
        fill.linear(f"{encoder}.{down}", TAESD_CHANNELS, TAESD_CHANNELS, 3, 3, bias=False)
    for block in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
        _taesd_block(fill, f"{encoder}.{block}")
    fill.linear(f"{encoder}.14", LATENT_CHANNELS, TAESD_CHANNELS, 3, 3)
    fill.linear(f"{decoder}.1", TAESD_CHANNELS, LATENT_CHANNELS, 3, 3)
    for up in (7, 12, 17):
        fill.linear(f"{decoder}.{up}", TAESD_CHANNELS, TAESD_CHANNELS, 3, 3, bias=False)
    for block in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        _taesd_block(fill, f"{decoder}.{block}")
    fill.linear(f"{decoder}.19", 3, TAESD_CHANNELS, 3, 3)
    fill.tensors[f"{decoder}.19.bias"].fill_(0.5)  # mid-grey on average, so that few pixels are clipped
    return fill.tensors


def _taesd_block(fill: _Filler, key: str) -> None:
    for conv in (0, 2, 4):
        fill.linear(f"{key}.conv.{conv}", TAESD_CHANNELS, TAESD_CHANNELS, 3, 3)


def state_dict(seed: int = SEED) -> Tensors:
    """The whole checkpoint in single-file key names, fp16, tied text layers still sharing storage."""
    fill = _Filler(seed + 1)
    parts = {
        "model.diffusion_model.": _unet(fill),
        "cond_stage_model.transformer.": text_encoder(seed=seed),
        "first_stage_model.": _taesd(fill),
    }
    halves: dict[tuple, torch.Tensor] = {}  # one fp16 copy per storage, so that sharing survives
    return {prefix + key: _half(tensor, halves) for prefix, part in parts.items() for key, tensor in part.items()}


def _half(tensor: torch.Tensor, halves: dict[tuple, torch.Tensor]) -> torch.Tensor:
    storage = tensor.untyped_storage()
    if storage.data_ptr() not in halves:
        halves[storage.data_ptr()] = torch.tensor([], dtype=tensor.dtype).set_(storage).half()
    return halves[storage.data_ptr()].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def cache_folder() -> Path:
    """Outside the repository; deleting it costs a few seconds at the next test run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "f2d" / "tests"


def checkpoint_file() -> Path:
    """The checkpoint as a `.ckpt` file in the cache, made if this recipe has not been cooked before."""
    recipe = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    file = cache_folder() / f"small-sd15-{recipe}.ckpt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        torch.save(state_dict(), partial)
        os.replace(partial, file)
    return file
