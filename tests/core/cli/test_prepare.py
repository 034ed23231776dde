"""`prepare`: from a folder of photos or triplets to a data set, on a small stand-in model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.backends.diffusers_training import DiffusersLatentCodec
from f2d_core.backends.vae import load_vae
from f2d_core.cli import prepare as command
from f2d_core.data.cache import Cache, Triplets
from f2d_core.detect import Face
from f2d_core.testing import TINY_MSID, tiny_msid_state_dict
from f2d_core.weights import file_sha256, write_safetensors

# diffusers 0.42 under numpy 2, at every scheduler of the stand-in.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


class OneFace:
    name = "one face"

    def detect(self, rgb, threshold):
        if rgb.max() == 0:
            return []
        points = np.array([(0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.42, 0.6), (0.58, 0.6)]) * rgb.shape[1::-1]
        return [Face((40.0, 40.0, 80.0, 80.0), points, 0.9)]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(photos, masks): three photos, one without a face."""
    monkeypatch.setattr(command, "chosen_detector", lambda name, weights: OneFace())
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir(), masks.mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        pixels = np.random.RandomState(seed).randint(1, 256, (120, 120, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f"{name}.png")
        Image.fromarray(np.full((120, 120), 255, np.uint8)).save(masks / f"{name}.png")
    Image.fromarray(np.zeros((120, 120, 3), np.uint8)).save(photos / "dark.png")
    return photos, masks


@pytest.fixture
def options(folders, weights, model, tmp_path):
    photos, masks = folders
    return (photos, "--out", tmp_path / "cache", "--msid", weights / "msid.safetensors", "--model", model,
            "--masks", masks, "--device", "cpu", "--size", 64)  # fmt: skip


def test_photos_become_a_cache_with_a_report(f2d, options, weights, model, tmp_path):
    code, out, err = f2d("prepare", *options, "--expression-encoder", weights / "recon.safetensors")

    assert code == 0, err
    assert "2 photos prepared, 1 left out" in out and "dark.png: No face was found" in out and "report.png" in out
    cache = Cache.open(tmp_path / "cache")
    assert cache.settings.size == 64 and cache.settings.max_outside == 0.3
    assert cache.expression_width == 64 and cache.caption(0) == "A photo of S*"
    assert cache.photos[0].square == pytest.approx((60, 50.4, 48, 0))  # eyes 24 apart, mouth 24 below
    samples = cache.batch([0, 1], [False, True])
    assert samples.mask.min() > 0.9 and samples.latent_mean.std() > 0


def test_latents_are_those_of_the_models_autoencoder(f2d, options, model, tmp_path):
    assert f2d("prepare", *options, "--already-cropped", "--max-enlargement", 1)[0] == 0
    cache = Cache.open(tmp_path / "cache")
    photo = torch.from_numpy(np.array(Image.open(options[0] / "a.png").resize((64, 64), Image.Resampling.BICUBIC)))
    mean, logvar = DiffusersLatentCodec(load_vae(model)).encode(photo.permute(2, 0, 1)[None] / 127.5 - 1)

    samples = cache.batch([0], [False])

    cosine = torch.nn.functional.cosine_similarity(samples.latent_mean.flatten(1), mean.flatten(1))
    assert cosine > 0.99 and (samples.latent_logvar - logvar).abs().mean() < 0.1


def test_a_second_run_goes_on_and_other_settings_are_refused(f2d, options, tmp_path):
    assert f2d("prepare", *options)[0] == 0
    manifest = file_sha256(tmp_path / "cache" / "manifest.json")

    assert f2d("prepare", *options)[0] == 0
    assert file_sha256(tmp_path / "cache" / "manifest.json") == manifest
    code, _, err = f2d("prepare", *options, "--hard-mask")
    assert code == 2 and "hard_mask: False, now True" in err and len(err.strip().splitlines()[-1]) < 400


@pytest.fixture
def editing(tmp_path):
    """A folder of two triplets, with the points of the faces."""
    folder = tmp_path / "editing"
    for name in ("faces", "edited"):
        (folder / name).mkdir(parents=True)
    points = [[40, 45], [70, 44], [55, 60], [43, 80], [68, 79]]
    entries = []
    for i in range(2):
        for name in ("faces", "edited"):
            pixels = np.random.RandomState(i).randint(1, 256, (120, 120, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
        entries.append(
            {"face": f"faces/{i}.png", "image": f"edited/{i}.png", "prompt": "S* as a chef", "points": points}
        )
    (folder / "kept.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return folder


@pytest.fixture
def triplet_options(editing, weights, model, tmp_path):
    return ("--triplets", editing, "--out", tmp_path / "triplets", "--msid", weights / "msid.safetensors",
            "--model", model, "--device", "cpu", "--size", 64)  # fmt: skip


def test_triplets_become_a_cache_without_a_detector(f2d, triplet_options, editing, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "chosen_detector", lambda *_: pytest.fail("asked for a detector"))
    (editing / "edited" / "1.png").unlink()
    code, out, err = f2d("prepare", *triplet_options)
    assert code == 0, err
    assert "1 triplets prepared, 1 left out" in out and "edited/1.png: The file 1.png cannot be read" in out
    cache = Triplets.open(tmp_path / "triplets")
    assert cache.prompts == ("S* as a chef",) and cache.settings.size == 64
    assert cache.batch([0], [True]).latent_mean.shape == (1, 4, 8, 8)


def test_options_of_photos_are_not_passed_over_in_silence(f2d, triplet_options, weights):
    encoder = ("--expression-encoder", weights / "recon.safetensors")
    code, _, err = f2d("prepare", *triplet_options, "--hard-mask", "--caption", "x", *encoder)
    assert code == 2 and "--hard-mask, --caption, --expression-encoder given with --triplets" in err
    code, _, err = f2d("prepare", *triplet_options, "--parser", "p.pth")
    assert code == 2 and "not allowed with argument" in err


def test_the_kind_of_features_follows_from_the_encoder_or_is_chosen(f2d, options, tmp_path):
    plain = tiny_msid_state_dict(replace(TINY_MSID, levels=(3,)))
    file = write_safetensors(tmp_path / "plain.safetensors", plain)
    options = [file if str(option).endswith("msid.safetensors") else option for option in options]
    assert f2d("prepare", *options)[0] == 0
    cache = Cache.open(tmp_path / "cache")
    assert (cache.facts["features"], cache.id_width) == ("dreamidentity", 320)
    code, _, err = f2d("prepare", *options, "--features", "msid")
    assert code == 2 and "features: dreamidentity, now msid" in err
    options[2] = tmp_path / "other"
    assert f2d("prepare", *options, "--features", "msid")[0] == 0
    assert Cache.open(tmp_path / "other").id_width == 64
    assert "expected one of auto, msid, dreamidentity" in f2d("prepare", *options, "--features", "clip")[2]


def test_mistakes_are_told_in_one_line(f2d, options, weights, tmp_path):
    def refused(*arguments):
        code, _, err = f2d("prepare", *arguments)
        assert code == 2 and "Traceback" not in err
        return err.strip().splitlines()[-1]

    assert "--parser --masks --triplets is required" in refused(
        *(o for o in options if o not in ("--masks", options[8]))
    )
    swapped = list(options)
    swapped[7:9] = ["--parser", weights / "msid.safetensors"]
    assert "is an MSID encoder, expected a face parser" in refused(*swapped)
    assert "expected a multiple of 8" in refused(*options, "--size", 100)
    assert "expected one of face, face_no_glasses" in refused(*options, "--mask", "nose")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no photos" in refused(empty, *options[1:])
