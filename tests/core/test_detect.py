"""The ladder and the choice of a face, with a detector that finds red rectangles under conditions."""

import numpy as np
import pytest

from f2d_core.detect import (
    ORDERS,
    Detection,
    Face,
    choose_face,
    face_in_box,
    find_faces,
    landmarks_68_points,
    mesh_points,
    overlap,
    sort_faces,
)
from f2d_core.errors import ImageError, NoFaceError, SettingsError

RED, GREY = (250, 10, 10), (90, 110, 130)


class RedDetector:
    """Finds the one red rectangle of a picture if `condition(picture, box)` holds; remembers what it was given."""

    name = "red"

    def __init__(self, condition=lambda rgb, box: True, score=0.9):
        self.condition = condition
        self.score = score
        self.seen = []

    def detect(self, rgb, threshold):
        self.seen.append(rgb.shape[:2])
        assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
        y, x = np.nonzero((rgb[..., 0] > 160) & (rgb[..., 1] < 70))
        if not x.size or self.score < threshold:
            return []
        box = (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5)  # the edges of the outer pixels
        return [face(box, self.score)] if self.condition(rgb, box) else []


def face(box, score=0.9) -> Face:
    """A face whose points lie at the corners and in the middle of its box."""
    x0, y0, x1, y1 = (float(v) for v in box)
    points = np.array([(x0, y0), (x1, y0), ((x0 + x1) / 2, (y0 + y1) / 2), (x0, y1), (x1, y1)])
    return Face((x0, y0, x1, y1), points, score)


def scene(width, height, box):
    rgb = np.full((height, width, 3), GREY, np.uint8)
    x0, y0, x1, y1 = box
    rgb[y0:y1, x0:x1] = RED
    return rgb


def require_found(found: Detection, box, rung, tolerance):
    """`box` in whole pixels, x1 and y1 not included."""
    assert found.rung == rung and found.detector == "red" and len(found.faces) == 1
    expected = face(np.array(box) - 0.5)
    assert np.abs(np.array(found.faces[0].box) - expected.box).max() <= tolerance
    assert np.abs(found.faces[0].points - expected.points).max() <= tolerance
    assert found.faces[0].points.dtype == np.float64


def wide(least, most=10**9):
    return lambda rgb, box: least <= box[2] - box[0] <= most


# --- the ladder ---


def test_as_is_gives_the_very_picture():
    box = (40, 30, 90, 100)
    detector = RedDetector()
    found = find_faces(detector, scene(200, 150, box))
    require_found(found, box, "as is", 1e-9)
    assert detector.seen == [(150, 200)]


@pytest.mark.parametrize("width, height", [(4000, 3000), (1999, 6001), (12000, 300)])
def test_large_pictures_are_reduced_first(width, height):
    box = (width // 3, height // 4, width // 3 + 200, height // 4 + 100)
    detector = RedDetector()
    found = find_faces(detector, scene(width, height, box))
    (seen,) = detector.seen
    assert 0.9 < seen[0] * seen[1] / 1280**2 < 1.1
    assert seen[1] / seen[0] == pytest.approx(width / height, rel=0.01)
    require_found(found, box, "as is", 1.5 * width / seen[1])


def test_faces_that_touch_the_frame_are_found_with_a_border():
    def has_border(rgb, box):
        return box[0] > 5 and box[1] > 5 and box[2] < rgb.shape[1] - 5 and box[3] < rgb.shape[0] - 5

    for width, height in ((100, 80), (3000, 2000)):
        detector = RedDetector(has_border)
        found = find_faces(detector, scene(width, height, (0, 0, width, height)))
        require_found(found, (0, 0, width, height), "padded", max(1e-9, 2 * width / 640) if width > 1000 else 1e-9)
        assert all(h * w <= 1290**2 for h, w in detector.seen)


def test_small_faces_are_found_in_the_picture_doubled():
    box = (40, 30, 55, 45)
    require_found(find_faces(RedDetector(wide(25)), scene(300, 200, box)), box, "scale 2", 1)


def test_small_faces_of_a_large_picture_are_looked_for_in_the_picture_itself():
    """Red of 40 px is 14 px in the reduced picture; doubled from there it would be blurred."""
    box = (1000, 1500, 1040, 1540)
    detector = RedDetector(wide(24))
    require_found(find_faces(detector, scene(4000, 3000, box)), box, "scale 2", 2.5)
    assert max(h * w for h, w in detector.seen) <= 4.02 * 1280**2


@pytest.mark.parametrize("most, rung", [(110, "scale 0.5"), (60, "scale 0.25")])
def test_large_faces_are_found_in_the_picture_reduced(most, rung):
    box = (50, 40, 250, 240)
    require_found(find_faces(RedDetector(wide(0, most)), scene(400, 300, box)), box, rung, 4)


def test_a_lower_threshold_comes_last():
    box = (40, 30, 90, 100)
    detector = RedDetector(score=0.4)
    require_found(find_faces(detector, scene(200, 150, box)), box, "threshold 0.3", 1e-9)
    assert len(detector.seen) == 6
    found = find_faces(RedDetector(score=0.4), scene(200, 150, box), threshold=0.35)
    assert found.rung == "as is"
    assert find_faces(RedDetector(score=0.4), scene(200, 150, box), threshold=0.9).rung == "none"


def test_nothing_found():
    detector = RedDetector()
    found = find_faces(detector, scene(2000, 2000, (0, 0, 0, 0)))
    assert found.faces == () and found.rung == "none" and found.detector == "red"
    assert len(detector.seen) == 7
    assert sum(h * w for h, w in detector.seen) < 9 * 1280**2


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (16, 16), (20000, 16)])
def test_strange_sizes(size):
    assert find_faces(RedDetector(), np.zeros((*size, 3), np.uint8)).rung == "none"
    assert find_faces(RedDetector(), np.full((*size, 3), RED, np.uint8)).rung == "as is"


class Fixed:
    name = "fixed"

    def __init__(self, *faces):
        self.faces = list(faces)

    def detect(self, rgb, threshold):
        return self.faces


def test_faces_are_given_largest_first():
    small, large = face((10, 10, 20, 20), 0.99), face((50, 50, 90, 95), 0.7)
    found = find_faces(Fixed(small, large), np.zeros((100, 100, 3), np.uint8))
    assert [f.score for f in found.faces] == [0.7, 0.99]


def test_what_cannot_be_a_face_is_left_out():
    good = face((10, 10, 30, 40))
    bad = (
        face((-60, 10, -20, 50)),  # its centre is outside
        face((90, 90, 140, 140)),
        face((np.nan, 10, 20, 20)),
        Face((10.0, 10.0, 20.0, 20.0), np.full((5, 2), np.inf), 0.9),
        face((40, 40, 40, 60)),
    )
    found = find_faces(Fixed(*bad, good), np.zeros((100, 100, 3), np.uint8))
    assert [f.box for f in found.faces] == [good.box]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_thresholds_out_of_range(threshold):
    with pytest.raises(SettingsError, match="more than 0 and at most 1"):
        find_faces(RedDetector(), np.zeros((20, 20, 3), np.uint8), threshold)


# --- choosing ---

A = face((0, 50, 40, 90), 0.8)  # 1600 px², left, below
B = face((60, 10, 80, 30), 0.9)  # 400 px², middle, above
C = face((100, 30, 130, 60), 0.7)  # 900 px², right


@pytest.mark.parametrize(
    "order, expected",
    [
        ("largest", [A, C, B]),
        ("left-right", [A, B, C]),
        ("top-bottom", [B, C, A]),
        ("large-small", [A, C, B]),
        ("score", [B, A, C]),
    ],
)
def test_orders(order, expected):
    for faces in ([A, B, C], [C, B, A], [B, C, A]):
        assert sort_faces(faces, order) == expected
        assert [choose_face(faces, order, i) for i in range(3)] == expected


def test_the_orders_by_name():
    assert ORDERS == ("largest", "left-right", "top-bottom", "large-small", "score")
    assert choose_face([B, C, A]) is A


@pytest.mark.parametrize("order", ORDERS)
def test_equal_faces_keep_one_order(order):
    twins = [face((x, y, x + 10, y + 10)) for x, y in ((5, 5), (5, 30), (40, 5))]
    if order in ("left-right", "top-bottom"):
        twins = twins[:2] if order == "left-right" else twins[::2]
    for faces in (twins, twins[::-1]):
        assert sort_faces(faces, order) == twins


def test_indices_out_of_range_say_how_many_there_are():
    with pytest.raises(NoFaceError, match=r"number 3 .* 3 faces were found, so the index can be 0 to 2"):
        choose_face([A, B, C], "score", 3)
    with pytest.raises(NoFaceError, match="1 face was found"):
        choose_face([A], "score", 1)
    with pytest.raises(NoFaceError, match="number -1"):
        choose_face([A], index=-1)
    with pytest.raises(NoFaceError, match="No face was found"):
        choose_face([])


def test_unknown_orders():
    with pytest.raises(SettingsError, match="'biggest': expected one of largest, left-right"):
        choose_face([A], "biggest")


def test_the_face_in_a_box():
    assert face_in_box([A, B, C], (95, 20, 135, 70)) is C
    assert face_in_box([A, B, C], (0, 0, 90, 90)) is A  # both inside, A fills more of it
    assert face_in_box([A, B, C], (58, 8, 105, 35)) is B
    assert face_in_box([face((0, 0, 10, 10)), face((20, 0, 30, 10))], (5, 0, 25, 10)).box[0] == 0


def test_no_face_in_the_box():
    with pytest.raises(NoFaceError, match=r"None of the 3 detected faces lies in the bounding box \(200, 0, 220, 20\)"):
        face_in_box([A, B, C], (200, 0, 220, 20))
    with pytest.raises(NoFaceError):
        face_in_box([], (0, 0, 220, 20))
    with pytest.raises(NoFaceError):
        face_in_box([A], (40, 50, 60, 90))  # they only touch
    for box in ((10, 10, 10, 20), (20, 10, 10, 20), (0, 0, float("nan"), 10)):
        with pytest.raises(SettingsError, match="has no area"):
            face_in_box([A, B, C], box)


def test_overlap():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (2, 2, 4, 7)) == pytest.approx(0.1)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0


def test_faces_can_be_compared_and_kept_in_sets():
    assert A == A and A != face((0, 50, 40, 90), 0.8) and len({A, B, A}) == 2


# --- other landmark layouts ---


def test_five_of_478_points():
    mesh = np.random.default_rng(0).random((478, 2)).astype(np.float32) * 500
    points = mesh_points(mesh)
    assert points.dtype == np.float64
    assert np.array_equal(points, mesh[[468, 473, 1, 61, 291]].astype(np.float64))


def test_five_of_468_points():
    """Without irises the eyes are the means of their contours, from corner to corner above and below."""
    mesh = np.random.default_rng(0).random((468, 2)) * 500
    above, below = [246, 161, 160, 159, 158, 157, 173], [7, 163, 144, 145, 153, 154, 155]
    left = mesh[[33, 133, *above, *below]].mean(axis=0)
    above, below = [466, 388, 387, 386, 385, 384, 398], [249, 390, 373, 374, 380, 381, 382]
    right = mesh[[263, 362, *above, *below]].mean(axis=0)
    assert np.allclose(mesh_points(mesh), [left, right, *mesh[[1, 61, 291]]])


def test_five_of_68_points():
    landmarks = np.random.default_rng(0).random((68, 2)) * 500
    expected = [landmarks[36:42].mean(0), landmarks[42:48].mean(0), landmarks[30], landmarks[48], landmarks[54]]
    assert np.allclose(landmarks_68_points(landmarks), expected, atol=1e-12)


def test_golden_68_points(golden):
    data = np.load(golden / "alignment.npz")
    for landmarks, expected in zip(data["lmk68"], data["lmk5"], strict=True):
        assert np.array_equal(landmarks_68_points(landmarks).astype(np.float32), expected)


@pytest.mark.parametrize("reduce", [mesh_points, landmarks_68_points])
@pytest.mark.parametrize("shape", [(5, 2), (478, 3), (478,), (1, 468, 2), (68, 3), (0, 2)])
def test_other_numbers_of_points(reduce, shape):
    with pytest.raises(ImageError, match="expected"):
        reduce(np.zeros(shape))
