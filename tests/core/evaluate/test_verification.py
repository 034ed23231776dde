"""Accuracy over folds and the pair AUC, against their definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from f2d_core.data.pairs import PairSet
from f2d_core.errors import DataError
from f2d_core.evaluate.verification import (
    area_under_curve,
    cosine,
    extract,
    fold_accuracies,
    layers_of,
    level_features,
    triplets,
    verify_levels,
    verify_pairs,
)
from f2d_core.msid import MSIDConfig, build_msid
from f2d_core.testing import tiny_msid_state_dict
from tests.support.identities import SIDE, MemoryIdentities, encoded, faces

MULTI = MSIDConfig(SIDE, 8, 32, 4, 1, 64, (0, 1, 2, 3))
PLAIN = MSIDConfig(SIDE, 8, 32, 8, 1, 64, (7,))


@pytest.fixture(scope="module")
def encoder():
    return build_msid(tiny_msid_state_dict(MULTI))


def test_auc_counts_pairs():
    random = np.random.RandomState(0)
    same, other = random.randint(0, 12, 40) / 4, random.randint(0, 10, 30) / 4  # with ties
    wins = (same[:, None] > other).mean() + 0.5 * (same[:, None] == other).mean()
    assert area_under_curve(same, other) == pytest.approx(wins, abs=1e-12)
    assert area_under_curve(np.ones(3), np.zeros(2)) == 1 and area_under_curve(np.ones(3), np.ones(2)) == 0.5
    assert np.isnan(area_under_curve(np.ones(3), np.ones(0)))


def test_accuracy_over_ten_contiguous_folds():
    """Written out, with the first best threshold of the nine other folds."""
    random = np.random.RandomState(1)
    features = F.normalize(torch.from_numpy(random.randn(2 * 57, 5))).numpy()
    same = random.rand(57) < 0.5
    features[1::2][same] = features[0::2][same] + 0.4 * random.randn(int(same.sum()), 5)
    distances = ((features[0::2] - features[1::2]) ** 2).sum(1)
    sizes, start = [6] * 7 + [5] * 3, 0
    expected = []
    for size in sizes:
        test = np.arange(57)[start : start + size]
        rest = np.setdiff1d(np.arange(57), test)
        start += size
        accuracies = [((distances[rest] < t) == same[rest]).mean() for t in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[int(np.argmax(accuracies))]
        expected.append(((distances[test] < best) == same[test]).mean())
    found, thresholds = fold_accuracies(features, same)
    assert found.tolist() == pytest.approx(expected) and len(thresholds) == 10
    assert 0.6 < found.mean() < 1


def test_fewer_pairs_than_folds():
    found, _ = fold_accuracies(np.eye(4)[[0, 0, 1, 2, 3, 3]], np.array([True, False, True]))
    assert found.tolist() == [1, 1, 1]


def test_each_person_gives_one_triplet():
    labels = np.array([2, 0, 1, 2, 0, 2, 3])  # 1 and 3 have one picture each
    anchors, positives, negatives = triplets(labels, seed=0, draw=0)
    assert labels[anchors].tolist() == labels[positives].tolist() == [0, 2]
    assert (anchors != positives).all() and (labels[negatives] != labels[anchors]).all()
    drawn = [triplets(labels, 0, draw) for draw in range(200)]
    assert {int(negative) for _, _, found in drawn for negative in found} == set(range(7))
    assert {(int(a[1]), int(p[1])) for a, p, _ in drawn} == {(i, j) for i in (0, 3, 5) for j in (0, 3, 5) if i != j}
    assert all(np.array_equal(a, b) for a, b in zip(triplets(labels, 0, 7), drawn[7], strict=True))


def test_features_of_each_level():
    encoder = build_msid(tiny_msid_state_dict(MULTI))
    pictures = torch.from_numpy(faces(2, 2)).permute(0, 3, 1, 2) / 127.5 - 1
    found = level_features(encoder, pictures)
    assert list(found) == [1, 2, 3, 4]
    assert torch.allclose(torch.cat(list(found.values()), dim=1), encoder(pictures), atol=1e-5)


def test_a_plain_encoder_shows_its_raw_class_tokens():
    encoder = build_msid(tiny_msid_state_dict(PLAIN))
    pictures = torch.from_numpy(faces(2, 2)).permute(0, 3, 1, 2) / 127.5 - 1
    found = level_features(encoder, pictures)
    assert layers_of(PLAIN) == (1, 3, 5, 7) and list(found) == [2, 4, 6, 8]
    tokens = encoder.embed(pictures)
    for block in encoder.blocks[:4]:
        tokens = block(tokens)
    assert torch.allclose(found[4], tokens[:, 0], atol=1e-5)
    assert torch.allclose(found[8], encoder(pictures), atol=1e-5)
    assert layers_of(MSIDConfig(SIDE, 8, 32, 2, 1, 64, (1,))) == (0, 1)  # no quarters of two blocks


def test_pictures_go_through_in_parts(encoder):
    data, told = MemoryIdentities(), []
    whole = extract(encoder, data.pictures, len(data), batch=40)
    parts = extract(encoder, data.pictures, len(data), batch=7, progress=lambda *now: told.append(now))
    assert all(torch.allclose(parts[layer], value, atol=1e-5) for layer, value in whole.items())
    assert told[0] == (7, 40) and told[-1] == (40, 40)


def test_pairs_of_equal_faces_are_told_from_others(encoder):
    pictures = [encoded(picture) for picture in faces(40, 1)]
    order = [i for pair in range(20) for i in ((pair, pair) if pair % 2 else (pair, 39 - pair))]
    told = []
    pairs = PairSet("toy", [pictures[i] for i in order], np.arange(20) % 2 == 1, SIDE)
    found = verify_pairs(encoder, pairs, batch=16, progress=lambda *now: told.append(now))
    assert found.accuracy >= 0.95 and found.pairs == 20
    assert found.auc == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1] == (80, 80)


def test_accuracy_uses_the_sum_with_the_mirror_image(encoder):
    pictures = faces(6, 1)
    mirrored = pictures[:, :, ::-1]
    mixed = [encoded(picture) for pair in zip(pictures, mirrored, strict=True) for picture in pair]
    found = verify_pairs(encoder, PairSet("toy", mixed, np.ones(6, bool), SIDE))
    assert found.accuracy == 1 and found.threshold == pytest.approx(0.01)  # the least that is above a distance of 0


def test_people_with_one_picture_each_give_no_triplets(encoder):
    with pytest.raises(DataError, match="nobody has two pictures"):
        verify_levels(encoder, MemoryIdentities(people=4, each=1))


def test_levels_over_draws(encoder):
    data = MemoryIdentities(people=12, each=4)
    found = verify_levels(encoder, data, draws=3, seed=1)
    features = extract(encoder, data.pictures, len(data))
    aucs = []
    for draw in range(3):
        anchors, positives, negatives = triplets(data.labels, 1, draw)
        rows = features[2]
        aucs.append(area_under_curve(cosine(rows[anchors], rows[positives]), cosine(rows[anchors], rows[negatives])))
    assert found.auc[2] == pytest.approx(np.mean(aucs)) and found.people == 12
    assert len(found.same[2]) == len(found.other[2]) == 36


def test_only_pictures_that_are_drawn_are_looked_at(encoder):
    """And the result is that of looking at all of them."""
    data, seen = MemoryIdentities(people=6, each=30), []

    class Watched:
        labels, title = data.labels, data.title

        def __len__(self):
            return len(data)

        def pictures(self, indices):
            seen.extend(indices)
            return data.pictures(indices)

    found = verify_levels(encoder, Watched(), draws=3, batch=7)
    assert 6 < len(seen) == len(set(seen)) <= 3 * 3 * 6 < len(data)

    features = extract(encoder, data.pictures, len(data))
    for layer, own in features.items():
        areas = []
        for draw in range(3):
            anchors, alike, apart = triplets(data.labels, 0, draw)
            areas.append(area_under_curve(cosine(own[anchors], own[alike]), cosine(own[anchors], own[apart])))
        assert found.auc[layer] == pytest.approx(np.mean(areas), abs=1e-6)
