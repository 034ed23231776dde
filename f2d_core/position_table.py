"""The position embedding of a text encoder, out of any file that holds one; the export of a "sum" S* needs it."""

from __future__ import annotations

from pathlib import Path

import torch

from .constants import CHUNK_TOKENS
from .errors import MismatchError, WeightsError
from .s_star import SStar
from .weights import describe, read_tensors

_TABLE = "embeddings.position_embedding.weight"  # whatever stands before it: every layout of the text encoder
_FOLDER_FILES = ("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin", "model.safetensors")


def read_position_table(path: Path, s_star: SStar) -> torch.Tensor:
    """(77, width) fp32 from a checkpoint, a CLIP file or a diffusers folder. Raises WeightsError, MismatchError."""
    file = _file_of(path)
    tables = _tables(file)
    for table in tables:
        if table.shape == (CHUNK_TOKENS, s_star.width):
            return table.float()
    shapes = ", ".join(str(tuple(table.shape)) for table in tables)
    raise MismatchError(
        f"{file.name} has a position table of shape {shapes}; {s_star.title} needs {(CHUNK_TOKENS, s_star.width)}. "
        "Choose a model of the family that the S* was made for."
    )


def _tables(file: Path) -> list[torch.Tensor]:
    tensors, _ = read_tensors(file, wanted=_is_table)
    tensors = tensors.get("state_dict", tensors)
    tables = [value for key, value in tensors.items() if _is_table(str(key))]
    if tables:
        return tables
    raise WeightsError(
        f"{file.name} is {describe(read_tensors(file)[0])} without a position table (…{_TABLE}); expected an SD 1.x "
        "checkpoint, a CLIP text encoder or a diffusers folder. Choose such a file."
    )


def _is_table(key: str) -> bool:
    return key.endswith(_TABLE) and "vision" not in key


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"{path} has no {_FOLDER_FILES[0]}; expected a diffusers folder or a file. Choose another.")
