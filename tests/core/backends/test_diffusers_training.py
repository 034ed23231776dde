"""The training ports over diffusers: the same numbers as its own pipeline, and gradients that are right."""

import math

import pytest
import torch

from f2d_core.backends.stand_in import write_stand_in
from f2d_core.errors import MismatchError, PromptError, WeightsError
from f2d_core.prompt import Person
from f2d_core.s_star import SStar
from f2d_core.train import train
from f2d_core.train.task import MappingTask
from tests.support import training

pytest.importorskip("diffusers", reason="the extra `train` is not installed")
# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TEMPLATE = "A photo of S*"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These models are so small that a second thread costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_stand_in(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def parts(folder):
    from f2d_core.backends.diffusers_training import load_training_parts

    return load_training_parts(folder, device="cpu")


@pytest.fixture
def words():
    return 0.05 * training.seeded(3, 2, 768, seed=4)


def small_parts(dtype, prediction="epsilon", checkpointing=False):
    """Two levels, one transformer on the way down and two on the way up, all pseudo-random."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    from f2d_core.backends.diffusers_training import DiffusersDenoiser

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=training.WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                              prediction_type=prediction)  # fmt: skip
    return DiffusersDenoiser(unet.to(dtype), scheduler, checkpointing), scheduler


def test_words_stand_where_inference_puts_them(parts, words):
    """One face at a time through the text encoder that pictures are made with."""
    from f2d_core.backends.diffusers import DiffusersTextEncoder

    plain = DiffusersTextEncoder(parts.encoder._model, parts.encoder._tokenizer)
    for injection in ("token", "sum"):
        found = parts.encoder.encode_words(TEMPLATE, "S*", words, injection)
        for row, vectors in zip(found, words, strict=True):
            person = Person(SStar(vectors, injection=injection))
            assert torch.allclose(row, plain.encode(TEMPLATE, [person]).hidden[0], atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_a_plain_prompt_is_the_inference_one(parts):
    from f2d_core.backends.diffusers import DiffusersTextEncoder

    plain = DiffusersTextEncoder(parts.encoder._model, parts.encoder._tokenizer)
    found = parts.encoder.encode_text("A photo of a person")
    assert found.shape == (1, 77, 768)
    assert torch.allclose(found, plain.encode("A photo of a person").hidden, atol=1e-5)


def test_every_marker_of_a_template_gets_the_words(parts, words):
    twice = parts.encoder.encode_words("S* and S*", "S*", words, "token")
    words = words.requires_grad_()
    parts.encoder.encode_words("S* and S*", "S*", words, "token").sum().backward()
    assert twice.shape == (3, 77, 768) and (words.grad != 0).any(dim=-1).all()


def test_templates_that_do_not_do(parts, words):
    with pytest.raises(PromptError, match='has no "S\\*"'):
        parts.encoder.encode_words("A photo", "S*", words, "token")
    with pytest.raises(PromptError, match="more than 75 tokens"):
        parts.encoder.encode_words("S* " + "x " * 90, "S*", words, "token")


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_every_row_may_have_a_template_of_its_own(parts, words, injection):
    """In one pass, and with the gradient that each has alone."""
    templates = ["S* as a chef", TEMPLATE, "S* and S*"]
    leaf = words.clone().requires_grad_()
    together = parts.encoder.encode_words(templates, "S*", leaf, injection)
    together.square().sum().backward()
    for i, template in enumerate(templates):
        own = words[i, None].clone().requires_grad_()
        alone = parts.encoder.encode_words(template, "S*", own, injection)
        alone.square().sum().backward()
        assert torch.allclose(together[i], alone[0], atol=1e-5)
        assert torch.allclose(leaf.grad[i], own.grad[0], rtol=1e-3, atol=1e-3)
    with pytest.raises(PromptError, match='"a chef" has no "S\\*"'):
        parts.encoder.encode_words([*templates[:2], "a chef"], "S*", words, injection)


def test_a_prompt_is_tokenised_once(parts, words, monkeypatch):
    parts.encoder.encode_words("S* once upon a time", "S*", words, "token")
    monkeypatch.setattr(parts.encoder, "_tokenize", lambda text: pytest.fail("tokenised again"))
    parts.encoder.encode_words("S* once upon a time", "S*", words, "token")


def test_a_latent_covers_as_many_pixels_as_the_autoencoder_says(parts):
    assert parts.codec.reduction == 8


def test_noise_is_added_as_diffusers_does():
    denoiser, scheduler = small_parts(torch.float32)
    z_0, noise, t = (
        training.seeded(3, 4, 8, 8, seed=1),
        training.seeded(3, 4, 8, 8, seed=2),
        torch.tensor([0, 500, 999]),
    )
    assert torch.allclose(denoiser.add_noise(z_0, noise, t), scheduler.add_noise(z_0, noise, t), atol=1e-6)
    assert denoiser.steps == 1000


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_becomes_noise(prediction):
    """A perfect model of each kind gives back exactly the noise that was added."""
    denoiser, scheduler = small_parts(torch.float64, prediction)
    z_0, noise = training.seeded(2, 4, 8, 8, seed=1).double(), training.seeded(2, 4, 8, 8, seed=2).double()
    t = torch.tensor([37, 800])
    perfect = {"epsilon": noise, "sample": z_0, "v_prediction": scheduler.get_velocity(z_0, noise, t)}[prediction]
    denoiser._unet = lambda z, t, context: type("Output", (), {"sample": perfect})
    found = denoiser.predict_noise(denoiser.add_noise(z_0, noise, t), t, torch.zeros(2, 6, 8).double())
    assert torch.allclose(found, noise, atol=1e-6)


def test_an_unknown_prediction_is_refused():
    with pytest.raises(MismatchError, match="predicts flow"):
        small = small_parts(torch.float32)[1]
        small.register_to_config(prediction_type="flow")
        from f2d_core.backends.diffusers_training import DiffusersDenoiser

        DiffusersDenoiser(torch.nn.Linear(1, 1), small)


def directional(task, batch, direction, size):
    """d loss / d step along `direction`, by central differences."""
    values = []
    start = {name: value.detach().clone() for name, value in task.parameters.items()}
    for sign in (1, -1):
        with torch.no_grad():
            for name, value in task.parameters.items():
                value.copy_(start[name] + sign * size * direction[name])
            values.append(float(task.losses(batch)[0].total.mean()))
    with torch.no_grad():
        for name, value in task.parameters.items():
            value.copy_(start[name])
    return (values[0] - values[1]) / (2 * size)


@pytest.mark.parametrize(
    ("prediction", "checkpointing"), [("epsilon", False), ("v_prediction", False), ("epsilon", True)]
)
def test_gradients_are_those_of_finite_differences(prediction, checkpointing):
    """fp64, through dropout, expression drop, text encoder, UNet and CGDR loss, along 20 directions."""
    from f2d_core.train import TrainingParts

    denoiser, _ = small_parts(torch.float64, prediction, checkpointing)
    task = MappingTask(
        TrainingParts(training.TinyEncoder(torch.float64), denoiser),
        training.MemoryData(side=8),
        training.config(batch=3),
    )
    batch = task.guide(task.prepare(0, range(3)))
    task.losses(batch)[0].total.mean().backward()
    for seed in range(20):
        direction = {name: training.seeded(*value.shape, seed=seed).double() for name, value in task.parameters.items()}
        expected = sum(float((value.grad * direction[name]).sum()) for name, value in task.parameters.items())
        found = directional(task, batch, direction, 1e-5)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-11)


def test_gradients_through_the_real_text_encoder_are_those_of_finite_differences(parts):
    import copy

    from f2d_core.backends.diffusers_training import DiffusersTrainableText

    encoder = DiffusersTrainableText(copy.deepcopy(parts.encoder._model).double(), parts.encoder._tokenizer)
    words = (0.05 * training.seeded(1, 2, 768, seed=4)).double().requires_grad_()
    weights = training.seeded(1, 77, 768, seed=5).double()

    def value(words):
        return (encoder.encode_words(TEMPLATE, "S*", words, "token") * weights).sum()

    value(words).backward()
    for seed in range(20):
        direction = training.seeded(1, 2, 768, seed=seed).double()
        with torch.no_grad():
            found = float(value(words + 1e-5 * direction) - value(words - 1e-5 * direction)) / 2e-5
        assert found == pytest.approx(float((words.grad * direction).sum()), rel=1e-6)


def test_weights_get_no_gradient_and_nothing_before_the_first_cross_attention_does():
    denoiser, _ = small_parts(torch.float32)
    flowed = []
    unet = denoiser._unet
    for name in ("conv_in", "time_embedding"):
        getattr(unet, name).register_forward_hook(
            lambda _m, _i, out, name=name: flowed.append((name, out.requires_grad))
        )
    context = training.seeded(2, 6, training.WIDTH, seed=1).requires_grad_()
    z = training.seeded(2, 4, 8, 8, seed=2)
    denoiser.predict_noise(z, torch.tensor([5, 6]), context).sum().backward()
    assert dict(flowed) == {"conv_in": False, "time_embedding": False}
    assert context.grad.abs().sum() > 0
    assert all(value.grad is None for value in unet.parameters())


def test_latents_are_in_the_models_scale(parts):
    pixels = training.seeded(1, 3, 64, 64, seed=3).clamp(-1, 1)
    mean, logvar = parts.codec.encode(pixels)
    posterior = parts.codec._vae.encode(pixels).latent_dist
    assert mean.shape == (1, 4, 8, 8)
    assert torch.allclose(mean, posterior.mean * 0.18215, atol=1e-6)
    assert torch.allclose((logvar / 2).exp(), posterior.std * 0.18215, rtol=1e-4)
    decoded = parts.codec.decode(mean)
    assert torch.allclose(decoded, parts.codec._vae.decode(posterior.mean).sample.clamp(-1, 1), atol=1e-4)


def test_a_whole_run_on_a_model_folder(folder, parts, tmp_path):
    config = training.config(steps=3, batch=2, micro_batch=1, preview_every=3, preview_faces=1, preview_steps=2)
    before = {name: value.clone() for name, value in parts.denoiser._unet.state_dict().items()}
    result = train(parts, training.MemoryData(side=8), config, tmp_path)
    assert result.finished and len(list((tmp_path / "previews").iterdir())) == 1
    assert all(torch.equal(value, before[name]) for name, value in parts.denoiser._unet.state_dict().items())
    from f2d_core.networks import load_network

    network = load_network(result.mapping, "mapping")
    assert network.module.config.word_width == 768
    assert network.facts["base_model_sha256"] == parts.base_model_sha256 and len(parts.base_model_sha256) == 64


def test_half_precision_gradients_are_close_to_full_ones():
    """bf16 inside the UNet; the mapping, the loss and the text encoder stay fp32."""
    from f2d_core.train import TrainingParts

    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        denoiser, _ = small_parts(dtype)
        task = MappingTask(
            TrainingParts(training.TinyEncoder(), denoiser), training.MemoryData(side=8), training.config(batch=8)
        )
        assert task.dtype == torch.float32
        task.losses(task.guide(task.prepare(0, range(8))))[0].total.mean().backward()
        gradients[dtype] = torch.cat([value.grad.flatten() for value in task.parameters.values()])
    full, half = gradients.values()
    assert float((full - half).norm() / full.norm()) < 0.1
    assert math.isfinite(float(half.norm()))


def test_what_is_no_model_is_refused(tmp_path):
    from f2d_core.backends.diffusers_training import load_training_parts

    with pytest.raises(WeightsError):
        load_training_parts(tmp_path / "none.safetensors")
