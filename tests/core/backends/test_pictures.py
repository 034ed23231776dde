"""Pictures through diffusers: the port, both samplers, delayed subject conditioning against a loop by hand."""

import numpy as np
import pytest
import torch

from f2d_core.backends.diffusers import (
    DiffusersTextEncoder,
    ddim_scheduler,
    generate,
    load_pipeline,
    official_scheduler,
)
from f2d_core.backends.pictures import DiffusersPictures
from f2d_core.backends.stand_in import write_stand_in
from f2d_core.errors import PromptError, SettingsError
from f2d_core.ports import PictureRequest, Sampling
from f2d_core.prompt import Person
from f2d_core.s_star import SStar

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PROMPT = "a S*"
SMALL = {"steps": 5, "width": 64, "height": 48}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return load_pipeline(write_stand_in(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def maker(pipe):
    return DiffusersPictures(pipe, "small")


@pytest.fixture(scope="module")
def face():
    return Person(SStar(torch.randn(2, 768, generator=torch.Generator().manual_seed(1))))


def request(face, **changes):
    return PictureRequest(**{"prompt": PROMPT, "seed": 3, "people": (face,), **changes})


@torch.no_grad()
def by_hand(pipe, scheduler, prompts, seed, cfg):
    """Guided sampling without diffusers' pipeline; prompts: the conditioning of each step."""
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    scheduler.set_timesteps(len(prompts))
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 4, SMALL["height"] // 8, SMALL["width"] // 8, generator=generator)
    latents = latents * scheduler.init_noise_sigma
    noise = {} if "DDIM" in type(scheduler).__name__ else {"generator": generator}
    for t, prompt in zip(scheduler.timesteps, prompts, strict=True):
        context = torch.cat([encoder.encode("").hidden, prompt.hidden])
        both = scheduler.scale_model_input(torch.cat([latents] * 2), t)
        away, towards = pipe.unet(both, t, encoder_hidden_states=context).sample.chunk(2)
        latents = scheduler.step(away + cfg * (towards - away), t, latents, **noise).prev_sample
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return ((pixels[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255).round().numpy().astype(int)


@pytest.mark.parametrize(("sampler", "scheduler"), [("euler_ancestral", official_scheduler), ("ddim", ddim_scheduler)])
@pytest.mark.parametrize(("subject_steps", "early"), [(1.0, 0), (0.7, 2), (0.0, 5)])
def test_equals_a_loop_by_hand(pipe, maker, face, sampler, scheduler, subject_steps, early):
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    towards, plain = encoder.encode(PROMPT, [face]), encoder.encode("a a person")
    found = maker.make(request(face, subject_steps=subject_steps), Sampling(sampler, cfg=7.5, **SMALL))
    expected = by_hand(pipe, scheduler(pipe.scheduler.config), [plain] * early + [towards] * (5 - early), 3, 7.5)
    assert found.shape == (48, 64, 3) and found.dtype == np.uint8 and found.std() > 10
    assert np.abs(found - expected).max() <= 1


def test_equals_generate_and_itself(pipe, maker, face):
    encoder = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer)
    (expected,) = generate(pipe, encoder.encode(PROMPT, [face]), seed=3, steps=5, cfg=7.0, size=(64, 48))
    found, again = (maker.make(request(face), Sampling(**SMALL)) for _ in range(2))
    assert np.array_equal(found, np.asarray(expected)) and np.array_equal(found, again)


def test_seed_negative_and_subject_steps_count(maker, face):
    changes = ({}, {"seed": 4}, {"negative": "b " * 80}, {"subject_steps": 0.8}, {"subject_steps": 0.8, "prompt": "S*"})
    pictures = [maker.make(request(face, **change), Sampling(**SMALL)).tobytes() for change in changes]
    assert len(set(pictures)) == len(pictures)


def test_long_prompts_of_different_lengths_fill_up(maker, face):
    """The class prompt has another number of chunks than the prompt with the person."""
    long = "a " * 73 + "S*"
    found = maker.make(request(face, prompt=long, subject_steps=0.5), Sampling(**SMALL))
    assert found.shape == (48, 64, 3)


def test_without_guidance(maker, face):
    early, late = (maker.make(request(face, subject_steps=s), Sampling(cfg=1.0, **SMALL)) for s in (0.5, 1.0))
    assert not np.array_equal(early, late)


def test_pictures_without_people(maker):
    assert maker.make(PictureRequest("a person", 0), Sampling(**SMALL)).shape == (48, 64, 3)


def test_progress_counts_steps(maker, face):
    seen = []
    maker.make(request(face, subject_steps=0.5), Sampling(**SMALL), lambda *count: seen.append(count))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_the_key_names_weights_and_type(pipe, maker):
    assert maker.key == DiffusersPictures(pipe, "small").key
    assert maker.key.startswith("diffusers, small, ") and maker.key.endswith(", float32")
    before = pipe.unet.conv_in.bias.data.clone()
    pipe.unet.conv_in.bias.data += 1
    try:
        assert DiffusersPictures(pipe, "small").key != maker.key
    finally:
        pipe.unet.conv_in.bias.data = before


def test_mistakes(maker, face):
    with pytest.raises(SettingsError, match='no sampler "lms"'):
        maker.make(request(face), Sampling("lms", **SMALL))
    with pytest.raises(SettingsError, match="multiples of 8"):
        maker.make(request(face), Sampling(width=65))
    with pytest.raises(SettingsError, match="subject_steps is 2"):
        maker.make(request(face, subject_steps=2), Sampling(**SMALL))
    with pytest.raises(PromptError, match="does not stand in the prompt"):
        maker.make(request(face, prompt="a chef"), Sampling(**SMALL))


def test_too_little_memory_is_said(maker, face, monkeypatch):
    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(maker._pipe.unet, "forward", full)
    with pytest.raises(SettingsError, match="too little memory free for a picture of 64 x 48"):
        maker.make(request(face), Sampling(**SMALL))
