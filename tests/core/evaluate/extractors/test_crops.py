"""The crops of the judges: the references' transforms, templates and sizes; points outside and unusable ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from f2d_core.constants import FACE_TEMPLATE_PX
from f2d_core.errors import ImageError
from f2d_core.evaluate.extractors.crops import (
    adaface_crop,
    crop_to_picture,
    facenet_box,
    facenet_crop,
    sphereface_crop,
)

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["transforms"]
TEMPLATE = np.array(FACE_TEMPLATE_PX)
SHIFTED = TEMPLATE - (8, 0)
CROPS = {adaface_crop: (112, 112), sphereface_crop: (112, 96), facenet_crop: (160, 160)}


def ramp(height=400, width=500):
    """Every pixel says where it is: red x / 2, green y / 2."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x / 2, y / 2, np.full_like(x, 7)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("name", "template"), [("adaface", TEMPLATE), ("sphereface", SHIFTED)])
@pytest.mark.parametrize("case", range(3))
def test_the_transforms_of_the_references(name, template, case):
    there = np.vstack([GOLDEN[name][case], (0, 0, 1)])

    back = crop_to_picture(np.array(GOLDEN["points"][case]), template)

    assert back == pytest.approx(np.linalg.inv(there)[:2], rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(("crop", "template"), [(adaface_crop, TEMPLATE), (sphereface_crop, SHIFTED)])
def test_points_on_the_template_cut_the_picture_as_it_is(crop, template):
    rgb = np.random.RandomState(0).randint(0, 256, (130, 140, 3)).astype(np.uint8)
    height, width = CROPS[crop]

    assert np.array_equal(crop(rgb, template + np.array([9, 5])), rgb[5 : 5 + height, 9 : 9 + width])


@pytest.mark.parametrize("crop", CROPS)
def test_sizes_and_what_lies_outside(crop):
    shifted = TEMPLATE * 2 - (60, 0)
    face = crop(np.full((400, 500, 3), 200, np.uint8), shifted)

    assert face.shape == (*CROPS[crop], 3) and face.dtype == np.uint8
    assert face[60, -2].tolist() == [200, 200, 200]
    # The aligned crops show black there, FaceNet's box stops at the edge.
    assert face[60, 1].tolist() == ([200] * 3 if crop is facenet_crop else [0] * 3)


def test_the_box_of_facenet():
    x0, y0, x1, y1 = facenet_box(TEMPLATE * 2 + 100, 1000, 1000)

    # The box MTCNN draws about such a face, 77.9 x 104.3 px of the template, and 14 of 160 px of margin.
    assert x1 - x0 == pytest.approx(2 * 77.9 * 160 / 146, abs=1)
    assert y1 - y0 == pytest.approx(2 * 104.3 * 160 / 146, abs=1)
    centre = TEMPLATE.mean(axis=0) * 2 + 100
    assert (x0 + x1) / 2 == pytest.approx(centre[0], abs=1)
    assert (y0 + y1) / 2 == pytest.approx(centre[1] - 2 * 9.3, abs=1)


def test_the_box_of_facenet_is_not_turned_and_keeps_its_size():
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright, centre = TEMPLATE * 2 + 100, TEMPLATE.mean(axis=0) * 2 + 100

    x0, y0, x1, y1 = facenet_box((upright - centre) @ turn + centre, 1000, 1000)

    own = facenet_box(upright, 1000, 1000)
    assert (x1 - x0, y1 - y0) == pytest.approx((own[2] - own[0], own[3] - own[1]), abs=1)
    # Its centre goes with the head.
    assert (x0 + x1) / 2 - centre[0] == pytest.approx(2 * 9.3 * np.sin(angle), abs=1)


def test_the_box_of_facenet_reaches_to_the_side_away_from_the_nose():
    frontal, turned = TEMPLATE * 2 + 100, TEMPLATE * 2 + 100
    turned[2, 0] += 10

    own, other = (facenet_box(points, 1000, 1000) for points in (frontal, turned))

    # The nose moves the centre of the points by a fifth of 10 px, and the box by 1.22 of 10 to the other side.
    assert (other[0] + other[2]) / 2 - (own[0] + own[2]) / 2 == pytest.approx(10 / 5 - 1.22 * 10, abs=1.5)


# What MTCNN finds in one photo, as it is, mirrored and turned: five points, the box with the margin, the size.
MTCNN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))["mtcnn"]


@pytest.mark.parametrize("case", MTCNN, ids=lambda case: case["picture"])
def test_the_box_of_facenet_is_close_to_that_of_mtcnn(case):
    found, expected = facenet_box(np.array(case["points"]), *case["size"]), case["box"]
    width, height = (min(found[i + 2], expected[i + 2]) - max(found[i], expected[i]) for i in (0, 1))

    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (found, expected)]
    assert width * height / (sum(areas) - width * height) > 0.8


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_facenet_sees_its_whole_box_whatever_its_size(scale):
    face = facenet_crop(ramp(), TEMPLATE * scale / 2 + 60).astype(float)
    x0, y0, x1, y1 = facenet_box(TEMPLATE * scale / 2 + 60, 500, 400)

    assert (2 * face[80, :, 0]).min() == pytest.approx(x0, abs=3)
    assert (2 * face[80, :, 0]).max() == pytest.approx(x1, abs=3)
    assert (2 * face[:, 80, 1]).min() == pytest.approx(y0, abs=3)
    assert (2 * face[:, 80, 1]).max() == pytest.approx(y1, abs=3)


def test_facenet_smooths_what_it_reduces():
    """Stripes of one px become grey."""
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 200

    face = facenet_crop(stripes, TEMPLATE * 5 + 100)

    assert 90 <= face[:, 2:-2].min() and face[:, 2:-2].max() <= 110


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("points", [np.zeros((5, 2)), TEMPLATE[:4], TEMPLATE * (-1, 1), np.full((5, 2), np.nan)])
def test_unusable_points(crop, points):
    with pytest.raises(ImageError):
        crop(ramp(), points)


def test_points_outside_the_picture():
    with pytest.raises(ImageError, match="outside the picture of 500 x 400 px"):
        facenet_crop(ramp(), TEMPLATE + 2000)
