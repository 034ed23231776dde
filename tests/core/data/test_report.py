"""The contact sheet: masks where they belong, and something for every photo."""

import numpy as np

from f2d_core.data.cache import REPORT, Photo
from f2d_core.data.prepare import prepare
from f2d_core.data.report import overlay, write_report
from f2d_core.data.settings import PrepareSettings
from f2d_core.image import read_image


def test_overlay_tints_the_face_and_darkens_the_rest():
    pixels = np.full((16, 16, 3), 200, np.uint8)
    mask = np.zeros((2, 2), np.uint8)
    mask[0, 1] = 255

    shown = overlay(pixels, mask)

    assert (shown[:8, 8:, 1] > shown[:8, 8:, 0]).all()  # green
    assert (shown[8:] == 90).all() and (shown[:8, :8] == 90).all()


def test_report_shows_kept_and_rejected_photos(photos, tmp_path, models, settings):
    cache = prepare(photos, tmp_path / "cache", models, settings)
    page = read_image(cache.folder / REPORT)
    nobody_left = write_report(
        tmp_path / "other.png", photos, cache.photos, [], [cache.mask(i) for i in range(5)], settings
    )

    assert page.shape[1] > 1500
    assert page.shape[0] > read_image(nobody_left).shape[0]  # a section of its own for rejects
    dark_band = (page.astype(int) < 8).all(axis=2)
    assert dark_band.sum() > 150 * 150  # the black photo of nobody is there


def test_large_sets_are_shown_in_part(photos, tmp_path, settings):
    many = [Photo("0.png", "", row=i, square=(80.0, 70.0, 60.0, 0.0)) for i in range(500)]
    masks = [np.full((8, 8), 128, np.uint8)] * 500
    few = write_report(tmp_path / "few.png", photos, many[:60], [], masks[:60], settings)
    all_of_them = write_report(tmp_path / "all.png", photos, many, [], masks, settings)

    assert read_image(few).shape == read_image(all_of_them).shape


def test_photos_that_are_gone_do_not_stop_it(tmp_path):
    photo = Photo("gone.png", "", row=0, square=(1.0, 1.0, 1.0, 0.0))
    reject = Photo("also_gone.png", "", reason="It was " + "very " * 200 + "bad.")
    page = write_report(tmp_path / "r.png", tmp_path, [photo], [reject], [np.ones((8, 8), np.uint8)], PrepareSettings())

    assert read_image(page).shape[0] > 400
