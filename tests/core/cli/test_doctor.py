"""The report and the self-test."""

import pytest
import torch

from f2d_core import doctor, self_test
from f2d_core.data.parser import BiSeNet
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled
from f2d_core.weights import file_sha256, write_safetensors
from tests.support.extractors import write_tiny_adaface


def test_the_report(f2d, weights, tmp_path):
    (weights / "notes.txt").write_text("not a weight file")
    code, out, err = f2d("doctor", "--models", weights)
    assert code == 0, out + err
    assert f"torch {torch.__version__.split('+')[0]}" in out and "Optional packages" in out
    assert f"MSID encoder (Face2Diffusion): {weights / 'msid.safetensors'}" in out
    assert file_sha256(weights / "mapping.safetensors") in out and "licence: test only" in out
    assert "YuNet face detector: not found. Put yunet_n_640_640.onnx" in out and "Apache-2.0" in out
    assert out.rstrip().endswith("Self-test: passed (small networks, from a crop to words in a prompt)")


def test_a_known_hash_is_recognised(f2d, yunet_file):
    _, out, _ = f2d("doctor", "--models", yunet_file.parent)
    assert "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31 (as published)" in out


def test_a_face_parser_is_found(f2d, tmp_path):
    parser = write_safetensors(tmp_path / "parser.safetensors", filled(expected_shapes(BiSeNet), seed=0))

    assert f"BiSeNet face parser (facexlib): {parser}" in f2d("doctor", "--models", tmp_path)[1]
    assert "a face parser (BiSeNet)" in f2d("inspect", parser)[1]


def test_judges_are_found_below_the_folder(f2d, tmp_path):
    (tmp_path / "judges").mkdir()
    judge = write_tiny_adaface(tmp_path / "judges" / "adaface.ckpt")

    _, out, _ = f2d("doctor", "--models", tmp_path)

    assert f"AdaFace IR-50, MS1MV2: {judge} (" in out and f"    sha256 {file_sha256(judge)}" in out
    assert "Inception of FID: not found. Put pt_inception-2015-12-05-6726825d.pth" in out


def test_without_a_model_folder_it_says_how_to_name_one(f2d, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert "looked for in no folder (give --models DIR, or set COMFYUI_PATH)" in f2d("doctor")[1]


def test_the_folders_of_a_host_are_found(f2d, tmp_path, monkeypatch):
    (tmp_path / "models" / "face2diffusion").mkdir(parents=True)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert f"looked for in {tmp_path / 'models' / 'face2diffusion'}" in f2d("doctor")[1]


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert "  detector facexlib: not installed (facexlib)" in list(doctor.packages())


@pytest.mark.parametrize("name", ["EXPECTED_CROP_MEAN", "EXPECTED_VECTOR_NORM"])
def test_a_wrong_number_fails_the_self_test(f2d, monkeypatch, tmp_path, name):
    monkeypatch.setattr(self_test, name, getattr(self_test, name) * 1.001)
    code, out, _ = f2d("doctor", "--models", tmp_path)
    assert code == 1 and "this installation computes something else" in out
