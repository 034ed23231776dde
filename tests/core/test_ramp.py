"""Who is seen at which step."""

import pytest

from f2d_core.errors import SettingsError
from f2d_core.ramp import Stretch, ramp


def shares(stretches):
    return [item.share for item in stretches for _ in range(item.first, item.stop)]


def test_as_many_mixtures_as_steps_go_up_evenly():
    assert ramp(5, 0, 1, 5) == [Stretch(i / 4, i, i + 1) for i in range(5)]


def test_two_mixtures_are_a_switch_in_the_middle():
    assert ramp(10, 0, 1, 2) == [Stretch(0.0, 0, 5), Stretch(1.0, 5, 10)]


def test_begin_and_end_are_places_among_the_steps():
    found = shares(ramp(11, 0.2, 0.6, 5))
    assert found == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert shares(ramp(11, 0.5, 0.5, 8)) == [0] * 5 + [1] * 6


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("mixtures", [2, 3, 8, 64])
def test_every_step_has_one_mixture_and_there_are_no_more_than_asked_for(steps, mixtures):
    found = ramp(steps, 0.1, 0.9, mixtures)
    assert [item.first for item in found] == [0, *(item.stop for item in found[:-1])]
    assert found[-1].stop == steps and len(found) <= mixtures
    assert shares(found) == sorted(shares(found))
    assert steps == 1 or (found[0].share, found[-1].share) == (0, 1)


@pytest.mark.parametrize("arguments", [(0, 0, 1, 8), (30, 0, 1, 1)])
def test_steps_and_mixtures_out_of_range(arguments):
    with pytest.raises(SettingsError, match="at least 1 step and 2 mixtures"):
        ramp(*arguments)


@pytest.mark.parametrize(("begin", "end"), [(0.6, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_places_out_of_range(begin, end):
    with pytest.raises(SettingsError, match="begin <= end"):
        ramp(30, begin, end, 8)
