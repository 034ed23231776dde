"""Apply S* to CLIP: other people's text nodes then mean the same person as Inject S* into CONDITIONING."""

import numpy as np

from tests.support import checkouts, workflows

PHOTO = "astronaut.png"


def _with_text_node(graph, class_type):
    """The same graph with F2DInject taken apart into F2DApplyToClip and a text node of that type."""
    inject = workflows.find(graph, "F2DInject")
    inputs = dict(graph[inject]["inputs"])
    text = inputs.pop("text")
    graph["apply"] = {"class_type": "F2DApplyToClip", "inputs": inputs}
    graph[inject] = {"class_type": class_type, "inputs": {"clip": ["apply", 0], "text": text}}
    del graph[workflows.find(graph, "PreviewAny")]  # it showed F2DInject's report
    return graph


def test_stock_text_node_understands_the_marker(server, expected, face_to_image, picture):
    applied = picture(server, _with_text_node(face_to_image(server, PHOTO), "CLIPTextEncode"))

    assert np.array_equal(applied, expected(PHOTO))


def test_prompt_control_understands_the_marker(expected, start, face_to_image, picture):
    other = start(packs=[checkouts.prompt_control()])
    graph = _with_text_node(face_to_image(other, PHOTO), "PCTextEncode")

    assert np.array_equal(picture(other, graph), expected(PHOTO))
