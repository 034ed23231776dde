"""Packed twins: the same results as the networks they are made of, which stay as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from f2d_core import packed
from f2d_core.expression import build_expression
from f2d_core.mapping import build_mapping
from f2d_core.msid import MSIDConfig, build_msid
from f2d_core.packed import can_pack, pack_for_cpu
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from tests.support.casting import CastingOperations

EARLY = MSIDConfig(image_size=48, patch=16, width=96, depth=4, heads=3, mlp=40, levels=(0, 2))

needs_onednn = pytest.mark.skipif(not can_pack(), reason="this torch cannot pack weights (no oneDNN)")


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def faces(batch, size=112):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(11)) * 2 - 1


def largest_difference(a, b):
    return (a - b).abs().max().item()


@needs_onednn
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("config", [None, EARLY], ids=["all levels", "last block unread"])
def test_the_encoder_gives_the_same(batch, config):
    encoder = build_msid(tiny_msid_state_dict(*[config] if config else []))
    images = faces(batch, encoder.config.image_size)

    twin = pack_for_cpu(encoder)

    assert twin is not encoder and twin.config == encoder.config
    assert largest_difference(twin(images), encoder(images)) < 1e-5


@needs_onednn
def test_dreamidentitys_features_are_the_same():
    encoder = build_msid(tiny_msid_state_dict(replace(EARLY, levels=(3,))))
    images = faces(2, 48)

    found, expected = (network(images, "dreamidentity") for network in (pack_for_cpu(encoder), encoder))

    assert expected.shape == (2, 480) and largest_difference(found, expected) < 1e-5


@needs_onednn
@pytest.mark.parametrize("batch", [1, 3])
def test_the_mapping_gives_the_same(batch):
    mapping = build_mapping(tiny_mapping_state_dict())
    v_id, v_exp, mask = torch.randn(batch, 256), torch.randn(batch, 64), torch.rand(batch)

    twin = pack_for_cpu(mapping)

    assert twin is not mapping and twin.null_exp is mapping.null_exp
    assert largest_difference(twin(v_id), mapping(v_id)) < 1e-5
    assert largest_difference(twin(v_id, v_exp, mask), mapping(v_id, v_exp, mask)) < 1e-5
    assert largest_difference(twin(v_id, v_exp), mapping(v_id, v_exp)) < 1e-5


@needs_onednn
def test_a_hosts_layers_can_be_packed():
    encoder = build_msid(tiny_msid_state_dict(), CastingOperations)

    twin = pack_for_cpu(encoder)

    assert twin is not encoder
    assert largest_difference(twin(faces(2)), encoder(faces(2))) < 1e-5


@needs_onednn
def test_golden_features_and_words(golden, golden_weights):
    arrays = {name: torch.from_numpy(array) for name, array in np.load(golden / "msid.npz").items()}
    words = {name: torch.from_numpy(array) for name, array in np.load(golden / "mapping.npz").items()}
    encoder, mapping = (
        pack_for_cpu(n) for n in (build_msid(golden_weights("msid")), build_mapping(golden_weights("mapping")))
    )

    assert largest_difference(encoder(arrays["input"]), arrays["output"]) < 5e-5
    assert largest_difference(mapping(arrays["output"])[:, 0], words["noexp_first"]) < 5e-5
    assert largest_difference(mapping(arrays["output"], words["exp"])[:, 1], words["exp_last"]) < 5e-5


@needs_onednn
def test_the_network_and_the_inputs_stay_as_they_were():
    encoder, images = build_msid(tiny_msid_state_dict()), faces(2)
    before, pixels = encoder(images), images.clone()

    pack_for_cpu(encoder)(images)

    assert torch.equal(images, pixels)
    assert torch.equal(encoder(images), before)
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in tiny_msid_state_dict().items())
    with torch.enable_grad():
        encoder.requires_grad_().train()(images).sum().backward()


def test_where_torch_cannot_pack_the_network_itself_is_used(monkeypatch):
    monkeypatch.setattr(packed, "can_pack", lambda: False)
    encoder = build_msid(tiny_msid_state_dict())

    assert pack_for_cpu(encoder) is encoder


def test_packing_needs_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)

    assert not can_pack()


def test_other_networks_dtypes_and_devices_stay_as_they_are():
    for network in (
        build_expression(tiny_recon_state_dict()),
        build_mapping(tiny_mapping_state_dict()).half(),
        build_mapping(tiny_mapping_state_dict()).to("meta"),
    ):
        assert pack_for_cpu(network) is network
