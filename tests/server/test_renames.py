"""A workflow made before a node got another id still runs, on hosts that replace nodes and on older ones."""

import numpy as np
import pytest

from tests.support import checkouts, workflows
from tests.support.server import Server

PHOTO = "astronaut.png"
# The first has no optional inputs, so newer hosts replace it; the second has.
FAKE = """
from .face import EncodeFace
from .load import LoadMapping

RENAMES = (*RENAMES, Rename("F2DOldMapping", LoadMapping), Rename("F2DOldEncode", EncodeFace))
"""
OLD_IDS = {"F2DLoadMapping": "F2DOldMapping", "F2DEncodeFace": "F2DOldEncode"}


@pytest.mark.parametrize(
    ("checkout", "offered"),
    [(checkouts.comfyui, {"F2DOldEncode"}), (checkouts.old_comfyui, {"F2DOldEncode", "F2DOldMapping"})],
    ids=["new", "old"],
)
def test_old_ids_still_run(checkout, offered, new_base, tmp_path, face_to_image, expected, picture):
    root, base = checkout(), new_base(tmp_path / "base", link_pack=False)
    table = base / "custom_nodes" / "face2diffusion" / "nodes" / "renames.py"
    table.write_text(table.read_text(encoding="utf-8") + FAKE, encoding="utf-8")

    with Server(root, base) as server:
        graph = _before(face_to_image(server, PHOTO))

        assert {node for node in server.object_info if node.startswith("F2DOld")} == offered
        assert all(server.object_info[node]["deprecated"] for node in offered)
        assert np.abs(picture(server, graph).astype(int) - expected(PHOTO)).mean() < 1


def _before(graph):
    """The graph under the old ids, with the titles that the frontend sends along."""
    for new, old in OLD_IDS.items():
        graph[workflows.find(graph, new)].update(class_type=old, _meta={"title": old})
    return graph
