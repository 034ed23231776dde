"""Pictures without ComfyUI: Stable Diffusion 1.x through diffusers, sampled as the official code does.

The optional extra `diffusers`. Nothing is downloaded unless the caller says so.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..constants import CHUNK_TOKENS, DDIM, EULER_ANCESTRAL
from ..errors import MismatchError, MissingPackageError, SettingsError, WeightsError
from .single_file import load_single_file
from .transformers import Conditioning, DiffusersTextEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..ports import Progress

__all__ = [
    "Conditioning",
    "DiffusersTextEncoder",
    "generate",
    "generate_together",
    "load_pipeline",
    "load_tokenizer",
    "official_scheduler",
]

STEPS = 30  # official inference: Euler ancestral, 30 steps, guidance 7
GUIDANCE = 7.0
_MOST = 2**32 - 1  # of seeds, as other programs have it; nobody needs more steps or pictures


def load_pipeline(
    model: str | Path,
    *,
    tokenizer: str | Path | None = None,
    allow_download: bool = False,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """A diffusers `StableDiffusionPipeline`, ready to sample.

    model: a diffusers folder, a single SD 1.x checkpoint file (.safetensors, .ckpt) or a hub ID; an ID is looked for
    in the local cache only, unless `allow_download`. tokenizer: a folder with a CLIP tokenizer, needed for a single
    file. device: the best there is by default. dtype of UNet and VAE: fp32 on the CPU, fp16 elsewhere; the text
    encoder stays fp32. Raises WeightsError, MismatchError, SettingsError, MissingPackageError.
    """
    require_packages()
    place = _require_device(device)
    with quietly():
        pipe = _load(Path(model), str(model), tokenizer, allow_download)
        if tokenizer is not None:
            pipe.tokenizer = load_tokenizer(tokenizer)
        _check_family(pipe, model)
        return _placed(pipe, place, dtype)


def generate(
    pipe: Any,
    conditioning: Conditioning,
    negative: Conditioning | None = None,
    *,
    n: int = 1,
    seed: int = 0,
    steps: int = STEPS,
    cfg: float = GUIDANCE,
    size: tuple[int, int] | None = None,
    sampler: str = EULER_ANCESTRAL,
    early: Conditioning | None = None,
    early_steps: int = 0,
    progress: Progress | None = None,
) -> Iterator[Image]:
    """Yield `n` pictures; number i is the one that seed + i alone would give.

    sampler: "euler_ancestral", the official inference's, over linearly spaced timesteps, or "ddim", without added
    noise. negative: the empty prompt by default; the shorter prompts are filled up with empty chunks. size: (width,
    height) px, multiples of 8, the model's own by default. early: what the first `early_steps` steps see instead of
    `conditioning`. progress counts steps over all pictures. Raises SettingsError.
    """
    _require_whole("-n", n, least=1)
    _require_whole("seed", seed, least=0)
    negative = negative or DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer).encode("")
    for i in range(n):
        told = None if progress is None else partial(_further, progress, i * steps, n * steps)
        (picture,) = generate_together(
            pipe, [conditioning], [seed + i], negative, steps=steps, cfg=cfg, size=size, sampler=sampler,
            early=None if early is None else [early], early_steps=early_steps, progress=told,
        )  # fmt: skip
        yield picture


def generate_together(
    pipe: Any,
    conditionings: Sequence[Conditioning],
    seeds: Sequence[int],
    negative: Conditioning | None = None,
    *,
    steps: int = STEPS,
    cfg: float = GUIDANCE,
    size: tuple[int, int] | None = None,
    sampler: str = EULER_ANCESTRAL,
    early: Sequence[Conditioning] | None = None,
    early_steps: int = 0,
    progress: Progress | None = None,
) -> list[Image]:
    """Picture i of conditioning i and seed i, all in one batch: much faster than one by one where pictures are small.

    Each is what `generate` gives alone, but for rounding. See there for the settings; progress counts steps.
    Raises SettingsError.
    """
    width, height = _require_size(pipe, size)
    _require_whole("steps", steps, least=1)
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    away = [negative or encoder.encode("")] * len(conditionings)
    first = early if early is not None and early_steps > 0 else conditionings
    chunks = max(prompt.chunks for prompt in (*conditionings, *away, *first))
    late, away, first = (
        torch.cat([encoder.padded(prompt, chunks).hidden for prompt in prompts]).to(pipe.unet.device, pipe.unet.dtype)
        for prompts in (conditionings, away, first)
    )
    return _sampling_pipeline(pipe, sampler)(
        prompt_embeds=first,
        negative_prompt_embeds=away,
        # on the CPU: the same start noise on every device
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        guidance_scale=cfg,
        width=width,
        height=height,
        callback_on_step_end=_step_callback(progress, steps, late, early_steps),
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    ).images


def official_scheduler(config: Any) -> Any:
    """The official sampler from a model's own scheduler settings: Euler ancestral, timesteps linspace(999, 0)."""
    from diffusers import EulerAncestralDiscreteScheduler

    return EulerAncestralDiscreteScheduler.from_config(config, timestep_spacing="linspace")


def ddim_scheduler(config: Any) -> Any:
    """DDIM as Stable Diffusion's first code has it: every 33rd timestep of 1000 for 30 steps, the last one 1."""
    from diffusers import DDIMScheduler

    spacing = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
    return DDIMScheduler.from_config(config, **spacing)


SCHEDULERS = {EULER_ANCESTRAL: official_scheduler, DDIM: ddim_scheduler}


@contextmanager
def quietly() -> Iterator[None]:
    """Keep diffusers' and transformers' own bars and notices off the screen; errors are raised all the same."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in (diffusers_log, transformers_log)]
    for log, _, _ in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level, bar in logs:
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()


def load_tokenizer(folder: str | Path) -> Any:
    """A `CLIPTokenizer` from a local folder. Raises WeightsError."""
    from transformers import CLIPTokenizer

    folder = Path(folder)
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        raise WeightsError(
            f"{folder} has no vocab.json and merges.txt; expected the folder of a CLIP tokenizer. "
            "Give the `tokenizer` folder of any SD 1.x model in diffusers layout."
        )
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, model_max_length=CHUNK_TOKENS)


def require_packages() -> None:
    """Raise MissingPackageError unless diffusers and transformers are installed."""
    for name in ("diffusers", "transformers"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingPackageError(
                f"Making pictures without ComfyUI needs the package {name}, which is not installed: pip install "
                "diffusers transformers accelerate (extra: diffusers). Encoding, export and all nodes in "
                "ComfyUI work without it."
            ) from error


def _require_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is. Raises SettingsError where it cannot be used."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for a device
        raise SettingsError(f'The device "{device}" cannot be used here; expected cpu, cuda or mps.') from error
    return torch.device(device)


def _load(path: Path, name: str, tokenizer: str | Path | None, allow_download: bool) -> Any:
    if path.is_dir():
        return _load_folder(path)
    if path.is_file():
        return _load_file(path, tokenizer)
    return _load_id(name, allow_download)


def _load_file(path: Path, tokenizer: str | Path | None) -> Any:
    from diffusers import StableDiffusionPipeline

    if tokenizer is None:
        raise SettingsError(
            f"{path.name} is a single file, which holds no tokenizer; expected one beside it. Give --tokenizer FOLDER: "
            "the `tokenizer` folder of any SD 1.x model in diffusers layout, or ComfyUI's comfy/sd1_tokenizer."
        )
    parts = load_single_file(path)
    return StableDiffusionPipeline(
        **parts,
        tokenizer=load_tokenizer(tokenizer),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _load_folder(folder: Path) -> Any:
    index = folder / "model_index.json"
    if not index.is_file():
        raise WeightsError(
            f"{folder} has no model_index.json; expected a diffusers model folder. Choose such a folder."
        )
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{index} cannot be read; expected a diffusers index. Copy the model again.") from error
    if found != "StableDiffusionPipeline":
        raise MismatchError(f"{folder.name} is a {found}; expected a Stable Diffusion 1.x model. Choose such a model.")
    return _from_pretrained(str(folder), f"{folder.name} cannot be loaded", local_files_only=True)


def _load_id(name: str, allow_download: bool) -> Any:
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).suffix in (".safetensors", ".ckpt"):
        raise WeightsError(
            f"There is no file or folder {name}; expected a diffusers folder or an SD 1.x checkpoint. Check the path."
        )
    hint = "" if allow_download else " (not in the local cache, and downloading is off: add --allow-download)"
    return _from_pretrained(name, f"{name} cannot be loaded{hint}", local_files_only=not allow_download)


def _from_pretrained(source: str, failure: str, **options: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    try:
        return StableDiffusionPipeline.from_pretrained(
            source, safety_checker=None, requires_safety_checker=False, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{failure}: {reason} Expected a complete Stable Diffusion 1.x model in diffusers layout."
        ) from error


def _check_family(pipe: Any, model: str | Path) -> None:
    width, channels = pipe.unet.config.cross_attention_dim, pipe.unet.config.in_channels
    words = DiffusersTextEncoder(pipe.text_encoder).width
    if width != words or channels != 4:
        raise MismatchError(
            f"{model} has a UNet with context width {width} and {channels} input channels; "
            f"expected {words}, the width of its text encoder, and 4: a Stable Diffusion 1.x model, not an inpainting "
            "one. Choose another model."
        )


def _placed(pipe: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    pipe.unet.to(device, dtype)
    pipe.vae.to(device, dtype)
    pipe.text_encoder.to(device, torch.float32)  # S* is fp32; the text encoder is small enough to match it
    return pipe


def _sampling_pipeline(pipe: Any, sampler: str) -> Any:
    """The parts that make the picture, with a scheduler of their own; `pipe` keeps its scheduler."""
    from diffusers import StableDiffusionPipeline

    if sampler not in SCHEDULERS:
        raise SettingsError(f'There is no sampler "{sampler}"; expected {" or ".join(SCHEDULERS)}.')
    sampling = StableDiffusionPipeline(
        vae=pipe.vae,
        text_encoder=None,
        tokenizer=None,
        unet=pipe.unet,
        scheduler=SCHEDULERS[sampler](pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    sampling.set_progress_bar_config(disable=True)
    return sampling


def _further(progress: Progress, before: int, total: int, done: int, _steps: int) -> None:
    """Steps of one picture, counted over several."""
    progress(before + done, total)


def _step_callback(progress: Progress | None, steps: int, late: torch.Tensor, early_steps: int) -> Any:
    """Reports each step, and puts `late` (B, tokens, width) in the place of the prompts after `early_steps` of them."""

    def report(_pipe: Any, step: int, _timestep: Any, tensors: dict) -> dict:
        if progress is not None:
            progress(step + 1, steps)
        if step + 1 == early_steps:
            # The prompts are the last rows; those before them, which guidance needs, are the negative prompts.
            tensors["prompt_embeds"] = torch.cat([tensors["prompt_embeds"][: -len(late)], late])
        return tensors

    return report


def _require_size(pipe: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        side = pipe.unet.config.sample_size * pipe.vae_scale_factor
        return side, side
    if any(side < 8 or side % 8 for side in size):
        raise SettingsError(
            f"The size {size[0]}x{size[1]} cannot be sampled; expected multiples of 8, such as 512x512."
        )
    return size


def _require_whole(name: str, value: int, least: int) -> None:
    if not least <= value <= _MOST:
        raise SettingsError(f"{name} is {value}; expected a whole number from {least} to {_MOST}.")
