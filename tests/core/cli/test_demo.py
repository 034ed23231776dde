"""The demo: a photo becomes a picture with nothing but what is installed."""

import importlib.util
import sys

import numpy as np
import pytest

from f2d_core.cli import demo
from f2d_core.image import read_image
from f2d_core.s_star import load_s_star

# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(demo, "STEPS", 2)


@pytest.fixture
def run(f2d, tmp_path):
    pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")

    def demonstrate(*options):
        code, text, err = f2d("demo", "--out", tmp_path / "demo", "--device", "cpu", *options)
        assert code == 0, err
        return text

    return demonstrate


def picture_of(folder):
    return read_image(folder / "demo" / "demo_picture.png")


def test_from_the_default_photo_to_a_picture(run, tmp_path):
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image is not installed")
    text = run()
    folder = tmp_path / "demo"
    assert picture_of(tmp_path).shape == (256, 256, 3) and picture_of(tmp_path).std() > 10
    s_star = load_s_star(folder / "demo_identity.safetensors")
    assert np.array_equal(read_image(folder / "demo_face.png"), s_star.thumbnail.numpy())
    assert (s_star.name, s_star.marker, s_star.detector) == ("astronaut", "S*", "points given")
    assert "STAND-INS were used for the networks that see the face and Stable Diffusion" in text
    assert "nobody's likeness" in text and "msid.pt (85.8 MB, licence: CC BY-NC-SA 4.0" in text
    assert all(
        str(folder / name) in text for name in ("demo_face.png", "demo_identity.safetensors", "demo_picture.png")
    )


def test_the_points_kept_for_the_default_photo_are_what_the_detector_finds(yunet_file):
    pytest.importorskip("cv2", reason="the extra `faces` is not installed")
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image is not installed")
    from f2d_core.cli.faces import chosen_detector, read_landmarks
    from f2d_core.detect import choose_face, find_faces

    found = choose_face(find_faces(chosen_detector("yunet", yunet_file), read_image(demo.portrait())).faces)
    (kept,) = read_landmarks(demo._PORTRAIT_POINTS, 1)
    assert np.abs(found.points - kept).max() < 0.05


def test_another_photo_gives_another_picture(run, photo, landmarks, tmp_path):
    run("--photo", photo("a.png", 1), "--landmarks", landmarks())
    first = picture_of(tmp_path)
    run("--photo", photo("b.png", 2), "--landmarks", landmarks())
    assert not np.array_equal(first, picture_of(tmp_path))


def test_given_files_are_used_and_not_called_stand_ins(run, photo, landmarks, weights, model, tmp_path):
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    text = run("--photo", photo(), "--landmarks", landmarks(), *networks, "--model", model)
    assert "STAND-INS" not in text and "who agreed to it" in text
    assert not (tmp_path / "demo" / "stand-ins").exists()
    assert load_s_star(tmp_path / "demo" / "demo_identity.safetensors").licence == "test only"
    text = run("--photo", photo(), "--landmarks", landmarks(), "--model", model)
    assert "STAND-INS were used for the networks that see the face: small" in text


def test_a_photo_needs_points_or_a_detector(refused, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    message = refused("demo", "--out", tmp_path / "demo", "--photo", photo())
    assert "No face detector can be used" in message and "yunet_n_640_640.onnx" in message and "landmarks" in message


def test_mistakes(refused, photo, landmarks, weights, tmp_path):
    out = ("--out", tmp_path / "demo")
    assert "Only one of --msid and --mapping" in refused("demo", *out, "--msid", weights / "msid.safetensors")
    given = ("--photo", photo(), "--landmarks", landmarks())
    assert 'The marker "S*"' in refused("demo", *out, *given, "--prompt", "a chef")


def test_what_is_missing_is_named(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "scikit-image" in refused("demo", "--out", tmp_path / "demo")


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_without_diffusers_it_says_so(refused, photo, landmarks, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = refused("demo", "--out", tmp_path / "demo", "--photo", photo(), "--landmarks", landmarks())
    assert f"needs the package {package}" in message and "(extra: diffusers)" in message
