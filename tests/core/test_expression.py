"""f_exp: parity with the official numbers, batch norms folded, sizes from the state dict."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from f2d_core.errors import WeightsError
from f2d_core.expression import ExpressionConfig, Stage, build_expression, expression_config, published_shapes
from f2d_core.testing import TINY_EXPRESSION, tiny_recon_state_dict
from tests.support.casting import CastingOperations


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def faces(batch=2, size=64):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(7))


def largest_difference(a, b):
    return (a - b).abs().max().item()


# --- the official numbers ---


def test_golden_coefficients(golden, golden_weights):
    arrays = {name: torch.from_numpy(array) for name, array in np.load(golden / "recon.npz").items()}
    encoder = build_expression(golden_weights("recon"))

    coefficients = encoder(arrays["input"])

    assert largest_difference(coefficients, arrays["coeffs"]) < 5e-5
    assert largest_difference(coefficients[:, encoder.expression_part], arrays["exp"]) < 5e-5
    assert largest_difference(encoder.expression(arrays["input"][:1]), arrays["exp"][:1]) < 5e-5


def test_published_sizes_and_keys(golden_weights):
    weights = golden_weights("recon")
    config = expression_config(weights)

    stages = (Stage(64, 256, 3), Stage(128, 512, 4), Stage(256, 1024, 6), Stage(512, 2048, 3))
    assert config == ExpressionConfig(64, stages, (80, 64, 80, 3, 27, 2, 1))
    assert published_shapes(config) == {key: tuple(value.shape) for key, value in weights.items()}


# --- any network of this make ---


def reference(weights, images):
    """The published network, batch norms where they stand."""

    def conv_norm(x, conv, norm, stride=1):
        weight = weights[f"backbone.{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance, gain, bias = (
            weights[f"backbone.{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, gain, bias)

    x = F.max_pool2d(conv_norm(images, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage in range(1, 5):
        block = 0
        while f"backbone.layer{stage}.{block}.conv1.weight" in weights:
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = conv_norm(x, f"{name}.conv1", f"{name}.bn1").relu()
            inner = conv_norm(inner, f"{name}.conv2", f"{name}.bn2", stride).relu()
            inner = conv_norm(inner, f"{name}.conv3", f"{name}.bn3")
            shortcut = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if block == 0 else x
            x, block = (inner + shortcut).relu(), block + 1
    pooled = x.mean(dim=(2, 3))
    parts = [F.linear(pooled, weights[f"final_layers.{i}.weight"].flatten(1)) for i in range(7)]
    return torch.cat(parts, dim=1) + torch.cat([weights[f"final_layers.{i}.bias"] for i in range(7)])


@pytest.mark.parametrize(
    "config",
    [
        TINY_EXPRESSION,
        ExpressionConfig(4, (Stage(4, 8, 1), Stage(6, 10, 3), Stage(4, 12, 1), Stage(8, 20, 2)), (2, 5, 3, 1, 4, 2, 1)),
    ],
)
def test_folding_changes_nothing_at_any_size(config):
    weights = tiny_recon_state_dict(config)

    encoder = build_expression(weights)

    assert encoder.config == config
    assert encoder(faces()).shape == (2, sum(config.parts))
    assert largest_difference(encoder(faces()), reference(weights, faces())) < 1e-5


def test_the_expression_is_the_second_group():
    encoder = build_expression(tiny_recon_state_dict())

    assert encoder.expression_part == slice(80, 144)
    assert torch.equal(encoder.expression(faces()), encoder(faces())[:, 80:144])


def test_batch_counters_may_be_absent():
    weights = tiny_recon_state_dict()
    lean = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    assert len(lean) < len(weights)

    assert torch.equal(build_expression(lean)(faces()), build_expression(weights)(faces()))


def test_building_leaves_the_state_dict_as_it_was():
    weights = tiny_recon_state_dict()

    build_expression(weights)

    assert all(torch.equal(value, weights[key]) for key, value in tiny_recon_state_dict().items())


@pytest.mark.parametrize("key", [key for key in tiny_recon_state_dict() if not key.endswith("num_batches_tracked")])
def test_every_other_key_is_needed(key):
    weights = tiny_recon_state_dict()
    del weights[key]

    with pytest.raises(WeightsError, match="expression encoder: ") as caught:
        build_expression(weights)
    assert key in str(caught.value)


def test_wrong_shapes_and_unknown_parts_are_named():
    weights = tiny_recon_state_dict()

    with pytest.raises(WeightsError, match=r"layer2.0.bn3.running_var has shape \(31,\), expected \(32,\)"):
        build_expression(weights | {"backbone.layer2.0.bn3.running_var": torch.ones(31)})
    with pytest.raises(WeightsError, match="unknown key backbone.fc.weight"):
        build_expression(weights | {"backbone.fc.weight": torch.ones(5, 64)})


def test_weights_of_another_dtype_are_cast_to_the_input():
    weights = tiny_recon_state_dict()
    encoder, plain = build_expression(weights, CastingOperations), build_expression(weights)

    result = encoder.half()(faces())

    assert result.dtype == torch.float32
    assert 0 < largest_difference(result, plain(faces())) < 1e-2
