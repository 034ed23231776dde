"""Judges of identity from files: layouts, channel order and range, batches, places, wrong files."""

import argparse
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from f2d_core.catalogue import PUBLISHED
from f2d_core.constants import FACE_TEMPLATE_PX
from f2d_core.errors import ImageError, WeightsError
from f2d_core.evaluate.extractors import IDENTITY_KINDS, extractor_kind, load_identity_extractor
from f2d_core.evaluate.extractors.adaface import adaface_network
from f2d_core.evaluate.extractors.files import fill
from f2d_core.evaluate.extractors.identity import _JUDGES, TITLES, FaceJudge
from f2d_core.testing import tiny_msid_state_dict
from tests.support.extractors import tiny_adaface_state_dict, write_tiny_adaface

POINTS = np.array(FACE_TEMPLATE_PX)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_tiny_adaface(tmp_path_factory.mktemp("adaface") / "anything.ckpt")


def photos(count=3, seed=0):
    random = np.random.RandomState(seed)
    return [random.randint(0, 256, (130 + 7 * i, 140, 3)).astype(np.uint8) for i in range(count)]


def test_a_published_checkpoint_is_recognised_and_gives_features_of_length_1(file):
    judge = load_identity_extractor(file)

    features = judge.features(photos(), [POINTS + i for i in range(3)])

    assert (judge.kind, judge.name) == ("adaface_ir50", "AdaFace IR-50")
    assert features.shape == (3, 32) and features.dtype == torch.float32 and features.device.type == "cpu"
    assert features.norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_the_features_are_those_of_the_network_on_bgr_crops(file):
    state = tiny_adaface_state_dict()
    network, _ = fill(lambda: adaface_network(state), state, (), "AdaFace")
    rgb = photos(1)[0]
    crop = rgb[:112, :112].astype(np.float64)

    bgr = torch.tensor(((crop[..., ::-1] / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].copy()).float()
    with torch.inference_mode():
        expected = nn.functional.normalize(network(bgr))

    assert torch.allclose(load_identity_extractor(file).features([rgb], [POINTS]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("what", "bgr", "low", "high"),
    [
        ("AdaFace network", True, -1.0, 1.0),
        ("SphereFace network", True, -127.5 / 128, 127.5 / 128),
        ("FaceNet", False, -127.5 / 128, 127.5 / 128),
    ],
)
def test_channel_order_and_range(what, bgr, low, high):
    judge = next(judge for judge in _JUDGES if judge.what == what)
    crops = np.zeros((1, 4, 4, 3), np.uint8)
    crops[..., 0] = 255  # red

    given = FaceJudge("", "", "", judge.crop, judge.levels, judge.bgr, 1, None).inputs(crops)

    red, blue = (2, 0) if bgr else (0, 2)
    assert given.shape == (1, 3, 4, 4)
    assert given[0, red].unique().tolist() == pytest.approx([high])
    assert given[0, blue].unique().tolist() == pytest.approx([low])


def test_prefixes_and_formats_do_not_matter(file, tmp_path):
    state = tiny_adaface_state_dict()
    save_file({f"model.net.{key}": value for key, value in state.items()}, tmp_path / "cvlface.safetensors")
    torch.save(state, tmp_path / "bare.pth")
    torch.save({f"module.{key}": value.half() for key, value in state.items()}, tmp_path / "half.pt")

    first, *others = (
        load_identity_extractor(path)
        for path in (file, tmp_path / "cvlface.safetensors", tmp_path / "bare.pth", tmp_path / "half.pt")
    )
    features = [judge.features(photos(), [POINTS] * 3) for judge in (first, *others)]

    assert others[0].sha256 == others[1].sha256 == first.sha256 != others[2].sha256
    assert torch.equal(features[0], features[1]) and torch.equal(features[0], features[2])
    assert torch.allclose(features[0], features[3], atol=2e-3)


@pytest.fixture
def lightning():
    """Classes as PyTorch Lightning has them, importable while a file is written."""
    places = {
        "ModelCheckpoint": "pytorch_lightning.callbacks.model_checkpoint",
        "AttributeDict": "pytorch_lightning.utilities.parsing",
    }
    parts = {".".join(place.split(".")[: i + 1]) for place in places.values() for i in range(3)}
    modules = {part: types.ModuleType(part) for part in parts}
    for name, place in places.items():
        setattr(modules[place], name, type(name, (), {"__module__": place}))
    sys.modules.update(modules)
    yield types.SimpleNamespace(**{name: getattr(modules[place], name) for name, place in places.items()})
    for part in parts:
        sys.modules.pop(part, None)


def test_classes_of_lightning_in_a_checkpoint_are_passed_over(file, tmp_path, lightning, monkeypatch):
    """AdaFace's checkpoints were written by it, and name classes of it."""
    beside = {
        "callbacks": {lightning.ModelCheckpoint: {"best": 1.0}},
        "hparams_type": lightning.AttributeDict,
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "callback": lightning.ModelCheckpoint(),
    }
    state = {f"model.{key}": value for key, value in tiny_adaface_state_dict().items()}
    torch.save({"state_dict": state, **beside}, tmp_path / "trained.ckpt")
    for part in [part for part in sys.modules if part.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, part)

    assert load_identity_extractor(tmp_path / "trained.ckpt").sha256 == load_identity_extractor(file).sha256
    assert extractor_kind(tmp_path / "trained.ckpt") == "adaface_ir50"


def test_a_checkpoint_with_other_objects_is_refused(tmp_path):
    torch.save({"state_dict": tiny_adaface_state_dict(), "config": types.SimpleNamespace(a=1)}, tmp_path / "x.ckpt")

    with pytest.raises(WeightsError, match="carries Python objects or code"):
        load_identity_extractor(tmp_path / "x.ckpt")


def test_batches_give_what_single_pictures_give(file):
    pictures, points = photos(5), [POINTS + i for i in range(5)]
    judge = load_identity_extractor(file, batch=2)

    single = [judge.features([p], [q]) for p, q in zip(pictures, points, strict=True)]

    assert torch.allclose(judge.features(pictures, points), torch.cat(single), atol=1e-6)


def test_a_host_can_place_the_network(file):
    placed = []

    def place(module):
        placed.append(module)
        return lambda faces: torch.ones(len(faces), 4)

    judge = load_identity_extractor(file, device="cuda", place=place)

    assert judge.features(photos(2), [POINTS] * 2).tolist() == [[0.5] * 4] * 2
    assert len(placed) == 1 and not placed[0].training
    assert not any(parameter.requires_grad for parameter in placed[0].parameters())


def test_no_picture_and_bad_points(file):
    judge = load_identity_extractor(file)

    with pytest.raises(ImageError, match="was given no picture"):
        judge.features([], [])
    with pytest.raises(ImageError, match="within"):
        judge.features(photos(1), [np.zeros((5, 2))])


def test_a_missing_file_says_where_it_is_published(tmp_path):
    with pytest.raises(WeightsError, match=r"Cannot read .*Put adaface_ir50_ms1mv2\.ckpt .*mk-minchul/AdaFace"):
        load_identity_extractor(tmp_path / "none.ckpt")


def test_another_network_is_named(tmp_path):
    torch.save(tiny_msid_state_dict(), tmp_path / "ünï msid.pt")

    with pytest.raises(WeightsError, match=r"ünï msid\.pt is an MSID encoder, expected a face recognition network"):
        load_identity_extractor(tmp_path / "ünï msid.pt")


@pytest.mark.parametrize("content", [b"", b"not a weight file at all, but some text", b"PK\x03\x04" + b"\0" * 60])
def test_a_damaged_file(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)

    with pytest.raises(WeightsError, match=r"x\.pt .*(damaged|not a weight file)"):
        load_identity_extractor(tmp_path / "x.pt")


def test_a_file_cut_short(file, tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(file.read_bytes()[:-2000])

    with pytest.raises(WeightsError, match=r"cut\.ckpt"):
        load_identity_extractor(tmp_path / "cut.ckpt")


def test_a_missing_tensor_is_named_with_the_file(tmp_path):
    state = tiny_adaface_state_dict()
    del state["body.3.res_layer.2.weight"]
    torch.save(state, tmp_path / "part.pth")

    with pytest.raises(WeightsError, match=r"part\.pth: AdaFace network: key body\.3\.res_layer\.2\.weight is missing"):
        load_identity_extractor(tmp_path / "part.pth")


def test_every_kind_is_published_and_has_a_title():
    assert all(PUBLISHED[kind].how_to_get("here") and TITLES[kind] for kind in IDENTITY_KINDS)
