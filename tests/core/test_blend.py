"""Blends: exact ends, means on the sphere with known answers, provenance, what cannot be mixed."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from f2d_core.blend import MADE_OF, blend, mean_identity, parts, tangents
from f2d_core.errors import MismatchError, SettingsError
from f2d_core.mapping import build_mapping
from f2d_core.networks import Network, on_cpu
from f2d_core.s_star import SStar, load_s_star, save_s_star
from f2d_core.testing import TINY_MAPPING, tiny_mapping_state_dict

FACTS = {"injection": "sum", "encoder_key": "l", "class_word": "a person", "features": "msid", "msid_sha256": "m"}


@pytest.fixture(scope="module")
def mapping():
    module = build_mapping(tiny_mapping_state_dict())
    return Network(module, on_cpu(module), "f", "CC BY-NC-SA 4.0", FACTS, Path("mapping.pt"))


@pytest.fixture
def people(mapping):
    """Eight people whose words are what this mapping makes of their features."""
    generator = torch.Generator().manual_seed(0)

    def make(i):
        v_id = torch.randn(1, TINY_MAPPING.id_width, generator=generator)
        return SStar(
            mapping.run(v_id, None)[0].clone(),
            name=f"p{i}",
            marker=f"P{i}",
            v_id=v_id[0],
            thumbnail=torch.full((112, 112, 3), 20 * i, dtype=torch.uint8),
            msid_sha256="m",
            mapping_sha256="f",
            image_sha256=f"h{i}",
            detector="yunet, as is",
            licence="CC BY-NC-SA 4.0",
        )

    return [make(i) for i in range(8)]


def turned(angle, length=1.0, width=8):
    """A vector in the plane of the first two axes."""
    vector = torch.zeros(width)
    vector[0], vector[1] = length * math.cos(angle), length * math.sin(angle)
    return vector


@pytest.mark.parametrize("space", ["identity", "words"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_all_weight_on_one_person_gives_exactly_them(space, count, people, mapping):
    for chosen in range(count):
        weights = [0.0] * count
        weights[chosen] = 0.7
        one = blend(people[:count], weights, mapping if space == "identity" else None)
        assert torch.equal(one.vectors, people[chosen].vectors)
        assert (one.name, one.marker, one.image_sha256) == (f"p{chosen}", "P0", f"h{chosen}")


def test_the_way_between_two_directions_is_the_great_circle():
    v_id = torch.stack([turned(0.2), turned(1.4)])
    for share in (0.25, 0.5, 0.9, -0.5, 1.5):
        mean = mean_identity(v_id, [1 - share, share], "other")
        assert torch.allclose(mean, turned(0.2 + share * 1.2), atol=1e-6)


def test_lengths_are_averaged_apart_from_directions():
    v_id = torch.stack([turned(0.0, 2.0), turned(1.0, 6.0)])
    assert torch.allclose(mean_identity(v_id, [0.75, 0.25], "other"), turned(0.25, 3.0), atol=1e-6)


def test_every_part_of_v_id_is_a_sphere_of_its_own():
    first, second = [turned(0.0, width=2), turned(1.0, width=2)], [turned(0.6, width=2), turned(1.4, width=2)]
    v_id = torch.stack([torch.cat([*first, *first]), torch.cat([*second, *second])])
    mean = mean_identity(v_id, [0.5, 0.5], "msid")
    middle = [turned(0.3, width=2), turned(1.2, width=2)]
    assert torch.allclose(mean, torch.cat([*middle, *middle]), atol=1e-6)


@pytest.mark.parametrize(
    ("features", "width", "count"), [("msid", 1536, 4), ("dreamidentity", 1920, 5), ("msid", 10, 1)]
)
def test_parts_are_those_of_the_published_layouts(features, width, count):
    assert [part.shape for part in parts(torch.zeros(2, width), features)] == [(2, width // count)] * count


def test_the_mean_of_three_directions_balances_the_ways_to_them():
    v_id = torch.nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(3)), dim=1)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mean = mean_identity(v_id, shares.tolist(), "other").double()
    assert (shares @ tangents(mean / mean.norm(), v_id.double())).norm() < 1e-6
    assert mean.norm() == pytest.approx(1, abs=1e-6)


def test_a_third_person_who_fades_away_leaves_the_blend_of_two(people, mapping):
    two = blend(people[:2], [0.4, 0.6], mapping)
    three = blend(people[:3], [0.4, 0.6, 1e-7], mapping)
    assert (two.v_id - three.v_id).abs().max() < 1e-5


def test_blended_features_keep_the_length_that_a_plain_mean_loses(golden, golden_weights):
    """On three real faces through the stand-in encoder of the published layout."""
    import numpy as np

    from f2d_core.msid import build_msid

    faces = torch.from_numpy(np.load(golden / "msid.npz")["input"])
    encoder = build_msid(golden_weights("msid"))
    with torch.inference_mode():
        v_id = encoder(faces)
    lengths = torch.stack([part.norm(dim=1) for part in parts(v_id, "msid")])
    blended = mean_identity(v_id, [1 / len(v_id)] * len(v_id))
    blended_lengths = torch.stack([part.norm() for part in parts(blended[None], "msid")])
    plain_lengths = torch.stack([part.norm() for part in parts(v_id.mean(0, keepdim=True), "msid")])
    assert ((lengths.amax(1) - lengths.amin(1)) / lengths.mean(1)).max() < 0.1  # about the same for everybody
    assert torch.allclose(blended_lengths, lengths.mean(1), rtol=1e-5)
    assert (plain_lengths < lengths.amin(1)).all()


def test_words_are_averaged_plainly(people):
    blended = blend(people[:2], [3, 1])
    expected = 0.75 * people[0].vectors.double() + 0.25 * people[1].vectors.double()
    assert torch.equal(blended.vectors, expected.float())
    assert blended.v_id is None and blended.mapping_sha256 == "f"


def test_identity_features_go_through_the_mapping(people, mapping):
    blended = blend(people[:3], [1, 1, 2], mapping)
    assert torch.equal(blended.vectors, mapping.run(blended.v_id[None], None)[0])
    assert torch.equal(blended.v_id, mean_identity(torch.stack([p.v_id for p in people[:3]]), [0.25, 0.25, 0.5]))
    assert (blended.v_exp, blended.injection, blended.mapping_sha256) == (None, "sum", "f")


def test_only_the_relation_of_weights_counts_and_order_does_not(people, mapping):
    one = blend(people[:3], [0.1, 0.2, 0.3], mapping)
    other = blend([people[2], people[0], people[1]], [1.5, 0.5, 1.0], mapping)
    assert (one.vectors - other.vectors).abs().max() < 1e-5


def test_no_expression_counts_as_the_learned_one(people, mapping):
    v_exp = torch.randn(64, generator=torch.Generator().manual_seed(5))
    smiling = replace(people[1], v_exp=v_exp, expression_encoder_sha256="e")
    blended = blend([people[0], smiling], [1, 3], mapping)
    null_exp = mapping.module.null_exp.detach()
    assert torch.allclose(blended.v_exp, 0.25 * null_exp + 0.75 * v_exp, atol=1e-6)
    assert blended.expression_encoder_sha256 == "e"


def test_provenance_is_that_of_all(people, mapping, tmp_path):
    second = replace(people[1], licence="other", detector="face landmarks, as is")
    blended = blend([people[0], second], [3, 1], mapping)
    assert (blended.name, blended.marker) == ("p0 75% + p1 25%", "P0")
    assert (blended.image_sha256, blended.msid_sha256) == ("h0 h1", "m")
    assert blended.licence == "CC BY-NC-SA 4.0; other"
    assert blended.detector == "yunet, as is, face landmarks, as is"
    assert int(blended.thumbnail.unique()) == 5
    again = load_s_star(save_s_star(blended, tmp_path / "x.safetensors"))
    assert again.unknown_metadata[MADE_OF] == "p0: 0.75, p1: 0.25"
    assert torch.equal(again.vectors, blended.vectors)


def test_a_person_without_a_picture_leaves_the_blend_without(people):
    assert blend([people[0], people[1].without_thumbnail()], [1, 1]).thumbnail is None


def test_class_words_that_differ_become_the_general_one(people):
    her, him = replace(people[0], class_word="a woman"), replace(people[1], class_word="a man")
    assert blend([her, him], [1, 1]).class_word == "a person"
    assert blend([her, her], [1, 1]).class_word == "a woman"


def test_another_mapping_makes_new_words_of_the_same_features(people, mapping):
    """Also with all weight on one person: these words were made by another network."""
    module = build_mapping(tiny_mapping_state_dict(seed=9))
    new = Network(module, on_cpu(module), "g", "own", {**FACTS, "injection": "token"}, Path("new.safetensors"))
    one = blend(people[:2], [1, 0], new)
    assert torch.allclose(one.vectors, new.run(people[0].v_id[None], None)[0], atol=1e-4)
    assert (one.injection, one.mapping_sha256, one.licence) == ("token", "g", "own; CC BY-NC-SA 4.0")


@pytest.mark.parametrize(
    "change",
    [
        {"injection": "token"},
        {"encoder_key": "h"},
        {"vectors": torch.zeros(3, 768)},
        {"vectors": torch.zeros(2, 1024)},
    ],
)
def test_words_of_different_kinds_do_not_mix(change, people):
    with pytest.raises(MismatchError, match="do not mix"):
        blend([people[0], replace(people[1], **change)], [1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_id": None}, "holds no identity features"),
        ({"msid_sha256": "n"}, "different identity encoders"),
        ({"v_id": torch.zeros(10)}, "has 10 identity features"),
        ({"features": "dreamidentity"}, "dreamidentity"),
        ({"v_exp": torch.zeros(3)}, "3 coefficients"),
    ],
)
def test_features_that_do_not_belong_together(change, message, people, mapping):
    with pytest.raises(MismatchError, match=message):
        blend([people[0], replace(people[1], **change)], [1, 1], mapping)


def test_an_encoder_that_the_mapping_was_not_trained_with(people, mapping):
    strangers = [replace(person, msid_sha256="n") for person in people[:2]]
    with pytest.raises(MismatchError, match="mapping that made this"):
        blend(strangers, [1, 1], mapping)


def test_expressions_of_different_encoders(people, mapping):
    smiling = [replace(p, v_exp=torch.zeros(64), expression_encoder_sha256=p.name) for p in people[:2]]
    with pytest.raises(MismatchError, match="different expression encoders"):
        blend(smiling, [1, 1], mapping)


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [-1, 0.5], [float("nan"), 1], [float("inf"), 1]])
def test_weights_without_a_meaning(weights, people):
    with pytest.raises(SettingsError, match="expected more than 0"):
        blend(people[:2], weights)


def test_as_many_weights_as_people(people):
    with pytest.raises(SettingsError, match="3 weights for 2 people"):
        blend(people[:2], [1, 1, 1])


def test_weights_that_lead_nowhere_on_the_sphere():
    opposite = torch.stack([turned(0.0), -turned(0.0)])
    with pytest.raises(SettingsError, match="too far away"):
        mean_identity(opposite, [0.5, 0.5], "other")


def test_a_broken_mapping_is_named(people, mapping):
    broken = replace(mapping, run=lambda v_id, v_exp: torch.full((1, 2, 768), float("nan")))
    with pytest.raises(MismatchError, match=r"mapping\.pt gave word vectors that are not numbers"):
        blend(people[:2], [1, 1], broken)


@pytest.mark.parametrize(
    "picture", [torch.zeros(200, 200, 3, dtype=torch.uint8), torch.zeros(9), torch.zeros(112, 112, 3)]
)
@pytest.mark.parametrize("features", [True, False])
def test_a_picture_of_another_size_leaves_the_blend_without(picture, features, people, mapping):
    blended = blend([people[0], replace(people[1], thumbnail=picture)], [1, 1], mapping if features else None)
    assert blended.thumbnail is None and blended.name == "p0 50% + p1 50%"
