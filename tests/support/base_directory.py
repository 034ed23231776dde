"""A private base directory for ComfyUI (`--base-directory`): its models, packs, inputs and outputs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from tests.support import publishing
from tests.support.small_checkpoint import checkpoint_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REPO = Path(__file__).resolve().parents[2]
INTERFACE = Path(__file__).with_name("interface.json")  # the inputs and outputs of every node, frozen
PACK = "face2diffusion"  # the folder name of the pack in custom_nodes
CHECKPOINT = "small-sd15.ckpt"
FOLDERS = ("models/checkpoints", "models/embeddings", "models/loras", "models/face2diffusion/identities")
# Names under which the published files are known, and what each holds.
PUBLISHED = {"msid.pt": "msid", "mapping.pt": "mapping", "epoch_20.pth": "recon"}
TINY = {"msid": tiny_msid_state_dict, "mapping": tiny_mapping_state_dict, "recon": tiny_recon_state_dict}


def make(base: Path, packs: Iterable[Path] = (), link_pack: bool = True) -> Path:
    """Lay out `base` with the small checkpoint, our pack (linked, or its unpacked archive) and links to `packs`."""
    for folder in (*FOLDERS, "custom_nodes", "input", "output", "temp", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    install = link if link_pack else _copy_pack
    install(REPO, base / "custom_nodes" / PACK)
    for pack in packs:
        link(pack, base / "custom_nodes" / pack.name)
    place(checkpoint_file(), base / "models" / "checkpoints" / CHECKPOINT)
    return base


def link(source: Path, target: Path) -> None:
    target.symlink_to(source, target_is_directory=True)


def _copy_pack(source: Path, target: Path) -> None:
    """What the registry's archive holds, unpacked."""
    for name in publishing.archive_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def place(source: Path, target: Path) -> None:
    """Put a file there without a second copy where the file system allows (no symlink: hosts may refuse those)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_stand_ins(folder: Path, weights: Callable[[str], dict[str, torch.Tensor]]) -> Path:
    """Write stand-ins of the published files, in their published layout, into `folder`.

    weights("msid" | "mapping" | "recon") -> tensors: the fixture golden_weights, or `tiny_weights`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in PUBLISHED.items():
        tensors = weights(name)
        torch.save({"net_recon": tensors} if name == "recon" else tensors, folder / file)
    return folder


def tiny_weights(name: str) -> dict[str, torch.Tensor]:
    """Small networks of the same kinds, for where the golden data is absent."""
    return TINY[name]()
