"""ComfyUI inside the test process, on the CPU, with a private base directory and our pack loaded."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from tests.support import base_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDGETS_WITHOUT_DEFAULT = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}


class Outputs(tuple):
    """What a node returned, as a tuple; `ui` is what it would show in its own box, or None."""

    ui: dict[str, Any] | None = None


@dataclass(frozen=True)
class Host:
    """A running ComfyUI: its modules by name, its private folder, and our pack as it loaded it."""

    root: Path
    base: Path
    nodes: ModuleType
    folder_paths: ModuleType
    io: ModuleType  # comfy_api.latest.io
    sd: ModuleType  # comfy.sd
    pack: ModuleType  # our __init__.py; `pack_module` reaches the rest

    @property
    def mappings(self) -> dict[str, type]:
        """Node id -> class, of every node loaded so far."""
        return self.nodes.NODE_CLASS_MAPPINGS

    def pack_module(self, name: str) -> ModuleType:
        """A module of the pack as ComfyUI loaded it, for example "nodes.host" or "f2d_core.prompt"."""
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def load_extra(self, name: str) -> None:
        """Register one of ComfyUI's own extra node files, for example "nodes_hooks.py"."""
        path = self.root / "comfy_extras" / name
        with _host_warnings_ignored():
            if not asyncio.run(self.nodes.load_custom_node(str(path), module_parent="comfy_extras")):
                raise RuntimeError(f"ComfyUI could not load its own {path}")

    def run(self, node: str | type, **inputs: Any) -> Outputs:
        """Run one node as the server would: in inference mode, on a locked clone of its class, and
        with widgets that are not given at their defaults. Errors come through as they are."""
        node_class = self.mappings[node] if isinstance(node, str) else node
        inputs = self._widget_defaults(node_class) | inputs
        with torch.inference_mode():
            if hasattr(node_class, "PREPARE_CLASS_CLONE"):
                return _run_v3(node_class, self._hidden(), inputs)
            return Outputs(getattr(node_class(), node_class.FUNCTION)(**inputs))

    def _hidden(self) -> dict[str, Any]:
        return {"hidden_inputs": {self.io.Hidden.unique_id: "1"}}

    @staticmethod
    def _widget_defaults(node_class: type) -> dict[str, Any]:
        sections = node_class.INPUT_TYPES()
        specs = {**sections.get("required", {}), **sections.get("optional", {})}
        return {name: default for name, spec in specs.items() for default in _default(spec)}


def _default(spec: tuple) -> list[Any]:
    """The value a fresh widget has, in a list; an empty list for a socket."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        return [options.get("default", choices[0])] if choices else []
    if kind in WIDGETS_WITHOUT_DEFAULT and not options.get("forceInput"):
        return [options.get("default", WIDGETS_WITHOUT_DEFAULT[kind])]
    return []


def _run_v3(node_class: type, hidden: dict[str, Any], inputs: dict[str, Any]) -> Outputs:
    from comfy_api.internal import make_locked_method_func

    clone = node_class.PREPARE_CLASS_CLONE(hidden)
    result = make_locked_method_func(node_class, node_class.FUNCTION, clone)(**inputs)
    outputs = Outputs(result.args)
    outputs.ui = result.ui.as_dict() if hasattr(result.ui, "as_dict") else result.ui
    return outputs


def start(root: Path, base: Path) -> Host:
    """Start the ComfyUI at `root` in this process (once per process) and load our pack from `base`."""
    nodes = import_host(root, base)
    path = str(base / "custom_nodes" / base_directory.PACK)
    if not load_pack(nodes, path):
        raise RuntimeError(f"ComfyUI could not load our pack from {path}; its log above says why")
    pack = sys.modules[path.replace(".", "_x_")]
    io = importlib.import_module("comfy_api.latest").io
    return Host(root, base, nodes, sys.modules["folder_paths"], io, sys.modules["comfy.sd"], pack)


def import_host(root: Path, base: Path) -> ModuleType:
    """Import the ComfyUI at `root` as its main.py would, for the CPU and with that base directory -> its `nodes`."""
    sys.path.insert(0, str(root))
    argv, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    try:
        with _host_warnings_ignored():
            importlib.import_module("comfy.options").enable_args_parsing()
            # This order: importing `nodes` of older releases hides the host's own `utils` from later imports.
            for name in ("utils.extra_config", "server", "folder_paths", "nodes", "execution", "comfy.sd"):
                importlib.import_module(name)
    finally:
        sys.argv = argv
    nodes = sys.modules["nodes"]
    if Path(nodes.__file__).resolve().parent != root:
        raise RuntimeError(f"`import nodes` gave {nodes.__file__}, not the one of ComfyUI at {root}")
    return nodes


def load_pack(nodes: ModuleType, path: str) -> bool:
    """Load a pack by its folder, as ComfyUI does at start -> whether its nodes are there."""
    return asyncio.run(nodes.load_custom_node(path))


@contextlib.contextmanager
def _host_warnings_ignored() -> Iterator[None]:
    """Warnings of the host's own imports are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
