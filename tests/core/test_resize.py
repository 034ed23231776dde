"""Bicubic windows against Pillow, which defines them."""

import numpy as np
import pytest
from PIL import Image

from f2d_core.resize import bicubic_window


def by_pillow(rgb, width, height, left, top, size):
    """In two steps, rows first: the order that Pillow had when the networks were trained. Newer releases begin with
    the columns in tall pictures, which differs by a few levels on noise."""
    picture = Image.fromarray(rgb)
    for step in ((width, picture.height), (width, height)):
        picture = picture.resize(step, Image.Resampling.BICUBIC)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("seed", range(60))
def test_equal_to_the_level(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(v) for v in rng.integers(1, 160, 2))
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    new_width, new_height = (int(v) for v in rng.integers(1, 500, 2))
    left, top = int(rng.integers(-80, new_width)), int(rng.integers(-80, new_height))
    expected = by_pillow(rgb, new_width, new_height, left, top, 90)
    assert np.array_equal(bicubic_window(rgb, new_width, new_height, left, top, 90), expected)


@pytest.mark.parametrize("factor", [0.07, 0.3, 0.77, 1.0, 1.31, 4.2])
def test_equal_to_one_call_of_pillow(factor):
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (150, 170, 3), dtype=np.uint8)
    width, height = int(170 * factor), int(150 * factor)
    whole = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((-5, 3, 95, 103)))
    assert np.array_equal(bicubic_window(rgb, width, height, -5, 3, 100), expected)


def test_windows_of_a_picture_nobody_could_hold():
    """100,000 px wide, 30 gigabytes; the window is that of a flat picture with one edge."""
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[:, 5:] = 200
    window = bicubic_window(rgb, 100_000, 100_000, 50_000 - 50, 50_000 - 50, 100)
    assert window.shape == (100, 100, 3)
    # The middle of the blend lies at the edge; 100 of 10,000 px on either side change little.
    assert np.abs(window.astype(int) - 100).max() <= 3
    assert (bicubic_window(rgb, 100_000, 100_000, 10, 10, 100) == 0).all()
    assert (bicubic_window(rgb, 100_000, 100_000, 90_000, 10, 100) == 200).all()


@pytest.mark.parametrize("left, top", [(-300, 0), (0, -300), (200, 0), (0, 200), (10**9, -(10**9))])
def test_outside_is_black(left, top):
    assert not bicubic_window(np.full((20, 20, 3), 255, np.uint8), 200, 200, left, top, 224).any() or top == left == 0
