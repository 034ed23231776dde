"""Head pose from five points: known turns of the standard face, seen from far and from near, and bad points."""

import numpy as np
import pytest

from f2d_core.errors import ImageError
from f2d_core.evaluate.pose import head_pose
from tests.support.poses import seen, turned

TURNS = [(0, 0, 0), (25, 0, 0), (-40, 0, 0), (0, 18, 0), (0, -18, 0), (0, 0, 30), (35, -20, -12), (-60, 10, 80)]


def angles(points):
    pose = head_pose(points)
    return [pose.yaw, pose.pitch, pose.roll]


@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_seen_from_far_is_found_exactly(turn):
    assert angles(seen(turned(*turn))) == pytest.approx(turn, abs=1e-6)


@pytest.mark.parametrize("turn", TURNS)
def test_a_camera_at_portrait_distance_changes_little(turn):
    """Ten units are about one metre: the eyes are 0.62 apart."""
    assert angles(seen(turned(*turn), distance=10)) == pytest.approx(turn, abs=2.5)


def test_size_and_place_do_not_matter():
    points = seen(turned(20, 10, -5))

    assert angles(points * 7 + (1000, -300)) == pytest.approx(angles(points), abs=1e-6)


def test_the_signs_are_those_of_the_picture():
    """Seen in px, y down: the nose goes the way the face is turned."""
    nose, eyes = 2, slice(0, 2)
    right, up = seen(turned(20, 0, 0)), seen(turned(0, 20, 0))
    straight = seen(turned(0, 0, 0))
    assert (right[nose] - right[eyes].mean(axis=0))[0] > (straight[nose] - straight[eyes].mean(axis=0))[0] + 5
    assert (up[nose] - up[eyes].mean(axis=0))[1] < (straight[nose] - straight[eyes].mean(axis=0))[1] - 5
    clockwise = seen(turned(0, 0, 20))
    assert clockwise[1, 1] > clockwise[0, 1]  # the eye at image right is lower


def test_points_a_few_px_off_cost_a_few_degrees():
    """4 % of the distance between the eyes on every point: the standard deviations the docstring speaks of."""
    rng = np.random.default_rng(0)
    clean = seen(turned(30, 10, 0))
    step = 0.04 * np.hypot(*(seen(turned(0, 0, 0))[1] - seen(turned(0, 0, 0))[0]))
    errors = np.array([angles(clean + rng.normal(0, step, clean.shape)) for _ in range(200)]) - (30, 10, 0)

    assert np.all(errors.std(axis=0) < (6, 6, 3))
    assert np.all(np.abs(errors.mean(axis=0)) < 1)


def test_points_that_are_no_face_are_refused():
    with pytest.raises(ImageError, match="one spot"):
        head_pose(np.full((5, 2), 40.0))
    with pytest.raises(ImageError, match="shape"):
        head_pose(np.zeros((4, 2)))
