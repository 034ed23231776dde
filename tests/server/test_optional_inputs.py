"""What may be connected to Encode Face beside the photo: an expression, and faces found beforehand."""

import numpy as np

from tests.support import workflows

PHOTO = "astronaut.png"
DETECTION = {"detector": "auto", "order": "largest"}


def _with_expression(graph, strength):
    photo = workflows.inputs_of(graph, "F2DEncodeFace")["image"]
    graph["expression encoder"] = {"class_type": "F2DLoadExpressionEncoder", "inputs": {"file": "epoch_20.pth"}}
    graph["expression"] = {
        "class_type": "F2DExpressionReference",
        "inputs": {"expression_encoder": ["expression encoder", 0], "image": photo, "index": 0, "strength": strength}
        | DETECTION,
    }
    workflows.inputs_of(graph, "F2DEncodeFace")["expression"] = ["expression", 0]
    return graph


def test_expression_changes_the_picture_and_strength_0_does_not(server, expected, face_to_image, picture):
    none = picture(server, _with_expression(face_to_image(server, PHOTO), 0.0))
    full = picture(server, _with_expression(face_to_image(server, PHOTO), 1.0))

    assert np.array_equal(none, expected(PHOTO))
    assert not np.array_equal(full, expected(PHOTO))


def test_faces_found_beforehand_give_the_same_picture(server, expected, face_to_image, picture):
    graph = face_to_image(server, PHOTO)
    encode = workflows.inputs_of(graph, "F2DEncodeFace")
    graph["detect"] = {
        "class_type": "F2DDetectFaces",
        "inputs": {"image": encode["image"], "threshold": 0.6} | DETECTION,
    }
    encode["faces"] = ["detect", 0]

    assert np.array_equal(picture(server, graph), expected(PHOTO))
