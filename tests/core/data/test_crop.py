"""The square of FFHQ, and how it is cut out."""

import numpy as np
import pytest

from f2d_core.data.crop import Square, crop_face, cut, cut_mask, ffhq_square, outside, whole_square
from f2d_core.detect import Face
from f2d_core.errors import ImageError

UPRIGHT = np.array([(40, 50), (60, 50), (50, 60), (44, 75), (56, 75)], np.float64)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    a = np.deg2rad(degrees)
    return points @ (scale * np.array([(np.cos(a), np.sin(a)), (-np.sin(a), np.cos(a))]))


def test_square_of_an_upright_face_by_hand():
    square = ffhq_square(UPRIGHT)

    # eyes 20 apart, mouth 25 below: half a side is max(2.0 * 20, 1.8 * 25) = 45; the centre 2.5 below the eyes
    assert np.allclose(square.centre, (50, 52.5))
    assert np.allclose(square.x, (45, 0)) and np.allclose(square.y, (0, 45))
    assert square.side_px == pytest.approx(90)


def test_wide_set_eyes_decide_when_they_are_larger():
    wide = UPRIGHT.copy()
    wide[:2, 0] = 20, 80

    assert ffhq_square(wide).side_px == pytest.approx(2 * 2.0 * 60)


def test_square_turns_and_grows_with_the_face():
    plain, moved = ffhq_square(UPRIGHT), ffhq_square(turned(UPRIGHT, 33, 1.7))

    assert np.allclose(moved.centre, turned(plain.centre, 33, 1.7))
    assert np.allclose(moved.x, turned(plain.x, 33, 1.7))


def test_points_that_lie_like_no_face_are_refused():
    with pytest.raises(ImageError, match="one spot"):
        ffhq_square(np.ones((5, 2)))
    mouth_above_eyes = np.array([(0, 50), (20, 50), (10, 40), (5, 30), (15, 30)], np.float64)
    with pytest.raises(ImageError, match="like a face"):
        ffhq_square(mouth_above_eyes)


def test_to_crop_is_the_inverse_of_positions():
    square = ffhq_square(turned(UPRIGHT, 20))
    places = square.positions(16)

    back = square.to_crop(places.reshape(-1, 2), 16).reshape(16, 16, 2)

    columns, rows = np.meshgrid(np.arange(16), np.arange(16))
    assert np.allclose(back, np.stack([columns, rows], axis=-1))


def test_a_square_that_is_the_picture_gives_the_picture():
    rgb = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)

    assert np.array_equal(cut(rgb, whole_square(rgb), 32), rgb)


def test_whole_square_wants_a_square_photo():
    with pytest.raises(ImageError, match="40 x 32 px"):
        whole_square(np.zeros((32, 40, 3), np.uint8))


@pytest.mark.parametrize("factor", [2, 3, 7, 16])
def test_fine_patterns_become_grey_and_not_other_patterns(factor):
    """Stripes too fine for the crop must average out: without smoothing they would turn into broad ones."""
    size = 32
    stripes = np.zeros((size * factor, size * factor + 1, 3), np.uint8)
    stripes[:, ::2] = 255
    square = Square(np.array([size * factor / 2, size * factor / 2 - 0.5]), np.array([size * factor / 2 - 1, 0.3]))

    grey = cut(stripes, square, size)[4:-4, 4:-4]

    assert abs(grey.mean() - 127.5) < 4 and np.ptp(grey) < 60 / factor


def test_slow_changes_are_kept_exactly():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    square = Square(np.array([100.0, 100.0]), np.array([60.0, 0.0]))

    crop = cut(np.ascontiguousarray(ramp), square, 40)

    expected = square.positions(40)[..., 0]
    assert np.abs(crop[3:-3, 3:-3, 0] - expected[3:-3, 3:-3]).max() <= 1


def test_reduced_pictures_stay_in_place():
    """Where the box average does not divide the picture, the place of things may not move."""
    ramp = np.broadcast_to(np.linspace(0, 250, 1003).astype(np.uint8)[None, :, None], (1003, 1003, 3))
    square = Square(np.array([500.0, 500.0]), np.array([440.0, 0.0]))

    crop = cut(np.ascontiguousarray(ramp), square, 32)

    assert np.abs(crop[..., 0] - square.positions(32)[..., 0] * 250 / 1002).max() < 1.5


def test_outside_counts_what_is_missing():
    rgb = np.zeros((100, 100, 3), np.uint8)

    assert outside(rgb, Square(np.array([49.5, 49.5]), np.array([40.0, 0.0]))) == 0
    assert outside(rgb, Square(np.array([-0.5, 49.5]), np.array([40.0, 0.0]))) == pytest.approx(0.5, abs=0.02)


def test_beyond_the_edge_the_picture_goes_on_mirrored_and_blurred():
    random = np.random.RandomState(1)
    rgb = random.randint(0, 256, (64, 64, 3)).astype(np.uint8)
    crop = cut(rgb, Square(np.array([15.5, 31.5]), np.array([32.0, 0.0])), 64).astype(float)

    assert np.array_equal(crop[:, 16:], rgb[:, :48])  # inside nothing changes
    assert crop[:, :12].std() < 0.5 * crop[:, 16:].std()  # outside there is no detail
    assert abs(crop[:, :16].mean() - rgb[:, :16].mean()) < 6  # but the same colours as beside it


def test_masks_are_empty_outside():
    mask = np.full((64, 64), 255, np.uint8)
    crop = cut_mask(mask, Square(np.array([-0.5, 31.5]), np.array([32.0, 0.0])), 32)

    assert crop.dtype == np.float32 and crop.shape == (32, 32)
    assert np.abs(crop[:, :15]).max() < 0.01 and np.abs(crop[:, 17:] - 1).max() < 0.01


def test_crop_face_moves_points_and_box_along():
    rgb = np.zeros((200, 200, 3), np.uint8)
    for x, y in UPRIGHT.astype(int):
        rgb[y - 1 : y + 2, x - 1 : x + 2] = 255
    face = Face((30.0, 40.0, 70.0, 80.0), UPRIGHT, 0.9)

    crop = crop_face(rgb, face, ffhq_square(UPRIGHT), 128)

    for x, y in crop.points:
        assert crop.pixels[round(y), round(x)].min() > 200  # the white dots are where the points say
    assert np.allclose(crop.box, ffhq_square(UPRIGHT).to_crop([(30, 40), (70, 80)], 128).ravel())
    assert crop.outside == 0
