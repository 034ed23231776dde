"""`export`: an identity becomes a plain textual-inversion embedding for stock nodes and other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..constants import CHUNK_TOKENS, INJECTION_SUM
from ..errors import MismatchError, SettingsError, WeightsError
from ..s_star import SStar, export_deviation, export_embedding, load_s_star
from ..weights import describe, read_tensors
from .outputs import require_new_file
from .progress import announce

_TABLE = "embeddings.position_embedding.weight"  # whatever stands before it: every layout of the text encoder
_FOLDER_FILES = ("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin", "model.safetensors")


def run(arguments: argparse.Namespace) -> None:
    out = require_new_file(arguments.out, arguments.force)
    s_star = load_s_star(arguments.s_star)
    table = _table_for(s_star, arguments)
    export_embedding(s_star, out, table, arguments.position)
    print(f"{out}: {s_star.words} words of {s_star.title}, key clip_{s_star.encoder_key}, fp32")
    print(f"In ComfyUI: put it into models/embeddings and write embedding:{out.stem}")
    print(_exactness(s_star, table, arguments.position))
    if s_star.licence:
        print(f"Licence: {s_star.licence}")


def position_table(path: Path, s_star: SStar) -> torch.Tensor:
    """(77, width) fp32 from a checkpoint, a CLIP file or a diffusers folder. Raises WeightsError, MismatchError."""
    file = _file_in(path)
    announce(f"Reading {file.name}")
    tensors, _ = read_tensors(file)
    tensors = tensors.get("state_dict", tensors)
    tables = [value for key, value in tensors.items() if str(key).endswith(_TABLE) and "vision" not in str(key)]
    if not tables:
        raise WeightsError(
            f"{file.name} is {describe(tensors)} without a position table (…{_TABLE}); expected an SD 1.x checkpoint, "
            "a CLIP text encoder or a diffusers folder. Choose such a file."
        )
    for table in tables:
        if table.shape == (CHUNK_TOKENS, s_star.width):
            return table.float()
    shapes = ", ".join(str(tuple(table.shape)) for table in tables)
    raise MismatchError(
        f"{file.name} has a position table of shape {shapes}; {s_star.title} needs {(CHUNK_TOKENS, s_star.width)}. "
        "Choose a model of the family that the S* was made for."
    )


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"{path} has no {_FOLDER_FILES[0]}; expected a diffusers folder or a file. Choose another.")


def _table_for(s_star: SStar, arguments: argparse.Namespace) -> torch.Tensor | None:
    """The position table where it is needed; complaining about what cannot be used or is missing."""
    given = arguments.position is not None, arguments.text_encoder is not None
    if s_star.injection != INJECTION_SUM:
        if any(given):
            raise SettingsError(
                f'{s_star.title} has the "{s_star.injection}" convention and is exact everywhere: '
                "leave out --position and --text-encoder."
            )
        return None
    if not all(given):
        raise SettingsError(
            f'{s_star.title} has the "sum" convention: as an embedding it is exact at one position only. '
            "Give --position N (`a photo of S*`: 4) and --text-encoder FILE of the model it will be used with."
        )
    return position_table(arguments.text_encoder, s_star)


def _exactness(s_star: SStar, table: torch.Tensor | None, position: int | None) -> str:
    if table is None:
        return "Exact at every place in a prompt."
    deviation = export_deviation(s_star, table, position)
    others = torch.cat([deviation[: position - 1], deviation[position:]])
    return (
        f"Exact where its first word is token {position} of the prompt; elsewhere the words deviate by "
        f"{others.median():.1%} of their length (median; {others.min():.1%} to {others.max():.1%}). "
        "Identity files have no such limit: use them where you can."
    )
