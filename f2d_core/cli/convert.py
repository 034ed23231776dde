"""`convert`: a published .pt or .pth file becomes safetensors."""

from __future__ import annotations

import argparse

from ..weights import convert, read_weights
from .outputs import require_new_file
from .progress import announce


def run(arguments: argparse.Namespace) -> None:
    out = require_new_file(arguments.out, arguments.force)
    announce(f"Converting {arguments.file.name}")
    weights = read_weights(convert(arguments.file, out))
    print(f"{out}: {weights.kind}, {out.stat().st_size:,} bytes, tensors sha256 {weights.sha256}")
    print(f"Licence: {weights.metadata['licence']}")
