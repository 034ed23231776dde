"""Pictures of people in prompts, on a small stand-in model."""

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.cli import generate as command

# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

QUICK = ("--steps", 2, "--size", "64x64", "--device", "cpu")


def opened(file):
    with Image.open(file) as picture:
        return picture.copy()


@pytest.fixture
def generate(f2d, model, tmp_path):
    """generate(identities, prompt, …) -> (pictures by file name, stdout, stderr)"""

    def run(identities, prompt, *options, out="pictures"):
        code, text, err = f2d("generate", "--s-star", *identities, "--prompt", prompt, "--model", model,
                              "--out", tmp_path / out, *QUICK, *options)  # fmt: skip
        assert code == 0, err
        return {file.name: opened(file) for file in sorted((tmp_path / out).iterdir())}, text, err

    return run


def test_pictures_are_written_and_say_what_they_are(generate, identity, model):
    pictures, text, err = generate(
        [identity()], "a photo of S* as a chef", "-n", 2, "--seed", 7, "--negative", "blurry"
    )
    assert list(pictures) == ["anna_00007.png", "anna_00008.png"] and all(name in text for name in pictures)
    picture = pictures["anna_00008.png"]
    assert picture.size == (64, 64) and np.asarray(picture).std() > 10
    assert picture.info == {
        "Software": "Face2Diffusion (generated picture)",
        "prompt": "a photo of S* as a chef",
        "negative prompt": "blurry",
        "seed": "8",
        "steps": "2, Euler ancestral",
        "guidance": "7",
        "model": model.name,
    }
    assert "S* (anna): token" in err


def test_the_same_seed_gives_the_same_picture_and_nothing_is_overwritten(generate, identity):
    file = identity()
    generate([file], "S*", "--seed", 7)
    pictures, _, _ = generate([file], "S*", "--seed", 7)
    assert list(pictures) == ["anna_00007.png", "anna_00007_2.png"]
    assert np.array_equal(*(np.asarray(picture) for picture in pictures.values()))


def test_the_face_counts(generate, identity):
    one, two = (generate([identity(name, seed)], "S*", out=name)[0] for name, seed in (("anna", 1), ("ben", 2)))
    difference = np.abs(np.asarray(one["anna_00000.png"]).astype(int) - np.asarray(two["ben_00000.png"]))
    assert difference.mean() > 0.5


def test_two_people_with_markers_and_strengths_of_their_own(generate, identity):
    people = [identity("anna", 1), identity("ben", 2)]
    markers = ("--marker", "S*", "T*")
    full, _, err = generate(people, "S* and T*", *markers, out="full")
    assert list(full) == ["anna_ben_00000.png"] and "S* (anna)" in err and "T* (ben)" in err
    same, _, _ = generate(people, "S* and T*", *markers, "--strength", 1, 1, out="same")
    less, _, _ = generate(people, "S* and T*", *markers, "--strength", 1, 0.5, out="less")
    full, same, less = (np.asarray(p["anna_ben_00000.png"]) for p in (full, same, less))
    assert np.array_equal(full, same) and not np.array_equal(full, less)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a s*"], 'The marker "S*" of anna does not stand in the prompt'),
        (["--prompt", "S*", "--strength", "1", "2"], "--strength has 2 values for 1 people"),
        (["--prompt", "S*", "--marker", "a", "b"], "--marker has 2 values for 1 people"),
        (["--prompt", "S*", "--marker", "a:b"], "cannot be a marker"),
        (["--prompt", "S*", "-n", "0"], "-n is 0"),
        (["--prompt", "S*", "--steps", "0"], "steps is 0"),
        (["--prompt", "S*", "--size", "65x64"], "multiples of 8"),
        (["--prompt", "(S*:nan)"], "finite number"),
        (["--prompt", "S*", "--device", "abacus"], "abacus"),
        (["--prompt", "S*", "--model", "nowhere.safetensors"], "no file or folder nowhere.safetensors"),
        (["--prompt", "S*", "--model", "nobody/nothing"], "--allow-download"),
        (["--prompt", "S*", "--model", "."], "no model_index.json"),
    ],
)
def test_mistakes(refused, identity, model, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    given = ("--s-star", identity(), "--model", model, "--out", tmp_path / "pictures", "--size", "64x64", "--steps", 1)
    assert message in refused("generate", *given, *options)
    assert not (tmp_path / "pictures").exists()


def test_files_that_do_not_fit(refused, identity, model, weights, tmp_path):
    end = ("--prompt", "S*", "--model", model, "--out", tmp_path)
    message = refused("generate", "--s-star", weights / "msid.safetensors", *end)
    assert "is an MSID encoder, expected an identity file" in message
    assert "share the marker" in refused("generate", "--s-star", identity("anna"), identity("ben"), *end)
    assert "SD 2.x" in refused("generate", "--s-star", identity("anna", encoder_key="h"), *end)


def test_a_single_file_without_a_tokenizer(refused, identity, tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    end = ("--prompt", "S*", "--model", tmp_path / "model.safetensors", "--out", tmp_path)
    assert "--tokenizer FOLDER" in refused("generate", "--s-star", identity(), *end)
    (tmp_path / "comfy" / "sd1_tokenizer").mkdir(parents=True)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert "not a weight file" in refused("generate", "--s-star", identity(), *end)


def test_a_full_gpu_is_one_line(refused, identity, model, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(command, "generate", full)
    end = ("--prompt", "S*", "--model", model, "--out", tmp_path, *QUICK)
    assert "too little memory" in refused("generate", "--s-star", identity(), *end)
