"""Sweeps: exact ends, even steps, expressions on and off, what cannot be swept."""

from dataclasses import replace

import pytest
import torch

from f2d_core.blend import blend
from f2d_core.encode import Expression, effective_expression
from f2d_core.errors import MismatchError, SettingsError
from f2d_core.networks import load_network
from f2d_core.s_star import SStar
from f2d_core.sweep import even_values, sweep_expression, sweep_people
from f2d_core.testing import tiny_mapping_state_dict


@pytest.fixture(scope="module")
def mapping(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "mapping.pt"
    torch.save(tiny_mapping_state_dict(), file)
    return load_network(file, "mapping")


@pytest.fixture(scope="module")
def people(mapping):
    def make(i):
        v_id = torch.randn(1, 256, generator=torch.Generator().manual_seed(i))
        return SStar(
            mapping.run(v_id, None)[0].clone(),
            name=f"p{i}",
            marker=f"P{i}",
            v_id=v_id[0],
            mapping_sha256=mapping.sha256,
        )

    return [make(i) for i in range(3)]


def reference(seed, strength=1.0, count=1, encoder="e", width=64):
    return Expression(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), encoder, strength)


def test_even_values():
    assert even_values(0.1, 0.7, 4) == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert (even_values(0.1, 0.7, 4)[0], even_values(0.1, 0.7, 4)[-1]) == (0.1, 0.7)
    assert even_values(-1, 2, 1) == [-1]
    with pytest.raises(SettingsError, match="at least 1"):
        even_values(0, 1, 0)


@pytest.mark.parametrize("space", ["identity", "words"])
def test_the_ends_are_the_people_bit_for_bit(space, people, mapping):
    swept = sweep_people(people[:2], 5, mapping if space == "identity" else None)
    assert torch.equal(swept[0].vectors, people[0].vectors) and torch.equal(swept[4].vectors, people[1].vectors)
    assert [person.marker for person in swept] == ["P0"] * 5
    assert [person.name for person in swept] == ["p0", "p0 75% + p1 25%", "p0 50% + p1 50%", "p0 25% + p1 75%", "p1"]


def test_each_step_is_the_blend_of_its_weights_bit_for_bit(people, mapping):
    swept = sweep_people(people[:2], 4, mapping)
    alone = blend(people[:2], [1 - 1 / 3, 1 / 3], mapping)
    assert torch.equal(swept[1].vectors, alone.vectors)
    assert all(
        torch.equal(a.vectors, b.vectors) for a, b in zip(swept, sweep_people(people[:2], 4, mapping), strict=True)
    )


def test_on_the_sphere_every_step_turns_by_the_same_angle(people, mapping):
    swept = torch.stack([person.v_id for person in sweep_people(people[:2], 6, mapping)])
    first = swept[:, :64].double()  # one part of v_id
    angles = torch.acos(torch.cosine_similarity(first[1:], first[:-1]))
    assert angles.max() - angles.min() < 1e-4 < angles.min()


def test_three_people_are_passed_in_turn(people, mapping):
    swept = sweep_people(people, 5, mapping)
    for place, person in zip((0, 2, 4), people, strict=True):
        assert torch.equal(swept[place].vectors, person.vectors)
    assert torch.equal(swept[3].vectors, blend(people[1:], [0.5, 0.5], mapping).vectors)


def test_progress_counts_the_steps(people):
    seen = []
    sweep_people(people[:2], 3, None, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("count", "who"), [(1, 2), (5, 1)])
def test_a_sweep_needs_two_steps_and_two_people(count, who, people):
    with pytest.raises(SettingsError, match="at least two of both"):
        sweep_people(people[:who], count)


def test_strength_0_is_no_expression_and_1_the_reference(people, mapping):
    smile = reference(1)
    none, half, full = sweep_expression(people[0], mapping, smile, None, [0.0, 0.5, 1.0])
    assert torch.equal(none.vectors, people[0].vectors)
    assert torch.equal(full.vectors, mapping.run(people[0].v_id[None], smile.v_exp)[0])
    assert torch.equal(full.v_exp, smile.v_exp[0]) and full.expression_encoder_sha256 == "e"
    null_exp = mapping.module.null_exp.detach()
    assert torch.allclose(half.v_exp, (null_exp + smile.v_exp[0]) / 2, atol=1e-6)
    assert (none.name, half.name, half.marker) == ("p0 +0.00", "p0 +0.50", "P0")


def test_the_strength_of_the_reference_multiplies(people, mapping):
    (one,) = sweep_expression(people[0], mapping, reference(1, strength=2.0), None, [0.75])
    assert torch.allclose(one.v_exp, effective_expression(reference(1, strength=1.5), mapping)[0], atol=1e-6)


def test_between_two_references_the_ends_are_exact(people, mapping):
    smile, frown = reference(1), reference(2, strength=0.5)
    swept = sweep_expression(people[0], mapping, smile, frown, even_values(0, 1, 3))
    assert torch.equal(swept[0].v_exp, smile.v_exp[0])
    assert torch.equal(swept[2].v_exp, effective_expression(frown, mapping)[0])
    assert torch.allclose(swept[1].v_exp, (swept[0].v_exp + swept[2].v_exp) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("expression", "to", "message"),
    [
        (reference(1, count=3), None, "3 faces with 64"),
        (reference(1, width=10), None, "1 faces with 10"),
        (reference(1), reference(2, count=2), "2 faces"),
        (reference(1), reference(2, encoder="other"), "different expression encoders"),
    ],
)
def test_expressions_that_do_not_fit(expression, to, message, people, mapping):
    with pytest.raises(MismatchError, match=message):
        sweep_expression(people[0], mapping, expression, to, [0.0])


def test_a_person_without_features_cannot_change_expression(people, mapping):
    with pytest.raises(MismatchError, match="holds no identity features"):
        sweep_expression(replace(people[0], v_id=None), mapping, reference(1), None, [0.0])


def test_the_licence_of_the_person_stays_with_that_of_the_mapping(people, mapping):
    mapping = replace(mapping, licence="for mappings; non-commercial")
    anna = replace(people[0], licence="for mappings; of the photo")

    (once,) = sweep_expression(anna, mapping, reference(1), None, [0.5])
    (twice,) = sweep_expression(once, mapping, reference(1), None, [1.0])

    assert once.licence == twice.licence == "for mappings; non-commercial; of the photo"
