"""Every measure against a plain rendering of its formula in Python's own floats, with zeros, no face, ties."""

import math

import numpy as np
import pytest
import torch

from f2d_core.errors import SettingsError
from f2d_core.evaluate.metrics import (
    best_of_n,
    best_pictures,
    clip_scores,
    cosine,
    directional_scores,
    face_similarity,
    geometric_mean,
    group_means,
    harmonic_mean,
    identity_scores,
    siglip_scores,
    text_alignment,
)


def rows(seed, count=6, width=5):
    return np.random.RandomState(seed).standard_normal((count, width))


def plain_cosine(a, b):
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def plain_unit(a):
    length = math.sqrt(sum(x * x for x in a))
    return [x / length for x in a] if length else list(a)


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


A, B = rows(0), rows(1)
TENSORS = torch.from_numpy(A).float(), torch.from_numpy(B).float()


def test_cosine():
    assert cosine(A, B) == pytest.approx([plain_cosine(a, b) for a, b in zip(A, B, strict=True)], abs=1e-15)
    assert cosine(A, B[:1]) == pytest.approx([plain_cosine(a, B[0]) for a in A], abs=1e-15)
    assert cosine(A * 1e-200, B * 1e150) == pytest.approx(cosine(A, B), abs=1e-12)


def test_cosine_of_what_points_nowhere_is_zero():
    assert cosine(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [0.0]
    assert cosine(np.zeros((1, 3)), np.zeros((1, 3))).tolist() == [0.0]


def test_tensors_are_measured_in_float64():
    found = cosine(*TENSORS)

    assert found.dtype == np.float64
    assert found == pytest.approx(cosine(*(tensor.double().numpy() for tensor in TENSORS)), abs=1e-15)


def test_identity_is_clipped_and_zero_without_a_face():
    found = np.array([True, False, True, True, False, True])
    plain = [max(plain_cosine(a, b), 0.0) for a, b in zip(A, B, strict=True)]

    assert identity_scores(A, B) == pytest.approx(plain, abs=1e-15)
    assert 0 < sum(score == 0 for score in plain) < len(plain)  # the inputs try both
    expected = [score if face else 0.0 for score, face in zip(plain, found, strict=True)]
    assert identity_scores(A, B, found) == pytest.approx(expected, abs=1e-15)
    assert identity_scores(np.zeros((2, 5)), B[:2], [False, False]).tolist() == [0, 0]


def test_identical_faces_are_1_and_opposite_ones_0():
    assert identity_scores(A, A) == pytest.approx([1] * 6) and identity_scores(A, -A).tolist() == [0] * 6


def test_clip():
    assert clip_scores(A, B) == pytest.approx([max(plain_cosine(a, b), 0.0) for a, b in zip(A, B, strict=True)])


def test_directional_clip_takes_features_to_length_1_before_the_difference():
    references, texts, reference_text = rows(2) * 3, rows(3) / 7, rows(4, 1)
    expected = []
    for picture, reference, text in zip(A, references, texts, strict=True):
        moved = minus(plain_unit(picture), plain_unit(reference))
        expected.append(max(plain_cosine(moved, minus(plain_unit(text), plain_unit(reference_text[0]))), 0.0))

    found = directional_scores(A, references, texts, reference_text)

    assert found == pytest.approx(expected, abs=1e-14) and 0 < (found == 0).sum() < 6
    raw = [max(plain_cosine(a - r, t - reference_text[0]), 0) for a, r, t in zip(A, references, texts, strict=True)]
    assert np.abs(found - raw).max() > 0.01


def test_directional_clip_without_a_direction():
    same_picture = directional_scores(A[:1], A[:1] * 2, B[:1], rows(4, 1))
    same_text = directional_scores(A[:1], B[:1], rows(4, 1) * 2, rows(4, 1))

    # Doubling is exact, so the difference of unit vectors is exactly zero.
    assert same_picture.tolist() == [0.0] and same_text.tolist() == [0.0]


@pytest.mark.parametrize(("scale", "bias"), [(112.3, -16.5), (1.0, 0.0), (0.0, -3.0), (1e6, 0.0)])
def test_siglip(scale, bias):
    def sigmoid(x):
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    expected = [sigmoid(max(scale * plain_cosine(a, b) + bias, -701)) for a, b in zip(A, B, strict=True)]

    assert siglip_scores(A, B, scale, bias) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_the_measures_of_dreamidentity_are_plain_cosines():
    plain = [plain_cosine(a, b) for a, b in zip(A, B, strict=True)]

    assert text_alignment(A, B) == pytest.approx(plain, abs=1e-15)
    assert face_similarity(A, B) == pytest.approx(plain, abs=1e-15)
    assert face_similarity(A, B, [False] * 6).tolist() == [0] * 6


# --- means of a picture ---

SCORES = np.random.RandomState(5).uniform(0.01, 1, (40, 6))


def test_harmonic_and_geometric_mean():
    harmonic = [6 / sum(1 / x for x in row) for row in SCORES.tolist()]
    geometric = [math.prod(row) ** (1 / 6) for row in SCORES.tolist()]

    assert harmonic_mean(SCORES) == pytest.approx(harmonic, rel=1e-14)
    assert geometric_mean(SCORES) == pytest.approx(geometric, rel=1e-14)
    assert (harmonic_mean(SCORES) <= geometric_mean(SCORES)).all()


def test_one_zero_makes_the_mean_zero_without_a_warning():
    """Warnings are errors here."""
    scores = SCORES.copy()
    scores[3, 2] = scores[7] = 0

    for mean in (harmonic_mean, geometric_mean):
        assert np.flatnonzero(mean(scores) == 0).tolist() == [3, 7]


def test_means_of_very_small_and_of_equal_scores():
    tiny = np.full((1, 6), 1e-310)

    assert harmonic_mean(tiny) == pytest.approx([1e-310]) and geometric_mean(tiny) == pytest.approx([1e-310])
    assert harmonic_mean([[0.25] * 6]).tolist() == [0.25]
    assert harmonic_mean([[1e-320, 1.0]]) == pytest.approx([2e-320], abs=1e-322)
    assert harmonic_mean(np.zeros((0, 6))).shape == (0,)


@pytest.mark.parametrize("scores", [[[0.5, -0.1]], [[0.5, math.nan]], [0.5, 0.5], np.zeros((3, 0))])
def test_means_of_what_is_no_score(scores):
    for mean in (harmonic_mean, geometric_mean):
        with pytest.raises(SettingsError, match="Scores"):
            mean(scores)


# --- best of N ---


def pairs_of(faces, prompts, count):
    return [(f, p) for f in range(faces) for p in range(prompts) for _ in range(count)]


def test_best_of_n_against_loops():
    pairs, numbers = pairs_of(3, 4, 16), list(range(16)) * 12
    scores = np.random.RandomState(6).uniform(0, 1, len(pairs))
    order = np.random.RandomState(7).permutation(len(pairs))

    found = best_of_n(scores[order], [pairs[i] for i in order], [numbers[i] for i in order])

    table = scores.reshape(12, 16)
    assert list(found) == [1, 2, 4, 8, 16]
    assert found == pytest.approx({n: table[:, :n].max(axis=1).mean() for n in found}, abs=1e-15)
    assert list(found.values()) == sorted(found.values())


def test_best_of_more_than_there_are_is_not_known():
    pairs, numbers = [*pairs_of(1, 2, 4), ("late", 0)], [*range(4), *range(4), 0]

    found = best_of_n(np.linspace(0, 1, 9), pairs, numbers)

    assert found[1] is not None and found[2] is found[4] is found[16] is None
    assert best_of_n([], [], []) == dict.fromkeys((1, 2, 4, 8, 16))


def test_of_equal_scores_the_lower_number_is_chosen():
    scores, pairs, numbers = [0.5, 0.7, 0.7, 0.7], ["a"] * 4, [0, 3, 1, 2]

    assert best_pictures(scores, pairs, numbers, 4) == {"a": 2}
    assert best_pictures(scores, pairs, numbers, 1) == {"a": 0}
    assert best_pictures(scores, pairs, numbers, 5) == {}


def test_best_of_none():
    with pytest.raises(SettingsError, match="best of 0 pictures"):
        best_of_n([1.0], ["a"], [0], ns=(0,))


def test_group_means():
    found = group_means([1.0, 2.0, 4.0, 8.0], ["job", "location", "job", "location"])

    assert found == {"job": 2.5, "location": 5.0} and list(found) == ["job", "location"]
    with pytest.raises(SettingsError, match="1 values and 2 groups"):
        group_means([1.0], ["a", "b"])


@pytest.mark.parametrize(
    ("a", "b"),
    [(A, rows(0, 6, 4)), (A, rows(0, 4)), (A[0], B[0]), (A * math.nan, B), (A, B * math.inf)],
)
def test_features_that_do_not_fit(a, b):
    with pytest.raises(SettingsError, match="Features"):
        cosine(a, b)
