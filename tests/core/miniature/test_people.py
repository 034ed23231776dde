"""Who is drawn: traits and styles from a seed."""

import numpy as np
import pytest

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
    assert (traits.min(axis=0) < 0.03).all() and (traits.max(axis=0) > 0.93).all()


@pytest.mark.parametrize(("trait", "kinds"), [("skin_tone", 5), ("hair_colour", 9), ("iris_colour", 3)])
def test_colours_come_in_kinds_with_nothing_between(trait, kinds):
    values = np.sort(sample_identities(0, 2000).trait(trait))

    apart = np.flatnonzero(np.diff(values) > 0.01)
    sizes = np.diff([0, *(apart + 1), len(values)])
    assert len(sizes) == kinds
    assert sizes.min() > 0.7 * len(values) / kinds  # all equally frequent


def test_numbers_say_which_colour_it_is_and_nothing_of_its_place_among_the_others():
    pink, purple, brown = (sample_identities(1, 1).changed(hair_colour=c).numbers[0] for c in (0.87, 0.93, 0.22))

    assert np.abs(pink - purple).sum() == np.abs(pink - brown).sum() == 2
    assert set(np.abs(pink - purple)) == {0, 1}
    kinds = 5 + 9 + 3 + 5 + sum(map(len, STYLES.values()))
    assert len(pink) == len(TRAITS) - 4 + kinds and pink.sum() == pytest.approx(purple.sum())


def test_what_is_small_is_seldom_far_from_the_middle():
    spacing = sample_identities(0, 2000).trait("eye_spacing")

    assert 0.75 < (np.abs(spacing - 0.5) < 0.25).mean() < 0.85  # of the cubes in [-1, 1], 79 % are below a half


def test_a_trait_is_laid_between_two_values():
    people = sample_identities(1, 50)

    assert np.allclose(people.trait("skin_tone", 2.0, 6.0), 2 + 4 * people.trait("skin_tone"))


def test_take_chooses_and_repeats():
    people = sample_identities(1, 4).take([2, 2, 0])

    assert np.array_equal(people.traits[0], people.traits[1])
    assert len(people) == 3
