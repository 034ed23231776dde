"""What is written of a verification, and the paper's figures beside it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from f2d_core.evaluate.verification import LevelResult, PairResult
from f2d_core.evaluate.verification_report import Verification, draw_histogram, paper_auc, unique_names, verify
from f2d_core.msid import MSIDConfig, build_msid
from f2d_core.testing import tiny_msid_state_dict
from tests.support.identities import SIDE, MemoryIdentities

FULL = {"image_size": 112, "patch": 8, "width": 384, "depth": 12, "heads": 12, "mlp": 1536}


def test_no_set_takes_the_place_of_another():
    paths = [Path("a/lfw.bin"), Path("b/lfw.bin"), Path("lfw"), Path("people.bin")]

    assert list(unique_names(paths, taken=["people"]).values()) == ["lfw", "lfw_2", "lfw_3", "people_2"]


def test_figures_are_flat_and_written_with_a_histogram_per_level(tmp_path):
    same, other = {3: np.array([0.8, 0.9])}, {3: np.array([0.1, 0.2])}
    levels = {"people": LevelResult(2, {3: 0.75}, same, other)}
    found = Verification({"lfw": PairResult(10, 0.5, 0.1, 1.2, {3: 0.25, 6: float("nan")})}, levels)
    assert found.figures() == {"lfw_accuracy": 0.5, "lfw_auc_3": 0.25, "people_auc_3": 0.75}
    found.write(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "verification.json").read_text()) == found.figures()
    assert [path.name for path in (tmp_path / "new").glob("*.png")] == ["people_layer_3.png"]


def test_same_people_are_drawn_right_of_two_people(tmp_path):
    random = np.random.RandomState(0)
    file = draw_histogram(tmp_path / "a.png", 0.7 + 0.1 * random.randn(500), 0.1 * random.randn(500), "toy")
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)[60:500]
    blue, red = pixels[..., 2] - pixels[..., 0] > 40, pixels[..., 0] - pixels[..., 2] > 40
    assert np.nonzero(blue)[1].mean() > np.nonzero(red)[1].mean() + 200


def test_the_papers_figures():
    plain, multi = MSIDConfig(**FULL, levels=(11,)), MSIDConfig(**FULL, levels=(2, 5, 8, 11))
    assert [paper_auc(plain, layer) for layer in (3, 6, 12)] == [93.99, None, 99.97]
    assert [paper_auc(multi, layer) for layer in (3, 12)] == [99.46, None]
    assert paper_auc(MSIDConfig(**{**FULL, "depth": 8}, levels=(7,)), 3) is None


def test_all_sets_by_name():
    encoder = build_msid(tiny_msid_state_dict(MSIDConfig(SIDE, 8, 32, 4, 1, 64, (3,))))
    found = verify(encoder, {}, {"a": MemoryIdentities(), "b": MemoryIdentities(seed=2)}, draws=1)
    assert list(found.levels) == ["a", "b"] and list(found.levels["a"].auc) == [1, 2, 3, 4]
    assert found.figures()["a_auc_1"] == pytest.approx(found.levels["a"].auc[1])
