"""`prepare`: a folder of photos becomes a cache for `train-mapping`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from ..backends.diffusers_training import DiffusersLatentCodec
from ..backends.vae import load_vae
from ..data.cache import REPORT, Cache
from ..data.parser import FaceParser, load_parser
from ..data.prepare import Models, prepare
from ..data.settings import PrepareSettings
from ..networks import load_network
from ..weights import tensors_sha256
from .faces import chosen_detector
from .progress import Bar, announce

_REASONS_SHOWN = 10


def run(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    models = _models(arguments)
    announce(f"Preparing the photos in {arguments.folder}")
    cache = prepare(
        arguments.folder,
        arguments.out,
        models,
        settings,
        caption=arguments.caption,
        batch=arguments.batch,
        progress=Bar("Photos"),
    )
    _tell(cache)


def _settings(arguments: argparse.Namespace) -> PrepareSettings:
    """Options that were not given keep the defaults of the settings."""
    names = [field.name for field in fields(PrepareSettings)]
    return PrepareSettings(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)})


def _models(arguments: argparse.Namespace) -> Models:
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    place = _placer(device)
    detector = chosen_detector(arguments.detector, arguments.detector_weights)  # what is missing is told first
    announce(f"Loading {arguments.model}")
    masks: FaceParser | Path = arguments.masks or load_parser(arguments.parser, place)
    msid = load_network(arguments.msid, "msid", place=place)
    recon = arguments.expression_encoder and load_network(arguments.expression_encoder, "recon", place=place)
    vae = load_vae(arguments.model)
    sha256 = tensors_sha256(vae.state_dict())
    return Models(msid, recon, DiffusersLatentCodec(vae.to(device)), sha256, detector, masks)


def _placer(device: torch.device) -> Callable[[torch.nn.Module], Callable[[torch.Tensor], torch.Tensor]]:
    """What puts a network on the device; tensors come from the CPU and go back there."""

    def place(module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        module.to(device)
        return torch.inference_mode()(lambda pixels: module(pixels.to(device)).to("cpu"))

    return place


def _tell(cache: Cache) -> None:
    print(f"{cache.folder}: {len(cache)} photos prepared, {len(cache.rejected)} left out")
    for photo in cache.rejected[:_REASONS_SHOWN]:
        print(f"  {photo.name}: {photo.reason}")
    if len(cache.rejected) > _REASONS_SHOWN:
        print(f"  … and {len(cache.rejected) - _REASONS_SHOWN} more, see {cache.folder / 'manifest.json'}")
    print(f"Look at {cache.folder / REPORT} before you train on it.")
