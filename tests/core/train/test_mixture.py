"""Photos and triplets as one set: which sample is where, what of it is learnt, and what does not fit."""

import pytest
import torch

from f2d_core.errors import MismatchError
from f2d_core.train.mixture import Mixture
from tests.support.training import EXPRESSION_WIDTH, MemoryData, MemoryTriplets


def test_samples_come_in_the_order_asked_for_each_from_its_own_set():
    photos, triplets = MemoryData(10), MemoryTriplets(6)
    mixture = Mixture(photos, triplets, hold_out=2)
    numbers, flips = [9, 0, 13, 7, 8, 0], [True, False, False, True, False, True]
    found = mixture.batch(numbers, flips)

    assert (mixture.photos, mixture.triplets) == (8, 6)
    own = photos.batch([0, 7, 0], [False, True, True])
    edited = triplets.batch([1, 5, 0], [True, False, False])
    for name in ("latent_mean", "latent_logvar", "v_id", "mask"):
        assert torch.equal(getattr(found, name)[[1, 3, 5]], getattr(own, name)), name
        assert torch.equal(getattr(found, name)[[0, 2, 4]], getattr(edited, name)), name
    assert torch.equal(found.v_exp[[1, 3, 5]], own.v_exp)
    assert torch.equal(found.v_exp[[0, 2, 4]], torch.zeros(3, EXPRESSION_WIDTH))
    assert found.prompts == (edited.prompts[0], "", edited.prompts[1], "", edited.prompts[2], "")
    assert mixture.names(numbers) == ["triplet 1", 0, "triplet 5", 7, "triplet 0", 0]


@pytest.mark.parametrize("numbers", [[0, 3, 3], [10, 15]])
def test_one_kind_alone(numbers):
    found = Mixture(MemoryData(10), MemoryTriplets(6), 0).batch(numbers, [False] * len(numbers))
    assert len(found.v_id) == len(found.prompts) == len(numbers)
    assert all(found.prompts) == (numbers[0] >= 10)


def test_without_triplets_the_photos_are_asked_directly():
    photos = MemoryData(4)
    mixture = Mixture(photos, None, 1)
    assert (mixture.photos, mixture.triplets) == (3, 0)
    assert torch.equal(mixture.batch([2, 0], [True, False]).v_id, photos.batch([2, 0], [True, False]).v_id)


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"msid_sha256": "n" * 64}, "another encoder"), ({"features": "dreamidentity"}, "another kind of features"),
     ({"autoencoder_sha256": "z" * 64}, "another autoencoder")],
)  # fmt: skip
def test_triplets_that_were_prepared_otherwise_are_refused(facts, message):
    photos, triplets = MemoryData(), MemoryTriplets()
    photos.facts = {"msid_sha256": "m" * 64, "features": "msid", "autoencoder_sha256": "a" * 64}
    triplets.facts = {**photos.facts, **facts}
    with pytest.raises(MismatchError, match=f"prepared with {message}"):
        Mixture(photos, triplets, 0)


def test_other_sizes_are_refused():
    with pytest.raises(MismatchError, match=r"sizes \(5, \(4, 4, 4\)\), the triplets of \(5, \(4, 8, 8\)\)"):
        Mixture(MemoryData(), MemoryTriplets(side=8), 0)
    narrow = MemoryTriplets()
    narrow.v_id = narrow.v_id[..., :3]
    with pytest.raises(MismatchError, match=r"the triplets of \(3,"):
        Mixture(MemoryData(), narrow, 0)
