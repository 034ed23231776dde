"""f_map: parity with the official numbers, any number of words, with and without an expression, training."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from f2d_core.errors import MismatchError, WeightsError
from f2d_core.mapping import MappingConfig, MappingNetwork, build_mapping, head_names, mapping_config
from f2d_core.testing import TINY_MAPPING, tiny_mapping_state_dict
from tests.support.casting import CastingOperations

CONFIGS = {
    "one word": MappingConfig(id_width=24, expression_width=8, hidden=16, words=1, word_width=12, layers=2),
    "three words": MappingConfig(id_width=24, expression_width=8, hidden=16, words=3, word_width=12, layers=1),
    "no expression": MappingConfig(id_width=24, expression_width=0, hidden=16, words=2, word_width=12, layers=3),
}
SMALL = MappingConfig(id_width=24, expression_width=8, hidden=16, words=2, word_width=12, layers=2)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def features(width, batch=3, seed=5):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


def largest_difference(a, b):
    return (a - b).abs().max().item()


# --- the official numbers ---


@pytest.fixture
def arrays(golden):
    return {name: torch.from_numpy(array) for name, array in np.load(golden / "mapping.npz").items()}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("noexp", ("idvec",)),
        ("exp", ("idvec", "exp")),
        ("recon", ("idvec", "exp_recon")),
        ("mask_binary", ("idvec", "exp", "mask_binary")),
        ("mask_soft", ("idvec", "exp", "mask_soft")),
    ],
)
def test_golden_words(arrays, golden_weights, name, inputs):
    s_star = build_mapping(golden_weights("mapping"))(*(arrays[key] for key in inputs))

    assert largest_difference(s_star[:, 0], arrays[f"{name}_first"]) < 5e-5
    assert largest_difference(s_star[:, 1], arrays[f"{name}_last"]) < 5e-5


def test_golden_words_of_no_identity(arrays, golden_weights):
    s_star = build_mapping(golden_weights("mapping"))(torch.zeros(1, 1536))

    assert largest_difference(s_star, torch.stack((arrays["zero_first"], arrays["zero_last"]), dim=1)) < 5e-5


def test_published_sizes_and_keys(golden, golden_weights):
    network = build_mapping(golden_weights("mapping"))

    assert network.config == MappingConfig(1536, 64, 1536, 2, 768, 2)
    entries = json.loads((golden / "keys-mapping.json").read_text())["entries"]
    assert list(network.state_dict()) == [entry["key"] for entry in entries]


# --- any network of this make ---


def reference(state_dict, config, v_id, v_exp):
    """Word by word, from the keys."""
    words = []
    for name in head_names(config.words):
        x = torch.cat((v_id, v_exp), dim=1)
        for i in range(config.layers):
            prefix = f"{name}.layers.{i}.0."
            x = F.linear(x, state_dict[f"{prefix}weight"], state_dict[f"{prefix}bias"])
            x = torch.maximum(x, 0.2 * x)
        words.append(F.linear(x, state_dict[f"{name}.fc_out.weight"], state_dict[f"{name}.fc_out.bias"]))
    return torch.stack(words, dim=1)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_any_number_of_words_layers_and_expression_values(config):
    weights, v_id, v_exp = tiny_mapping_state_dict(config), features(24), features(config.expression_width)

    network = build_mapping(weights)

    assert network.config == config
    assert network(v_id).shape == (3, config.words, 12)
    assert largest_difference(network(v_id, v_exp), reference(weights, config, v_id, v_exp)) < 1e-6
    null_exp = weights["null_exp"].expand(3, -1)
    assert largest_difference(network(v_id), reference(weights, config, v_id, null_exp)) < 1e-6


def test_names_of_the_words():
    assert head_names(1) == ("i2t_first",)
    assert head_names(2) == ("i2t_first", "i2t_last")
    assert head_names(4) == ("i2t_first", "i2t_1", "i2t_2", "i2t_last")


def test_the_mask_moves_between_null_exp_and_the_expression():
    network, v_id, v_exp = build_mapping(tiny_mapping_state_dict(SMALL)), features(24), features(8)

    masked = network(v_id, v_exp, torch.tensor([0.0, 0.25, 1.0]))

    blend = 0.25 * v_exp + 0.75 * network.null_exp
    assert torch.equal(masked[0], network(v_id)[0])
    assert largest_difference(masked[1], network(v_id, blend)[1]) < 1e-6
    assert torch.equal(masked[2], network(v_id, v_exp)[2])


def test_features_of_another_width_are_refused():
    network = build_mapping(tiny_mapping_state_dict(SMALL))

    with pytest.raises(MismatchError, match="v_id has width 30, this mapping network expects 24"):
        network(features(30))
    with pytest.raises(MismatchError, match="v_exp has width 5, this mapping network expects 8"):
        network(features(24), features(5))


# --- weights ---


def test_sizes_are_read_from_the_state_dict():
    assert mapping_config(tiny_mapping_state_dict()) == TINY_MAPPING


@pytest.mark.parametrize("key", tiny_mapping_state_dict(SMALL))
def test_every_key_is_needed(key):
    weights = tiny_mapping_state_dict(SMALL)
    del weights[key]

    with pytest.raises(WeightsError, match="mapping network: ") as caught:
        build_mapping(weights)
    assert key in str(caught.value)


def test_wrong_shapes_are_named():
    shorter = tiny_mapping_state_dict(SMALL) | {"i2t_last.fc_out.weight": torch.zeros(11, 16)}
    with pytest.raises(WeightsError, match=r"i2t_last.fc_out.weight has shape \(11, 16\), expected \(12, 16\)"):
        build_mapping(shorter)

    with pytest.raises(WeightsError, match="null_exp has 32"):
        mapping_config(tiny_mapping_state_dict(SMALL) | {"null_exp": torch.zeros(32)})


def test_parts_that_are_not_computed_are_refused():
    with pytest.raises(WeightsError, match="unknown key i2t_first.norm.weight"):
        build_mapping(tiny_mapping_state_dict(SMALL) | {"i2t_first.norm.weight": torch.ones(16)})


def test_weights_of_another_dtype_are_cast_to_the_input():
    weights = tiny_mapping_state_dict(SMALL)
    network = build_mapping(weights, CastingOperations).half()
    rounded = build_mapping({key: value.half().float() for key, value in weights.items()})

    assert network(features(24)).dtype == torch.float32
    assert largest_difference(network(features(24)), rounded(features(24))) < 1e-6


# --- training ---


def test_dropout_is_for_training_only():
    network = build_mapping(tiny_mapping_state_dict(SMALL))
    assert torch.equal(network(features(24)), network(features(24)))

    network.train()
    torch.manual_seed(0)
    assert not torch.equal(network(features(24)), network(features(24)))


def test_a_tenth_of_every_hidden_layer_is_dropped():
    network = MappingNetwork(MappingConfig(4, 0, 4000, 1, 2, 2)).train()
    for layer in network.i2t_first.layers:
        torch.manual_seed(0)
        assert (layer(torch.ones(1, layer[0].in_features)) == 0).float().mean() == pytest.approx(0.1, abs=0.02)


def test_gradients_reach_every_parameter():
    network = build_mapping(tiny_mapping_state_dict(SMALL)).requires_grad_().train()

    with torch.enable_grad():
        network(features(24)).square().sum().backward()

    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_given_dropout_takes_the_place_of_the_networks_own():
    """(B, words, layers, hidden): the first word without its first hidden value, the second untouched."""
    network = build_mapping(tiny_mapping_state_dict()).train()
    config = network.config
    v_id = torch.randn(2, config.id_width, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(2, config.words, config.layers, config.hidden)
    assert torch.equal(network(v_id, dropout=ones), network.eval()(v_id))
    dropped = ones.clone()
    dropped[:, 0, 0, 0] = 0
    found = network.train()(v_id, dropout=dropped)
    head = network.heads[0]
    features = torch.cat((v_id, network.null_exp.expand(2, -1)), dim=1)
    hidden = head.layers[0][0](features)
    hidden[:, 0] = 0
    hidden = torch.nn.functional.leaky_relu(hidden, 0.2)
    expected = head.fc_out(torch.nn.functional.leaky_relu(head.layers[1][0](hidden), 0.2))
    assert torch.allclose(found[:, 0], expected, atol=1e-6)
    assert torch.equal(found[:, 1], network.eval()(v_id)[:, 1])
    assert not torch.allclose(found[:, 0], network(v_id)[:, 0])
