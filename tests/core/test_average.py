"""Several photos as one identity: weights, the robust mean, and the photo that does not belong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from f2d_core.average import DISAGREES, average_faces, distances, median_shares
from f2d_core.blend import mean_identity
from f2d_core.errors import MismatchError, SettingsError
from f2d_core.mapping import build_mapping
from f2d_core.networks import Network, on_cpu
from f2d_core.s_star import SStar
from f2d_core.testing import tiny_mapping_state_dict

FACTS = {"injection": "sum", "encoder_key": "l", "class_word": "a person", "features": "msid", "msid_sha256": ""}


@pytest.fixture(scope="module")
def mapping():
    module = build_mapping(tiny_mapping_state_dict())
    return Network(module, on_cpu(module), "f", "licence", FACTS, Path("mapping.pt"))


def photo(v_id, mapping, number=0):
    pixels = torch.full((112, 112, 3), number, dtype=torch.uint8)
    words = mapping.run(v_id[None], None)[0].clone()
    return SStar(words, name="anna", marker="A", v_id=v_id, thumbnail=pixels, image_sha256=f"h{number}",
                 mapping_sha256="f")  # fmt: skip


def features(spread, count=5, stranger=True):
    """Noisy photos of one face, and somebody else's as the last."""
    generator = torch.Generator().manual_seed(0)
    face, other = torch.randn(2, 256, generator=generator)
    v_id = face + spread * torch.randn(count, 256, generator=generator)
    if stranger:
        v_id[-1] = other
    return face, v_id


@pytest.fixture
def photos(mapping):
    _, v_id = features(0.4)
    return [photo(row, mapping, number) for number, row in enumerate(v_id)]


def test_the_photo_of_somebody_else_is_named(photos, mapping):
    for method in ("mean", "robust"):
        _, found = average_faces(photos, mapping, method=method)
        assert [item.disagrees for item in found] == [False] * 4 + [True]
        assert found[-1].distance > DISAGREES and all(item.distance < 1 for item in found[:-1])


def test_photos_of_one_person_agree(mapping):
    _, v_id = features(0.4, stranger=False)
    person, found = average_faces([photo(row, mapping) for row in v_id], mapping)
    assert not any(item.disagrees for item in found)
    assert sum(item.share for item in found) == pytest.approx(1)
    assert (person.name, person.marker) == ("anna", "A")


def test_the_robust_mean_stays_nearer_to_the_face_than_the_plain_one(photos, mapping):
    face, _ = features(0.4)
    plain, shares = average_faces(photos, mapping, method="mean")
    robust, robust_shares = average_faces(photos, mapping, method="robust")
    assert torch.cosine_similarity(robust.v_id, face, dim=0) > torch.cosine_similarity(plain.v_id, face, dim=0) + 0.005
    assert shares[-1].share == pytest.approx(0.2) and robust_shares[-1].share < 0.15


def test_the_robust_mean_is_the_geometric_median():
    """The ways to all photos, each taken as one step long, cancel out: nothing else is nearer to all in sum."""
    from f2d_core.average import _far

    _, v_id = features(0.4)
    median = mean_identity(v_id, median_shares(v_id, [0.2] * 5, "msid"))
    total = _far(median, v_id, "msid").sum()
    for seed in range(5):
        moved = median + 0.05 * torch.randn(256, generator=torch.Generator().manual_seed(seed))
        assert _far(moved, v_id, "msid").sum() > total


def test_weights_are_the_shares_of_the_mean(photos, mapping):
    person, found = average_faces(photos[:3], mapping, [2, 1, 1], "mean")
    assert [item.share for item in found] == [0.5, 0.25, 0.25]
    v_id = torch.stack([item.v_id for item in photos[:3]])
    assert torch.equal(person.v_id, mean_identity(v_id, [0.5, 0.25, 0.25]))
    assert person.unknown_metadata == {"made_of": "3 photos: 0.5, 0.25, 0.25"}
    assert person.image_sha256 == "h0 h1 h2" and int(person.thumbnail.max()) == 0  # the one that counts most


def test_a_photo_with_weight_0_is_left_out(photos, mapping):
    for method in ("mean", "robust"):
        person, found = average_faces(photos, mapping, [1, 1, 1, 1, 0], method)
        assert found[-1].share == 0 and "h4" not in person.image_sha256


def test_one_photo_is_itself(photos, mapping):
    person, (found,) = average_faces(photos[:1], mapping)
    assert torch.equal(person.vectors, photos[0].vectors)
    assert (found.share, found.distance, found.disagrees) == (1, None, False)


def test_of_two_photos_nobody_can_say_which_is_wrong(photos, mapping):
    _, found = average_faces(photos[3:], mapping)
    assert [item.distance for item in found] == [None, None]
    assert [item.share for item in found] == pytest.approx([0.5, 0.5])


def test_identical_photos_do_not_divide_by_zero(photos, mapping):
    same = [photos[0]] * 4
    person, found = average_faces(same, mapping)
    assert torch.allclose(person.v_id, photos[0].v_id, atol=1e-5)
    assert all(item.share == pytest.approx(0.25) and not item.disagrees for item in found)
    assert torch.isfinite(torch.tensor(distances(torch.stack([photos[0].v_id] * 4), "msid"))).all()


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, -1], [0, 0, 0], [1, float("nan"), 1]])
def test_weights_that_mean_nothing(weights, photos, mapping):
    with pytest.raises(SettingsError, match="for 3 photos"):
        average_faces(photos[:3], mapping, weights)


def test_unknown_method(photos, mapping):
    with pytest.raises(SettingsError, match="expected one of robust, mean"):
        average_faces(photos, mapping, method="median")


def test_photos_through_different_encoders(photos, mapping):
    with pytest.raises(MismatchError, match="different identity encoders"):
        average_faces([photos[0], replace(photos[1], msid_sha256="x")], mapping)
