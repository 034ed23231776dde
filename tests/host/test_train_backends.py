"""The two back ends of training, ComfyUI's models and diffusers', agree for the same weights (fp32)."""

import pytest
import torch

from tests.support import small_checkpoint, text_encoders

pytest.importorskip("diffusers", reason="the extra `train` is not installed: only one back end to test")

TEMPLATE, CLASS_PROMPT = "A photo of S*", "A photo of a person"
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
PLACES = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    **{f"input_blocks.1.0.{ours}.": f"down_blocks.0.resnets.0.{theirs}." for ours, theirs in RESIDUAL.items()},
    "input_blocks.1.1.": "down_blocks.0.attentions.0.",
    **{
        f"output_blocks.{i}.0.{ours}.": f"up_blocks.0.resnets.{i}.{theirs}."
        for i in (0, 1)
        for ours, theirs in RESIDUAL.items()
    },
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}


def their_name(key):
    (place,) = [place for place in PLACES if key.startswith(place)]
    return PLACES[place] + key.removeprefix(place)


@pytest.fixture(scope="module")
def diffusers_parts(host):
    """(text encoder, denoiser) of the diffusers back end with the small checkpoint's weights."""
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    back_end = host.pack_module("f2d_core.backends.diffusers_training")
    unet = UNet2DConditionModel(
        block_out_channels=[small_checkpoint.CHANNELS],
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D"],
        mid_block_type=None,
        up_block_types=["UpBlock2D"],
        cross_attention_dim=small_checkpoint.WIDTH,
    )
    prefix = "model.diffusion_model."
    weights = {k: v.float() for k, v in small_checkpoint.state_dict().items() if k.startswith(prefix)}
    unet.load_state_dict({their_name(key.removeprefix(prefix)): value for key, value in weights.items()})
    layers = text_encoders.FEWEST_LAYERS
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=layers)
    )
    tensors = small_checkpoint.text_encoder(layers)
    names = set(text.state_dict())
    text.load_state_dict(
        {k if k in names else k.removeprefix("text_model."): v for k, v in tensors.items()}, strict=True
    )
    tokenizer = host.pack_module("f2d_core.backends.diffusers").load_tokenizer(host.root / "comfy" / "sd1_tokenizer")
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return back_end.DiffusersTrainableText(text, tokenizer), back_end.DiffusersDenoiser(unet, schedule)


def apart(one, other):
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_context_prediction_and_gradient_agree(host, diffusers_parts, small_models, clip, injection):
    training = host.pack_module("nodes.host_training")
    random = torch.Generator().manual_seed(0)
    words = torch.randn(2, 2, 768, generator=random) * 0.4
    z_0, noise = torch.randn(2, 2, 4, 8, 8, generator=random)
    t = torch.tensor([30, 700])

    def results(text_encoder, denoiser):
        leaf = words.clone().requires_grad_()
        context = text_encoder.encode_words(TEMPLATE, "S*", leaf, injection)
        z_t = denoiser.add_noise(z_0, noise, t)
        predicted = denoiser.predict_noise(z_t, t, context)
        (gradient,) = torch.autograd.grad((predicted - noise).square().mean(), leaf)
        return z_t, context.detach(), predicted.detach(), gradient, text_encoder.encode_text(CLASS_PROMPT).detach()

    theirs = results(*diffusers_parts)
    with training.training_models(small_models[0], clip()) as models:
        ours = results(models.text_encoder, models.denoiser)
    assert [apart(one, other) < 1e-4 for one, other in zip(ours, theirs, strict=True)] == [True] * 5
