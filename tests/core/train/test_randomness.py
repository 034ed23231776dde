"""Draws depend on (seed, purpose, step, slot) and on nothing else."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from f2d_core.train.randomness import DROPOUT, NOISE, Recipe, draw, generator, image_of, normals

RECIPE = Recipe(3, batch=32, images=10, timesteps=1000, flip=True, expression_drop=0.2, dropout=0.1,
                dropout_shape=(2, 2, 16))  # fmt: skip


def test_a_draw_does_not_depend_on_the_slots_beside_it():
    together, alone = draw(RECIPE, 5, range(32)), draw(RECIPE, 5, [17])
    assert (alone.images[0], alone.flips[0], alone.t[0]) == (together.images[17], together.flips[17], together.t[17])
    assert torch.equal(alone.dropout[0], together.dropout[17])
    noise = normals(3, NOISE, 5, range(32), (4, 3, 3))
    assert torch.equal(noise[17], normals(3, NOISE, 5, [17], (4, 3, 3))[0])


@pytest.mark.parametrize("other", [(4, NOISE, 5, 17), (3, DROPOUT, 5, 17), (3, NOISE, 6, 17), (3, NOISE, 5, 18)])
def test_seed_purpose_step_and_slot_all_count(other):
    def numbers(key):
        return generator(*key).standard_normal(64)

    here = numbers((3, NOISE, 5, 17))
    assert np.array_equal(here, numbers((3, NOISE, 5, 17)))
    assert abs(np.corrcoef(here, numbers(other))[0, 1]) < 0.5


def test_the_bits_are_those_of_philox():
    """The counter is (0, 0, slot, step): numbers that must not change, or runs could not be continued."""
    expected = [16717544197435238405, 16288640368581375926]
    assert generator(3, NOISE, 5, 17).bit_generator.random_raw(2).tolist() == expected


def test_every_epoch_takes_each_image_once_in_another_order():
    epochs = [[image_of(RECIPE, 10 * epoch + i) for i in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_reach_over_epochs():
    images = draw(RECIPE, 0, range(32)).images
    assert images == [image_of(RECIPE, i) for i in range(32)]
    assert sorted(images[:10]) == sorted(images[10:20]) == list(range(10))


def test_photos_and_triplets_as_one_set_take_turns_by_their_numbers():
    recipe = replace(RECIPE, triplets=6)
    for epoch in range(2):
        assert sorted(image_of(recipe, 16 * epoch + i) for i in range(16)) == list(range(16))


@pytest.mark.parametrize("share", ["0.3", "0.29", "0.5", "1.0", "0.001"])
def test_the_share_of_triplets_is_exact_after_any_number_of_samples(share):
    recipe = replace(RECIPE, triplets=6, share=Fraction(share))
    numbers = [image_of(recipe, i) for i in range(3000)]
    triplets = np.cumsum([number >= 10 for number in numbers])
    exact = [int((n + 1) * Fraction(share)) for n in range(3000)]
    assert triplets.tolist() == exact
    edited = [number for number in numbers if number >= 10]
    photos = [number for number in numbers if number < 10]
    for own, kinds in ((edited, 6), (photos, 10)):  # each kind in epochs of its own
        epochs = [own[i : i + kinds] for i in range(0, len(own) - kinds + 1, kinds)]
        assert all(len(set(epoch)) == kinds for epoch in epochs)


def test_without_triplets_the_order_is_the_one_it_always_was():
    order = [image_of(RECIPE, i) for i in range(10)]
    assert order == generator(3, 0, 0).permutation(10).tolist()
    assert [image_of(replace(RECIPE, triplets=6, share=Fraction("0.5")), 2 * i) for i in range(10)] == order


def test_the_shares_are_as_set():
    drawn = [draw(RECIPE, step, range(32)) for step in range(60)]
    t = torch.cat([d.t for d in drawn])
    assert t.min() >= 0 and t.max() <= 999 and abs(t.float().mean() - 499.5) < 20
    assert abs(np.mean([d.flips for d in drawn]) - 0.5) < 0.04
    assert abs(torch.cat([d.keep_expression for d in drawn]).mean() - 0.8) < 0.04
    dropout = torch.cat([d.dropout for d in drawn])
    assert set(dropout.unique().tolist()) == {0.0, float(np.float32(1) / np.float32(0.9))}
    assert abs(dropout.mean() - 1) < 0.01


def test_switching_one_thing_off_leaves_the_others():
    before = draw(RECIPE, 2, range(32))
    after = draw(replace(RECIPE, flip=False, dropout=0.0, expression_drop=0.0), 2, range(32))
    assert not any(after.flips) and after.keep_expression.eq(1).all() and after.dropout.eq(1).all()
    assert torch.equal(before.t, after.t) and before.images == after.images


def test_normals_are_normal():
    drawn = normals(1, NOISE, 0, range(8), (4, 32, 32))
    assert drawn.dtype == torch.float32
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02 and drawn.abs().max() > 3.5
