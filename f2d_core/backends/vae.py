"""The autoencoder of a model alone, for preparing photos: what else the model has stays on the disk."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..errors import MismatchError, MissingPackageError, WeightsError
from .diffusers import quietly
from .single_file import load_single_file

LATENT_CHANNELS = 4


def load_vae(model: str | Path) -> Any:
    """The `AutoencoderKL` of a diffusers folder or a single SD 1.x checkpoint file, fp32 on the CPU.

    A folder may also be that of an autoencoder alone. Raises WeightsError, MismatchError, MissingPackageError.
    """
    path = Path(model)
    _require_diffusers()
    with quietly():
        if path.is_file():
            vae = load_single_file(path)["vae"]
        else:
            vae = _from_folder(path / "vae" if (path / "vae").is_dir() else path)
    if vae.config.latent_channels != LATENT_CHANNELS:
        raise MismatchError(
            f"{path} has an autoencoder with {vae.config.latent_channels} latent channels, expected {LATENT_CHANNELS} "
            "(SD 1.x, SD 2.x). Choose another model."
        )
    return vae.requires_grad_(False).eval()


def _from_folder(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder} has no config.json; expected a diffusers model folder, that of its autoencoder, or a checkpoint "
            "file. Check the path."
        )
    try:
        return AutoencoderKL.from_pretrained(str(folder), local_files_only=True).float()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{folder} cannot be loaded ({reason}). Expected a complete autoencoder in diffusers layout."
        ) from error


def _require_diffusers() -> None:
    try:
        importlib.import_module("diffusers")
    except ImportError as error:
        raise MissingPackageError(
            "Preparing photos without ComfyUI needs the package diffusers, which is not installed: pip install "
            "diffusers transformers (extra: train). The node Prepare Face Dataset works without it."
        ) from error
