"""Checkpoints: a folder is whole or not there, and a damaged one is noticed and passed over.

checkpoints/
    latest              the name of the newest folder
    step_000001000/     state.json and the tensors of the run, for example mapping.safetensors  ema.safetensors
                        moments.safetensors, of which the first two are mapping files that load anywhere
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..errors import OutputError, WeightsError
from ..files import write_atomically
from ..weights import read_tensors, write_safetensors
from .state import LossScale

LATEST = "latest"
STATE = "state.json"
FORMAT_VERSION = 1
_PREFIX = "step_"
_TEMPORARY = ".part-"

Metadata = Mapping[str, Mapping[str, object]]

log = logging.getLogger("face2diffusion")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps. tensors: file name -> tensors."""

    step: int
    tensors: Mapping[str, Mapping[str, torch.Tensor]]
    scale: LossScale


def save_checkpoint(folder: Path, checkpoint: Checkpoint, metadata: Metadata) -> Path:
    """Write a checkpoint under `folder` and point to it. metadata: file name -> what it says. Raises OutputError.

    Everything is written and flushed under another name first, so that a process killed at any moment leaves the
    checkpoints that were there, and at most a temporary folder that `clean` removes.
    """
    final = folder / f"{_PREFIX}{checkpoint.step:09}"
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder))
        temporary.chmod(0o755)  # mkdtemp makes private folders
        _fill(temporary, checkpoint, metadata)
        _flush_folder(temporary)
        if final.exists():  # damaged, or of a run that fell back behind it
            shutil.rmtree(final)
        os.rename(temporary, final)
        _flush_folder(folder)
    except OSError as error:
        raise OutputError(
            f"Cannot write {final}: {error.strerror or error}. Free some space or choose another folder, then continue."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    write_atomically(folder / LATEST, lambda path: path.write_text(final.name, encoding="utf-8"))
    return final


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None where there is none. A damaged one is passed over with a warning.

    Raises WeightsError when there are checkpoints and all are damaged.
    """
    names = _newest_first(folder)
    for name in names:
        try:
            return _read(folder / name)
        except (WeightsError, OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            log.warning("The checkpoint %s is damaged (%s); falling back to the one before it.", folder / name, reason)
    if names:
        raise WeightsError(
            f"All {len(names)} checkpoints in {folder} are damaged; expected a whole one. Restore one, or begin anew."
        )
    return None


def any_checkpoint(folder: Path) -> bool:
    """Whether there is one, whole or damaged."""
    return bool(_folders(folder))


def prune(folder: Path, step: int, keep_last: int, keep_every: int) -> None:
    """Keep the last `keep_last` checkpoints up to `step` and those at multiples of `keep_every` (0: none of them).

    Those beyond `step` go: they are damaged, or the run would not have fallen back behind them.
    """
    names = sorted(_folders(folder), reverse=True)
    kept = [name for name in names if _step(name) <= step][:keep_last]
    for name in names:
        milestone = keep_every and _step(name) % keep_every == 0 and _step(name) <= step
        if name not in kept and not milestone:
            shutil.rmtree(folder / name, ignore_errors=True)


def clean(folder: Path) -> None:
    """Remove what a killed process left half-written directly in `folder`."""
    for rest in (*folder.glob(f"{_TEMPORARY}*"), *folder.glob(".*.part")):
        if rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _fill(folder: Path, checkpoint: Checkpoint, metadata: Metadata) -> None:
    written = {}
    for name, tensors in checkpoint.tensors.items():
        path = write_safetensors(folder / name, tensors, metadata.get(name))
        written[name] = {"bytes": path.stat().st_size, "crc32": _crc32(path)}
    state = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "loss_scale": asdict(checkpoint.scale),
        "files": written,
    }
    text = json.dumps(state, indent=2)
    write_atomically(folder / STATE, lambda path: path.write_text(text, encoding="utf-8"))


def _read(folder: Path) -> Checkpoint:
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format {state['format_version']}, expected {FORMAT_VERSION}")
    for name, expected in state["files"].items():
        path = folder / name
        if path.stat().st_size != expected["bytes"] or _crc32(path) != expected["crc32"]:
            raise ValueError(f"{name} is not what was written")
    tensors = {name: read_tensors(folder / name)[0] for name in state["files"]}
    return Checkpoint(state["step"], tensors, LossScale(**state["loss_scale"]))


def _newest_first(folder: Path) -> list[str]:
    """The one that `latest` names, then the others from the newest."""
    names = sorted(_folders(folder), reverse=True)
    pointer = folder / LATEST
    pointed = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else ""
    if pointed and pointed not in names:
        log.warning("%s names %s, which is not there; falling back to the newest checkpoint.", pointer, pointed)
    return sorted(names, key=lambda name: name != pointed)


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [path.name for path in folder.glob(f"{_PREFIX}*") if path.is_dir() and path.name[len(_PREFIX) :].isdigit()]


def _step(name: str) -> int:
    return int(name.removeprefix(_PREFIX))


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def _flush_folder(folder: Path) -> None:
    """So that a rename survives a power cut; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
