"""The shipped workflows as files: what the UI needs to draw them tidily. That they run, the server ring shows."""

import itertools
import json
from pathlib import Path

import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[2]
FILES = sorted((REPO / "workflows").glob("*.json"))
TITLE_HEIGHT_PX = 30  # a node's title bar lies above its position
PICTURE_BYTES = 150_000


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def workflow(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_there_is_a_first_workflow():
    assert "face_to_image" in {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_picture_for_the_template_browser_lies_beside_it(file):
    """Made by docs/make_workflow_pictures.py; the host knows JPG only."""
    picture = file.with_suffix(".jpg")

    assert picture.stat().st_size <= PICTURE_BYTES
    with Image.open(picture) as opened:
        assert opened.format == "JPEG" and opened.width >= 1200


def test_links_agree_with_both_of_their_ends(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link_id, source, out_slot, target, in_slot, kind in workflow["links"]:
        output, socket = nodes[source]["outputs"][out_slot], nodes[target]["inputs"][in_slot]
        assert link_id in output["links"]
        assert socket["link"] == link_id
        assert output["type"] == kind
        assert socket["type"] in (kind, "*")


def test_no_link_is_left_hanging(workflow):
    known = {link[0] for link in workflow["links"]}
    outgoing = {i for node in workflow["nodes"] for output in node["outputs"] for i in output["links"] or ()}
    incoming = {s["link"] for node in workflow["nodes"] for s in node["inputs"]} - {None}

    assert outgoing == incoming == known


def test_counters_allow_the_ui_to_add_more(workflow):
    assert workflow["last_node_id"] >= max(node["id"] for node in workflow["nodes"])
    assert workflow["last_link_id"] >= max(link[0] for link in workflow["links"])
    assert workflow["version"] == 0.4


def test_nodes_do_not_overlap_and_links_run_left_to_right(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for one, other in itertools.combinations(nodes.values(), 2):
        assert not _overlap(_box(one), _box(other)), f"{one['type']} overlaps {other['type']}"
    for _, source, _, target, _, _ in workflow["links"]:
        assert nodes[source]["pos"][0] <= nodes[target]["pos"][0]


def test_every_node_lies_inside_one_group(workflow):
    groups = [(x, y, x + w, y + h) for x, y, w, h in (group["bounding"] for group in workflow["groups"])]
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        x0, y0, x1, y1 = _box(node)
        inside = [1 for a0, b0, a1, b1 in groups if a0 <= x0 and b0 <= y0 and x1 <= a1 and y1 <= b1]
        assert len(inside) == 1, node["type"]


def test_it_says_how_to_use_it_and_under_which_licence(workflow):
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]

    for part in ("models/face2diffusion", "CC BY-NC-SA 4.0", "S*"):
        assert part in note["widgets_values"][0].replace("\\*", "*")


def _box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT_PX, x + width, y + height


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
