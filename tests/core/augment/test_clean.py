"""Exactly the ranked quarter: ranks by hand, ties, pictures without a face."""

import random

import pytest

from f2d_core.augment.clean import Candidate, best, kept_count


def ranked(*scores, keep=0.25):
    """(path, mean rank, kept) of pictures 0, 1, … with those (identity, text), best first."""
    found = best([Candidate(str(i), *score) for i, score in enumerate(scores)], keep)
    return [(r.candidate.path, r.rank, r.kept) for r in found]


def test_the_mean_of_both_ranks_decides():
    # identity ranks: 1 2 3 4; text ranks: 4 2 1 3
    assert ranked((0.9, 0.1), (0.8, 0.3), (0.7, 0.4), (0.1, 0.2)) == [
        ("1", 2.0, True),
        ("2", 2.0, False),
        ("0", 2.5, False),
        ("3", 3.5, False),
    ]


@pytest.mark.parametrize(
    ("count", "keep", "kept"),
    [(4, 0.25, 1), (5, 0.25, 2), (8, 0.25, 2), (1, 0.25, 1), (0, 0.25, 0), (10, 0.1, 1), (30, 0.1, 3), (7, 1.0, 7)],
)
def test_how_many_are_kept(count, keep, kept):
    assert kept_count(count, keep) == kept
    assert sum(r[2] for r in ranked(*((i / 100, i / 90) for i in range(count)), keep=keep)) == kept


def test_equal_values_share_their_ranks_and_equal_ranks_go_by_identity_text_and_path():
    assert ranked((0.5, 0.5), (0.5, 0.5), (0.5, 0.5), keep=0.5) == [("0", 2, True), ("1", 2, True), ("2", 2, False)]
    assert ranked((0.2, 0.9), (0.9, 0.2))[0][0] == "1"


def test_no_face_is_last_and_never_kept():
    found = ranked((None, 0.9), (0.1, 0.2), (None, 0.8), (-0.5, 0.1), keep=1.0)

    assert [path for path, _, _ in found] == ["1", "3", "0", "2"]
    assert [kept for _, _, kept in found] == [True, True, False, False]
    assert found[0][1] == (1 + 3) / 2 and found[2][1] == (3.5 + 1) / 2


def test_the_order_of_the_input_does_not_matter():
    shuffle = random.Random(0)
    pictures = [
        Candidate(f"{i:03}", shuffle.choice([None, 0.1, 0.2, 0.3]), shuffle.choice([0.1, 0.2])) for i in range(99)
    ]
    expected = best(pictures, 0.25)
    for _ in range(5):
        shuffle.shuffle(pictures)
        assert best(pictures, 0.25) == expected
    assert sum(r.kept for r in expected) == 25
    ranks = [r.identity_rank + r.text_rank for r in expected if r.candidate.identity is not None]
    assert ranks == sorted(ranks)
