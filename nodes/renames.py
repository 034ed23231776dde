"""Nodes that had another id once. Workflows that still use it go on working."""

from __future__ import annotations

from typing import NamedTuple

from . import host
from .host import io


class Rename(NamedTuple):
    """`node` was called `old` before. Nothing else about it has changed: inputs and outputs keep their names."""

    old: str
    node: type[io.ComfyNode]


# An id is given up with a row here and a line in the CHANGELOG, and is never used again.
RENAMES: tuple[Rename, ...] = ()


async def register() -> None:
    """Tell the host which nodes it has to replace, where it can. It asks for this before it asks for the nodes."""
    for rename in RENAMES:
        if _by_host(rename):
            await host.replace_node(rename.old, rename.node)


def old_nodes() -> list[type[io.ComfyNode]]:
    """The others under their old ids as well, to be listed beside the nodes."""
    return [_under_old_id(rename) for rename in RENAMES if not _by_host(rename)]


def _by_host(rename: Rename) -> bool:
    """Not with inputs that may be missing: the host fails on those."""
    return host.REPLACES_NODES and not any(item.optional for item in rename.node.GET_SCHEMA().inputs)


def _under_old_id(rename: Rename) -> type[io.ComfyNode]:
    class Old(rename.node):
        @classmethod
        def define_schema(cls) -> io.Schema:
            schema = super().define_schema()
            schema.node_id, schema.is_deprecated = rename.old, True
            return schema

    return Old
