"""ComfyUI's own models as the trainer's ports: true gradients, the right scale, and nothing of the user's changed."""

import copy
import hashlib
import math

import numpy as np
import pytest
import torch

TEMPLATE, CLASS_PROMPT = "A photo of S*", "A photo of a person"
DIRECTIONS = 20


@pytest.fixture(scope="module")
def training(host):
    return host.pack_module("nodes.host_training")


@pytest.fixture(scope="module")
def model(small_models):
    return small_models[0]


@pytest.fixture(scope="module")
def vae(small_models):
    return small_models[2]


@pytest.fixture(scope="module")
def words():
    return torch.randn(1, 2, 768, generator=torch.Generator().manual_seed(0)) * 0.4


@pytest.fixture(scope="module")
def latents():
    """(z_0, noise, t): an early, a middle and a late step."""
    random = torch.Generator().manual_seed(1)
    z_0, noise = torch.randn(2, 3, 4, 8, 8, generator=random)
    return z_0, noise, torch.tensor([0, 500, 999])


def test_gradients_match_central_differences(training, model, clip, words):
    """Through the text encoder and the UNet at once, in fp32, along random directions."""
    random = torch.Generator().manual_seed(2)
    z_0, noise, t = torch.randn(1, 4, 8, 8, generator=random), torch.randn(1, 4, 8, 8, generator=random), 500
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        t = torch.tensor([t])
        z_t = models.denoiser.add_noise(z_0, noise, t)

        def loss(words):
            context = models.text_encoder.encode_words(TEMPLATE, "S*", words, "token")
            return (models.denoiser.predict_noise(z_t, t, context) - noise).square().mean()

        leaf = words.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf), leaf)
        for _ in range(DIRECTIONS):
            # Partly along the gradient: across it the loss hardly changes, and a ratio would say nothing.
            away = torch.nn.functional.normalize(torch.randn(words.shape, generator=random), dim=(0, 1, 2))
            direction = away + gradient / gradient.norm()
            with torch.no_grad():
                slope = (loss(words + 0.02 * direction) - loss(words - 0.02 * direction)) / 0.04
            assert torch.isclose(slope, (gradient * direction).sum(), rtol=1e-2)


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_words_are_encoded_as_when_a_prompt_is_written(training, host, model, clip, run_node, words, injection):
    s_star = host.pack_module("f2d_core.s_star").SStar(words[0], injection=injection)
    written = run_node("F2DInject", clip=clip(), text=TEMPLATE, s_star=(s_star,))[0][0][0]
    batch = torch.cat([words * 0.5, words])
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        context = models.text_encoder.encode_words(TEMPLATE, "S*", batch, injection)
    assert context.shape == (2, 77, 768)
    assert torch.allclose(context[1:], written, atol=1e-5)
    assert (context[0] - context[1]).abs().max() > 0.01


@pytest.mark.parametrize("layer", [-1, -2])
def test_the_class_prompt_is_what_the_stock_node_gives_clip_skip_included(training, model, clip, run_node, layer):
    (skipped,) = run_node("CLIPSetLastLayer", clip=clip(), stop_at_clip_layer=layer)
    (stock,) = run_node("CLIPTextEncode", clip=skipped, text=CLASS_PROMPT)
    with torch.inference_mode(), training.training_models(model, skipped) as models:
        assert torch.equal(models.text_encoder.encode_text(CLASS_PROMPT), stock[0][0])


def alphas_cumprod():
    """The noise schedule of Stable Diffusion, in float64 from its definition."""
    return torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)


def test_noise_is_added_by_the_schedule_of_the_model(training, model, clip, latents):
    z_0, noise, t = latents
    kept = alphas_cumprod()[t].reshape(-1, 1, 1, 1)
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        z_t = models.denoiser.add_noise(z_0, noise, t)
        assert models.denoiser.steps == 1000
    assert torch.allclose(z_t.double(), kept.sqrt() * z_0 + (1 - kept).sqrt() * noise, atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "v_prediction"])
def test_what_is_predicted_is_the_noise_whatever_the_model_predicts(
    training, host, model, clip, run_node, latents, prediction
):
    host.load_extra("nodes_model_advanced.py")
    (model,) = run_node("ModelSamplingDiscrete", model=model, sampling=prediction, zsnr=False)
    z_0, noise, t = latents
    kept = alphas_cumprod()[t].reshape(-1, 1, 1, 1).float()
    with torch.inference_mode(), training.training_models(model, clip()) as models, torch.no_grad():
        context = models.text_encoder.encode_text(CLASS_PROMPT).expand(3, -1, -1)
        z_t = models.denoiser.add_noise(z_0, noise, t)
        given = models.denoiser.predict_noise(z_t, t, context)
        raw = models.model.model.diffusion_model(z_t, t, context=context)
    expected = raw if prediction == "eps" else kept.sqrt() * raw + (1 - kept).sqrt() * z_t
    assert torch.allclose(given, expected, atol=3e-4)


def test_another_attention_kernel_is_left_aside(training, model, clip, latents):
    def without_backward(func, *args, **kwargs):
        raise AssertionError("this kernel has no backward pass")

    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = without_backward
    z_0, _, t = latents
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        context = models.text_encoder.encode_text(CLASS_PROMPT).expand(3, -1, -1).clone().requires_grad_()
        models.denoiser.predict_noise(z_0, t, context).sum().backward()
        assert context.grad.abs().sum() > 0


def fingerprint(*modules):
    digest = hashlib.sha256()
    for module in modules:
        for key, value in sorted(module.state_dict().items()):
            digest.update(key.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def sample(run_node, model, clip, vae):
    (positive,) = run_node("CLIPTextEncode", clip=clip, text="a photo of a cat")
    (negative,) = run_node("CLIPTextEncode", clip=clip, text="")
    (empty,) = run_node("EmptyLatentImage", width=64, height=64)
    (latent,) = run_node(
        "KSampler", model=model, positive=positive, negative=negative, latent_image=empty, steps=2, seed=1
    )
    return run_node("VAEDecode", samples=latent, vae=vae)[0]


def with_lora(model):
    """What a LoRA does to a MODEL: something is added to a weight."""
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    patched, random = model.clone(), torch.Generator().manual_seed(6)
    assert patched.add_patches({key: ("diff", (torch.randn(320, 768, generator=random) * 0.1,))}, 0.5) == [key]
    return patched


@pytest.mark.parametrize("lora", [False, True])
def test_nothing_of_the_users_is_changed(training, model, clip, vae, run_node, words, latents, lora):
    model = with_lora(model) if lora else model
    own = model, clip(), vae
    layer = clip().cond_stage_model.clip_l.transformer.text_model.encoder.layers[0]
    before = sample(run_node, *own)
    patches = dict(model.object_patches), dict(clip().patcher.object_patches)
    weights = fingerprint(model.model, clip().cond_stage_model)
    with pytest.raises(ZeroDivisionError):  # also when training ends in an error
        with torch.inference_mode(), training.training_models(model, clip()) as models:
            assert "out_of_place" in layer.forward.__qualname__
            context = models.text_encoder.encode_words(TEMPLATE, "S*", words.clone().requires_grad_(), "token")
            models.denoiser.predict_noise(latents[0][:1], latents[2][:1], context).sum().backward()
            assert all(p.grad is None for m in (model.model, clip().cond_stage_model) for p in m.parameters())
            _ = 1 / 0
    assert "out_of_place" not in layer.forward.__qualname__
    assert (model.object_patches, clip().patcher.object_patches) == patches
    assert torch.equal(sample(run_node, *own), before)
    assert fingerprint(model.model, clip().cond_stage_model) == weights


def test_memory_is_shared_not_copied(training):
    with torch.inference_mode():
        weight = torch.arange(12.0).reshape(3, 4).t()
    shared = training.ordinary(weight)
    assert not shared.is_inference() and torch.equal(shared, weight) and shared.stride() == weight.stride()
    assert shared.data_ptr() == weight.data_ptr()


def test_a_lora_counts(training, model, clip, latents):
    z_0, _, t = latents
    predicted, hashes = [], []
    for given in (model, with_lora(model), model):
        with torch.inference_mode(), training.training_models(given, clip()) as models, torch.no_grad():
            context = models.text_encoder.encode_text(CLASS_PROMPT).expand(3, -1, -1)
            predicted.append(models.denoiser.predict_noise(z_0, t, context))
            hashes.append(models.parts().base_model_sha256)
    assert torch.equal(predicted[0], predicted[2]) and hashes[0] == hashes[2]
    assert (predicted[0] - predicted[1]).abs().max() > 1e-3 and hashes[0] != hashes[1]


# --- the codec ---


def test_codec_agrees_with_the_stock_nodes(training, vae, run_node):
    pixels_01 = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    mean, logvar = training.LatentCodec(vae).encode(pixels_01 * 2 - 1)
    (stock,) = run_node("VAEEncode", pixels=pixels_01.movedim(1, -1), vae=vae)
    assert mean.shape == logvar.shape == (2, 4, 8, 8)
    assert torch.allclose(mean, stock["samples"] * 0.18215, atol=1e-5)
    assert (logvar < -25).all()  # the tiny autoencoder has no posterior
    decoded = training.LatentCodec(vae).decode(mean)
    (shown,) = run_node("VAEDecode", samples=stock, vae=vae)
    assert torch.allclose(decoded, shown.movedim(-1, 1) * 2 - 1, atol=1e-5)


def test_codec_gives_the_posterior_of_a_kl_autoencoder(training, host, vae):
    kl = small_kl_vae(vae)
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    mean, logvar = training.LatentCodec(kl).encode(pixels)
    with torch.no_grad():
        expected_mean, expected_logvar = kl.first_stage_model.quant_conv(kl.first_stage_model.encoder(pixels)).chunk(
            2, 1
        )
        assert torch.allclose(mean, kl.first_stage_model.encode(pixels) * 0.18215, atol=1e-6)
    assert torch.allclose(mean, expected_mean * 0.18215, atol=1e-6)
    assert torch.allclose(logvar, expected_logvar + 2 * math.log(0.18215), atol=1e-5)


def small_kl_vae(vae):
    """The KL autoencoder of SD with few channels, in the place of the tiny autoencoder of a copy of `vae`."""
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.model_patcher import ModelPatcher

    sizes = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    channels = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3}
    module = AutoencoderKL(ddconfig={**sizes, **channels}, embed_dim=4).eval()
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0) if "norm" in name and "weight" in name else parameter.normal_(
                std=0.1, generator=random
            )
    kl = copy.copy(vae)
    kl.first_stage_model, kl.vae_dtype = module, torch.float32
    kl.patcher = ModelPatcher(module, torch.device("cpu"), torch.device("cpu"))
    return kl


def test_a_vae_of_other_latents_is_refused(training, host, vae):
    other = copy.copy(vae)
    other.latent_channels = 16
    with pytest.raises(host.pack_module("f2d_core.errors").MismatchError, match="16 channels"):
        training.LatentCodec(other)


# --- models that cannot be trained on ---


@pytest.mark.parametrize(("kind", "message"), [("sdxl", "2 text encoders"), ("sd2", "width 768.*gives 1024")])
def test_another_text_encoder_is_refused(training, host, model, clip, kind, message):
    with pytest.raises(host.pack_module("f2d_core.errors").MismatchError, match=message):
        with training.training_models(model, clip(foreign=kind)):
            pass


def test_a_flow_model_is_refused(training, host, model, clip, run_node):
    host.load_extra("nodes_model_advanced.py")
    (flow,) = run_node("ModelSamplingSD3", model=model)
    with pytest.raises(host.pack_module("f2d_core.errors").MismatchError, match="noise schedule"):
        with training.training_models(flow, clip()):
            pass


@pytest.mark.parametrize("template", ["A (photo:1.2) of S*", "A photo of a person"])
def test_a_template_with_weights_or_without_its_marker_is_refused(training, host, model, clip, words, template):
    with pytest.raises(host.pack_module("f2d_core.errors").PromptError):
        with training.training_models(model, clip()) as models:
            models.text_encoder.encode_words(template, "S*", words, "token")


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_every_row_may_have_a_template_of_its_own(training, model, clip, words, injection):
    templates, batch = ["S* as a chef", TEMPLATE, "S* and S*"], torch.cat([words, words * 0.5, -words])
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        leaf = batch.clone().requires_grad_()
        together = models.text_encoder.encode_words(templates, "S*", leaf, injection)
        together.square().sum().backward()
        for i, template in enumerate(templates):
            own = batch[i, None].clone().requires_grad_()
            alone = models.text_encoder.encode_words(template, "S*", own, injection)
            alone.square().sum().backward()
            assert torch.allclose(together[i], alone[0], atol=1e-5)
            assert torch.allclose(leaf.grad[i], own.grad[0], rtol=1e-3, atol=1e-3)


def test_templates_of_unlike_length_are_refused(training, host, model, clip, words):
    with pytest.raises(host.pack_module("f2d_core.errors").PromptError, match="2 chunks of tokens and another one 1"):
        with training.training_models(model, clip()) as models:
            long = "x " * 80 + "S*"
            models.text_encoder.encode_words([TEMPLATE, long], "S*", words.expand(2, -1, -1), "token")


def test_a_latent_covers_as_many_pixels_as_the_vae_says(training, vae):
    assert training.LatentCodec(vae).reduction == 8


def test_backward_works_for_a_template_over_two_chunks(training, model, clip):
    words = torch.full((2, 3, 768), 0.1, requires_grad=True)
    with torch.inference_mode(), training.training_models(model, clip()) as models:
        context = models.text_encoder.encode_words("x " * 73 + "S*", "S*", words, "token")
        context[:, 77:].sum().backward()
    assert context.shape == (2, 154, 768)
    assert np.all(words.grad.abs().sum(dim=2).numpy() > 0)
