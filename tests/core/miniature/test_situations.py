"""What changes from picture to picture."""

import numpy as np
import pytest

from f2d_core.miniature.situations import (
    EXPRESSION,
    EXPRESSIONS,
    LIGHT,
    POSE,
    PROPS,
    ROLES,
    SCENES,
    VARIATION,
    sample_situations,
    side_by_side,
)


def test_situation_number_i_is_the_same_in_every_batch():
    whole, part = sample_situations(5, 12), sample_situations(5, 3, start=6)

    for name, values in vars(whole).items():
        assert np.array_equal(values[6:9], vars(part)[name]), name


def test_shapes():
    drawn = sample_situations(0, 3)

    assert drawn.expression.shape == (3, len(EXPRESSION))
    assert drawn.pose.shape == (3, len(POSE))
    assert drawn.light.shape == (3, len(LIGHT))
    assert drawn.variation.shape == (3, VARIATION)


@pytest.mark.parametrize("field, kinds", [("role", ROLES), ("scene", SCENES), ("prop", PROPS), ("mood", EXPRESSIONS)])
def test_everything_happens(field, kinds):
    assert len(kinds) >= 11
    assert set(getattr(sample_situations(0, 2000), field)) == set(range(len(kinds)))


def test_poses_vary_around_the_front():
    pose = sample_situations(0, 2000).pose

    assert np.abs(pose[:, :3].mean(axis=0)).max() < 1
    assert 25 < np.abs(pose[:, 0]).max() <= 34


def test_expressions_are_near_their_mood():
    drawn = sample_situations(0, 2000)
    named = np.array(list(EXPRESSIONS.values()))
    gaze = [EXPRESSION.index("gaze_x"), EXPRESSION.index("gaze_y")]
    drawn_face, named_face = np.delete(drawn.expression, gaze, axis=1), np.delete(named, gaze, axis=1)
    nearest = ((drawn_face[:, None] - named_face) ** 2).sum(axis=2).argmin(axis=1)

    assert (nearest == drawn.mood).mean() > 0.97


def test_named_sets_what_it_names_and_nothing_else():
    drawn = sample_situations(0, 5)
    named = drawn.named(mood="crying", role="wizard", scene="beach", prop="cat")

    assert (named.role == ROLES.index("wizard")).all() and (named.scene == SCENES.index("beach")).all()
    assert (named.prop == PROPS.index("cat")).all() and (named.expression[:, EXPRESSION.index("tears")] == 1).all()
    assert np.array_equal(named.pose, drawn.pose) and np.array_equal(named.light, drawn.light)


def test_whoever_holds_something_is_further_away():
    drawn = sample_situations(0, 4)
    held, empty = drawn.named(prop="book").framing, drawn.named(prop="none").framing

    assert np.allclose(held[:, 3], 0.86 * empty[:, 3])
    assert np.array_equal(empty, drawn.pose)


def test_two_people_stand_side_by_side_in_one_light():
    left, right = side_by_side(sample_situations(0, 6), sample_situations(1, 6))

    assert (left.pose[:, 4] < right.pose[:, 4]).all()
    assert np.array_equal(left.light, right.light) and np.array_equal(left.scene, right.scene)


def test_steady_situations_leave_less_to_chance_and_keep_what_has_a_name():
    drawn = sample_situations(5, 400)
    steady = drawn.steady

    spread = drawn.pose.std(axis=0)
    assert (steady.pose[:, :3].std(axis=0) < 0.4 * spread[:3]).all() and steady.pose.std(axis=0)[0] > 2
    assert steady.light.mean(axis=0) == pytest.approx(drawn.light.mean(axis=0), abs=0.05)
    for name in ("role", "scene", "prop", "mood", "expression"):
        assert np.array_equal(getattr(steady, name), getattr(drawn, name))
    layouts = {scene: {tuple(row) for row in steady.variation[steady.scene == scene]} for scene in set(drawn.scene)}
    assert all(len(rows) == 1 for rows in layouts.values()) and len({*map(tuple, steady.variation)}) == len(layouts)
