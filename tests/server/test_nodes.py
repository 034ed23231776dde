"""What a server tells the UI about the pack, and what the user reads when something is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.support import base_directory, workflows
from tests.support.server import FailedError, RefusedError

IDS = set(json.loads(base_directory.INTERFACE.read_text(encoding="utf-8")))


def test_every_node_is_offered(server):
    assert {node for node in server.object_info if node.startswith("F2D")} == IDS


@pytest.mark.parametrize("node", sorted(IDS))
def test_help_page_is_served(server, node):
    page = server.bytes(f"/extensions/{base_directory.PACK}/docs/{node}.md").decode()

    assert page.strip()


def test_workflows_are_in_the_template_browser(server):
    offered = server.json("/workflow_templates")[base_directory.PACK]

    assert "face_to_image" in offered
    served = json.loads(server.bytes(f"/api/workflow_templates/{base_directory.PACK}/face_to_image.json"))
    assert served == workflows.load(base_directory.REPO / "workflows" / "face_to_image.json")


@pytest.mark.parametrize(
    ("node", "file", "licence"),
    [
        ("F2DLoadMSIDEncoder", "msid.pt", "CC BY-NC-SA 4.0"),
        ("F2DLoadMapping", "mapping.pt", "CC BY-NC-SA 4.0"),
    ],
)
def test_missing_weights_are_refused_with_where_to_get_them(server, tmp_path, face_to_image, node, file, licence):
    graph = face_to_image(server, "astronaut.png")
    folder = server.base / "models" / "face2diffusion"
    (folder / file).rename(tmp_path / file)
    try:
        with pytest.raises(RefusedError) as refused:
            server.run(graph)
    finally:
        (tmp_path / file).rename(folder / file)

    (message,) = refused.value.details(workflows.find(graph, node))
    assert "\n" not in message
    for part in (file, str(folder), licence, "github.com/mapooon/Face2Diffusion", "drive.google.com"):
        assert part in message


def test_picture_without_a_face_gives_one_line(server, face_to_image):
    ramp = np.tile(np.linspace(60, 200, 256, dtype=np.uint8)[:, None], (1, 256))
    Image.fromarray(ramp).convert("RGB").save(server.base / "input" / "no_face.png")

    with pytest.raises(FailedError) as failed:
        server.run(face_to_image(server, "no_face.png"))

    assert failed.value.node_type == "F2DEncodeFace"
    assert "face" in str(failed.value).lower()
    assert "\n" not in str(failed.value).strip()


def test_missing_marker_gives_one_line(server, face_to_image):
    graph = face_to_image(server, "astronaut.png")
    workflows.inputs_of(graph, "F2DInject")["text"] = "a photo of a chef"

    with pytest.raises(FailedError) as failed:
        server.run(graph)

    assert failed.value.node_type == "F2DInject"
    assert "S*" in str(failed.value)
    assert "\n" not in str(failed.value).strip()
