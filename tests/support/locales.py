"""locales/: what its files are, and what the English one says of the nodes, which is what their schemas say.

    python -m tests.support.locales

writes locales/en/nodeDefs.json anew. What the new texts are in the other languages is then to be written by hand.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.support import base_directory, checkouts, in_process

FOLDER = base_directory.REPO / "locales"
NODES = "nodeDefs.json"


def read(language: str, file: str) -> dict[str, Any]:
    return json.loads((FOLDER / language / file).read_text(encoding="utf-8"))


def node_definitions(nodes: list[type]) -> dict[str, Any]:
    """Node id -> its names and texts, in the host's form of nodeDefs.json."""
    return {schema.node_id: _definition(schema) for schema in (node.GET_SCHEMA() for node in nodes)}


def _definition(schema: Any) -> dict[str, Any]:
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {item.id: _texts(item) for item in schema.inputs},
        "outputs": {str(place): _texts(item) for place, item in enumerate(schema.outputs)},
    }


def _texts(item: Any) -> dict[str, str]:
    name = {"name": item.display_name or item.id}
    return {**name, "tooltip": item.tooltip} if item.tooltip else name


def write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = in_process.start(checkouts.comfyui(), base_directory.make(Path(folder) / "base"))
        definitions = node_definitions(host.pack_module("nodes").NODES)
    text = json.dumps(definitions, ensure_ascii=False, indent=2)
    (FOLDER / "en" / NODES).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
