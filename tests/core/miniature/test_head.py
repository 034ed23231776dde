"""Head space: turns are rotations, tangents touch the surface."""

import numpy as np
import pytest

from f2d_core.miniature.head import DEPTH, heads
from f2d_core.miniature.people import sample_identities


def head(yaw=0.0, pitch=0.0, roll=0.0, scale=0.25, x=0.0, y=0.0):
    return heads(sample_identities(0, 1), np.array([[yaw, pitch, roll, scale, x, y]], np.float64))


def test_the_front_is_where_the_pose_says():
    assert np.allclose(head().point(0, 0, 0.5), head().centre)
    assert head(yaw=30).point(0, 0, 1)[0] == pytest.approx(head().centre[0] + (0.25 * 0.5, 0))
    assert head(pitch=30).point(0, 0, 1)[0] == pytest.approx(head().centre[0] + (0, -0.25 * 0.5))
    assert head(roll=90).point(1, 0, 0)[0] == pytest.approx(head().centre[0] + (0, 0.25))
    assert head(x=0.1, y=-0.05).centre[0] == pytest.approx(head().centre[0] + (0.1, -0.05))


def test_turning_keeps_lengths():
    turned = np.stack(head(yaw=21, pitch=-13).turned(0.3, -0.5, 0.7))

    assert (turned**2).sum() == pytest.approx(0.3**2 + 0.5**2 + 0.7**2)


@pytest.mark.parametrize("x, y", [(0.0, 0.0), (0.35, 0.1), (-0.3, 0.6)])
def test_the_surface_frame_is_its_tangent(x, y):
    one, step = head(yaw=20, pitch=8, roll=-10), 1e-5
    frame = one.surface(x, y)

    assert np.allclose(frame.across, (one.surface(x + step, y).origin - frame.origin) / step, atol=1e-4)
    assert np.allclose(frame.down, (one.surface(x, y + step).origin - frame.origin) / step, atol=1e-4)


def test_the_middle_of_the_face_is_its_depth_in_front():
    assert np.allclose(head(yaw=90).surface(0.0, 0.0).origin[0, 0], head().centre[0, 0] + 0.25 * DEPTH)
