"""Photos to identity files: names, collisions, sources of the face, and every mistake in one line."""

import json

import numpy as np
import pytest
import torch

from f2d_core.align import align_face
from f2d_core.encode import Crop, encode_faces
from f2d_core.image import read_image, rgb_sha256, write_png
from f2d_core.networks import load_network
from f2d_core.s_star import load_s_star

POINTS = [[80.0, 90.0], [140.0, 88.0], [111.0, 125.0], [85.0, 160.0], [138.0, 158.0]]  # of the fixture `landmarks`


@pytest.fixture
def encode(f2d, weights, tmp_path):
    """encode(photos, …) -> the identity files in the output folder, by name."""

    def run(photos, *options, out="out"):
        networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
        code, text, err = f2d("encode", *photos, *networks, "--out", tmp_path / out, *options)
        assert code == 0, err
        return text

    return run


def files(folder):
    return {path.name: load_s_star(path) for path in sorted(folder.iterdir())}


def test_a_photo_gives_what_the_core_gives(encode, photo, landmarks, weights, tmp_path):
    file = photo("anna.png")
    text = encode([file], "--landmarks", landmarks(), "--marker", "anna")
    rgb = read_image(file)
    crop = Crop(align_face(rgb, np.array(POINTS)), rgb_sha256(rgb), "points given")
    networks = (load_network(weights / f"{kind}.safetensors", kind) for kind in ("msid", "mapping"))
    (expected,) = encode_faces([crop], *networks)
    (found,) = files(tmp_path / "out").values()
    assert torch.equal(found.vectors, expected.vectors) and torch.equal(found.v_id, expected.v_id)
    assert (found.name, found.marker, found.detector, found.licence) == ("anna", "anna", "points given", "test only")
    assert found.image_sha256 == rgb_sha256(rgb) and np.array_equal(found.thumbnail.numpy(), crop.pixels)
    assert "anna.safetensors: anna as anna, 2 words, from anna.png (points given)" in text
    assert "Licence of these identities: test only" in text


def test_several_photos_are_named_after_their_files(encode, photo, landmarks, tmp_path):
    encode([photo("anna.png"), photo("ben.jpg.png", 1)], "--landmarks", landmarks(2))
    found = files(tmp_path / "out")
    assert {name: s_star.name for name, s_star in found.items()} == {
        "anna.safetensors": "anna",
        "ben.jpg.safetensors": "ben.jpg",
    }
    assert not torch.equal(found["anna.safetensors"].vectors, found["ben.jpg.safetensors"].vectors)


def test_the_same_name_never_overwrites_another_person(encode, photo, landmarks, tmp_path):
    encode([photo("a.png"), photo("b.png", 1)], "--landmarks", landmarks(2), "--name", "anna")
    first = files(tmp_path / "out")
    assert list(first) == ["anna.safetensors", "anna_2.safetensors"]
    encode([photo("c.png", 2)], "--landmarks", landmarks(), "--name", "anna")
    again = files(tmp_path / "out")
    assert list(again) == ["anna.safetensors", "anna_2.safetensors", "anna_3.safetensors"]
    assert torch.equal(again["anna.safetensors"].vectors, first["anna.safetensors"].vectors)


@pytest.mark.parametrize("name", ["../../evil", "/etc/anna", "a:b*c", "CON"])
def test_names_are_made_safe(encode, photo, landmarks, tmp_path, name):
    encode([photo()], "--landmarks", landmarks(), "--name", name)
    ((file, s_star),) = files(tmp_path / "out").items()
    assert s_star.name == name and not set(file) & set("/\\:*") and file not in ("CON.safetensors",)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out"]


def test_one_file(encode, refused, photo, landmarks, weights, tmp_path):
    encode([photo()], "--landmarks", landmarks(), out="me.safetensors")
    before = (tmp_path / "me.safetensors").read_bytes()
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    again = (
        "encode",
        photo("other.png", 3),
        *networks,
        "--landmarks",
        landmarks(),
        "--out",
        tmp_path / "me.safetensors",
    )
    assert "exists and is not overwritten" in refused(*again)
    assert (tmp_path / "me.safetensors").read_bytes() == before
    encode([photo("other.png", 3)], "--landmarks", landmarks(), "--force", out="me.safetensors")
    assert (tmp_path / "me.safetensors").read_bytes() != before


def test_the_mean_of_several_photos_is_one_person(encode, photo, landmarks, tmp_path):
    photos = [photo("a.png"), photo("b.png", 1)]
    encode(photos, "--landmarks", landmarks(2), "--mean", "--name", "anna", out="mean")
    encode(photos, "--landmarks", landmarks(2), out="each")
    ((name, mean),) = files(tmp_path / "mean").items()
    each = files(tmp_path / "each").values()
    assert name == "anna.safetensors"
    assert torch.allclose(mean.v_id, torch.stack([s.v_id for s in each]).mean(0), atol=1e-6)


def test_ready_crops(encode, refused, photo, weights, tmp_path):
    crop = photo("crop.png", size=(112, 112))
    encode([crop], "--aligned")
    (found,) = files(tmp_path / "out").values()
    assert found.detector == "aligned beforehand" and np.array_equal(found.thumbnail.numpy(), read_image(crop))
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    assert "220 x 240 px" in refused("encode", photo(), *networks, "--aligned", "--out", tmp_path / "x")


def test_no_thumbnail(encode, photo, landmarks, tmp_path):
    encode([photo()], "--landmarks", landmarks(), "--no-thumbnail")
    assert files(tmp_path / "out")["anna.safetensors"].thumbnail is None


def test_landmarks_from_a_file(encode, photo, landmarks, tmp_path):
    (tmp_path / "points.json").write_text(landmarks(), encoding="utf-8")
    encode([photo()], "--landmarks", tmp_path / "points.json", out="a")
    encode([photo()], "--landmarks", landmarks(), out="b")
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert torch.equal(a["anna.safetensors"].vectors, b["anna.safetensors"].vectors)


def test_an_expression_changes_the_words_and_its_strength_counts(encode, photo, landmarks, weights, tmp_path):
    source = ("--expression", photo("smile.png", 7), "--expression-encoder", weights / "recon.safetensors",
              "--expression-landmarks", landmarks())  # fmt: skip
    encode([photo()], "--landmarks", landmarks(), out="plain")
    encode([photo()], "--landmarks", landmarks(), *source, out="full")
    encode([photo()], "--landmarks", landmarks(), *source, "--expression-strength", "0", out="none")
    plain, full, none = (files(tmp_path / name)["anna.safetensors"] for name in ("plain", "full", "none"))
    assert plain.v_exp is None and full.v_exp.shape == (64,) and full.expression_encoder_sha256
    assert not torch.equal(plain.vectors, full.vectors)
    assert (plain.vectors - none.vectors).abs().max() < 1e-6


def test_a_real_photo_through_the_detector(encode, golden, yunet_file, tmp_path):
    pytest.importorskip("cv2", reason="the extra `faces` is not installed")
    encode([golden / "images" / "0.jpg"], "--detector-weights", yunet_file)
    (found,) = files(tmp_path / "out").values()
    with np.load(golden / "alignment.npz") as arrays:
        difference = np.abs(found.thumbnail.numpy().astype(int) - arrays["crop_exact_bilinear"][0])
    assert found.detector == "yunet, as is" and difference.mean() < 2


def test_photos_without_a_face(encode, refused, photo, golden, yunet_file, weights, tmp_path, capsys):
    pytest.importorskip("cv2", reason="the extra `faces` is not installed")
    flat = write_png(tmp_path / "wall.png", np.full((300, 300, 3), 128, np.uint8))
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    common = (*networks, "--detector-weights", yunet_file, "--out", tmp_path / "out")
    message = refused("encode", flat, *common)
    assert "wall.png: No face" in message and not (tmp_path / "out").exists()
    encode([flat, golden / "images" / "0.jpg"], "--detector-weights", yunet_file, "--on-missing", "skip")
    assert list(files(tmp_path / "out")) == ["0.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--landmarks", "[[1, 2]]"], "shape (1, 1, 2) for 1 images"),
        (["--landmarks", "[[[1, 2], [3, 4]], [[5, 6]]]"], "not a JSON list of numbers"),
        (["--landmarks", "["], "not a JSON list"),
        (["--landmarks", "nowhere.json"], "Cannot read the landmarks nowhere.json"),
        (["--landmarks", json.dumps([[50, 50]] * 5)], "expected a face of some size"),
        (["--landmarks", json.dumps(POINTS), "--marker", "a:b"], "cannot be a marker"),
        (["--landmarks", json.dumps(POINTS), "--expression", "x.png"], "--expression-encoder"),
        (["--detector", "haar"], "haar"),
        (["--detector", "yunet"], "has no weight file"),
        (["--detector", "yunet", "--detector-weights", "nowhere.onnx"], "nowhere.onnx does not exist"),
        ([], "No face detector can be used"),
    ],
)
def test_mistakes(refused, photo, weights, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    assert message in refused("encode", photo(), *networks, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_wrong_files(refused, photo, landmarks, weights, tmp_path):
    msid, mapping = weights / "msid.safetensors", weights / "mapping.safetensors"
    end = ("--landmarks", landmarks(), "--out", tmp_path / "out")
    assert "expected an MSID encoder" in refused("encode", photo(), "--msid", mapping, "--mapping", mapping, *end)
    assert "msid.pt" in refused("encode", photo(), "--msid", tmp_path / "no.pt", "--mapping", mapping, *end)
    (tmp_path / "text.png").write_text("not a picture")
    assert "not a picture" in refused("encode", tmp_path / "text.png", "--msid", msid, "--mapping", mapping, *end)


def test_an_unwritable_folder_leaves_nothing(refused, photo, landmarks, weights, tmp_path):
    (tmp_path / "file").write_text("in the way")
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    message = refused("encode", photo(), *networks, "--landmarks", landmarks(), "--out", tmp_path / "file" / "out")
    assert "Cannot write" in message and (tmp_path / "file").read_text() == "in the way"


def test_many_images_do_not_fit_into_one_file(refused, photo, landmarks, weights, tmp_path):
    networks = ("--msid", weights / "msid.safetensors", "--mapping", weights / "mapping.safetensors")
    photos = (photo("a.png"), photo("b.png"))
    assert "--mean" in refused(
        "encode", *photos, *networks, "--landmarks", landmarks(2), "--out", tmp_path / "x.safetensors"
    )
