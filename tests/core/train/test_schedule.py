"""Learning rates and margins as functions of the step."""

import pytest

from f2d_core.train.schedule import Constant, WarmUp


def test_constant():
    assert [Constant(3.0)(step) for step in (0, 7, 1000)] == [3.0, 3.0, 3.0]


def test_a_warm_up_climbs_evenly_and_is_full_right_after_it():
    assert [WarmUp(1.0, 4)(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_then_it_falls_to_nothing_at_the_end():
    rate = WarmUp(2.0, 2, 6)
    assert [rate(step) for step in range(2, 8)] == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0, 0.0])


def test_no_warm_up():
    assert WarmUp(5.0, 0, 5)(0) == 5.0 and WarmUp(5.0, 0)(0) == 5.0
