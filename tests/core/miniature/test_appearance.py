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


def said_of(people, **how):
    """The phrases of a description of each person."""
    rolls = [np.random.Generator(np.random.Philox(i)) for i in range(len(people))]
    texts = [described("a person", people, i, random, **how) for i, random in enumerate(rolls)]
    parts = [text.removeprefix("a person").removeprefix(" with ").split(" and ") for text in texts]
    return [[part for part in own if part] for own in parts]


def test_people_are_described_truly_and_mostly_as_a_whole():
    people = sample_identities(3, 200)
    said, briefly = said_of(people), said_of(people, briefly=True)

    assert 0.6 < np.mean([set(parts) == set(looks(people, i)) for i, parts in enumerate(said)]) < 0.8
    assert 0.02 < np.mean([not parts for parts in said]) < 0.12
    for parts in (said, briefly):
        assert all(set(own) <= set(looks(people, i)) and len(set(own)) == len(own) for i, own in enumerate(parts))
    assert max(map(len, briefly)) == 4


def test_every_word_is_known():
    assert {word for phrase in look_words() for word in re.findall(r"\w+", phrase)} <= set(WORDS)
