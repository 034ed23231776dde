"""Features that were extracted once are kept: in memory, and in a folder that several processes may share.

What is kept under a name (a network and its weights) is rows by key (a picture, a text, a face). A batch becomes one
safetensors file, written whole or not at all, so a process that is killed loses its last batch and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import CacheError
from ..files import safe_stem
from ..ports import Progress
from ..weights import write_safetensors

if TYPE_CHECKING:
    from ..ports import IdentityExtractor, ImageTextExtractor

_SUFFIX = ".safetensors"
_ROWS, _KEYS = "rows", "keys"
_DIGITS = 12  # of a hash, in names of folders


def cache_name(extractor: IdentityExtractor | ImageTextExtractor) -> str:
    """What the features of an extractor are kept under: its name and the weights it has."""
    return f"{extractor.name} {extractor.sha256[:_DIGITS]}"


def text_key(text: str) -> str:
    """The key of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def identity_key(picture_sha256: str, points_px: np.ndarray) -> str:
    """The key of a face: the picture, and the five points that say where it is."""
    digest = hashlib.sha256(picture_sha256.encode())
    digest.update(np.ascontiguousarray(points_px, dtype="<f8").tobytes())
    return digest.hexdigest()


class FeatureCache:
    """Rows of features by name and key. folder: where they are kept; None keeps them in memory only."""

    def __init__(self, folder: str | Path | None = None):
        self._folder = None if folder is None else Path(folder)
        self._rows: dict[str, dict[str, torch.Tensor]] = {}
        self._read: set[Path] = set()

    def rows(
        self,
        name: str,
        keys: Sequence[str],
        compute: Callable[[list[int]], torch.Tensor],
        batch: int = 64,
        progress: Progress | None = None,
    ) -> torch.Tensor:
        """(n, d) fp32: the rows of the keys, in their order; those that are not kept yet are computed and kept.

        compute: indices into `keys` -> their rows (m, d); asked `batch` at a time, for each key once. progress counts
        keys. Raises OutputError where the folder cannot be written, CacheError for rows that do not fit, and what
        `compute` raises; what was computed before that is kept.
        """
        missing = self._missing(name, keys)
        done = len(keys) - len(missing)
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            self._keep(name, [keys[i] for i in part], compute(part))
            done += len(part)
            if progress is not None:
                progress(done, len(keys))
        known = self._rows.get(name, {})
        return torch.stack([known[key] for key in keys]) if len(keys) else torch.empty(0, 0)

    def _missing(self, name: str, keys: Sequence[str]) -> list[int]:
        """The first place of every key that is not kept, after a look at what other processes have kept by now."""
        known = self._rows.setdefault(name, {})
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        if any(key not in known for key in first):
            self._read_new(name)
        return sorted(i for key, i in first.items() if key not in known)

    def _read_new(self, name: str) -> None:
        """Take in the files that were not read yet; damaged ones and those of another width are passed over."""
        if self._folder is None:
            return
        known = self._rows[name]
        for file in sorted(self._place(name).glob(f"*{_SUFFIX}")):
            if file not in self._read:
                self._read.add(file)
                for key, row in _read_rows(file).items():
                    if _fits(row, known):
                        known.setdefault(key, row)

    def _keep(self, name: str, keys: list[str], rows: torch.Tensor) -> None:
        rows = torch.as_tensor(rows).detach().to("cpu", torch.float32)
        if rows.dim() != 2 or len(rows) != len(keys) or not _fits(rows[0], self._rows[name]):
            raise CacheError(
                f"{name} gave features of shape {tuple(rows.shape)} for {len(keys)} inputs: expected one row each, as "
                "wide as those before. Clear the folder of features if the network was changed."
            )
        if self._folder is not None:
            digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[: 2 * _DIGITS]
            file = self._place(name) / f"{digest}{_SUFFIX}"
            write_safetensors(file, {_ROWS: rows}, {"name": name, _KEYS: json.dumps(keys)})
            self._read.add(file)
        self._rows[name].update(zip(keys, rows.clone(), strict=True))

    def _place(self, name: str) -> Path:
        """The folder of a name; the digest keeps apart names that differ only in signs a file name cannot have."""
        return self._folder / f"{safe_stem(name)}-{text_key(name)[:_DIGITS]}"


def _fits(row: torch.Tensor, known: dict[str, torch.Tensor]) -> bool:
    return not known or next(iter(known.values())).shape == row.shape


def _read_rows(file: Path) -> dict[str, torch.Tensor]:
    """key -> row, nothing for a file that is damaged or was made by something else."""
    try:
        with safe_open(str(file), framework="pt", device="cpu") as content:
            keys, rows = json.loads((content.metadata() or {}).get(_KEYS, "[]")), content.get_tensor(_ROWS)
    except (SafetensorError, OSError, ValueError):
        return {}
    return dict(zip(keys, rows, strict=True)) if rows.dim() == 2 and len(rows) == len(keys) else {}
