"""Training without ComfyUI: the ports of f2d_core.ports over diffusers' and transformers' models.

The optional extra `train`. The models are frozen here and otherwise left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..chunks import Word, find_slots, prompt_chunks
from ..constants import CHUNK_TOKENS, INJECTION_SUM
from ..errors import MismatchError, PromptError, SettingsError
from ..prompt import find_markers
from ..train.task import TrainingParts
from ..weights import file_sha256
from .diffusers import load_pipeline
from .transformers import DiffusersTextEncoder

_PROMPTS_REMEMBERED = 4096  # as token ids
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_EPS, _V, _SAMPLE = "epsilon", "v_prediction", "sample"


class DiffusersTrainableText(DiffusersTextEncoder):
    """`ports.TrainableTextEncoder` over a transformers `CLIPTextModel` and its `CLIPTokenizer`."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any):
        super().__init__(model.requires_grad_(False).eval(), tokenizer)
        self._template = lru_cache(_PROMPTS_REMEMBERED)(self._read_template)

    def encode_words(
        self, template: str | Sequence[str], marker: str, words: torch.Tensor, injection: str
    ) -> torch.Tensor:
        templates = [template] * len(words) if isinstance(template, str) else template
        read = [self._template(text, marker, words.shape[1]) for text in templates]
        embedded = self._embedded([ids for ids, _ in read])
        places = [(row, at, i % words.shape[1]) for row, (_, slots) in enumerate(read) for i, at in enumerate(slots)]
        row, at, word = torch.tensor(places, device=embedded.device).unbind(dim=1)
        vectors = words.to(embedded)[row, word]
        if injection != INJECTION_SUM:
            vectors = vectors + self._positions()[at]
        return self._context(embedded.index_put((row, at), vectors))

    def encode_text(self, text: str) -> torch.Tensor:
        ids, _ = self._template(text, "", 0)
        return self._context(self._embedded([ids]))

    def _embedded(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """(B, 77, width): token + position embeddings."""
        table = self._text_module().embeddings.token_embedding.weight.detach()
        return table[torch.tensor(ids, device=table.device)] + self._positions()

    def _read_template(self, template: str, marker: str, words: int) -> tuple[list[int], list[int]]:
        """(token ids (77,), places of the words, one marker after the other)."""
        found = find_markers(template, [marker] if marker else [])
        if marker and not found:
            raise PromptError(f'The template "{template}" has no "{marker}"; expected it as a word. Add it.')
        chunks = prompt_chunks(template, found, [words], self._tokenize, self._special)
        if len(chunks) > 1:
            raise PromptError(
                f'The template "{template}" has more than {CHUNK_TOKENS - 2} tokens; expected one chunk. Shorten it.'
            )
        ids = [0 if isinstance(entry.token, Word) else entry.token for entry in chunks[0]]
        return ids, [slot.position for slot in find_slots(chunks)]

    def _positions(self) -> torch.Tensor:
        return self._text_module().embeddings.position_embedding.weight.detach()[:CHUNK_TOKENS]


class DiffusersDenoiser:
    """`ports.Denoiser` over a `UNet2DConditionModel` and its scheduler's noise levels; eps-, v- and sample-prediction.

    checkpointing: recompute activations in the backward pass instead of keeping them. Raises MismatchError.
    """

    def __init__(self, unet: torch.nn.Module, scheduler: Any, checkpointing: bool = False):
        self._unet = unet.requires_grad_(False).eval()
        self._prediction = scheduler.config.prediction_type
        if self._prediction not in (_EPS, _V, _SAMPLE):
            raise MismatchError(
                f"The model predicts {self._prediction}; expected {_EPS}, {_V} or {_SAMPLE}. Choose another base model."
            )
        if checkpointing:
            unet.enable_gradient_checkpointing()
        self.device, self.dtype = unet.device, unet.dtype
        self._alphas = scheduler.alphas_cumprod.to(self.device, torch.promote_types(self.dtype, torch.float32))
        self.steps = len(self._alphas)

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal, spread = self._levels(t, z_0)
        return signal * z_0 + spread * noise

    def predict_noise(self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        found = self._unet(z_t.to(self.dtype), t, context.to(self.dtype)).sample.to(z_t.dtype)
        if self._prediction == _EPS:
            return found
        signal, spread = self._levels(t, z_t)
        if self._prediction == _V:  # v = signal * eps - spread * z_0
            return signal * found + spread * z_t
        return (z_t - signal * found) / spread

    def _levels(self, t: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How much of the picture and of the noise there is in z_t, (B, 1, 1, 1) each."""
        alphas = self._alphas[t].to(like)[:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()


class DiffusersLatentCodec:
    """`ports.LatentCodec` over an `AutoencoderKL`; tensors come and go in fp32 on any device."""

    def __init__(self, vae: torch.nn.Module):
        self._vae = vae.requires_grad_(False).eval()
        self._scale: float = vae.config.scaling_factor
        self.reduction = 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self._vae.encode(pixels.to(self._vae.device, self._vae.dtype)).latent_dist
        mean, logvar = (value.to(pixels.device, torch.float32) for value in (posterior.mean, posterior.logvar))
        return mean * self._scale, logvar + 2 * math.log(self._scale)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        plain = (latents / self._scale).to(self._vae.device, self._vae.dtype)
        return self._vae.decode(plain).sample.float().clamp(-1, 1).to(latents.device)


def load_training_parts(
    model: str | Path,
    *,
    tokenizer: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str = "auto",
    gradient_checkpointing: bool = False,
) -> TrainingParts:
    """The frozen models of a diffusers folder or single checkpoint file, ready to train with; nothing is downloaded.

    precision of the UNet: "auto" takes bf16 where the hardware has it, fp16 on older GPUs, fp32 elsewhere. The text
    encoder stays fp32. Raises what `load_pipeline` raises.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = PRECISIONS.get(precision) or best_precision(device)
    pipe = load_pipeline(model, tokenizer=tokenizer, device=device, dtype=dtype)
    if device.type == "cuda":
        pipe.unet.to(memory_format=torch.channels_last)
    if not hasattr(pipe.scheduler, "alphas_cumprod"):
        raise SettingsError(
            f"{model} has a scheduler without noise levels; expected one of Stable Diffusion's. Change it."
        )
    return TrainingParts(
        encoder=DiffusersTrainableText(pipe.text_encoder, pipe.tokenizer),
        denoiser=DiffusersDenoiser(pipe.unet, pipe.scheduler, gradient_checkpointing),
        codec=DiffusersLatentCodec(pipe.vae),
        base_model_sha256=model_sha256(Path(model)),
    )


def best_precision(device: torch.device) -> torch.dtype:
    """bf16 where the hardware computes in it, fp16 on older GPUs, fp32 elsewhere."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def model_sha256(model: Path) -> str:
    """Of a checkpoint file, or of the UNet's file in a diffusers folder; empty where neither is found."""
    files = [model] if model.is_file() else sorted((model / "unet").glob("diffusion_pytorch_model.*"))
    return file_sha256(files[0]) if files else ""
