"""Which files a command may write."""

from __future__ import annotations

from pathlib import Path

from ..errors import SettingsError

SUFFIX = ".safetensors"


def require_new_file(path: Path, force: bool) -> Path:
    """`path` if it can be written as a safetensors file without destroying another. Raises SettingsError."""
    if path.suffix.lower() != SUFFIX:
        raise SettingsError(f"--out {path} has another ending; expected a file name that ends in {SUFFIX}.")
    if path.is_dir():
        raise SettingsError(f"--out {path} is a folder; expected a file name that ends in {SUFFIX}.")
    if path.exists() and not force:
        raise SettingsError(f"{path} exists and is not overwritten. Choose another name, or add --force.")
    return path
