"""Where the command line looks for files that no option names."""

from __future__ import annotations

import os
from pathlib import Path

HOST_VARIABLE = "COMFYUI_PATH"  # the folder of a ComfyUI, whose models and tokenizer may be shared


def model_folders() -> list[Path]:
    """The folders of weights that exist, the most specific first."""
    candidates = [Path("models", "face2diffusion"), Path("models")]
    host = host_folder()
    if host is not None:
        candidates.insert(0, host / "models" / "face2diffusion")
    return [folder for folder in candidates if folder.is_dir()]


def shared_tokenizer() -> Path | None:
    """ComfyUI's copy of the CLIP tokenizer, if there is one."""
    host = host_folder()
    folder = host / "comfy" / "sd1_tokenizer" if host is not None else None
    return folder if folder is not None and folder.is_dir() else None


def host_folder() -> Path | None:
    found = os.environ.get(HOST_VARIABLE)
    return Path(found).expanduser() if found else None
