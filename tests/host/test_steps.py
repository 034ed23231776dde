"""Which conditioning every call of the model saw while ComfyUI's own samplers ran: delayed subjects and schedules."""

from dataclasses import replace

import pytest
import torch

KSAMPLER_SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "beta", "kl_optimal")
# Samplers that call the model once per step, that look ahead within a step, and that keep a history.
SAMPLERS = ("euler", "heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m", "lcm", "uni_pc")
PROMPT = "a photo of S* as a chef"


@pytest.fixture(scope="module", autouse=True)
def custom_sampling(host):
    if "BasicScheduler" not in host.mappings:
        host.load_extra("nodes_custom_sampler.py")


@pytest.fixture(scope="module")
def people(host):
    s_star = host.pack_module("f2d_core.s_star").SStar

    def make(seed, **labels):
        return s_star(torch.randn(2, 768, generator=torch.Generator().manual_seed(seed)) * 0.05, **labels)

    return make(1, name="anna", injection="token"), make(2, name="ben", marker="T*", injection="token")


@pytest.fixture(scope="module")
def sample(host, small_models):
    """sample(conditioning, sigmas, sampler) -> [(noise level, entry of the conditioning)] of every call of the model.

    sample(conditioning, ksampler={"steps": …, "scheduler": …}) lets KSampler do it.
    """

    def run(conditioning, sigmas=None, sampler="euler", ksampler=None, model=None):
        calls = []

        def watch(apply, given):
            seen = given["c"]["c_crossattn"].float()
            (entry,) = [i for i, (cond, _) in enumerate(conditioning) if torch.allclose(cond, seen, atol=1e-6)]
            calls.append((float(given["timestep"][0]), entry))
            return apply(given["input"], given["timestep"], **given["c"])

        watched = (model or small_models[0]).clone()
        watched.set_model_unet_function_wrapper(watch)
        inputs = {"model": watched, "positive": conditioning, "negative": conditioning, "cfg": 1.0}
        inputs["latent_image"] = {"samples": torch.zeros(1, 4, 8, 8)}
        if ksampler is not None:
            host.run("KSampler", sampler_name=sampler, **ksampler, **inputs)
        else:
            (chosen,) = host.run("KSamplerSelect", sampler_name=sampler)
            host.run("SamplerCustom", add_noise=True, noise_seed=3, sampler=chosen, sigmas=sigmas, **inputs)
        return calls

    return run


@pytest.fixture(scope="module")
def sigmas_of(host, small_models):
    def make(scheduler, steps, denoise=1.0, model=None):
        model = model or small_models[0]
        return host.run("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=denoise)[0]

    return make


@pytest.fixture(scope="module")
def delayed(host, small_models, people):
    def make(**settings):
        return host.run("F2DDelayedSubject", clip=small_models[1], text=PROMPT, s_star=people[:1], **settings)

    return make


@pytest.mark.parametrize("scheduler", KSAMPLER_SCHEDULERS)
def test_of_thirty_steps_of_ksampler_the_first_six_see_the_class_word(scheduler, delayed, sample):
    conditioning, report = delayed(alpha=0.8, steps=30, scheduler=scheduler)
    calls = sample(conditioning, ksampler={"steps": 30, "scheduler": scheduler}, sampler="euler_ancestral")
    assert [entry for _, entry in calls] == [0] * 6 + [1] * 24
    assert 'first 6 of 30 steps: "a photo of a person as a chef"\nfrom step 7 on:\nS* (anna): token 4' in report


def test_a_scheduler_that_adds_a_step_is_counted_with_it(delayed, sample):
    """ddim_uniform makes 31 steps of 30."""
    conditioning, report = delayed(alpha=0.8, steps=30, scheduler="ddim_uniform")
    calls = sample(conditioning, ksampler={"steps": 30, "scheduler": "ddim_uniform"})
    assert [entry for _, entry in calls] == [0] * 7 + [1] * 24
    assert "first 7 of 31 steps" in report


@pytest.mark.parametrize(
    ("sampler", "scheduler"), [("dpm_2", "simple"), ("euler", "simple"), *((name, "karras") for name in SAMPLERS)]
)
def test_with_sigmas_every_step_of_any_sampler_sees_its_own(sampler, scheduler, delayed, sample, sigmas_of):
    """What looks ahead within a step sees what the step sees, except at the very noise level of the next step."""
    sigmas = sigmas_of(scheduler, 9)
    conditioning, _ = delayed(alpha=0.6, sigmas=sigmas)  # 4 of 9
    calls = sample(conditioning, sigmas, sampler)
    at_steps = {i: entry for sigma, entry in calls for i in range(9) if sigma == pytest.approx(float(sigmas[i]))}
    assert at_steps == {i: int(i >= 4) for i in range(9)}
    switch = float(sigmas[4])
    between = [(sigma, entry) for sigma, entry in calls if sigma != pytest.approx(switch)]
    assert all(entry == int(sigma < switch) for sigma, entry in between)


@pytest.mark.parametrize(("count", "alpha"), [(1, 0.95), (4, 0.6), (8, 0.2), (9, 0.0)])
def test_counts_from_the_first_step_to_the_last(count, alpha, delayed, sample, sigmas_of):
    sigmas = sigmas_of("karras", 9)
    conditioning, _ = delayed(alpha=alpha, sigmas=sigmas)
    assert [entry for _, entry in sample(conditioning, sigmas)] == [0] * count + [1] * (9 - count)


def test_image_to_image_counts_its_own_steps(delayed, sample, sigmas_of):
    """It begins in the middle of the model's time."""
    settings = {"steps": 10, "scheduler": "normal", "denoise": 0.4}
    conditioning, _ = delayed(alpha=0.75, **settings)
    assert [entry for _, entry in sample(conditioning, ksampler=settings)] == [0] * 3 + [1] * 7
    sigmas = sigmas_of("normal", 10, denoise=0.4)
    conditioning, _ = delayed(alpha=0.75, sigmas=sigmas)
    assert [entry for _, entry in sample(conditioning, sigmas)] == [0] * 3 + [1] * 7


def test_dense_schedules(delayed, sample, sigmas_of):
    """Towards the end of 200 Karras steps several lie within one of the model's thousand."""
    sigmas = sigmas_of("karras", 200)
    conditioning, _ = delayed(alpha=0.04, sigmas=sigmas)
    calls = [entry for _, entry in sample(conditioning, sigmas[185:])]
    assert calls == [0] * 8 + [1] * 7  # 193 of 200


def test_models_with_a_noise_schedule_of_their_own(host, small_models, delayed, sample, sigmas_of):
    if "ModelSamplingDiscrete" not in host.mappings:
        host.load_extra("nodes_model_advanced.py")
    for sampling, zsnr in (("v_prediction", True), ("lcm", False)):
        (model,) = host.run("ModelSamplingDiscrete", model=small_models[0], sampling=sampling, zsnr=zsnr)
        conditioning, _ = delayed(alpha=0.8, steps=10, scheduler="sgm_uniform", model=model)
        calls = sample(conditioning, ksampler={"steps": 10, "scheduler": "sgm_uniform"}, model=model)
        assert [entry for _, entry in calls] == [0] * 2 + [1] * 8


def test_sigmas_that_model_time_cannot_tell_apart(delayed, host):
    with pytest.raises(Exception, match="this model's time has no place") as error:
        delayed(alpha=0.5, sigmas=torch.tensor([80.0, 60.0, 40.0, 0.0]))
    assert isinstance(error.value, host.pack_module("f2d_core.errors").SettingsError)


def test_sigmas_without_a_step(delayed):
    with pytest.raises(Exception, match="hold no step"):
        delayed(sigmas=torch.tensor([14.6]))


def test_a_batch_has_no_schedule(host, small_models, people):
    with pytest.raises(Exception, match="A schedule takes one S\\*"):
        host.run("F2DSchedule", clip=small_models[1], text=PROMPT, s_star=people, s_star_to=people[:1])


def test_alpha_1_is_the_plain_prompt_and_0_the_class_prompt(host, small_models, people, delayed):
    (plain,), _ = host.run("F2DInject", clip=small_models[1], text=PROMPT, s_star=people[:1])
    (whole,), _ = delayed(alpha=1.0)
    assert torch.equal(whole[0], plain[0]) and "start_percent" not in whole[1]
    (class_word,) = host.run("CLIPTextEncode", clip=small_models[1], text="a photo of a woman as a chef")
    (nobody,), report = delayed(alpha=0.0, class_word=" a woman ")
    assert torch.equal(nobody[0], class_word[0][0])
    assert report == 'first 30 of 30 steps: "a photo of a woman as a chef"'


def test_a_batch_of_people_is_delayed_as_a_batch(host, small_models, people):
    batch = (people[0], replace(people[1], marker="S*"))
    conditioning, _ = host.run("F2DDelayedSubject", clip=small_models[1], text=PROMPT, s_star=batch, alpha=0.8)
    assert [cond.shape[0] for cond, _ in conditioning] == [1, 2]  # one class prompt for both


def test_a_schedule_gives_every_step_its_mixture(host, small_models, people, sample, sigmas_of):
    sigmas = sigmas_of("karras", 7)
    conditioning, report = host.run(
        "F2DSchedule",
        clip=small_models[1],
        text=PROMPT,
        s_star=people[:1],
        s_star_to=people[1:],
        mixtures=4,
        sigmas=sigmas,
    )
    assert [entry for _, entry in sample(conditioning, sigmas)] == [0, 1, 1, 2, 2, 3, 3]
    assert report.splitlines()[:2] == [
        "steps 1 to 1: anna, strength 1.00",
        "steps 2 to 3: anna 67% + ben 33%, strength 1.00",
    ]
    (alone,), _ = host.run("F2DInject", clip=small_models[1], text=PROMPT, s_star=people[:1])
    to = (replace(people[1], marker="S*"),)
    (other,), _ = host.run("F2DInject", clip=small_models[1], text=PROMPT, s_star=to)
    assert torch.equal(conditioning[0][0], alone[0]) and torch.equal(conditioning[-1][0], other[0])


def test_a_schedule_of_one_person_is_one_of_strengths(host, small_models, people, sample, sigmas_of):
    sigmas = sigmas_of("simple", 6)
    inputs = {"clip": small_models[1], "text": PROMPT, "s_star": people[:1]}
    conditioning, report = host.run(
        "F2DSchedule", s_star_to=people[:1], strength=0.0, strength_to=1.2, begin=0.4, end=0.4, sigmas=sigmas, **inputs
    )
    assert [entry for _, entry in sample(conditioning, sigmas)] == [0, 0, 1, 1, 1, 1]
    for (cond, _), strength in zip(conditioning, (0.0, 1.2), strict=True):
        assert torch.equal(cond, host.run("F2DInject", strength=strength, **inputs)[0][0][0])
    assert "steps 1 to 2: anna, strength 0.00\nsteps 3 to 6: anna, strength 1.20" in report
