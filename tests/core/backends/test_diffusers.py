"""Loading and sampling without ComfyUI, on a small stand-in model."""

import json
import sys

import numpy as np
import pytest
import torch

from f2d_core.backends import diffusers as backend
from f2d_core.backends.diffusers import (
    DiffusersTextEncoder,
    generate,
    generate_together,
    load_pipeline,
    load_tokenizer,
    official_scheduler,
)
from f2d_core.backends.stand_in import write_stand_in
from f2d_core.errors import MismatchError, MissingPackageError, SettingsError, WeightsError
from f2d_core.prompt import Person
from f2d_core.s_star import SStar

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SD14_SCHEDULER = {  # the settings published with SD 1.4
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_stand_in(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(folder):
    return load_pipeline(folder, device="cpu")


@pytest.fixture(scope="module")
def encoder(pipe):
    return DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)


def face(seed):
    return Person(SStar(torch.randn(2, 768, generator=torch.Generator().manual_seed(seed))))


def pixels(pipe, conditioning, **settings):
    settings = {"steps": 2, "size": (64, 64), **settings}
    return [np.asarray(image) for image in generate(pipe, conditioning, **settings)]


def test_timesteps_and_sigmas_are_the_official_ones(golden):
    expected = json.loads((golden / "sampler.json").read_text(encoding="utf-8"))
    scheduler = official_scheduler(SD14_SCHEDULER)
    scheduler.set_timesteps(expected["steps"])
    assert scheduler.timesteps.tolist() == expected["timesteps"]
    assert scheduler.sigmas.tolist() == pytest.approx(expected["sigmas"], rel=1e-6)
    assert float(scheduler.init_noise_sigma) == pytest.approx(expected["init_noise_sigma"], rel=1e-6)


def test_the_scheduler_of_a_single_file_gives_the_official_sigmas_too(golden):
    from f2d_core.backends.single_file import NOISE_SCHEDULE

    expected = json.loads((golden / "sampler.json").read_text(encoding="utf-8"))
    scheduler = official_scheduler(NOISE_SCHEDULE)
    scheduler.set_timesteps(expected["steps"])
    assert scheduler.sigmas.tolist() == pytest.approx(expected["sigmas"], rel=1e-6)


def test_another_face_gives_another_picture_and_the_same_face_the_same(pipe, encoder):
    (one,), (two,), (again,) = (pixels(pipe, encoder.encode("a photo of S*", [face(s)])) for s in (1, 2, 1))
    assert one.shape == (64, 64, 3) and one.std() > 10
    assert np.array_equal(one, again)
    assert np.abs(one.astype(int) - two).mean() > 0.5


def test_each_picture_has_its_own_seed(pipe, encoder):
    prompt = encoder.encode("a")
    first, second = pixels(pipe, prompt, n=2, seed=5)
    assert np.array_equal(second, pixels(pipe, prompt, seed=6)[0])
    assert not np.array_equal(first, second)


def test_pictures_made_together_are_those_made_alone(pipe, encoder):
    """Every one with its own prompt, seed and class prompt for the first steps; but for rounding."""
    prompts = [encoder.encode("a photo of S*", [face(i)]) for i in (1, 2, 3)]
    class_prompts = [encoder.encode(text) for text in ("a", "b " * 80, "c")]
    seeds, settings = (5, 9, 9), {"steps": 3, "size": (64, 64), "early_steps": 1}

    together = generate_together(pipe, prompts, seeds, early=class_prompts, **settings)
    for picture, prompt, seed, early in zip(together, prompts, seeds, class_prompts, strict=True):
        # with as many chunks as the longest of all, which guidance sees too
        padded = encoder.padded(prompt, 2), encoder.padded(early, 2)
        (alone,) = generate(pipe, padded[0], seed=seed, early=padded[1], **settings)
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(alone)).max() <= 2
    (late,) = generate(pipe, prompts[0], seed=5, steps=3, size=(64, 64))
    assert np.abs(np.asarray(together[0]).astype(int) - np.asarray(late)).mean() > 0.5


def test_the_negative_prompt_counts_and_may_be_longer(pipe, encoder):
    prompt = encoder.encode("a")
    (plain,) = pixels(pipe, prompt)
    assert np.array_equal(plain, pixels(pipe, prompt, negative=encoder.encode(""))[0])
    (other,) = pixels(pipe, prompt, negative=encoder.encode("b " * 80))
    assert not np.array_equal(plain, other)


def test_sampling_is_the_plain_pipeline_with_the_official_scheduler(pipe, encoder):
    """Against diffusers' own prompt handling, which knows neither S* nor weights."""
    from diffusers import StableDiffusionPipeline

    plain = StableDiffusionPipeline(**{**pipe.components, "scheduler": official_scheduler(pipe.scheduler.config)},
                                    requires_safety_checker=False)  # fmt: skip
    plain.set_progress_bar_config(disable=True)
    expected = plain("a cat", num_inference_steps=2, guidance_scale=7.0, height=64, width=64,
                     generator=torch.Generator().manual_seed(0)).images[0]  # fmt: skip
    (found,) = pixels(pipe, encoder.encode("a cat"))
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1


def test_progress_counts_steps_over_all_pictures(pipe, encoder):
    seen = []
    pixels(pipe, encoder.encode("a"), n=2, steps=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_sampling_leaves_the_pipeline_as_it_was(pipe, encoder):
    scheduler, config = pipe.scheduler, dict(pipe.scheduler.config)
    weights = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    pixels(pipe, encoder.encode("a S*", [face(1)]))
    assert pipe.scheduler is scheduler and dict(pipe.scheduler.config) == config
    assert all(torch.equal(value, weights[name]) for name, value in pipe.unet.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (60, 64)}, "60x64.*multiples of 8"),
        ({"n": 0}, "-n is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": 2**70}, "seed is.*0 to 4294967295"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_out_of_range(pipe, encoder, settings, message):
    with pytest.raises(SettingsError, match=message):
        pixels(pipe, encoder.encode("a"), **settings)


def test_the_default_size_is_the_models(pipe):
    assert backend._require_size(pipe, None) == (256, 256)


def test_precision_by_device(folder):
    pipe = load_pipeline(folder, device="cpu", dtype=torch.bfloat16)
    assert (pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    assert pixels(pipe, encoder.encode("a"))[0].shape == (64, 64, 3)


def test_another_tokenizer_may_be_given(folder):
    assert load_pipeline(folder, device="cpu", tokenizer=folder / "tokenizer").tokenizer("ab").input_ids == [
        512,
        97,
        354,
        513,
    ]


def test_a_single_file_needs_a_tokenizer(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(SettingsError, match="--tokenizer FOLDER"):
        load_pipeline(file)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no vocab\.json"):
        load_tokenizer(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no model_index\.json"):
        load_pipeline(tmp_path)


def test_a_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}', encoding="utf-8")
    with pytest.raises(MismatchError, match="StableDiffusionXLPipeline"):
        load_pipeline(tmp_path)


def test_a_damaged_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}', encoding="utf-8"
    )
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        load_pipeline(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_id_is_not_fetched_unasked(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))
    with pytest.raises(WeightsError, match="--allow-download"):
        load_pipeline("nobody/no-such-model")


@pytest.mark.parametrize("name", ["missing.safetensors", "some/missing.ckpt", "../elsewhere", "word"])
def test_a_path_that_is_not_there_is_no_hub_id(name):
    with pytest.raises(WeightsError, match="no file or folder"):
        load_pipeline(name, allow_download=True)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(SettingsError, match=f'device "{device}" cannot be used'):
        load_pipeline(folder, device=device)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"package {package}.*extra: diffusers.*work without it"):
        load_pipeline("anything")
