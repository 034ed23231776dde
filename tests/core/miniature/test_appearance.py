"""What captions say of people without a name is true of them, and in words that the tokenizer knows."""

import re

import numpy as np

from f2d_core.miniature.appearance import described, look_words, looks
from f2d_core.miniature.captions import WORDS
from f2d_core.miniature.people import STYLES, Identities, sample_identities


def person(**changes):
    """One person in the middle of every trait, with the styles and traits given."""
    from f2d_core.miniature.people import TRAITS

    traits, styles = np.full((1, len(TRAITS)), 0.5), np.zeros((1, len(STYLES)), np.int64)
    for name, value in changes.items():
        if name in STYLES:
            styles[0, list(STYLES).index(name)] = STYLES[name].index(value)
        else:
            traits[0, TRAITS.index(name)] = value
    return Identities(traits, styles)


def test_what_stands_out_is_said():
    someone = person(hair="quiff", hair_colour=0.0, glasses="round", beard="goatee", skin_tone=1.0, eye_size=0.9)

    assert looks(someone, 0) == ["a black quiff", "a goatee", "round glasses", "dark skin", "green eyes", "big eyes"]


def test_an_article_fits_its_colour():
    assert looks(person(hair="bun", hair_colour=0.86 * 5 / 9), 0)[0] == "an orange bun"
    assert looks(person(hair="bun", hair_colour=0.86 * 6 / 9), 0)[0] == "a blond bun"


def test_dyed_hair_has_its_own_words():
    assert looks(person(hair="bob", hair_colour=1.0), 0)[0] == "a teal bob"
    assert looks(person(hair="bob", hair_colour=0.859), 0)[0] == "a white bob"


def test_people_are_described_differently_and_truly():
    people = sample_identities(3, 200)
    said = [described("a person", people, i, np.random.Generator(np.random.Philox(i))) for i in range(200)]

    assert 0.05 < np.mean([text == "a person" for text in said]) < 0.25
    for i, text in enumerate(said):
        parts = text.removeprefix("a person").removeprefix(" with ").split(" and ")
        assert set(filter(None, parts)) <= set(looks(people, i)) and len(parts) <= 4


def test_every_word_is_known():
    assert {word for phrase in look_words() for word in re.findall(r"\w+", phrase)} <= set(WORDS)
