"""Pictures of less quality: what is lost, what stays, and that some are spared."""

import numpy as np

from f2d_core.miniature.degrade import SPARED, degraded
from f2d_core.miniature.photos import PhotoSet


def each(pictures, seed):
    return [degraded(rgb, np.random.default_rng([seed, i])) for i, rgb in enumerate(pictures)]


def fineness(rgb):
    """How much neighbours differ."""
    return np.abs(np.diff(rgb.astype(float), axis=0)).mean()


def test_some_are_spared_and_the_others_are_not():
    photo = PhotoSet(seed=1, count=1).rendered.pixels[0]
    spared = np.mean([np.array_equal(photo, other) for other in each([photo] * 200, 1)])

    assert abs(spared - SPARED) < 0.1


def test_a_picture_stays_recognisable():
    photos = PhotoSet(seed=2, count=20).rendered.pixels
    found = np.stack(each(photos, 2))

    assert found.shape == photos.shape and found.dtype == np.uint8
    apart = ((found[:, None].astype(float) - photos[None]) ** 2).mean(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(20)).all()
    assert np.abs(found.astype(float) - photos).mean() > 2


def test_fewer_pixels_and_spots_both_happen():
    stripes = np.full((64, 64, 3), 255, np.uint8)
    stripes[::2] = 0
    flat = np.full((64, 64, 3), 128, np.uint8)

    assert np.median([fineness(rgb) for rgb in each([stripes] * 40, 3)]) < 0.5 * fineness(stripes)
    assert np.median([fineness(rgb) for rgb in each([flat] * 40, 3)]) > 1


def test_the_same_draws_give_the_same_picture():
    photo = PhotoSet(seed=1, count=1).rendered.pixels[0]

    assert np.array_equal(each([photo] * 4, 7), each([photo] * 4, 7))
