"""Who is drawn: traits and styles from a seed."""

import numpy as np

from f2d_core.miniature.people import STYLES, TRAITS, sample_identities


def test_there_are_enough_factors():
    assert len(TRAITS) >= 14 and len(set(TRAITS)) == len(TRAITS)
    assert len(STYLES) >= 4 and all(len(kinds) >= 3 for kinds in STYLES.values())


def test_person_number_i_is_the_same_in_every_batch():
    whole, part = sample_identities(5, 12), sample_identities(5, 3, start=6)

    assert np.array_equal(whole.traits[6:9], part.traits)
    assert np.array_equal(whole.styles[6:9], part.styles)


def test_every_kind_of_every_style_is_somebody():
    people = sample_identities(0, 2000)

    for name, kinds in STYLES.items():
        assert set(people.style(name)) == set(range(len(kinds))), name


def test_traits_fill_their_range():
    traits = sample_identities(0, 2000).traits

    assert 0 <= traits.min() and traits.max() < 1.0 + 1e-9
    assert (traits.min(axis=0) < 0.02).all() and (traits.max(axis=0) > 0.95).all()


def test_a_trait_is_laid_between_two_values():
    people = sample_identities(1, 50)

    assert np.allclose(people.trait("skin_tone", 2.0, 6.0), 2 + 4 * people.trait("skin_tone"))


def test_take_chooses_and_repeats():
    people = sample_identities(1, 4).take([2, 2, 0])

    assert np.array_equal(people.traits[0], people.traits[1])
    assert len(people) == 3
