"""Training inside ComfyUI: its own MODEL, CLIP and VAE as what f2d_core/train/ asks for (f2d_core/ports.py).

The other file that names ComfyUI, beside host.py. Why each step is needed: a node runs in inference mode, so that
weights loaded there cannot take part in a gradient; ComfyUI's CLIP layers add in place, which stops the gradient;
some attention kernels have no backward pass; memory that is shared with other models may be taken away in mid-step.
Everything is done to clones, and undone when training ends: the user's own objects sample the same bytes afterwards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_management as devices
import comfy.model_sampling
import comfy.utils
import folder_paths
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch.utils.checkpoint import checkpoint

from ..f2d_core.chunks import Slot
from ..f2d_core.constants import INJECTION_SUM
from ..f2d_core.errors import MismatchError, PromptError
from ..f2d_core.prompt import Person, require_markers
from ..f2d_core.s_star import SStar
from ..f2d_core.train import TrainingParts
from ..f2d_core.weights import tensors_sha256
from . import host

LATENT_CHANNELS = 4
LATENT_SCALE = 0.18215  # of SD 1.x and 2.x: latents of unit variance (Rombach et al. 2022, appendix G)
NO_SPREAD_LOGVAR = -30.0  # of a codec that gives no posterior; as low as the KL autoencoder's own can be
# Asked of the host beside the weights: a micro-batch of 4 at 512 px needs 0.75 GB for each sample.
ROOM_BYTES = 3 * 1024**3

PREVIEW_SIDE_PX = 512
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BLOCKS = ("ResBlock", "BasicTransformerBlock")  # what gradient checkpointing computes twice


class Cancellation:
    """The host's Cancel button, heeded between micro-batches: a StopRequest of f2d_core.train.

    Newer hosts raise in the middle of any operation, once; the operation is then done over, so that the micro-batch
    comes to its end and the trainer can save.
    """

    def __init__(self):
        self.requested = False

    def __call__(self) -> bool:
        self.finish(devices.throw_exception_if_processing_interrupted)
        return self.requested

    def finish(self, operation: Callable, *args, **kwargs) -> Any:
        while True:
            try:
                return operation(*args, **kwargs)
            except devices.InterruptProcessingException:  # Exception up to 0.19, BaseException from 0.20 on
                self.requested = True

    def raise_if_requested(self) -> None:
        """Leave the node as cancelled."""
        if self.requested:
            raise devices.InterruptProcessingException()


@dataclass(frozen=True)
class TrainingModels:
    """A MODEL and a CLIP that gradients pass through, valid inside `training_models`."""

    model: Any
    clip: Any
    text_encoder: TrainableTextEncoder
    denoiser: Denoiser
    cancellation: Cancellation

    def place(self) -> None:
        """Bring both to the GPU, where something else (a preview's VAE) may have taken the room."""
        devices.load_models_gpu([self.model, self.clip.patcher], memory_required=ROOM_BYTES)
        for module in (self.model.model, self.clip.cond_stage_model):
            leave_inference(module)

    def parts(self, vae=None) -> TrainingParts:
        """What f2d_core.train takes; without a VAE there are no previews."""
        codec = None if vae is None else LatentCodec(vae, self.place)
        return TrainingParts(self.text_encoder, self.denoiser, codec, base_model_sha256(self.model, self.clip))


@contextmanager
def training_models(
    model, clip, precision: str = "auto", gradient_checkpointing: bool = False
) -> Iterator[TrainingModels]:
    """Clones of MODEL and CLIP, out of inference mode for as long as the `with` lasts.

    precision: what the UNet calculates in; "auto" is the host's choice, but bf16 for fp16 where the device has it.
    gradient_checkpointing: keep less for the backward pass and compute it again. Raises MismatchError for models whose
    words or noise f_map cannot be trained on (SDXL, flow models, inpainting).
    """
    encoder = _single_encoder(clip)
    check_model(model, encoder)
    cancellation = Cancellation()
    with torch.inference_mode(False), torch.enable_grad(), _training_flag():
        model = _private_model(model, precision)
        if gradient_checkpointing:
            _compute_again(model, cancellation)
        clip = _private_clip(clip, host.attribute_of(clip, encoder.key))
        ports = TrainableTextEncoder(clip, encoder.key, encoder.width, cancellation), Denoiser(model, cancellation)
        models = TrainingModels(model, clip, *ports, cancellation)
        try:
            models.place()
            yield models
        finally:
            for patcher in (model, clip.patcher):  # off with what was added; weights stay where they are
                patcher.unpatch_model(unpatch_weights=False)


def _single_encoder(clip) -> host.ClipTextEncoder:
    encoders = host.encoders_of(clip)
    if len(encoders) != 1:
        raise MismatchError(
            f"This CLIP has {len(encoders)} text encoders ({', '.join(encoders)}), expected one. "
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


def _private_model(model, precision: str):
    clone = _clone(model)
    before = compute_dtype(clone)
    # bf16 is as fast as fp16, and small gradients do not vanish in it.
    better = before == torch.float16 and devices.should_use_bf16(clone.load_device)
    dtype = PRECISIONS.get(precision, torch.bfloat16 if better else before)
    if dtype != before:
        clone.set_model_compute_dtype(dtype)
    return clone


def _compute_again(model, cancellation: Cancellation) -> None:
    """Keep only the inputs of each block of the UNet for the backward pass."""
    for name, module in model.model.diffusion_model.named_modules():
        if type(module).__name__ in _BLOCKS:
            model.add_object_patch(f"diffusion_model.{name}.forward", _computed_again(module.forward, cancellation))


def compute_dtype(model) -> torch.dtype:
    """What MODEL calculates in, which need not be the type of its weights."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


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


def _computed_again(forward: Callable, cancellation: Cancellation) -> Callable:
    def run(*args, **kwargs):
        # The host goes on writing into its options (which block is running), so each block keeps its own.
        kwargs = {key: dict(value) if isinstance(value, dict) else value for key, value in kwargs.items()}
        return checkpoint(cancellation.finish, forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


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

    def __init__(self, clip, key: str, width: int, cancellation: Cancellation):
        super().__init__(clip, key, width)
        self._cancellation = cancellation
        self._templates: dict[tuple[str, str, int], tuple[list[list], list[Slot]]] = {}

    def encode_words(
        self, template: str | Sequence[str], marker: str, words: torch.Tensor, injection: str
    ) -> torch.Tensor:
        """words: (B, k, width) -> (B, 77 n, width) fp32, differentiable. See the protocol."""
        templates = [template] * len(words) if isinstance(template, str) else template
        read = [self._template(text, marker, words.shape[1]) for text in templates]
        _require_equally_long(templates, [len(chunks) for chunks, _ in read])
        places = [(row, slot) for row, (_, slots) in enumerate(read) for slot in slots]
        vectors = words[[row for row, _ in places], [slot.word.index for _, slot in places]]
        if injection == INJECTION_SUM:
            vectors = vectors - self._positions.to(words)[[slot.position for _, slot in places]]
        own = vectors.split([len(slots) for _, slots in read])
        return self._encode([_filled(*entry, rows) for entry, rows in zip(read, own, strict=True)])

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

    def _template(self, text: str, marker: str, count: int) -> tuple[list[list], list[Slot]]:
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
        encoder, chunks = getattr(model, self._attribute), [chunk for prompt in prompts for chunk in prompt]
        hidden = self._cancellation.finish(encoder, chunks)[0]
        return hidden.reshape(len(prompts), -1, self.width)


def _require_equally_long(templates: Sequence[str], chunks: Sequence[int]) -> None:
    if len(set(chunks)) > 1:
        text = templates[max(range(len(chunks)), key=lambda i: chunks[i])]
        raise PromptError(
            f'The training prompt "{text:.80}" has {max(chunks)} chunks of tokens and another one {min(chunks)}: '
            "expected all of one run to have as many. Shorten it."
        )


def _filled(chunks: list[list], slots: Sequence[Slot], vectors: torch.Tensor) -> list[list]:
    """A copy of `chunks` with vectors (n, width) at the n slots."""
    filled = [list(chunk) for chunk in chunks]
    for slot, vector in zip(slots, vectors, strict=True):
        filled[slot.chunk][slot.position] = vector
    return filled


class Denoiser:
    """ports.Denoiser over a clone of a ComfyUI MODEL, LoRAs and patches included.

    ComfyUI's latents are z_t sqrt(1 + sigma^2) and its models give x_0, whatever they were trained to predict.
    """

    def __init__(self, model, cancellation: Cancellation):
        self._model, self._cancellation = model, cancellation
        self._sigmas = model.get_model_object("model_sampling").sigmas.to(model.load_device, torch.float32, copy=True)
        self._options = dict(model.model_options.get("transformer_options", {}))
        self._options["optimized_attention_override"] = _attention_with_backward
        self.steps = len(self._sigmas)
        self.device = torch.device(model.load_device)

    @property
    def dtype(self) -> torch.dtype:
        return compute_dtype(self._model)

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sigma = self._sigma(t).to(z_0.dtype)
        return (z_0 + sigma * noise) / (1 + sigma**2).sqrt()

    def predict_noise(self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        sigma = self._sigma(t)
        x = z_t.to(torch.float32) * (1 + sigma**2).sqrt()
        flat = sigma.flatten()
        options = {**self._options, "sigmas": flat, "cond_or_uncond": [0]}
        inputs = {"c_crossattn": context.to(self.device), "transformer_options": options}
        x_0 = self._cancellation.finish(self._model.model.apply_model, x, flat, **inputs)
        return ((x - x_0) / sigma).to(z_t.dtype)

    def _sigma(self, t: torch.Tensor) -> torch.Tensor:
        """(B, 1, 1, 1) fp32."""
        return self._sigmas[t.to(self.device)].reshape(-1, 1, 1, 1)


def _attention_with_backward(_chosen, *args, **kwargs):
    """In place of whatever kernel the host would choose: some, like SageAttention's, have no backward pass."""
    return attention_pytorch(*args, **kwargs)


class LatentCodec:
    """ports.LatentCodec over a ComfyUI VAE, in the scale of SD 1.x and 2.x. Results are fp32 on the CPU.

    after: called when the VAE has been on the GPU, where it may have taken the room of something else. Raises
    MismatchError for a VAE of other latents.
    """

    def __init__(self, vae, after: Callable[[], None] = lambda: None):
        if vae.latent_channels != LATENT_CHANNELS:
            raise MismatchError(
                f"This VAE makes latents of {vae.latent_channels} channels, expected {LATENT_CHANNELS}. "
                "Use the VAE of an SD 1.x or SD 2.x checkpoint."
            )
        self._vae, self._after = vae, after

    @property
    def reduction(self) -> int:
        """px per latent."""
        return self._vae.spacial_compression_encode()

    @property
    def sha256(self) -> str:
        """Of the weights: what the latents of a data set depend on."""
        return module_sha256(self._vae.first_stage_model)

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
            return mean, logvar.clamp(min=NO_SPREAD_LOGVAR)
        mean = model.encode(picture).to("cpu", torch.float32)
        return mean, torch.full_like(mean, NO_SPREAD_LOGVAR)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pixels_bhwc = self._vae.decode(latents.to("cpu", torch.float32) / LATENT_SCALE)
        self._after()
        return pixels_bhwc[..., :3].movedim(-1, 1).to("cpu", torch.float32) * 2 - 1


# --- what a run is made of, and where it lies ---


def base_model_sha256(model, clip) -> str:
    """Of what training sees of a MODEL and a CLIP: weights without LoRAs, LoRAs by place and strength, clip skip."""
    digest = hashlib.sha256()
    for patcher in (model, clip.patcher):
        originals = {key: saved.weight for key, saved in patcher.backup.items()}
        digest.update(module_sha256(patcher.model, originals).encode())
        added = {key: [patch[0] for patch in patches] for key, patches in patcher.patches.items()}
        digest.update(repr(sorted(added.items())).encode())
    digest.update(repr(clip.layer_idx).encode())
    return digest.hexdigest()


def module_sha256(module: torch.nn.Module, instead: dict[str, torch.Tensor] | None = None) -> str:
    """Of all tensors by name; one at a time comes to the CPU. instead: tensors to take for those names."""
    digest = hashlib.sha256()
    for key, value in sorted({**module.state_dict(), **(instead or {})}.items()):
        digest.update(tensors_sha256({key: value.detach().to("cpu")}).encode())
    return digest.hexdigest()


def work_folder(kind: str) -> Path:
    """Where "datasets" and "runs" lie: in the host's output folder, since they are large and made, not loaded."""
    return Path(folder_paths.get_output_directory()) / host.FOLDER / kind


def readable_folder(name: str) -> Path:
    """A folder of the user's: an absolute path, or one below the host's input folder."""
    return Path(folder_paths.get_input_directory()) / Path(name.strip().strip('"')).expanduser()


def saved_images(files: Sequence[Path]) -> dict[str, Any]:
    """Pictures below the output folder, for a node to show."""
    output = Path(folder_paths.get_output_directory())
    places = [file.relative_to(output) for file in files]
    kind = host.io.FolderType.output
    shown = [host.ui.SavedResult(place.name, place.parent.as_posix(), kind) for place in places]
    return host.ui.SavedImages(shown).as_dict()


# --- what the user sees meanwhile ---


class Watch:
    """The progress bar of the running node, its line of text, and an event for scripts in the page."""

    def __init__(self, event: str, node_id: str | None, total: int):
        self._bar = comfy.utils.ProgressBar(total)
        self._event, self._node_id = event, node_id

    def bar(self, done: int, total: int, picture=None) -> None:
        """picture: a PIL image to show beside the bar. Raises when the user cancels."""
        self._bar.update_absolute(done, total, None if picture is None else ("JPEG", picture, PREVIEW_SIDE_PX))

    def tell(self, text: str, facts: dict[str, Any]) -> None:
        """The line and the event; neither without a server."""
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is None:
            return
        server.send_sync(self._event, {"node": self._node_id, **facts}, server.client_id)
        if self._node_id is not None and hasattr(server, "send_progress_text"):
            server.send_progress_text(text, self._node_id)
