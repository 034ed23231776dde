"""Crops and transforms against the golden data and against geometry done by hand."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.align import (
    align_expression,
    align_face,
    expression_input,
    expression_transform,
    face_input,
    mirror_points,
    similarity_transform,
)
from f2d_core.constants import EXPRESSION_POINTS_3D, FACE_TEMPLATE_PX
from f2d_core.errors import ImageError
from f2d_core.image import read_image

CASES = range(4)
TEMPLATE = np.array(FACE_TEMPLATE_PX)


@pytest.fixture(scope="module")
def alignment(golden):
    return np.load(golden / "alignment.npz")


@pytest.fixture(scope="module")
def deep3d(golden):
    return np.load(golden / "deep3d_align.npz")


@pytest.fixture(scope="module")
def pictures(golden):
    cases = json.loads((golden / "cases.json").read_text())["cases"]
    return [read_image(golden / case["source"]["file"]) for case in cases]


def difference(a, b) -> np.ndarray:
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


def noise(height=90, width=70):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def turned(points, degrees, scale, shift):
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


# --- golden ---


@pytest.mark.parametrize("case", CASES)
def test_golden_transform(alignment, case):
    found = similarity_transform(alignment["lmk5"][case])
    assert found.dtype == np.float64
    assert np.abs(found - alignment["M"][case]).max() < 1.25e-5


@pytest.mark.parametrize("case", CASES)
def test_golden_face_crop(alignment, pictures, case):
    crop = align_face(pictures[case], alignment["lmk5"][case])
    assert crop.shape == (112, 112, 3) and crop.dtype == np.uint8
    assert difference(crop, alignment["crop_exact_bilinear"][case]).max() <= 1
    to_opencv_4 = difference(crop, alignment["crop"][case])
    assert to_opencv_4.max() <= 4 and to_opencv_4.mean() <= 0.15


@pytest.mark.parametrize("case", CASES)
def test_golden_expression_crop(deep3d, pictures, case):
    points, expected = deep3d["lmk5"][case], deep3d["trans_params"][case]
    assert np.abs(np.array(expression_transform(points, 512, 512)) - expected[2:]).max() < 7e-6
    assert np.array_equal(align_expression(pictures[case], points), deep3d["crop"][case])


def test_golden_network_inputs(golden, alignment, deep3d):
    faces = face_input(alignment["crop"][:3])
    assert faces.dtype == torch.float32
    assert np.array_equal(faces.numpy(), np.load(golden / "msid.npz")["input"][:3])
    expressions = expression_input(deep3d["crop"][:3])
    assert np.array_equal(expressions.numpy(), np.load(golden / "recon.npz")["input"][:3])


# --- the similarity transform ---


@pytest.mark.parametrize("degrees", [0, 22, 90, 180, -135])
def test_an_exact_similarity_is_found_again(degrees):
    points = turned(TEMPLATE, degrees, 3.7, (200.0, -40.0))
    found = similarity_transform(points)
    assert np.allclose(np.c_[points, np.ones(5)] @ found[:2].T, TEMPLATE, atol=1e-5)
    assert np.allclose(found[:2, :2] @ found[:2, :2].T, np.eye(2) / 3.7**2)
    assert np.linalg.det(found) > 0 and found[2].tolist() == [0, 0, 1]


def test_the_best_of_all_similarities_in_the_sense_of_least_squares():
    rng = np.random.default_rng(2)
    points = turned(TEMPLATE, 10, 2, (30, 60)) + rng.normal(0, 8, (5, 2))

    def cost(a, b, x, y):
        return np.square(points @ np.array([[a, -b], [b, a]]).T + (x, y) - TEMPLATE).sum()

    found = similarity_transform(points)
    best = np.array([found[0, 0], found[1, 0], found[0, 2], found[1, 2]])
    for step in rng.normal(0, 1e-3, (200, 4)):
        assert cost(*(best + step)) > cost(*best)


def test_never_a_mirror_image():
    """Points of a mirrored face in the order of an unmirrored one fit no turn: they are refused."""
    with pytest.raises(ImageError, match="do not lie like a face"):
        similarity_transform(TEMPLATE * (-1, 1))
    assert np.linalg.det(similarity_transform(mirror_points(TEMPLATE, 112))) > 0


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 100.0),
        np.full((5, 2), 100.0) + np.arange(10).reshape(5, 2) / 20,
        np.full((5, 2), np.nan),
        np.where(np.arange(10).reshape(5, 2) == 7, np.inf, TEMPLATE),
        TEMPLATE * 1e9,
        TEMPLATE * 1e300,
        TEMPLATE[:4],
        np.zeros((5, 3)),
        np.zeros((68, 2)),
    ],
    ids=["same", "nearly the same", "nan", "inf", "far", "very far", "four", "3d", "68"],
)
def test_unusable_points(points):
    for use in (similarity_transform, lambda p: expression_transform(p, 100, 100)):
        with pytest.raises(ImageError) as error:
            use(points)
        assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_profiles_are_faces():
    """Both eyes and both mouth corners at nearly the same x, the nose in front."""
    profile = np.array([(50.0, 50), (53, 50), (30, 70), (48, 92), (50, 92)])
    assert np.isfinite(similarity_transform(profile)).all()


# --- the face crop ---


def identity_points(shift=(0.0, 0.0)):
    """Points for which crop and picture coincide but for a shift; float32 like the template."""
    return np.float32(TEMPLATE).astype(np.float64) + shift


def test_pixel_centres_at_whole_numbers():
    rgb = noise(200, 180)
    assert np.array_equal(align_face(rgb, identity_points()), rgb[:112, :112])
    assert np.array_equal(align_face(rgb, identity_points((30, 50))), rgb[50:162, 30:142])
    halfway = align_face(rgb, identity_points((0.5, 0)))
    mean = (rgb[:112, :112].astype(float) + rgb[:112, 1:113]) / 2
    assert np.abs(halfway - mean).max() <= 0.5 + 1e-6


def test_bilinear_by_hand():
    rgb = noise(60, 60)
    points = turned(TEMPLATE, 17, 0.3, (10, 12))
    inverse = np.linalg.inv(similarity_transform(points))
    crop = align_face(rgb, points)
    padded = np.pad(rgb.astype(np.float64), ((200, 200), (200, 200), (0, 0)))
    for u, v in ((0, 0), (56, 56), (111, 3), (40, 100), (5, 60)):
        x, y, _ = inverse @ (u, v, 1) + (200, 200, 0)
        i, j = int(np.floor(x)), int(np.floor(y))
        a, b = x - i, y - j
        near = padded[j : j + 2, i : i + 2]
        value = (1 - b) * ((1 - a) * near[0, 0] + a * near[0, 1]) + b * ((1 - a) * near[1, 0] + a * near[1, 1])
        assert np.abs(crop[v, u] - value).max() <= 0.5 + 1e-6


def test_outside_is_black_and_the_edge_blends_into_it():
    white = np.full((112, 112, 3), 255, np.uint8)
    crop = align_face(white, identity_points((-10.5, 0)))
    assert (crop[:, :10] == 0).all() and (crop[:, 12:] == 255).all()
    assert np.abs(crop[:, 10] - 127.5).max() == 0.5
    assert not align_face(white, identity_points((5000.0, 0))).any()
    assert not align_face(white, identity_points((9e5, -9e5))).any()


def test_other_sizes_show_the_same_part():
    ramp = np.mgrid[:300, :300][1].astype(np.uint8)[..., None].repeat(3, axis=2) // 2
    points = turned(TEMPLATE, 0, 1.5, (40, 40))
    large, small = align_face(ramp, points, 224), align_face(ramp, points, 112)
    pooled = large.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3))
    assert large.shape == (224, 224, 3)
    assert np.abs(pooled - small)[5:-5, 5:-5].max() <= 1


def test_inputs_are_left_alone():
    rgb, points = noise(), identity_points()
    before = rgb.copy(), points.copy()
    align_face(rgb, points)
    align_expression(rgb, points)
    mirror_points(points, 70)
    assert np.array_equal(rgb, before[0]) and np.array_equal(points, before[1])
    rgb.setflags(write=False)
    assert align_face(rgb[::-1], points).shape == (112, 112, 3)


# --- the expression crop ---


def official_expression_crop(rgb, points):
    """The steps of the facts page with Pillow on the whole picture."""
    height, width = rgb.shape[:2]
    scale, tx, ty = expression_transform(points, width, height)
    w, h = int(width * scale), int(height * scale)
    left = int(w / 2 - 112 + (tx - width / 2) * scale)
    up = int(h / 2 - 112 + (height / 2 - ty) * scale)
    resized = Image.fromarray(rgb).resize((w, h), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, up, left + 224, up + 224)))


@pytest.mark.parametrize("face_px", [6, 20, 60, 150, 400])
@pytest.mark.parametrize("degrees", [0, -25])
def test_expression_crop_equals_the_official_steps(face_px, degrees):
    rgb = noise(180, 230)
    points = turned(TEMPLATE - 56, degrees, face_px / 112, (90, 80))
    assert np.array_equal(align_expression(rgb, points), official_expression_crop(rgb, points))


def test_a_tiny_face_in_a_large_picture_needs_no_memory():
    """Resized as a whole it would be over 150,000 px wide."""
    rgb = np.zeros((3000, 6000, 3), np.uint8)
    rgb[1000:1010, 2000:2010] = 255
    points = turned(TEMPLATE - (56, 72), 0, 0.06, (2004.5, 1004.5))
    scale, _, _ = expression_transform(points, 6000, 3000)
    crop = align_expression(rgb, points)
    assert scale * 6000 > 150_000
    assert (crop[112] == 255).any() and crop.shape == (224, 224, 3)


def test_points_that_span_far_more_than_the_picture():
    with pytest.raises(ImageError, match="far more than the picture"):
        align_expression(noise(20, 20), TEMPLATE * 1000)


def test_the_expression_transform_undoes_a_known_camera():
    camera = np.array([[200.0, 3, -2], [-3, 200, 5]])
    points = np.array(EXPRESSION_POINTS_3D) @ camera.T + (240, 260)
    points[:, 1] = 480 - 1 - points[:, 1]
    scale, tx, ty = expression_transform(points, 640, 480)
    assert scale == pytest.approx(102 / np.linalg.norm(camera, axis=1).mean(), abs=1e-9)
    assert (tx, ty) == pytest.approx((240, 260), abs=1e-9)


# --- network inputs and mirrored points ---


def test_levels_of_the_network_inputs():
    crops = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(7, 1).repeat(7, 2).repeat(3, 3)
    levels = np.arange(256)
    assert np.array_equal(
        np.unique(face_input(crops).numpy()), np.float32((levels.astype(np.float64) / 255 - 0.5) / 0.5)
    )
    crop = np.zeros((2, 112, 112, 3), np.uint8)
    crop[1, 4, 9, 2] = 255
    out = face_input(crop)
    assert out[1, 2, 4, 9] == 1 and out.sum() == -out.numel() + 2 and out.is_contiguous()
    crop = np.zeros((2, 224, 224, 3), np.uint8)
    crop[1, 4, 9, 2] = 51
    out = expression_input(crop)
    assert out[1, 2, 4, 9] == np.float32(0.2) and out.sum() == np.float32(0.2)


@pytest.mark.parametrize("make", [face_input, expression_input])
@pytest.mark.parametrize(
    "shape, dtype", [((1, 96, 96, 3), np.uint8), ((112, 112, 3), np.uint8), ((1, 3, 112, 112), int)]
)
def test_crops_of_another_size(make, shape, dtype):
    with pytest.raises(ImageError, match="The crops have shape"):
        make(np.zeros(shape, dtype))


def test_mirrored_points_lie_on_the_mirrored_picture():
    points = np.array([(10.0, 20), (50, 21), (31, 40), (15, 60), (47, 62)])
    mirrored = mirror_points(points, 70)
    assert mirrored.tolist() == [[19, 21], [59, 20], [38, 40], [22, 62], [54, 60]]
    assert np.array_equal(mirror_points(mirrored, 70), points)


def test_the_crop_of_a_mirrored_picture_is_nearly_the_mirrored_crop():
    smooth = np.stack(np.meshgrid(np.arange(200), np.arange(180)), -1).astype(np.uint8)[..., [0, 1, 0]]
    points = turned(TEMPLATE, 5, 1.2, (20, 15))
    crop = align_face(smooth, points)
    mirrored = align_face(smooth[:, ::-1], mirror_points(points, 200))
    # The template is not quite symmetric: its centre is at 56.0 px, the crop's at 55.5.
    assert difference(crop[4:-4, 4:-4], mirrored[:, ::-1][4:-4, 4:-4]).max() <= 4
