"""Frames, windows and the cover of shapes, against areas and places known by hand."""

import numpy as np
import pytest

from f2d_core.miniature.canvas import Canvas, Frame, mix, spread, wave

SIDE = 50
TURNED = ((0.0, 0.2, 0.1), (0.5, 0.2, 0.1), (1.1, 0.05, 0.3), (2.2, 0.013, 0.21))  # angle, half axes


def frame(x=0.5, y=0.5, angle=0.0, u=1.0, v=1.0):
    unit = Frame(np.array([[x, y]]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    return unit.turned(angle).scaled(u, v)


def whole():
    return Canvas(1, SIDE).whole(np.array([0]))


def area(cover):
    return float(cover.sum()) / SIDE**2


def test_a_frame_shifts_scales_and_turns():
    turned = frame(0.1, 0.2, np.pi / 2, 2.0, 3.0)

    assert np.allclose(turned.point(1, 0), [[0.1, 2.2]])
    assert np.allclose(turned.point(0, 1), [[-2.9, 0.2]])
    assert np.allclose(turned.at(1, 1).point(0, 0), turned.point(1, 1))
    assert np.allclose(frame().sheared(0.5).point(0, 1), [[1.0, 1.5]])


def test_gradients_invert_the_frame():
    some = frame(0.3, 0.6, 0.7, 0.2, 0.05).sheared(0.4)
    du, dv = some.gradients
    step = some.point(0.8, -1.7) - some.origin

    assert np.allclose([(step * du).sum(), (step * dv).sum()], [0.8, -1.7])


@pytest.mark.parametrize("angle, u, v", TURNED)
def test_a_disc_has_its_area(angle, u, v):
    assert area(whole().disc(frame(0.47, 0.52, angle, u, v))) == pytest.approx(np.pi * u * v, rel=0.08)


@pytest.mark.parametrize("angle, u, v", TURNED)
def test_a_box_has_its_area(angle, u, v):
    assert area(whole().box(frame(0.47, 0.52, angle, u, v))) == pytest.approx(4 * u * v, rel=0.03)


@pytest.mark.parametrize("thickness", [0.1, 0.02, 0.004])
def test_a_band_keeps_its_area_when_thinner_than_a_pixel(thickness):
    window, place = whole(), frame(0.5, 0.503)
    _, v = window.local(place)

    assert area(window.band(place, v, spread(-thickness / 2), spread(thickness / 2))) == pytest.approx(thickness)


def test_a_field_covers_like_the_shape_it_describes():
    window, place = whole(), frame(0.5, 0.5, 0.3, 0.3, 0.2)
    u, v = window.local(place)

    assert np.abs(window.inside(1 - u * u - v * v) - window.disc(place)).max() < 0.12


def test_a_window_draws_the_same_as_the_whole():
    place = frame(0.3, 0.35, 0.4, 0.15, 0.1)
    pictures = []
    for open_window in (lambda c: c.whole(np.array([0])), lambda c: c.window(np.array([0]), place)):
        canvas = Canvas(1, SIDE)
        window = open_window(canvas)
        window.paint(window.disc(place), np.array([[1.0, 0.5, 0.25]]), face=1)
        window.close()
        pictures.append(canvas.planes)

    assert window.planes.shape[2] < SIDE / 2
    assert np.array_equal(*pictures)


def test_windows_reach_over_the_edge():
    canvas = Canvas(2, SIDE)
    places = Frame(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.2, 0.0]] * 2), np.array([[0.0, 0.2]] * 2))
    window = canvas.window(np.array([0, 1]), places)
    window.paint(window.disc(places), np.ones((2, 3)))
    window.close()

    for picture in canvas.planes[0]:
        assert picture.sum() / SIDE**2 == pytest.approx(np.pi * 0.2**2 / 4, rel=0.05)


def test_paint_lays_over_and_marks_the_face():
    canvas = Canvas(1, 16)
    window = canvas.whole(np.array([0]))
    window.paint(np.ones((1, 16, 16), np.float32), np.array([[0.2, 0.4, 0.6]]), face=1)
    window.paint(np.full((1, 16, 16), 0.5, np.float32), np.array([[1.0, 1.0, 1.0]]))

    assert np.allclose(window.planes[:, 0, 3, 3], (0.6, 0.7, 0.8, 0.5))


def test_mix_and_wave():
    assert np.allclose(mix(np.zeros((2, 3)), np.ones(3), np.array([0.25, 1.0])), [[0.25] * 3, [1.0] * 3])
    assert np.allclose(wave(np.array([0.0, 0.25, 0.5, 0.75, -1.0])), [1, 0, -1, 0, 1])
