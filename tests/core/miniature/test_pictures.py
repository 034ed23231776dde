"""Sets of captioned pictures: number i depends on i alone, and captions are true."""

import re

import numpy as np
import pytest

from f2d_core.miniature.calling import CALLED
from f2d_core.miniature.captions import NAMES, PERSON
from f2d_core.miniature.people import STYLES, TRAITS
from f2d_core.miniature.pictures import PictureSet
from f2d_core.miniature.situations import EXPRESSION, ROLES

_ROLES = slice(len(EXPRESSION), len(EXPRESSION) + len(ROLES))  # among a picture's facts


@pytest.fixture(scope="module")
def drawn():
    return PictureSet(5).render(range(200))


def test_a_picture_depends_on_its_number_alone(drawn):
    part = PictureSet(5).render(range(90, 110))

    assert np.array_equal(part.pixels, drawn.pixels[90:110])
    assert np.array_equal(part.points, drawn.points[90:110], equal_nan=True)
    assert PictureSet(5).captions(range(90, 110)) == PictureSet(5).captions(range(200))[90:110]
    assert not np.array_equal(PictureSet(6).pictures(range(90, 110)), part.pixels)


def test_captions_name_as_many_people_as_there_are(drawn):
    captions = PictureSet(5).captions(range(200))
    two = ~np.isnan(drawn.points[:, 1, 0, 0])
    people = re.compile("|".join(rf"\b{name}\b" for name in (*NAMES, *CALLED, PERSON)))
    known = [len(people.findall(text)) for text in captions]

    assert known == (1 + two).tolist()
    assert 0.08 < two.mean() < 0.25  # 15 %


def test_famous_people_look_the_same_wherever_they_are(drawn):
    captions = PictureSet(5).captions(range(200))
    share = np.mean([any(name in text for name in NAMES) for text in captions])

    assert 0.15 < share < 0.35
    assert not any(name in text for text in PictureSet(5, famous=False).captions(range(100)) for name in NAMES)


def test_most_people_without_a_name_are_called_by_words_of_their_own():
    shown = PictureSet(5)
    captions, people = shown.captions(range(200)), shown.people(range(200))
    first = np.array([re.search(rf"\b{CALLED[0]}\b", text) is not None for text in captions])

    assert 0.6 < first.mean() < 0.76  # 0.85 x 0.8
    assert len(np.unique(people[first, 0], axis=0)) == first.sum()
    assert np.array_equal(shown.people(range(90, 110)), people[90:110])
    assert not any(f" {name}" in text for text in PictureSet(5, looks=False).captions(range(100)) for name in CALLED)


def test_half_of_the_steady_pictures_show_people_plainly():
    """Then no hat covers the hair; and captions know it."""
    shown = PictureSet(5, steady=True)
    roles, steady_roles = (pictures.facts(range(300))[:, _ROLES].argmax(axis=1) for pictures in (PictureSet(5), shown))

    assert np.mean(roles > 0) > 0.55 and np.mean(steady_roles > 0) == pytest.approx(np.mean(roles > 0) / 2, abs=0.08)
    assert not any(steady_roles[(roles == 0)])
    crowned = ["crown" in text or "king" in text.split() for text in shown.captions(range(300))]
    assert (steady_roles[crowned] == ROLES.index("king")).all()


def test_alone_when_asked():
    assert np.isnan(PictureSet(5, together=False).render(range(60)).points[:, 1]).all()


def test_facts_are_what_the_captions_say():
    """A crown is said of kings alone; the second person's numbers are 0 where there is none."""
    shown = PictureSet(5, looks=False)
    facts, captions = shown.facts(range(200)), shown.captions(range(200))
    king = facts[:, _ROLES][:, ROLES.index("king")]
    crowned = ["crown" in text or "king" in text.split() for text in captions]
    person = len(TRAITS) + sum(map(len, STYLES.values()))
    second, two = facts[:, -1 - person : -1], facts[:, -1]

    assert set(king) == {0, 1} and any(crowned) and (king[crowned] == 1).all()
    assert two.tolist() == [float(" and " in text) for text in captions]
    assert (second[two == 0] == 0).all() and (second[two == 1] > 0).any(axis=1).all()
    assert np.array_equal(shown.facts(range(90, 110)), facts[90:110])
