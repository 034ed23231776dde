"""Training inside ComfyUI: its own MODEL, CLIP and VAE as what f2d_core/train/ asks for (f2d_core/ports.py).

The other file that names ComfyUI, beside host.py. Why each step is needed: a node runs in inference mode, so that
weights loaded there cannot take part in a gradient; ComfyUI's CLIP layers add in place, which stops the gradient;
some attention kernels have no backward pass; memory that is shared with other models may be taken away in mid-step.
Everything is done to clones, and undone when training ends: the user's own objects sample the same bytes afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import comfy.model_management as devices
import comfy.model_sampling
import comfy.sample
import torch
from comfy.ldm.modules.attention import attention_pytorch

from ..f2d_core.constants import CHUNK_TOKENS, INJECTION_SUM
from ..f2d_core.errors import MismatchError, PromptError
from ..f2d_core.prompt import Person, require_markers
from ..f2d_core.s_star import SStar
from . import host

LATENT_CHANNELS = 4
LATENT_SCALE = 0.18215  # of SD 1.x and 2.x: latents of unit variance (Rombach et al. 2022, appendix G)
REDUCTION = 8  # pixels per latent, each way
NO_SPREAD_LOGVAR = -30.0  # of a codec that gives no posterior; as low as the KL autoencoder's own can be
# Asked of the host beside the weights: a micro-batch of 4 at 512 px needs 0.75 GB for each sample.
ROOM_BYTES = 3 * 1024**3

Interrupted = devices.InterruptProcessingException


@dataclass(frozen=True)
class TrainingModels:
    """A MODEL and a CLIP that gradients pass through, valid inside `training_models`."""

    model: object
    clip: object
    text_encoder: TrainableTextEncoder
    denoiser: Denoiser

    def place(self) -> None:
        """Bring both to the GPU, where something else (a preview's VAE) may have taken the room."""
        devices.load_models_gpu([self.model, self.clip.patcher], memory_required=ROOM_BYTES)


@contextmanager
def training_models(model, clip) -> Iterator[TrainingModels]:
    """Clones of MODEL and CLIP, out of inference mode for as long as the `with` lasts.

    Raises MismatchError for models whose words or noise f_map cannot be trained on (SDXL, flow models, inpainting).
    """
    encoder = _single_encoder(clip)
    check_model(model, encoder)
    with torch.inference_mode(False), torch.enable_grad(), _training_flag():
        model, clip = _private_model(model), _private_clip(clip, host.attribute_of(clip, encoder.key))
        text_encoder = TrainableTextEncoder(clip, encoder.key, encoder.width)
        models = TrainingModels(model, clip, text_encoder, Denoiser(model))
        try:
            models.place()
            for module in (model.model, clip.cond_stage_model):
                leave_inference(module)
            yield models
        finally:
            for patcher in (model, clip.patcher):
                patcher.unpatch_model(unpatch_weights=False)  # what was added to the clones; weights stay where they are


def _single_encoder(clip) -> host.ClipTextEncoder:
    encoders = host.encoders_of(clip)
    if len(encoders) != 1:
        raise MismatchError(
            f"This CLIP has {len(encoders)} text encoders ({', '.join(encoders)}); a mapping network is trained for one. "
            "Use a checkpoint of SD 1.x or SD 2.x."
        )
    return host.text_encoder(clip)


def check_model(model, encoder: host.ClipTextEncoder) -> None:
    """Raise MismatchError unless MODEL predicts noise for 4-channel latents from the words of `encoder`."""
    advice = "Use a checkpoint of SD 1.x or SD 2.x that makes pictures from text alone."
    sampling, config = model.get_model_object("model_sampling"), model.model.model_config.unet_config
    schedule = comfy.model_sampling
    if not (isinstance(sampling, schedule.EPS) and isinstance(sampling, schedule.ModelSamplingDiscrete)):
        raise MismatchError(f"This MODEL is not trained on a noise schedule of steps. {advice}")
    channels = config.get("in_channels")
    if channels != LATENT_CHANNELS or model.model.adm_channels:
        raise MismatchError(f"This MODEL takes more than {LATENT_CHANNELS}-channel latents and a text. {advice}")
    if config.get("context_dim") != encoder.width:
        raise MismatchError(
            f"This MODEL reads words of width {config.get('context_dim')}, the CLIP gives {encoder.width}. "
            "Connect MODEL and CLIP of the same checkpoint."
        )


# --- making clones fit for gradients ---


def _private_model(model):
    clone = _clone(model)
    if clone.model.get_dtype_inference() == torch.float16 and devices.should_use_bf16(clone.load_device):
        clone.set_model_compute_dtype(torch.bfloat16)  # same speed, and small gradients do not vanish
    return clone


def _private_clip(clip, attribute: str):
    """A clone whose layers add out of place; the values are the same bits."""
    patcher = _clone(clip.patcher)
    clone = clip.clone()
    clone.patcher, clone.cond_stage_model = patcher, patcher.model
    path = f"{attribute}.transformer.text_model.encoder.layers"
    for i, layer in enumerate(patcher.model.get_submodule(path)):
        patcher.add_object_patch(f"{path}.{i}.forward", _out_of_place(layer))
    return clone


def _clone(patcher):
    """A clone whose weights stay in place: with dynamic VRAM (0.12 and later) they may be taken away in mid-step.

    Leaving dynamic VRAM reads the model from its file again, which only models of the host's own loaders can.
    """
    if not getattr(patcher, "is_dynamic", lambda: False)():
        return patcher.clone()
    if getattr(patcher, "cached_patcher_init", None) is None:
        raise MismatchError(
            "This model lives in dynamic VRAM and does not know its file, so it cannot be trained on. Load it with a "
            'loader of ComfyUI itself, for example "Load Checkpoint", or start ComfyUI with --disable-dynamic-vram.'
        )
    return patcher.clone(disable_dynamic=True)


def _out_of_place(layer: torch.nn.Module):
    """The forward of a CLIP layer without its in-place additions, which overwrite what the backward pass needs."""

    def forward(x, mask=None, optimized_attention=None):
        x = x + layer.self_attn(layer.layer_norm1(x), mask, optimized_attention)
        return x + layer.mlp(layer.layer_norm2(x))

    return forward


def leave_inference(module: torch.nn.Module) -> None:
    """Freeze `module` and make ordinary tensors of its inference tensors, which no graph can hold. Values stay."""
    module.requires_grad_(False)
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_inference():
                part._parameters[name] = torch.nn.Parameter(ordinary(parameter.data), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_inference():
                part._buffers[name] = ordinary(buffer)


def ordinary(tensor: torch.Tensor) -> torch.Tensor:
    """The same values outside inference mode: the same memory where the tensor is a plain one, else a copy."""
    if type(tensor) is not torch.Tensor:
        return tensor.clone()
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


@contextmanager
def _training_flag() -> Iterator[None]:
    """Newer hosts take kernels with a backward pass while this is set."""
    before = getattr(devices, "in_training", None)
    if before is None:
        yield
        return
    devices.in_training = True
    try:
        yield
    finally:
        devices.in_training = before


# --- ports ---


class TrainableTextEncoder(host.ClipTextEncoder):
    """ports.TrainableTextEncoder over a clone of a ComfyUI CLIP with a single encoder."""

    def __init__(self, clip, key: str, width: int):
        super().__init__(clip, key, width)
        self._templates: dict[tuple[str, str, int], tuple[list[list], list[host.Slot]]] = {}

    def encode_words(self, template: str, marker: str, words: torch.Tensor, injection: str) -> torch.Tensor:
        """words: (B, k, width) -> (B, 77 n, width) fp32, differentiable. See the protocol."""
        count = words.shape[1]
        chunks, slots = self._template(template, marker, count)
        vectors = words[:, [slot.word.index for slot in slots]]
        if injection == INJECTION_SUM:
            vectors = vectors - self._positions.to(words)[[slot.position for slot in slots]]
        return self._encode([_filled(chunks, slots, row) for row in vectors])

    def encode_text(self, text: str) -> torch.Tensor:
        """(1, 77 n, width) fp32."""
        with torch.no_grad():
            return self._encode([self._ids(self._tokenizer().tokenize_with_weights(text), text)])

    @cached_property
    def _positions(self) -> torch.Tensor:
        return self.position_embedding().clone()

    def _tokenizer(self):
        """The host's own, also where people have been applied to the CLIP."""
        tokenizer = getattr(self._clip.tokenizer, self._attribute)
        return tokenizer.f2d.base if hasattr(tokenizer, "f2d") else tokenizer

    def _template(self, text: str, marker: str, count: int) -> tuple[list[list], list[host.Slot]]:
        key = (text, marker, count)
        if key not in self._templates:
            person = Person(SStar(torch.zeros(count, self.width), marker=marker))
            require_markers(text, [person])
            chunks, slots = host.PeopleTokenizer(self._tokenizer(), [person], self).tokenize(text)
            self._templates[key] = self._ids(chunks, text), slots
        return self._templates[key]

    @staticmethod
    def _ids(chunks: Sequence[Sequence[tuple]], text: str) -> list[list]:
        if any(weight != 1.0 for chunk in chunks for _, weight, *_ in chunk):
            raise PromptError(f'The training prompt "{text}" has weights in parentheses: write it without them.')
        return [[token for token, *_ in chunk] for chunk in chunks]

    def _encode(self, prompts: Sequence[list[list]]) -> torch.Tensor:
        """Chunks of ids and vectors of each prompt, as many for each -> (B, 77 n, width)."""
        model = self._clip.cond_stage_model
        model.reset_clip_options()
        options = {"execution_device": self._clip.patcher.load_device}
        if self._clip.layer_idx is not None:
            options["layer"] = self._clip.layer_idx
        model.set_clip_options(options)
        hidden = getattr(model, self._attribute)([chunk for chunks in prompts for chunk in chunks])[0]
        return hidden.reshape(len(prompts), -1, self.width)


def _filled(chunks: list[list], slots: Sequence[host.Slot], vectors: torch.Tensor) -> list[list]:
    """A copy of `chunks` with vectors (n, width) at the n slots."""
    filled = [list(chunk) for chunk in chunks]
    for slot, vector in zip(slots, vectors, strict=True):
        filled[slot.chunk][slot.position] = vector
    return filled


class Denoiser:
    """ports.Denoiser over a clone of a ComfyUI MODEL, LoRAs and patches included.

    ComfyUI's latents are z_t sqrt(1 + sigma^2) and its models give x_0, whatever they were trained to predict.
    """

    def __init__(self, model):
        self._model = model
        self._sigmas = model.get_model_object("model_sampling").sigmas.to(model.load_device, torch.float32, copy=True)
        self._options = dict(model.model_options.get("transformer_options", {}))
        self._options["optimized_attention_override"] = _attention_with_backward
        self.steps = len(self._sigmas)
        self.device = torch.device(model.load_device)

    @property
    def dtype(self) -> torch.dtype:
        return self._model.get_model_object("manual_cast_dtype") or self._model.model.get_dtype()

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sigma = self._sigma(t).to(z_0.dtype)
        return (z_0 + sigma * noise) / (1 + sigma**2).sqrt()

    def predict_noise(self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        sigma = self._sigma(t)
        x = z_t.to(torch.float32) * (1 + sigma**2).sqrt()
        flat = sigma.flatten()
        options = {**self._options, "sigmas": flat, "cond_or_uncond": [0]}
        x_0 = self._model.model.apply_model(
            x, flat, c_crossattn=context.to(self.device), transformer_options=options
        )
        return ((x - x_0) / sigma).to(z_t.dtype)

    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        """(B, 1, 1, 1) fp32."""
        return self._sigmas[t.to(self.device)].reshape(-1, 1, 1, 1)


def _attention_with_backward(_chosen, *args, **kwargs):
    """In place of whatever kernel the host would choose: some, like SageAttention's, have no backward pass."""
    return attention_pytorch(*args, **kwargs)


class LatentCodec:
    """ports.LatentCodec over a ComfyUI VAE, in the scale of SD 1.x and 2.x. Results are fp32 on the CPU.

    Raises MismatchError for a VAE of other latents.
    """

    def __init__(self, vae):
        if vae.latent_channels != LATENT_CHANNELS:
            raise MismatchError(
                f"This VAE makes latents of {vae.latent_channels} channels, expected {LATENT_CHANNELS}. "
                "Use the VAE of an SD 1.x or SD 2.x checkpoint."
            )
        self._vae = vae

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One picture at a time, so that memory does not depend on the batch."""
        shape = (1, *pixels.shape[1:])
        needed = self._vae.memory_used_encode(shape, self._vae.vae_dtype)
        devices.load_models_gpu([self._vae.patcher], memory_required=needed)
        encoded = [self._encode(picture[None]) for picture in pixels]
        mean, logvar = (torch.cat(part) for part in zip(*encoded, strict=True))
        return mean * LATENT_SCALE, logvar + 2 * math.log(LATENT_SCALE)

    def _encode(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vae, model = self._vae, self._vae.first_stage_model
        picture = picture.to(vae.device, vae.vae_dtype)
        if hasattr(model, "quant_conv"):  # the KL autoencoder: what its own `encode` reduces to the mean
            mean, logvar = model.quant_conv(model.encoder(picture)).to("cpu", torch.float32).chunk(2, dim=1)
            return mean, logvar.clamp(NO_SPREAD_LOGVAR, -NO_SPREAD_LOGVAR)
        mean = model.encode(picture).to("cpu", torch.float32)
        return mean, torch.full_like(mean, NO_SPREAD_LOGVAR)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pixels_bhwc = self._vae.decode(latents.to("cpu", torch.float32) / LATENT_SCALE)
        return pixels_bhwc[..., :3].movedim(-1, 1).to("cpu", torch.float32) * 2 - 1
