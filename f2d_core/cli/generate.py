"""`generate`: pictures of people in prompts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..backends.diffusers import DiffusersTextEncoder, generate, load_pipeline
from ..errors import SettingsError
from ..files import fresh_path, safe_stem, write_atomically
from ..prompt import Person, describe_slots, require_marker, require_markers
from ..s_star import load_s_star
from .folders import shared_tokenizer
from .progress import Bar, announce, note

if TYPE_CHECKING:
    from PIL.Image import Image


def run(arguments: argparse.Namespace) -> None:
    people = _people(arguments.s_star, arguments.strength, arguments.marker)
    require_markers(arguments.prompt, people)  # before a model is loaded in vain
    pipe = load_model(arguments)
    stem = safe_stem("_".join(person.s_star.title for person in people))
    for seed, picture in sample(pipe, people, arguments):
        path = fresh_path(arguments.out, f"{stem}_{seed:05}", ".png")
        print(save_picture(picture, path, arguments, seed), flush=True)


def load_model(arguments: argparse.Namespace) -> Any:
    """The pipeline of --model and the options that go with it. Raises what `load_pipeline` does."""
    announce(f"Loading {arguments.model}")
    single_file = Path(arguments.model).is_file()  # which has no tokenizer of its own
    return load_pipeline(
        arguments.model,
        tokenizer=arguments.tokenizer or (shared_tokenizer() if single_file else None),
        allow_download=arguments.allow_download,
        device=arguments.device,
    )


def sample(pipe: Any, people: Sequence[Person], arguments: argparse.Namespace) -> Iterator[tuple[int, Image]]:
    """(seed, picture) one after another; says first where every S* stands. Raises PromptError, SettingsError."""
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    prompt = encoder.encode(arguments.prompt, people)
    note(describe_slots(prompt.slots, people))
    settings = {name: getattr(arguments, name) for name in ("n", "seed", "steps", "cfg", "size")}
    pictures = generate(pipe, prompt, encoder.encode(arguments.negative), **settings, progress=Bar("Sampling"))
    try:
        yield from enumerate(pictures, start=arguments.seed)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory free for this picture. Close other programs, choose a smaller --size, "
            "or --device cpu."
        ) from error


def save_picture(picture: Image, path: Path, arguments: argparse.Namespace, seed: int) -> Path:
    """Write a PNG that says of itself that it is generated, and how. Raises OutputError."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in _record(arguments, seed).items():
        info.add_itxt(key, value)
    return write_atomically(path, lambda temporary: picture.save(temporary, format="PNG", pnginfo=info))


def _people(files: Sequence[Path], strengths: Sequence[float], markers: Sequence[str] | None) -> list[Person]:
    identities = [load_s_star(file) for file in files]
    if markers is not None:
        markers = _one_each(markers, len(files), "--marker")
        identities = [replace(s, marker=require_marker(m)) for s, m in zip(identities, markers, strict=True)]
    if len(strengths) == 1:
        strengths = list(strengths) * len(files)
    strengths = _one_each(strengths, len(files), "--strength")
    return [Person(s_star, strength) for s_star, strength in zip(identities, strengths, strict=True)]


def _one_each(values: Sequence, count: int, option: str) -> Sequence:
    if len(values) != count:
        raise SettingsError(f"{option} has {len(values)} values for {count} people; expected one for each, in order.")
    return values


def _record(arguments: argparse.Namespace, seed: int) -> dict[str, str]:
    return {
        "Software": "Face2Diffusion (generated picture)",
        "prompt": arguments.prompt,
        "negative prompt": arguments.negative,
        "seed": str(seed),
        "steps": f"{arguments.steps}, Euler ancestral",
        "guidance": f"{arguments.cfg:g}",
        "model": Path(arguments.model).name,
    }
