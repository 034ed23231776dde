"""The best of N: order by the geometric mean, ties, pictures without a face, and prompts as judges read them."""

import math

import numpy as np
import pytest

from f2d_core.errors import PromptError, SettingsError
from f2d_core.evaluate import best_of_n
from f2d_core.evaluate.best_of_n import plain_prompt, rank, text_metrics
from f2d_core.evaluate.likeness import compare
from tests.support.protractor import BrokenReader, Protractor, Reader, cos, people


def by_text(*columns):
    """A ranking by texts alone, each column one judge's scores."""
    values = np.array(columns, float).T
    return rank(None, ([str(i) for i in range(len(columns))], values), len(values))


# --- order ---


def test_the_geometric_mean_decides():
    ranking = by_text([0.9, 0.4, 0.2], [0.1, 0.4, 0.5])

    assert ranking.scores == pytest.approx([0.3, 0.4, math.sqrt(0.1)])
    assert ranking.order == (1, 2, 0)
    assert ranking.best(2) == (1, 2)


def test_of_equal_ones_the_earlier_comes_first():
    assert by_text([0.3, 0.5, 0.5, 0.3]).order == (1, 2, 0, 3)


def test_pictures_without_a_face_come_last_even_behind_a_zero():
    likeness = compare(people(0, 120, 80, 0, missing={0, 3}), people(0), [Protractor()])
    ranking = rank(likeness, (("text",), np.array([[0.9], [0.2], [0.1], [0.8]])), 4)

    assert ranking.scores.tolist() == [0, 0, pytest.approx(math.sqrt(cos(80) * 0.1)), 0]
    assert ranking.order == (2, 1, 0, 3)
    assert ranking.best(9) == (2, 1, 0, 3)  # all, where there are fewer


def test_none_to_keep_is_refused():
    with pytest.raises(SettingsError, match="expected at least 1"):
        by_text([0.5]).best(0)


# --- the two together ---


def test_identity_and_text():
    pictures, references = people(0, 60, 30, 10, missing={3}), people(0)
    likeness = compare(pictures, references, [Protractor()])
    text = text_metrics(pictures.pictures, "a person", [Reader(), Reader("S", scale=10.0, bias=-5.0)])
    ranking = rank(likeness, text[:2], 4)
    expected = [[cos(d), cos(d), 1 / (1 + math.exp(-(10 * cos(d) - 5)))] for d in (0, 60, 30, 10)]
    expected[3][0] = 0

    assert ranking.metrics == ("Protractor", "Reader", "S") and ranking.of_faces == 1
    assert ranking.values == pytest.approx(np.array(expected), abs=1e-6)
    assert ranking.faces.tolist() == [True, True, True, False]
    assert ranking.order == (0, 2, 1, 3)


def test_only_one_of_them():
    pictures = people(0, 60, missing={0})
    likeness = compare(pictures, people(0), [Protractor()])
    text = text_metrics(pictures.pictures, "a person", [Reader()])

    assert rank(likeness, ((), np.empty((2, 0))), 2).order == (1, 0)
    alone = rank(None, text[:2], 2)
    assert alone.faces.all() and alone.order == (0, 1) and alone.of_faces == 0
    with pytest.raises(SettingsError, match="Nothing can be judged"):
        rank(None, ((), np.empty((2, 0))), 2)


def test_a_reader_that_fails_is_named_and_the_others_go_on():
    names, values, problems = text_metrics(people(0, 60).pictures, "a person", [BrokenReader(), Reader()])

    assert names == ("Reader",)
    assert values[:, 0] == pytest.approx([1, 0.5])
    assert problems == ("open_clip is not there: pip install it.",)


def test_the_text_is_read_once_and_progress_counts_pictures_by_judges():
    reader, told = Reader(), []
    text_metrics(people(*range(20)).pictures, "a chef", [reader, Reader("two")], lambda *at: told.append(at))

    assert reader.texts == ["a chef"]
    assert told[-1] == (40, 40)


# --- prompts ---


@pytest.mark.parametrize(
    ("prompt", "markers", "plain"),
    [
        ("a photo of S* as a chef", "S*", "a photo of a person as a chef"),
        ("(S*:1.3) and ben, ((smiling)),\n in  Rome", "S*, ben", "a person and a person, smiling, in Rome"),
        (r"S* \(film still\)", "S*", "a person (film still)"),
        ("a bowl of fruit", "S*", "a bowl of fruit"),
        ("xS* by S*", "S*", "xS* by a person"),
        ("S* at work", "", "S* at work"),
    ],
)
def test_a_prompt_as_judges_read_it(prompt, markers, plain):
    assert plain_prompt(prompt, markers) == plain


def test_prompts_that_say_nothing():
    with pytest.raises(PromptError, match="empty"):
        plain_prompt(" () ", "S*")
    with pytest.raises(PromptError, match="cannot be a marker"):
        plain_prompt("a photo", "S*, (")


# --- words ---


def test_the_report_names_judges_order_and_what_is_kept():
    likeness = compare(people(60, 0, 30, missing={1}), people(0), [Protractor()])
    text = best_of_n.describe(rank(likeness, (("CLIP",), np.array([[0.5], [0.9], [0.4]])), 3), keep=1)

    assert text.splitlines() == [
        "Judged by Protractor, CLIP; the geometric mean decides.",
        "1. picture 2: 0.589 (0.87, 0.40), kept",
        "2. picture 0: 0.500 (0.50, 0.50), not kept",
        "3. picture 1: no face found (-, 0.90), not kept",
    ]
