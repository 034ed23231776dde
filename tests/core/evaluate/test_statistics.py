"""Intervals and tests: against plain loops, against theory, deterministic, clustered by face."""

import itertools
import math

import numpy as np
import pytest

from f2d_core.errors import SettingsError
from f2d_core.evaluate.statistics import Interval, bootstrap_interval, compare_paired, sign_flip_p


def test_the_mean_is_that_of_all_values():
    values, faces = [1.0, 2.0, 3.0, 10.0], ["a", "a", "a", "b"]

    assert bootstrap_interval(values, faces).mean == 4.0


def test_the_interval_against_a_plain_loop():
    random = np.random.RandomState(0)
    values = random.standard_normal(30)
    faces = [i // 5 for i in range(30)]
    clusters = [values[i * 5 : i * 5 + 5] for i in range(6)]
    draws = np.random.RandomState(9).randint(0, 6, size=(500, 6))
    means = [np.concatenate([clusters[i] for i in draw]).mean() for draw in draws]

    found = bootstrap_interval(values, faces, level=0.9, resamples=500, seed=9)

    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


def test_clusters_of_different_sizes_count_by_their_values():
    """The mean of a resample is over its values, not over the means of its clusters."""
    values, faces = [0.0] * 9 + [1.0], ["a"] * 9 + ["b"]

    # a, a: 0, one in four; a, b and b, a: 0.1; b, b: 1, one in four
    assert bootstrap_interval(values, faces, level=0.6) == Interval(0.1, 0.0, 1.0)
    assert bootstrap_interval(values, faces, level=0.4) == Interval(0.1, 0.1, 0.1)


def test_the_same_seed_gives_the_same_interval_and_another_a_close_one():
    values, faces = np.random.RandomState(1).standard_normal(400), [i % 40 for i in range(400)]

    one, same, other = (bootstrap_interval(values, faces, seed=seed) for seed in (3, 3, 4))

    assert one == same != other
    assert other.low == pytest.approx(one.low, abs=0.01) and other.high == pytest.approx(one.high, abs=0.01)


def test_the_order_of_the_pictures_does_not_matter_within_faces():
    values, faces = np.random.RandomState(1).uniform(size=12), list("aaaabbbbcccc")

    one = bootstrap_interval(values, faces)
    two = bootstrap_interval(values[[3, 1, 0, 2, 7, 6, 5, 4, 8, 9, 10, 11]], faces)

    assert (one.low, one.high) == pytest.approx((two.low, two.high))


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.RandomState(2)
    covered = 0
    for _ in range(200):
        effects = random.standard_normal(25)
        values = np.repeat(effects, 4) + random.standard_normal(100)
        found = bootstrap_interval(values, [i // 4 for i in range(100)], level=0.9, resamples=400)
        covered += found.low <= 0 <= found.high
    assert 0.82 < covered / 200 < 0.95


def test_pictures_of_a_face_are_not_taken_for_independent_ones():
    values = np.repeat(np.random.RandomState(3).standard_normal(20), 50)

    clustered = bootstrap_interval(values, [i // 50 for i in range(1000)])
    as_if_independent = bootstrap_interval(values, range(1000))

    assert clustered.high - clustered.low > 5 * (as_if_independent.high - as_if_independent.low)


def test_one_cluster_has_no_spread():
    assert bootstrap_interval([0.25, 0.75], ["a", "a"]) == Interval(0.5, 0.5, 0.5)


# --- two methods ---


def test_the_exact_test_against_all_signs():
    differences = np.array([0.3, -0.1, 0.2, 0.25, -0.05, 0.4, 0.1])
    faces = ["a", "a", "b", "c", "d", "e", "e"]
    sums = [0.2, 0.2, 0.25, -0.05, 0.5]
    reached = sum(
        abs(sum(s * x for s, x in zip(signs, sums, strict=True))) >= abs(sum(sums)) - 1e-12
        for signs in itertools.product((1, -1), repeat=5)
    )

    assert sign_flip_p(differences, faces) == reached / 32


def test_the_drawn_test_is_near_the_exact_one():
    differences = np.random.RandomState(4).standard_normal(14) + 0.4
    exact = sign_flip_p(differences, range(14))
    padded = np.concatenate([differences, [0.0]])  # a fifteenth face that changes nothing

    assert sign_flip_p(padded, range(15), resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_no_difference_is_no_evidence_and_a_clear_one_is():
    assert sign_flip_p([0.0] * 20, range(20)) == 1.0
    assert sign_flip_p([0.1] * 20, range(20), resamples=999) == pytest.approx(1 / 1000, abs=0.001)
    assert sign_flip_p([0.1] * 5, range(5)) == 2 / 32


def test_p_is_uniform_when_there_is_no_difference():
    random = np.random.RandomState(5)
    p = [sign_flip_p(random.standard_normal(12), range(12)) for _ in range(300)]

    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)


def scenes(faces=6, prompts=3, pictures=2):
    return [(f, p) for f in range(faces) for p in range(prompts) for _ in range(pictures)]


def test_two_methods_are_paired_by_face_and_prompt():
    random = np.random.RandomState(6)
    pairs = scenes()
    a = random.uniform(size=len(pairs))
    order = random.permutation(len(pairs))
    b = a - 0.125

    found = compare_paired(a, b[order], pairs, [pairs[i] for i in order])

    assert found.difference.mean == pytest.approx(0.125) and found.difference.low == pytest.approx(0.125)
    assert (found.wins, found.losses, found.ties) == (18, 0, 0) and (found.pairs, found.clusters) == (18, 6)
    assert found.p == 2 / 64


def test_the_methods_may_have_made_different_numbers_of_pictures():
    a, pairs_a = [1.0, 3.0, 5.0], [("x", 0), ("x", 0), ("y", 0)]
    b, pairs_b = [1.0, 5.0], [("x", 0), ("y", 0)]

    found = compare_paired(a, b, pairs_a, pairs_b)

    assert found.difference.mean == 0.5 and (found.wins, found.losses, found.ties) == (1, 0, 1)


def test_turning_the_question_round_turns_the_answer_round():
    pairs, random = scenes(), np.random.RandomState(7)
    a, b = random.uniform(size=len(pairs)), random.uniform(size=len(pairs))

    one, other = compare_paired(a, b, pairs, pairs), compare_paired(b, a, pairs, pairs)

    assert one.difference.mean == -other.difference.mean and one.p == other.p and one.wins == other.losses
    assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))


def test_methods_of_different_scenes_are_not_compared():
    with pytest.raises(SettingsError, match="cover 2 and 1 pairs of face and prompt, of which 1 are common"):
        compare_paired([1, 2], [1], [("x", 0), ("y", 0)], [("x", 0)])


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]], [math.inf]])
def test_values_that_are_none(values):
    with pytest.raises(SettingsError, match="expected one or more finite numbers"):
        bootstrap_interval(values, [0] * len(values))


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"level": 0}, {"resamples": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(SettingsError):
        bootstrap_interval([1.0], ["a"], **wrong)
    with pytest.raises(SettingsError):
        compare_paired([1.0], [1.0], [(0, 0)], [(0, 0)], **wrong)


def test_values_and_clusters_must_be_as_many():
    with pytest.raises(SettingsError, match="2 values and 1 clusters"):
        bootstrap_interval([1.0, 2.0], ["a"])
