"""The networks against the numbers of the public reference code, with weights that a rule fills (golden.json)."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from f2d_core.errors import WeightsError
from f2d_core.evaluate.extractors import inception
from f2d_core.evaluate.extractors.adaface import AdaFace, adaface_kind, adaface_network
from f2d_core.evaluate.extractors.facenet import FaceNet
from f2d_core.evaluate.extractors.files import fill
from f2d_core.evaluate.extractors.identity import _JUDGES, FaceJudge
from f2d_core.evaluate.extractors.sphereface import SphereFace
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled
from tests.support.extractors import residual_widths, tiny_adaface_state_dict

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
WIDTHS = (64, 128, 256, 512)


def ir_50():
    return AdaFace(residual_widths((3, 4, 14, 3), WIDTHS), 512)


def ir_101():
    return AdaFace(residual_widths((3, 13, 30, 3), WIDTHS), 512)


NETWORKS = {
    "adaface_ir50": ir_50,
    "adaface_ir101": ir_101,
    "sphereface": SphereFace,
    "facenet": FaceNet,
    "inception_fid": inception.Inception,
}
SIZES = {"adaface_ir50": (112, 112), "sphereface": (112, 96), "facenet": (160, 160)}


def pictures(height, width):
    return np.random.RandomState(1).randint(0, 256, (2, height, width, 3)).astype(np.uint8)


def network(name):
    return fill(NETWORKS[name], filled(expected_shapes(NETWORKS[name]), 0), (), name)[0]


def inputs(name):
    """The crops as our judge of that kind feeds them."""
    judge = next(judge for judge in _JUDGES if judge.what.lower().startswith(name.split("_")[0]))
    feeds = FaceJudge(name, name, "", judge.crop, judge.levels, judge.bgr, 2, None)
    return feeds.inputs(pictures(*SIZES[name]))


@pytest.mark.parametrize("name", NETWORKS)
def test_published_keys_and_shapes(name):
    shapes = expected_shapes(NETWORKS[name])
    text = "".join(f"{key}:{shape};" for key, shape in sorted(shapes.items()))

    assert len(shapes) == GOLDEN[name]["entries"]
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name]["keys"]


@pytest.mark.parametrize("name", SIZES)
def test_features_of_the_reference(name):
    with torch.inference_mode():
        features = F.normalize(network(name)(inputs(name)), dim=1)

    expected = torch.tensor(GOLDEN[name]["features"])
    assert (features[:, : expected.shape[1]] - expected).abs().max() < 2e-5
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # so the numbers depend on the picture


def test_inception_features_of_the_reference():
    net = network("inception_fid")
    with torch.inference_mode():
        features = net(inception.inception_input(list(pictures(180, 260))))
        net.Mixed_7c._maximum = False
        without_the_quirk = net(inception.inception_input(list(pictures(180, 260))))

    expected = torch.tensor(GOLDEN["inception_fid"]["features"])
    assert features.shape == (2, 2048)
    assert (features[:, : expected.shape[1]] - expected).abs().max() < 2e-5
    assert (features - without_the_quirk).abs().max() > 1e-3


def test_inception_resizes_as_tensorflow_did():
    small = np.random.RandomState(2).randint(0, 256, (1, 40, 530, 3)).astype(np.uint8)

    found = inception.inception_input(list(small))

    assert found.shape == (1, 3, 299, 299)
    for y, x, levels in GOLDEN["inception_input"]:
        assert found[0, :, y, x].tolist() == pytest.approx(levels, abs=2e-6), (y, x)


def test_a_picture_of_the_right_size_is_not_resampled():
    same = np.random.RandomState(4).randint(0, 256, (299, 299, 3)).astype(np.uint8)

    assert torch.equal(
        inception.inception_input([same])[0], (torch.from_numpy(same).permute(2, 0, 1).float() - 128) / 128
    )


@pytest.mark.parametrize(("units", "kind"), [((2, 2, 2, 2), "adaface_ir18"), ((3, 13, 30, 3), "adaface_ir101")])
def test_the_depth_of_adaface_is_read_from_the_weights(units, kind):
    state = tiny_adaface_state_dict(units=units)

    assert adaface_kind(state) == kind
    assert len(adaface_network(state).body) == sum(units)


def test_adaface_of_a_depth_that_does_not_exist():
    with pytest.raises(WeightsError, match="5 residual blocks found, expected one of 8, 16, 24, 49"):
        adaface_kind(tiny_adaface_state_dict(units=(1, 1, 2, 1)))


def test_a_squeeze_and_excitation_network_is_refused():
    """IR-SE has further parts; without them it would compute something else."""
    state = {**tiny_adaface_state_dict(), "body.0.res_layer.6.fc1.weight": torch.zeros(1)}

    with pytest.raises(WeightsError, match=r"unknown key body\.0\.res_layer\.6\.fc1\.weight"):
        fill(lambda: adaface_network(state), state, (), "AdaFace network")
