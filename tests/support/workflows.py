"""Workflows as the UI saves them, turned into what the server runs, as the UI would on "Run"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.server import Graph

NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
UPLOAD_BUTTON = "image"  # what the UI saves as the value of the upload button below a picture chooser


def load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> Graph:
    """UI form -> API form. Raises ValueError where a node, socket or widget value does not fit the server's."""
    links = {link[0]: link for link in workflow["links"]}
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": _widgets(node, object_info) | _links(node, links),
            "_meta": {"title": node.get("title", node["type"])},
        }
        for node in workflow["nodes"]
        if node["type"] not in NOTES
    }


def _links(node: dict[str, Any], links: dict[int, list]) -> dict[str, list]:
    connected = (socket for socket in node["inputs"] if socket["link"] is not None)
    return {socket["name"]: [str(links[socket["link"]][1]), links[socket["link"]][2]] for socket in connected}


def _widgets(node: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """Widget values by name: the UI saves them as a bare list, in the order of the server's inputs."""
    if node["type"] not in object_info:
        raise ValueError(f"the server has no node {node['type']}")
    values = list(node.get("widgets_values", []))
    named = {}
    for name, spec in inputs(object_info[node["type"]]):
        if not is_widget(spec):
            continue
        if not values:
            raise ValueError(f"{node['type']}: no value saved for the widget {name}")
        named[name] = values.pop(0)
        if _options(spec).get("control_after_generate") and values.pop(0) not in AFTER_GENERATE:
            raise ValueError(f"{node['type']}: {name} is not followed by what to do after generating")
        if _options(spec).get("image_upload") and values[:1] == [UPLOAD_BUTTON]:
            values.pop(0)
    if values:
        raise ValueError(f"{node['type']}: saved widget values left over: {values}")
    return named


def inputs(info: dict[str, Any]) -> Iterator[tuple[str, list]]:
    """(name, spec) of a node's inputs in the UI's order, from its entry in /object_info."""
    for section in ("required", "optional"):
        for name in info["input_order"].get(section, []):
            yield name, info["input"][section][name]


def is_widget(spec: list) -> bool:
    """Whether the UI draws a value for this input rather than only a socket."""
    return (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES) and not _options(spec).get("forceInput")


def _options(spec: list) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def find(graph: Graph, class_type: str) -> str:
    """The id of the only node of a type."""
    (node_id,) = (node_id for node_id, node in graph.items() if node["class_type"] == class_type)
    return node_id


def inputs_of(graph: Graph, class_type: str) -> dict[str, Any]:
    """The inputs of the only node of a type, to be read or changed."""
    return graph[find(graph, class_type)]["inputs"]
