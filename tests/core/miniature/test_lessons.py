"""What the small models of this world learn, in a few steps each, through the ordinary run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from f2d_core.backends.diffusers import load_pipeline, load_tokenizer
from f2d_core.miniature import latents as latents_module
from f2d_core.miniature.autoencoder import (
    EDGES,
    FACE_WEIGHT,
    AutoencoderLesson,
    DecoderLesson,
    _distance,
    scaling_factor,
    to_tensor,
)
from f2d_core.miniature.calling import caption_encoder
from f2d_core.miniature.captions import WORDS
from f2d_core.miniature.denoiser import DenoiserLesson, noise_levels
from f2d_core.miniature.job import ModuleJob, Settings, load_result, precision
from f2d_core.miniature.latents import latent_set, token_ids
from f2d_core.miniature.models import (
    load_autoencoder,
    new_autoencoder,
    new_text_encoder,
    new_unet,
    save_autoencoder,
    save_model,
)
from f2d_core.miniature.pictures import PictureSet
from f2d_core.miniature.reading import ReadingLesson
from f2d_core.miniature.tokenizer import write_word_tokenizer
from f2d_core.train.run import Watcher, carry_out

# numpy warns of how torch hands arrays over, inside diffusers' schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

STEPS = Settings(steps=4, batch=4, learning_rate=1e-3, ema=0.9, seed=3, checkpoint_every=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return write_word_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS)


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", "fp32"), ("AVX512", "bf16"), ("SVE256", "fp32")])
def test_a_cpu_computes_in_what_it_is_quick_in(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    assert precision.__wrapped__() == expected


def autoencoder_job(settings=STEPS):
    vae = new_autoencoder(1)
    return vae, lambda: ModuleJob(AutoencoderLesson(vae, PictureSet(2), settings.batch, settings.seed), settings)


def test_the_loss_is_of_every_picture_by_itself():
    vae, _ = autoencoder_job()
    lesson = AutoencoderLesson(vae, PictureSet(2), 4, 3)
    rows = lesson.rows(5, range(4))

    together = lesson.measure(rows)["loss"]
    apart = torch.cat([lesson.measure(rows.part(i, 1))["loss"] for i in range(4)])
    torch.testing.assert_close(together, apart, rtol=2e-2, atol=1e-3)  # bf16
    assert torch.equal(rows["pixels"][2:], lesson.rows(5, range(2, 4))["pixels"])


def test_the_decoder_learns_on_while_the_encoder_stays(tmp_path):
    vae = new_autoencoder(1)
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    lesson = DecoderLesson(vae, PictureSet(2), STEPS.batch, STEPS.seed)
    rows = lesson.rows(0, range(4))
    carry_out(lambda: ModuleJob(lesson, replace(STEPS, ema=0.0)), tmp_path)
    load_result(lesson.modules, tmp_path)

    after = vae.state_dict()
    changed = {key.split(".")[0] for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed == {"decoder", "post_quant_conv"}
    assert rows["weights"].min() == 1 and rows["weights"].max() == FACE_WEIGHT


def test_an_error_in_a_face_weighs_more():
    wrong, faces = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    wrong[0, :, 2, 2] = wrong[1, :, 6, 6] = 1
    faces[:, :, :4, :4] = 1
    inside, outside = _distance(wrong, 1 + (FACE_WEIGHT - 1) * faces).tolist()

    assert inside == pytest.approx(FACE_WEIGHT * outside)
    assert outside == pytest.approx(_distance(wrong)[1].item()) == pytest.approx(1 / 64 + EDGES * 4 / 56)


@pytest.mark.parametrize("ema", [0.9, 0.0])
def test_a_stopped_training_goes_on_bit_by_bit(tmp_path, ema):
    settings = replace(STEPS, ema=ema)
    vae, job = autoencoder_job(settings)
    carry_out(job, tmp_path / "whole")
    load_result({"vae": vae}, tmp_path / "whole")
    whole = {key: value.clone() for key, value in vae.state_dict().items()}

    def stop(report):
        if report.result.step == 3:
            raise KeyboardInterrupt

    other, job = autoencoder_job(settings)
    with pytest.raises(KeyboardInterrupt):
        carry_out(job, tmp_path / "stopped", watcher=Watcher(progress=stop))
    other, job = autoencoder_job(settings)
    carry_out(job, tmp_path / "stopped")
    load_result({"vae": other}, tmp_path / "stopped")

    assert all(torch.equal(value, whole[key]) for key, value in other.state_dict().items())


def test_a_whole_small_model_is_made_and_draws(tmp_path, tokenizer_folder, monkeypatch):
    monkeypatch.setattr(latents_module, "PART", 8)
    pictures, tokenizer, vae = PictureSet(1), load_tokenizer(tokenizer_folder), new_autoencoder(1)
    vae.register_to_config(scaling_factor=scaling_factor(vae.eval(), pictures))
    data = latent_set(tmp_path / "latents", 12, pictures, vae, tokenizer)
    again = latent_set(tmp_path / "latents", 12, pictures, None, tokenizer)  # nothing is encoded twice

    mean, _ = data.posterior(range(12))
    assert mean.std().item() == pytest.approx(1, abs=0.2) and torch.equal(again.posterior([7])[0][0], mean[7])
    assert data.tokens([3], [False])[0].tolist() == token_ids(tokenizer, pictures.captions(range(3, 4)))[0].tolist()
    faces = data.faces(range(12))
    assert 0.05 < faces.mean() < 0.4 and faces.shape[1:] == mean.shape[2:] and faces.amax(dim=(1, 2)).min() > 0.9
    assert data.tokens([3], [True])[0].tolist() == token_ids(tokenizer, [""])[0].tolist()
    assert np.allclose(data.people([3, 7])[1], pictures.people(range(7, 8))[0], atol=1e-3)

    unet, text = new_unet(1), new_text_encoder(tokenizer, 1)
    lesson = DenoiserLesson(unet, caption_encoder(text, tokenizer, 1), data, 3)
    rows = lesson.rows(0, range(4))
    faces = data.faces(rows.images)
    assert (rows["heads"] >= faces).all() and rows["heads"].mean() > 1.3 * faces.mean()  # hair weighs as faces do
    t = lesson.rows(0, range(256))["t"].float()
    assert 370 < t.mean() < 485 and t.min() < 40 and 970 < t.max() < 1000  # evenly drawn: 500
    carry_out(lambda: ModuleJob(lesson, STEPS, {"pictures": 12}), tmp_path / "denoiser")
    load_result({"unet": unet}, tmp_path / "denoiser")
    pipe = load_pipeline(save_model(tmp_path / "model", tokenizer_folder, vae, unet.eval(), text.eval()))
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a photo of a person", num_inference_steps=2, output_type="np").images[0]
    assert picture.shape == (64, 64, 3) and np.isfinite(picture).all()


def test_an_autoencoder_comes_back_from_the_models_folder(tmp_path):
    vae = new_autoencoder(1)
    vae.register_to_config(scaling_factor=0.7)
    save_autoencoder(tmp_path, vae)
    back = load_autoencoder(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["vae"] and back.config.scaling_factor == 0.7
    assert all(v.dtype == torch.float32 for v in back.state_dict().values())
    assert torch.equal(back.state_dict()["quant_conv.weight"], vae.float().state_dict()["quant_conv.weight"])
    back.save_pretrained(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()


def test_the_text_encoder_learns_to_read(tokenizer_folder, tmp_path):
    """From captions alone it tells a king from a chef, and by their words one person from another, better than always
    saying the middle, which is 1."""
    tokenizer, settings = load_tokenizer(tokenizer_folder), replace(STEPS, steps=120, batch=32, learning_rate=4e-3)
    encoder = caption_encoder(new_text_encoder(tokenizer, 1), tokenizer, 1)
    lesson = ReadingLesson(encoder, PictureSet(4, steady=True), tokenizer, 32, 1)
    unseen = lesson.rows(500, range(32))
    before = lesson.measure(unseen)["loss"].mean().item()
    carry_out(lambda: ModuleJob(lesson, settings), tmp_path)
    load_result(lesson.modules, tmp_path)

    assert before > 1 and lesson.measure(unseen)["loss"].mean().item() < 0.95
    first, second = (lesson.rows(3, part)["facts"] for part in (range(8), range(4, 8)))
    assert torch.equal(first[4:], second)


def test_the_noise_is_stable_diffusions():
    levels = noise_levels()

    assert len(levels) == 1000 and (levels.diff() < 0).all()
    assert levels[0].item() == pytest.approx(1 - 0.00085) and levels[-1].item() == pytest.approx(0.00466, rel=1e-2)


def test_pixels_as_numbers():
    values = to_tensor(np.array([[[[0, 127, 255]]]], np.uint8)).flatten().tolist()

    assert values == pytest.approx([-1, -1 / 255, 1])
