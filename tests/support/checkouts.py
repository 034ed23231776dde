"""Where the ComfyUI checkouts and third-party packs are that the host and server rings need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

COMFY_HOME = Path.home() / "comfy"


def _find(variable: str, default: Path, mark: str) -> Path | None:
    """The folder named by an environment variable, else the default, if the file `mark` is in it."""
    folder = Path(os.environ.get(variable) or default).expanduser()
    return folder.resolve() if (folder / mark).is_file() else None


def comfyui() -> Path:
    """The ComfyUI checkout. Without one the test is skipped, or fails where F2D_REQUIRE_HOST=1."""
    folder = _find("COMFYUI_PATH", COMFY_HOME / "ComfyUI", "nodes.py")
    if folder is not None:
        return folder
    reason = (
        "no ComfyUI found: tests/host and tests/server need a checkout of the public repository "
        "Comfy-Org/ComfyUI at ~/comfy/ComfyUI or where COMFYUI_PATH says, with its requirements installed"
    )
    if os.environ.get("F2D_REQUIRE_HOST") == "1":
        pytest.fail(f"{reason} (F2D_REQUIRE_HOST=1 forbids skipping)", pytrace=False)
    pytest.skip(reason)


def old_comfyui() -> Path:
    """A checkout of the oldest supported release, 0.9.2; the test is skipped without one."""
    folder = _find("COMFYUI_OLD_PATH", COMFY_HOME / "ComfyUI-0.9.2", "nodes.py")
    if folder is None:
        pytest.skip("no ComfyUI 0.9.2 at ~/comfy/ComfyUI-0.9.2 (or COMFYUI_OLD_PATH): oldest release not tested")
    return folder


def prompt_control() -> Path:
    """The third-party pack comfyui-prompt-control; the test is skipped without it."""
    folder = _find("F2D_PROMPT_CONTROL_PATH", COMFY_HOME / "peers" / "comfyui-prompt-control", "__init__.py")
    if folder is None:
        pytest.skip(
            "no comfyui-prompt-control (public repository asagi4/comfyui-prompt-control) at "
            "~/comfy/peers/comfyui-prompt-control or where F2D_PROMPT_CONTROL_PATH says"
        )
    return folder
