"""f_id: parity with the official numbers, sizes from the state dict, published key names, casting, training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from f2d_core.constants import FEATURES_DREAMIDENTITY
from f2d_core.errors import MismatchError, WeightsError
from f2d_core.msid import LevelBatchNorm, MSIDConfig, build_msid, msid_config, require_features
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import TINY_MSID, filled, tiny_msid_state_dict
from tests.support.casting import CastingOperations

UNREAD = ("norm.weight", "norm.bias", *(f"norms.layer_{level}.0.num_batches_tracked" for level in TINY_MSID.levels))


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def faces(batch=2, size=TINY_MSID.image_size):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def golden_arrays(golden):
    return {name: torch.from_numpy(array) for name, array in np.load(golden / "msid.npz").items()}


def largest_difference(a, b):
    return (a - b).abs().max().item()


# --- the official numbers ---


def test_golden_features(golden, golden_weights):
    arrays = golden_arrays(golden)

    assert largest_difference(build_msid(golden_weights("msid"))(arrays["input"]), arrays["output"]) < 5e-5


def test_golden_epsilons(golden, golden_weights):
    """With weights so small that the epsilons of the three kinds of norm decide the result."""
    arrays, weights = golden_arrays(golden), dict(golden_weights("msid"))
    for key in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        weights[key] = weights[key] * 2e-3
    for level in (2, 5, 8, 11):
        for name in ("running_var", "weight"):
            weights[f"norms.layer_{level}.0.{name}"] = weights[f"norms.layer_{level}.0.{name}"] * 1e-5

    assert largest_difference(build_msid(weights)(arrays["input"]), arrays["output_eps_probe"]) < 1e-5


def test_golden_class_tokens_before_the_norms(golden, golden_weights):
    arrays, encoder, seen = golden_arrays(golden), build_msid(golden_weights("msid")), []
    for norm in encoder.norms.values():
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    encoder(arrays["input"])

    assert largest_difference(torch.stack(seen, dim=1), arrays["cls_by_block"]) < 5e-5


def test_published_sizes_and_keys(golden, golden_weights):
    encoder = build_msid(golden_weights("msid"))

    assert encoder.config == MSIDConfig(112, 8, 384, 12, 12, 1536, (2, 5, 8, 11))
    assert encoder.config.features == 1536
    entries = json.loads((golden / "keys-msid.json").read_text())["entries"]
    assert list(encoder.state_dict()) == [entry["key"] for entry in entries]


# --- any encoder of this make ---


def reference(state_dict, config, images):
    """The same encoder out of torch's own transformer layers, all tokens through all blocks."""
    part = {key: value for key, value in state_dict.items() if key.startswith("patch_embed.proj")}
    patches = F.conv2d(images, *part.values(), stride=config.patch).flatten(2).transpose(1, 2)
    tokens = torch.cat((state_dict["cls_token"].expand(len(images), -1, -1), patches), dim=1) + state_dict["pos_embed"]
    v_id = []
    for i in range(config.depth):
        tokens = reference_block(state_dict, config, f"blocks.{i}.")(tokens)
        if i in config.levels:
            gain, bias, mean, variance, _, *layer_norm = (
                value for key, value in state_dict.items() if key.startswith(f"norms.layer_{i}.")
            )
            features = F.batch_norm(tokens[:, 0], mean, variance, gain, bias, eps=1e-5)
            v_id.append(F.layer_norm(features, (config.width,), *layer_norm, eps=1e-5))
    return torch.cat(v_id, dim=1)


def reference_block(state_dict, config, prefix):
    names = {
        "attn.qkv.": "self_attn.in_proj_",
        "attn.proj.": "self_attn.out_proj.",
        "mlp.fc1.": "linear1.",
        "mlp.fc2.": "linear2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, config.mlp, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    )
    own = {
        new + ending: state_dict[prefix + old + ending] for old, new in names.items() for ending in ("weight", "bias")
    }
    layer.load_state_dict(own)
    return layer.eval()


@pytest.mark.parametrize(
    "config",
    [
        TINY_MSID,
        MSIDConfig(image_size=48, patch=16, width=96, depth=3, heads=3, mlp=40, levels=(0, 2)),
        MSIDConfig(image_size=32, patch=8, width=32, depth=4, heads=1, mlp=64, levels=(1,)),
    ],
)
def test_agrees_with_torchs_own_layers_at_any_size(config):
    weights, images = tiny_msid_state_dict(config), faces(size=config.image_size)

    encoder = build_msid(weights)

    assert encoder.config == config
    assert encoder(images).shape == (2, config.features)
    assert largest_difference(encoder(images), reference(weights, config, images)) < 1e-5


def test_sizes_are_read_from_the_state_dict():
    assert msid_config(tiny_msid_state_dict()) == TINY_MSID


def test_a_face_is_encoded_the_same_alone_and_in_a_batch():
    encoder = build_msid(tiny_msid_state_dict())

    alone = torch.cat([encoder(face[None]) for face in faces(3)])

    assert largest_difference(encoder(faces(3)), alone) < 1e-5


def test_only_what_is_read_is_computed():
    """No block after the last level, and the last level's only for the class token."""
    config = MSIDConfig(image_size=32, patch=8, width=32, depth=4, heads=1, mlp=64, levels=(0, 2))
    encoder, shapes = build_msid(tiny_msid_state_dict(config)), {}
    for i, block in enumerate(encoder.blocks):
        block.register_forward_hook(lambda _, inputs, output, i=i: shapes.update({i: tuple(output.shape)}))

    encoder(faces(1, 32))

    assert shapes == {0: (1, 17, 32), 1: (1, 17, 32), 2: (1, 1, 32)}


# --- DreamIdentity's features ---

PLAIN = MSIDConfig(image_size=32, patch=8, width=32, depth=8, heads=1, mlp=64, levels=(7,))


def test_dreamidentity_takes_the_raw_class_tokens_of_four_blocks_and_the_recognition_embedding():
    """V = [v3, v6, v9, v12, v_final], from an encoder of torch's own layers."""
    weights, images = tiny_msid_state_dict(PLAIN), faces(3, 32)
    patches = F.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=8)
    tokens = torch.cat((weights["cls_token"].expand(3, -1, -1), patches.flatten(2).transpose(1, 2)), dim=1)
    tokens, expected = tokens + weights["pos_embed"], []
    for i in range(8):
        tokens = reference_block(weights, PLAIN, f"blocks.{i}.")(tokens)
        expected += [tokens[:, 0]] if i in (1, 3, 5, 7) else []
    encoder = build_msid(weights)

    found = encoder(images, FEATURES_DREAMIDENTITY)

    assert found.shape == (3, 160) and encoder.config.width_of(FEATURES_DREAMIDENTITY) == 160
    assert largest_difference(found, torch.cat((*expected, reference(weights, PLAIN, images)), dim=1)) < 1e-5
    assert torch.equal(found[:, 128:], encoder(images))


def test_the_quarters_of_any_depth():
    found = {depth: replace(PLAIN, depth=depth).quarters for depth in (4, 6, 12, 24)}
    assert found == {4: (0, 1, 2, 3), 6: (0, 2, 3, 5), 12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
    published = MSIDConfig(112, 8, 384, 12, 12, 1536, (11,))
    assert published.width_of(FEATURES_DREAMIDENTITY) == 1920 and published.features == 384


@pytest.mark.parametrize(
    ("change", "own"),
    [({}, "dreamidentity"), ({"levels": (1, 7)}, "msid"), ({"levels": (3,)}, "msid"),
     ({"depth": 3, "levels": (2,)}, "msid")],
)  # fmt: skip
def test_only_a_plain_arcface_encoder_gives_them(change, own):
    config = replace(PLAIN, **change)
    assert config.own_features == own
    require_features(config, "msid", "enc.pt")
    if own == "msid":
        with pytest.raises(MismatchError, match="enc.pt normalises the class token of blocks .*plain ArcFace"):
            require_features(config, FEATURES_DREAMIDENTITY, "enc.pt")
    else:
        require_features(config, FEATURES_DREAMIDENTITY, "enc.pt")


# --- weights ---


def test_what_inference_never_reads_may_be_absent():
    weights = tiny_msid_state_dict()
    lean = {key: value for key, value in weights.items() if key not in UNREAD}
    assert len(lean) == len(weights) - len(UNREAD)

    encoder = build_msid(lean)

    assert torch.equal(encoder(faces()), build_msid(weights)(faces()))
    assert encoder.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("key", [key for key in tiny_msid_state_dict() if key not in UNREAD])
def test_every_other_key_is_needed(key):
    weights = tiny_msid_state_dict()
    del weights[key]

    with pytest.raises(WeightsError, match="MSID encoder: ") as caught:
        build_msid(weights)
    assert key in str(caught.value)


def test_a_wrong_shape_is_named():
    weights = tiny_msid_state_dict() | {"blocks.1.mlp.fc1.weight": torch.zeros(128, 65)}

    with pytest.raises(WeightsError, match=r"blocks.1.mlp.fc1.weight has shape \(128, 65\), expected \(128, 64\)"):
        build_msid(weights)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"pos_embed": torch.zeros(1, 51, 64)}, "51 tokens"),
        ({"pos_embed": torch.zeros(1, 1, 64)}, "1 tokens"),
        ({"patch_embed.proj.weight": torch.zeros(50, 3, 16, 16)}, "width 50"),
        ({"norms.layer_7.0.weight": torch.zeros(64)}, "of 4 blocks"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change, found):
    with pytest.raises(WeightsError, match=found):
        msid_config(tiny_msid_state_dict() | change)


def test_an_encoder_without_levels_is_refused():
    weights = {key: value for key, value in tiny_msid_state_dict().items() if not key.startswith("norms.")}

    with pytest.raises(WeightsError, match="norms.layer_N"):
        msid_config(weights)


# --- a host's layers ---


def test_weights_of_another_dtype_are_cast_to_the_input():
    """As when a host keeps weights smaller or elsewhere than where it computes."""
    weights = tiny_msid_state_dict()
    encoder = build_msid(weights, CastingOperations).half()
    rounded = build_msid({key: value.half().to(value.dtype) for key, value in weights.items()})

    result = encoder(faces())

    assert result.dtype == torch.float32
    assert largest_difference(result, rounded(faces())) < 1e-5


# --- training ---


def test_batch_norm_is_torchs_own():
    ours, torchs = LevelBatchNorm(5, eps=1e-5), nn.BatchNorm1d(5, eps=1e-5)
    ours.load_state_dict(filled(expected_shapes(lambda: nn.BatchNorm1d(5)), seed=1))
    torchs.load_state_dict(ours.state_dict())
    features = torch.randn(7, 5)

    assert largest_difference(ours.eval()(features), torchs.eval()(features)) < 1e-6
    assert torch.equal(ours.train()(features), torchs.train()(features))
    assert torch.equal(ours.running_mean, torchs.running_mean)


def test_gradients_reach_every_parameter_that_is_read():
    encoder = build_msid(tiny_msid_state_dict()).requires_grad_().train()

    with torch.enable_grad():
        encoder(faces(4)).square().sum().backward()

    without = {name for name, parameter in encoder.named_parameters() if parameter.grad is None}
    assert without == {"norm.weight", "norm.bias"}
