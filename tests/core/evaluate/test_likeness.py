"""How alike: scores as a float64 rendering gives them, the references among each other, and what is said of both."""

import math

import numpy as np
import pytest

from f2d_core.detect import Face
from f2d_core.errors import MissingPackageError, NoFaceError
from f2d_core.evaluate import likeness
from f2d_core.evaluate.judges import BATCH, Portraits
from f2d_core.evaluate.likeness import ABOVE, BELOW, LOW, NO_FACE, UNDECIDED, WITHIN, compare, verdict
from f2d_core.evaluate.metrics import identity_scores
from tests.support.protractor import POINTS, Broken, Protractor, Vectors, cos, people, picture

ANNA = (0, 10, 20, 30)  # the directions of her photos


# --- scores ---


def test_one_reference_gives_the_papers_metric():
    given = compare(people(0, 40, 120, 5, missing={3}), people(0), [Protractor()])
    features = Protractor().features([picture(d) for d in (0, 40, 120, 5)], [POINTS] * 4)
    reference = Protractor().features([picture(0)], [POINTS])

    assert given.metric()[:, 0] == pytest.approx(identity_scores(features, reference, [True, True, True, False]))
    assert given.scores[:3, 0] == pytest.approx([1, cos(40), cos(120)], abs=1e-7)
    assert np.isnan(given.scores[3, 0])
    assert given.found.tolist() == [True, True, True, False]


def test_several_references_are_averaged_and_left_out_of_their_own_score():
    given = compare(people(50, 200), people(*ANNA), [Protractor()])
    expected = [np.mean([cos(d - a) for a in ANNA]) for d in (50, 200)]
    own = [np.mean([cos(a - b) for b in ANNA if b != a]) for a in ANNA]

    assert given.scores[:, 0] == pytest.approx(expected, abs=1e-7)
    assert given.own[:, 0] == pytest.approx(own, abs=1e-7)
    assert given.metric()[1, 0] == 0 and given.scores[1, 0] < 0  # cut off in the metric, shown as it is


def test_several_judges_and_their_geometric_mean():
    one, two = Protractor("one"), Protractor("two", stretch=2.0)
    given = compare(people(30, 50, 80, missing={1}), people(0), [one, two])

    assert given.judges == ("one", "two")
    assert given.scores[0] == pytest.approx([cos(30), cos(60)], abs=1e-7)
    assert given.overall()[0] == pytest.approx(math.sqrt(cos(30) * cos(60)))
    assert np.isnan(given.overall()[1])
    assert given.overall()[2] == 0  # cos(160) is cut off


def test_references_without_a_face_and_doubles_are_left_out_and_named():
    references = people(0, 10, 20, 30, missing={1})
    references = Portraits((*references.pictures, references.pictures[2]), (*references.points, POINTS))
    given = compare(people(15), references, [Protractor()])

    assert given.used == 3
    assert given.left_out == {1: "has no face that can be used", 4: "is the same picture as 2"}
    assert np.isnan(given.own[[1, 4], 0]).all() and not np.isnan(given.own[[0, 2, 3], 0]).any()
    assert given.scores[0, 0] == pytest.approx(np.mean([cos(15), cos(5), cos(15)]), abs=1e-7)
    assert "3 references; number 1 has no face that can be used; number 4 is the same picture as 2." in (
        likeness.describe(given)
    )


def test_no_reference_with_a_face_is_an_error():
    with pytest.raises(NoFaceError, match="None of the 2 references has a face"):
        compare(people(0), people(0, 10, missing={0, 1}), [Protractor()])


def test_no_picture_with_a_face_is_a_result():
    given = compare(people(0, 10, missing={0, 1}), people(0, 5), [Protractor()])

    assert given.metric().tolist() == [[0], [0]]
    assert not given.found.any()
    assert "0: no face found\n1: no face found" in likeness.describe(given)


def test_a_judge_that_fails_is_named_and_the_others_go_on():
    given = compare(people(10), people(0), [Broken("broken"), Protractor("working")])

    assert given.judges == ("working",)
    assert given.scores[0, 0] == pytest.approx(cos(10), abs=1e-7)
    assert "Not used: This judge needs a package that is not there" in likeness.describe(given)
    with pytest.raises(MissingPackageError):
        compare(people(10), people(0), [Broken()])


def test_progress_counts_faces_by_judges_and_batches_are_small():
    judge, told = Protractor(), []
    compare(people(*range(20), missing={0}), people(0, 1), [judge, Protractor("two")], lambda *at: told.append(at))

    assert max(judge.batches) <= BATCH and sum(judge.batches) == 21
    assert told[-1] == (42, 42) and {total for _, total in told} == {42}
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_progress_may_stop_the_work():
    class Cancelled(Exception):
        pass

    def stop(done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        compare(people(1), people(0), [Protractor()], stop)


# --- verdicts ---


@pytest.mark.parametrize(
    ("score", "rank", "state", "words"),
    [
        (0.49, 0, BELOW, "less alike than any of the 4 references"),
        (0.5, 1, LOW, "at the lower end of the person's own photos: at least as alike as 1 of the 4"),
        (0.6, 2, WITHIN, "like another photo of the person: at least as alike as 2 of the 4"),
        (0.65, 3, WITHIN, "at least as alike as 3 of the 4"),
        (0.8, 4, ABOVE, "as each of the 4 references"),
        (float("nan"), float("nan"), NO_FACE, "no face found"),
    ],
)
def test_a_score_among_the_persons_own_photos(score, rank, state, words):
    given = verdict(score, rank, 4)

    assert given.state == state
    assert words in given.words


def test_ranks_are_those_of_all_photos_with_the_picture_among_them():
    angles = (50, 200, -1, 15, 31)
    given = compare(people(*(angle % 360 for angle in angles)), people(*ANNA), [Protractor()])
    for i, angle in enumerate(angles):
        own = [np.mean([cos(a - b) for b in (*ANNA, angle) if b != a]) for a in ANNA]
        assert given.ranks[i, 0] == sum(value <= np.mean([cos(angle - a) for a in ANNA]) for value in own)
    assert given.ranks[:, 0].tolist() == [0, 0, 1, 4, 1]


def test_equal_pictures_are_no_less_alike():
    """Three photos at the corners of a triangle and one more at a corner: the same but for rounding."""
    given = compare(people(0), Portraits(tuple(picture(d, 9) for d in (0, 120, 240)), (POINTS,) * 3), [Protractor()])

    assert given.ranks[0, 0] == 3


def test_two_references_say_little():
    given = compare(people(20, 70), people(0, 30), [Protractor()])
    high, low = (likeness.judged(given, i, 0) for i in (0, 1))

    assert (high.state, low.state) == (ABOVE, BELOW)
    assert "two references say little" in high.words and "two references say little" in low.words


def test_one_reference_gives_a_verdict_only_where_a_figure_is_published():
    none = float("nan")

    assert verdict(0.9, none, 1).state == UNDECIDED
    assert "give several photos" in verdict(0.9, none, 1, "facenet").words
    assert verdict(0.31, none, 1, "adaface_ir50").state == ABOVE
    assert verdict(0.29, none, 1, "adaface_ir101").state == BELOW
    assert "0.3" in verdict(0.29, none, 1, "adaface_ir101").words
    assert np.isnan(compare(people(5), people(0), [Protractor()]).ranks).all()


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_a_further_photo_of_the_person_is_least_alike_as_often_as_is_said(n):
    """Photos spread around a person's own direction in 64 dimensions: one in n + 1, within three deviations."""
    rng, trials, below = np.random.default_rng(n), 1500, 0
    for _ in range(trials):
        photos = rng.normal(size=(n + 1, 64)) * 0.1 + np.eye(64)[0]
        references = Portraits(tuple(picture(i, i) for i in range(n)), (POINTS,) * n)
        given = compare(Portraits((picture(n, n),), (POINTS,)), references, [Vectors(photos)])
        below += likeness.judged(given, 0, 0).state == BELOW
    expected = 1 / (n + 1)

    assert abs(below / trials - expected) < 3 * math.sqrt(expected * (1 - expected) / trials)


def test_a_reference_of_somebody_else_is_asked_about():
    given = compare(people(5), people(0, 10, 20, 85), [Protractor()])

    assert likeness.strangers(given) == [3]
    assert "Reference 3 is much less alike to the others" in likeness.describe(given)
    assert likeness.strangers(compare(people(5), people(*ANNA), [Protractor()])) == []
    assert likeness.strangers(compare(people(5), people(0, 85), [Protractor()])) == []  # two cannot tell who it is


# --- words ---


def test_the_report():
    references = people(*ANNA)
    pictures = (picture(15, 9), picture(90, 9), picture(0, 9), references.pictures[0])
    pictures = Portraits(pictures, (POINTS, POINTS, None, POINTS))
    lines = likeness.describe(compare(pictures, references, [Protractor()])).splitlines()

    assert lines[0] == "Judged by Protractor. 4 references."
    assert lines[1] == "0: 0.98, at least as alike as each of the 4 references"
    assert lines[2] == "1: 0.25, less alike than any of the 4 references"
    assert lines[3] == "2: no face found"
    assert lines[4].endswith("(the same picture as reference 0)")
    assert lines[5] == "Protractor: the references among each other 0.93, 0.97, 0.97, 0.93."
    assert lines[6] == "Of further photos of the person, one in 5 would be less alike than any reference."
    assert len(lines) == 7


def test_the_table_has_a_row_for_each_picture_and_judge():
    given = compare(people(15, 90, 0, missing={2}), people(*ANNA), [Protractor("one"), Protractor('two, "2"')])
    rows = likeness.table(given).splitlines()

    assert rows[0] == "picture,judge,score,rank,references,verdict"
    assert rows[1] == "0,one,0.9811,4,4,above"
    assert rows[4] == '1,"two, ""2""",0.2539,0,4,below'
    assert rows[5] == "2,one,,,4,no face"
    assert len(rows) == 7


def test_the_note_for_the_picture():
    given = compare(people(15, 90, 0, missing={2}), people(*ANNA), [Protractor("one"), Protractor("two")])
    face = Face((0, 0, 9, 9), POINTS, 0.9)
    good, poor, none = (likeness.note(given, i, face) for i in range(3))

    assert (good.level, poor.level, none.level) == ("good", "poor", "not judged")
    assert good.tag == "0.98" and good.face is face and none.face is None
    assert good.lines[1] == ("good", "0: two 0.98, at least as alike as each of the 4 references")
    assert none.lines == (("not judged", "2: no face found"),)
