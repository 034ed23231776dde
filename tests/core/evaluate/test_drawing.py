"""Pictures with findings: the frame where the face is, the text below, one size for a batch."""

import numpy as np
import pytest

from f2d_core.detect import Face
from f2d_core.evaluate.drawing import FAIR, GOOD, POOR, UNKNOWN, Note, draw_notes

GREEN, RED = (70, 160, 80), (215, 60, 50)
FACE = Face((60, 40, 160, 180), np.array([[90, 90], [130, 90], [110, 115], [95, 140], [125, 140]], float), 0.9)
LONG = (
    "pitch: looks far down by about 50° (poor): use a photo taken at eye level, in which the face looks straight ahead"
)


def grey(width=256, height=256):
    return np.full((height, width, 3), 128, np.uint8)


def test_the_face_is_framed_in_the_colour_of_the_level_and_the_rest_is_left_alone():
    (drawn,) = draw_notes([grey()], [Note(FACE, GOOD, "0.71", ((GOOD, "0: fine"),))])

    assert all(tuple(drawn[y, x]) == GREEN for x, y in ((60, 100), (160, 100), (110, 180), (110, 115)))
    assert tuple(drawn[100, 110]) == (128, 128, 128) and tuple(drawn[10, 10]) == (128, 128, 128)
    assert tuple(drawn[42, 80]) == GREEN and (drawn[40:60, 60:120] < 40).any()  # the tag, and its letters


def test_pictures_of_a_batch_stay_of_one_size():
    notes = [Note(FACE, POOR, "", ((POOR, LONG), (UNKNOWN, "b"))), Note(None, UNKNOWN, "", ())]
    drawn = draw_notes([grey(), grey()], notes)

    assert drawn[0].shape == drawn[1].shape and drawn[0].shape[1] == 256
    assert (drawn[0][256:] == RED).all(axis=2).any()
    assert np.array_equal(drawn[1][:256], grey()) and (drawn[1][256:] == 255).all()


def test_nothing_to_say_changes_nothing():
    assert np.array_equal(draw_notes([grey()], [Note(None, UNKNOWN, "", ())])[0], grey())


def test_long_lines_are_wrapped_inside_the_picture():
    short, long = (draw_notes([grey()], [Note(None, FAIR, "", ((FAIR, text),))])[0] for text in ("short", LONG))
    rows = (short.shape[0] - 256) * 2 // 3

    assert long.shape[0] - short.shape[0] >= rows
    assert (long[256:, -3:] == 255).all()  # nothing runs into the edge


@pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 2000), (4000, 20)])
def test_pictures_of_odd_sizes(width, height):
    (drawn,) = draw_notes([grey(width, height)], [Note(FACE, FAIR, "0.5", ((FAIR, LONG),))])

    assert drawn.shape[1] == width and drawn.shape[0] > height


def test_a_frame_that_begins_outside_has_its_tag_inside():
    face = Face((-30, -20, 100, 120), FACE.points, 0.9)
    (drawn,) = draw_notes([grey()], [Note(face, GOOD, "0.71", ())])

    assert tuple(drawn[1, 1]) == GREEN
