"""`prepare`: a folder of photos, or of editing triplets, becomes a cache for `train-mapping`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import torch

from ..backends.diffusers_training import DiffusersLatentCodec
from ..backends.vae import load_vae
from ..data.cache import REPORT, Cache
from ..data.parser import FaceParser, load_parser
from ..data.prepare import Models, prepare
from ..data.settings import PrepareSettings, Settings, TripletSettings
from ..data.triplets import TripletModels, prepare_triplets
from ..errors import SettingsError
from ..networks import load_network
from ..weights import tensors_sha256
from .device import placed_on, usable_device
from .faces import chosen_detector
from .progress import Bar, announce

_REASONS_SHOWN = 10


def run(arguments: argparse.Namespace) -> None:
    if arguments.triplets:
        _prepare_triplets(arguments)
    else:
        _prepare_photos(arguments)


def _prepare_photos(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments, PrepareSettings)
    models = _models(arguments)
    announce(f"Preparing the photos in {arguments.folder}")
    cache = prepare(
        arguments.folder,
        arguments.out,
        models,
        settings,
        **({"caption": arguments.caption} if hasattr(arguments, "caption") else {}),
        batch=arguments.batch,
        progress=Bar("Photos"),
    )
    _tell(cache, "photos")


def _prepare_triplets(arguments: argparse.Namespace) -> None:
    _require_options_of_triplets(arguments)
    settings = _settings(arguments, TripletSettings)
    device = usable_device(arguments.device)
    announce(f"Loading {arguments.model}")
    msid = load_network(arguments.msid, "msid", place=placed_on(device))
    codec, sha256 = _codec(arguments, device)
    models = TripletModels(msid, codec, sha256, lambda: chosen_detector(arguments.detector, arguments.detector_weights))
    announce(f"Preparing the triplets in {arguments.folder}")
    batch, progress = arguments.batch, Bar("Triplets")
    cache = prepare_triplets(arguments.folder, arguments.out, models, settings, batch=batch, progress=progress)
    _tell(cache, "triplets")


def _require_options_of_triplets(arguments: argparse.Namespace) -> None:
    """SettingsError for options that are about photos; better than to leave them unheeded."""
    of_photos = {field.name for field in fields(PrepareSettings)} - {field.name for field in fields(TripletSettings)}
    given = [name for name in (*sorted(of_photos), "caption") if hasattr(arguments, name)]
    given += ["expression_encoder"] if arguments.expression_encoder else []
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise SettingsError(
            f"{options} given with --triplets: expected only options that triplets have, for they are taken whole, "
            "with their own prompts and no expression. Leave them out."
        )


def _settings(arguments: argparse.Namespace, kind: type[Settings]) -> Settings:
    """Options that were not given keep the defaults of the settings."""
    names = [field.name for field in fields(kind)]
    return kind(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)})


def _codec(arguments: argparse.Namespace, device: torch.device) -> tuple[DiffusersLatentCodec, str]:
    """The autoencoder of the model, and the hash of its weights."""
    vae = load_vae(arguments.model)
    sha256 = tensors_sha256(vae.state_dict())
    return DiffusersLatentCodec(vae.to(device)), sha256


def _models(arguments: argparse.Namespace) -> Models:
    device = usable_device(arguments.device)
    place = placed_on(device)
    detector = chosen_detector(arguments.detector, arguments.detector_weights)  # what is missing is told first
    announce(f"Loading {arguments.model}")
    masks: FaceParser | Path = arguments.masks or load_parser(arguments.parser, place)
    msid = load_network(arguments.msid, "msid", place=place)
    recon = arguments.expression_encoder and load_network(arguments.expression_encoder, "recon", place=place)
    return Models(msid, recon, *_codec(arguments, device), detector, masks)


def _tell(cache: Cache, what: str) -> None:
    print(f"{cache.folder}: {len(cache)} {what} prepared, {len(cache.rejected)} left out")
    for photo in cache.rejected[:_REASONS_SHOWN]:
        print(f"  {photo.name}: {photo.reason}")
    if len(cache.rejected) > _REASONS_SHOWN:
        print(f"  … and {len(cache.rejected) - _REASONS_SHOWN} more, see {cache.folder / 'manifest.json'}")
    print(f"Look at {cache.folder / REPORT} before you train on it.")
