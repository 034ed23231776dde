"""`export`: an identity becomes a plain textual-inversion embedding for stock nodes and other programs."""

from __future__ import annotations

import argparse

import torch

from ..constants import INJECTION_SUM
from ..errors import SettingsError
from ..position_table import read_position_table
from ..s_star import SStar, export_deviation, export_embedding, load_s_star
from .outputs import require_new_file
from .progress import announce


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
    announce(f"Reading {arguments.text_encoder.name}")
    return read_position_table(arguments.text_encoder, s_star)


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
