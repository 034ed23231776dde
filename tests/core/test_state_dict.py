"""State dicts against networks: every refusal names the key and says what was found and expected."""

import pytest
import torch
from torch import nn

from f2d_core.errors import WeightsError
from f2d_core.state_dict import build, check_state_dict, expected_shapes, indices, shape_of

EXPECTED = {"a.weight": (2, 3), "a.bias": (2,), "count": ()}


def fitting():
    return {key: torch.zeros(shape) for key, shape in EXPECTED.items()}


def refusal(found, optional=()):
    with pytest.raises(WeightsError) as caught:
        check_state_dict(found, EXPECTED, optional, "toy network")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("toy network: ")
    return str(caught.value)


def test_a_fitting_state_dict_passes():
    check_state_dict(fitting(), EXPECTED, (), "toy network")


def test_a_missing_key_is_named_with_its_shape():
    found = fitting()
    del found["a.weight"]

    assert "key a.weight is missing, expected shape (2, 3)" in refusal(found)


def test_an_optional_key_may_be_missing_but_not_misshapen():
    found = fitting()
    del found["count"]
    check_state_dict(found, EXPECTED, ("count",), "toy network")

    found["count"] = torch.zeros(4)
    assert "key count has shape (4,), expected ()" in refusal(found, ("count",))


def test_a_wrong_shape_is_named():
    assert "key a.weight has shape (3, 2), expected (2, 3)" in refusal(fitting() | {"a.weight": torch.zeros(3, 2)})


def test_an_unknown_key_is_named():
    assert "unknown key b.weight" in refusal(fitting() | {"b.weight": torch.zeros(1)})


def test_shape_of_names_a_key_that_is_missing_or_has_other_dimensions():
    assert shape_of(fitting(), "a.weight", 2, "toy network") == (2, 3)
    with pytest.raises(WeightsError, match="key b is missing, expected 1 dimension"):
        shape_of(fitting(), "b", 1, "toy network")
    with pytest.raises(WeightsError, match=r"key a.bias has shape \(2,\), expected 2 dimensions"):
        shape_of(fitting(), "a.bias", 2, "toy network")


def test_indices_are_whole_numbers_in_order():
    keys = ("x.10.a", "x.2.a", "x.2.b", "x.two.a", "x.3", "y.x.4.a", "x.-1.a", "x.².a")

    assert indices(dict.fromkeys(keys), "x.") == [2, 10]


def test_expected_shapes_allocate_nothing():
    huge = 1 << 20  # squared, as fp32: 4 TB

    assert expected_shapes(lambda: nn.Linear(huge, huge)) == {"weight": (huge, huge), "bias": (huge,)}


def test_build_uses_the_tensors_and_gives_a_frozen_network():
    weights = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}

    network = build(lambda operations: operations.Linear(3, 2), weights, nn, "toy network")

    assert network.weight.data_ptr() == weights["weight"].data_ptr()
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(WeightsError, match="key bias is missing"):
        build(lambda operations: operations.Linear(3, 2), {"weight": weights["weight"]}, nn, "toy network")
