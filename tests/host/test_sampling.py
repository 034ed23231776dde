"""ComfyUI as a PictureMaker: the pictures of KSampler, DDIM by its formula, people, delayed people, cancelling."""

from dataclasses import replace

import numpy as np
import pytest
import torch

PROMPT, SIDE = "Ada Lovelace face, looking at the camera", 64


@pytest.fixture(scope="module")
def ports(host):
    return host.pack_module("f2d_core.ports")


@pytest.fixture(scope="module")
def maker(host, small_models):
    return host.pack_module("nodes.host_sampling").PictureMaker(*small_models)


@pytest.fixture
def sampling(ports):
    return ports.Sampling(steps=3, width=SIDE, height=SIDE)


@pytest.fixture
def make(maker, ports, sampling):
    """make(prompt, seed=…, sampler=…, …) -> (H, W, 3) uint8."""

    def run(prompt=PROMPT, seed=5, progress=None, **fields):
        settings = replace(
            sampling, **{name: fields.pop(name) for name in ("sampler", "steps", "width") if name in fields}
        )
        return maker.make(ports.PictureRequest(prompt, seed, **fields), settings, progress)

    return run


def test_euler_ancestral_is_what_ksampler_makes(host, make, small_models):
    model, clip, vae = small_models
    positive, negative = (host.run("CLIPTextEncode", clip=clip, text=text)[0] for text in (PROMPT, "blurry"))
    settings = {
        "seed": 5,
        "steps": 3,
        "cfg": 7.0,
        "sampler_name": "euler_ancestral",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    (latent,) = host.run("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
    (latent,) = host.run("KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **settings)
    (image,) = host.run("VAEDecode", vae=vae, samples=latent)

    made = make(negative="blurry")

    assert made.shape == (SIDE, SIDE, 3) and made.dtype == np.uint8 and made.std() > 5
    assert np.array_equal(made, np.rint(image[0].numpy() * 255).astype(np.uint8))


def test_ddim_is_what_its_formula_gives(host, maker, ports, sampling, small_models):
    """x_0 and eps of Song et al. 2021, Eq. 12 with sigma 0, over the timesteps 667, 334 and 1 of 1000; guided."""
    training = host.pack_module("nodes.host_training")
    model, clip, _ = small_models
    denoiser = training.Denoiser(model, training.Cancellation())
    with torch.inference_mode():
        contexts = [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0] for text in (PROMPT, "")]
        sigmas = model.get_model_object("model_sampling").sigmas
        alphas = 1 / (1 + sigmas**2)
        z = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(5))
        for t, following in ((667, 334), (334, 1), (1, 0)):
            positive, negative = (denoiser.predict_noise(z, torch.tensor([t]), context) for context in contexts)
            eps = negative + 7.0 * (positive - negative)
            z_0 = (z - (1 - alphas[t]).sqrt() * eps) / alphas[t].sqrt()
            z = alphas[following].sqrt() * z_0 + (1 - alphas[following]).sqrt() * eps
        request = ports.PictureRequest(PROMPT, 5)
        found = maker._sampled(request, replace(sampling, sampler="ddim"), [667, 334, 1], None)
    # The small model's output is large: what matters is the share of the difference.
    assert (found * training.LATENT_SCALE - z).norm() < 1e-4 * z.norm()


def test_the_same_request_gives_the_same_picture_whatever_came_between(make):
    first = make(sampler="ddim")
    other = make(seed=6, sampler="ddim")

    assert np.array_equal(make(sampler="ddim"), first) and not np.array_equal(other, first)
    assert not np.array_equal(make(), first)


@pytest.fixture
def person(host):
    vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(1))
    s_star = host.pack_module("f2d_core.s_star").SStar(vectors, class_word="a person")
    return host.pack_module("f2d_core.prompt").Person(s_star)


def test_people_come_in_and_may_come_later(make, person):
    def with_subject(part):
        return make("a photo of S*", people=(person,), subject_steps=part, steps=4)

    nobody, always = make("a photo of a person", steps=4), with_subject(1.0)
    delayed = [with_subject(part) for part in (0.0, 0.5, 0.8)]

    assert np.array_equal(delayed[0], nobody)
    assert len({picture.tobytes() for picture in (nobody, always, *delayed[1:])}) == 4


def test_the_class_word_is_seen_by_the_steps_asked_for(host, maker, ports, person, sampling, monkeypatch):
    """alpha 0.5 of 4 steps: while i <= 2, so three of them."""
    samplers = __import__("comfy.samplers", fromlist=["samplers"])
    seen, calc = [], samplers.calc_cond_batch

    def watched(model, conds, x_in, timestep, model_options):
        (used,) = [
            i for i, cond in enumerate(conds[0]) if cond["timestep_end"] <= timestep[0] <= cond["timestep_start"]
        ]
        seen.append(used)
        return calc(model, conds, x_in, timestep, model_options)

    monkeypatch.setattr(samplers, "calc_cond_batch", watched)
    request = ports.PictureRequest("a photo of S*", 1, people=(person,), subject_steps=0.5)
    maker.make(request, replace(sampling, steps=4))

    assert seen == [0, 0, 0, 1]


def test_it_tells_of_every_step_and_heeds_cancel(host, make):
    devices = __import__("comfy.model_management", fromlist=["model_management"])
    told = []
    make(progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def press(done, total):
        if done == 2:
            devices.interrupt_current_processing(True)

    with pytest.raises(devices.InterruptProcessingException):
        make(progress=press, steps=6)
    assert make().std() > 5  # and the next one is made


def test_the_key_names_the_weights(host, maker, small_models):
    other = host.pack_module("nodes.host_sampling").PictureMaker(*small_models)
    assert maker.key == other.key and maker.key.startswith("comfyui, ") and maker.key.endswith(", float32")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"sampler": "magic"}, "no sampler"), ({"steps": 0}, "steps is 0"), ({"width": 60}, "60 x 64 cannot be sampled")],
)
def test_what_cannot_be_sampled_is_said(host, make, fields, message):
    with pytest.raises(host.pack_module("f2d_core.errors").SettingsError, match=message):
        make(**fields)
