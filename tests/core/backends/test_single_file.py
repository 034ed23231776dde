"""Single SD 1.x checkpoint files, in the names of github.com/CompVis/stable-diffusion, read without the network."""

import math

import pytest
import torch
from safetensors.torch import save_file

from f2d_core.backends.single_file import TEXT, UNET, VAE, load_single_file, text_config, unet_config, vae_config
from f2d_core.errors import MismatchError, WeightsError

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CONTEXT = 768


def residual(
    name, inputs, outputs, embedding=None, names=("in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3")
):
    norm1, conv1, norm2, conv2 = names
    shapes = {f"{name}.{norm1}": (inputs,), f"{name}.{conv1}": (outputs, inputs, 3, 3)}
    shapes |= {f"{name}.{norm2}": (outputs,), f"{name}.{conv2}": (outputs, outputs, 3, 3)}
    if embedding:
        shapes[f"{name}.emb_layers.1"] = (outputs, embedding)
    if inputs != outputs:
        shapes[f"{name}.{'skip_connection' if embedding else 'nin_shortcut'}"] = (outputs, inputs, 1, 1)
    return shapes


def transformer(name, width):
    block = f"{name}.transformer_blocks.0"
    shapes = {
        f"{name}.norm": (width,),
        f"{name}.proj_in": (width, width, 1, 1),
        f"{name}.proj_out": (width, width, 1, 1),
    }
    shapes |= {f"{block}.norm{i}": (width,) for i in (1, 2, 3)}
    shapes |= {f"{block}.ff.net.0.proj": (8 * width, width), f"{block}.ff.net.2": (width, 4 * width)}
    for attention, source in (("attn1", width), ("attn2", CONTEXT)):
        shapes |= {f"{block}.{attention}.to_q": (width, width), f"{block}.{attention}.to_out.0": (width, width)}
        shapes |= {f"{block}.{attention}.to_{x}": (width, source) for x in "kv"}
    return shapes


def unet_shapes(channels, layers, attends):
    """Layer name -> weight shape."""
    base, embedding = channels[0], 4 * channels[0]
    shapes = {
        "time_embed.0": (embedding, base),
        "time_embed.2": (embedding, embedding),
        "input_blocks.0.0": (base, 4, 3, 3),
    }
    skips, width, number = [base], base, 1
    for level, outputs in enumerate(channels):
        for _ in range(layers):
            shapes |= residual(f"input_blocks.{number}.0", width, outputs, embedding)
            shapes |= transformer(f"input_blocks.{number}.1", outputs) if attends[level] else {}
            width, number = outputs, number + 1
            skips.append(width)
        if level < len(channels) - 1:
            shapes[f"input_blocks.{number}.0.op"] = (width, width, 3, 3)
            number += 1
            skips.append(width)
    shapes |= residual("middle_block.0", width, width, embedding) | residual("middle_block.2", width, width, embedding)
    shapes |= transformer("middle_block.1", width)
    number = 0
    for level in reversed(range(len(channels))):
        for layer in range(layers + 1):
            shapes |= residual(f"output_blocks.{number}.0", width + skips.pop(), channels[level], embedding)
            width = channels[level]
            shapes |= transformer(f"output_blocks.{number}.1", width) if attends[level] else {}
            if level and layer == layers:
                shapes[f"output_blocks.{number}.{1 + attends[level]}.conv"] = (width, width, 3, 3)
            number += 1
    return shapes | {"out.0": (base,), "out.2": (4, base, 3, 3)}


def vae_shapes(channels, layers):
    names = ("norm1", "conv1", "norm2", "conv2")
    top = channels[-1]
    shapes = {"encoder.conv_in": (channels[0], 3, 3, 3), "decoder.conv_in": (top, 4, 3, 3)}
    width = channels[0]
    for level, outputs in enumerate(channels):
        for layer in range(layers):
            shapes |= residual(f"encoder.down.{level}.block.{layer}", width, outputs, names=names)
            width = outputs
        if level < len(channels) - 1:
            shapes[f"encoder.down.{level}.downsample.conv"] = (width, width, 3, 3)
    for level in reversed(range(len(channels))):
        for layer in range(layers + 1):
            shapes |= residual(f"decoder.up.{level}.block.{layer}", width, channels[level], names=names)
            width = channels[level]
        if level:
            shapes[f"decoder.up.{level}.upsample.conv"] = (width, width, 3, 3)
    for half, last, outputs in (("encoder", top, 8), ("decoder", channels[0], 3)):
        for block in ("block_1", "block_2"):
            shapes |= residual(f"{half}.mid.{block}", top, top, names=names)
        shapes |= {f"{half}.mid.attn_1.{x}": (top, top, 1, 1) for x in ("q", "k", "v", "proj_out")}
        shapes |= {
            f"{half}.mid.attn_1.norm": (top,),
            f"{half}.norm_out": (last,),
            f"{half}.conv_out": (outputs, last, 3, 3),
        }
    return shapes | {"quant_conv": (8, 8, 1, 1), "post_quant_conv": (4, 4, 1, 1)}


def text_shapes(vocabulary, width, layers, inner):
    shapes = {f"encoder.layers.{i}.self_attn.{x}_proj": (width, width) for i in range(layers) for x in "qkv"}
    for i in range(layers):
        layer = f"encoder.layers.{i}"
        shapes |= {f"{layer}.self_attn.out_proj": (width, width), f"{layer}.mlp.fc1": (inner, width)}
        shapes |= {
            f"{layer}.mlp.fc2": (width, inner),
            f"{layer}.layer_norm1": (width,),
            f"{layer}.layer_norm2": (width,),
        }
    shapes |= {"embeddings.token_embedding": (vocabulary, width), "embeddings.position_embedding": (77, width)}
    return shapes | {"final_layer_norm": (width,)}


def without_bias(layer):
    return "embedding" in layer or layer.rpartition(".")[2] in ("to_q", "to_k", "to_v")


def tensors(shapes, prefix, make):
    """Weights of these shapes and the biases that belong to them."""
    filled = {f"{prefix}{layer}.weight": make(shape) for layer, shape in shapes.items()}
    biases = {f"{prefix}{layer}.bias": make(shape[:1]) for layer, shape in shapes.items() if not without_bias(layer)}
    return filled | biases


@pytest.fixture(scope="module")
def checkpoint():
    random = torch.Generator().manual_seed(0)

    def make(shape):
        return torch.randn(shape, generator=random) / math.prod(shape[1:]) ** 0.5

    return {
        **tensors(unet_shapes([32, 64], 1, [True, False]), UNET, make),
        **tensors(vae_shapes([32, 64], 1), VAE, make),
        **tensors(text_shapes(100, CONTEXT, 2, 96), f"{TEXT}text_model.", make),
        f"{TEXT}text_model.embeddings.position_ids": torch.arange(77)[None],
    }


def saved(path, content):
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save({"state_dict": content, "global_step": 5}, path)
    return path


def flat(values):
    """All numbers in order of size."""
    return torch.cat([value.detach().flatten().float() for value in values]).sort().values


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_every_number_of_the_file_is_in_the_pipeline_and_none_is_made_up(tmp_path, checkpoint, name):
    parts = load_single_file(saved(tmp_path / name, checkpoint))
    for part, prefix in (("unet", UNET), ("vae", VAE), ("text_encoder", TEXT)):
        expected = [v for k, v in checkpoint.items() if k.startswith(prefix) and not k.endswith("position_ids")]
        assert torch.equal(flat(parts[part].parameters()), flat(expected)), part
    unet, vae = parts["unet"].state_dict(), parts["vae"].state_dict()
    attention = "transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(
        unet[f"down_blocks.0.attentions.0.{attention}"], checkpoint[f"{UNET}input_blocks.1.1.{attention}"]
    )
    assert torch.equal(
        unet[f"up_blocks.1.attentions.1.{attention}"], checkpoint[f"{UNET}output_blocks.3.1.{attention}"]
    )
    assert torch.equal(vae["decoder.conv_out.weight"], checkpoint[f"{VAE}decoder.conv_out.weight"])
    assert parts["scheduler"].config.beta_schedule == "scaled_linear"


def test_text_encoder_names_without_text_model_load_the_same(tmp_path, checkpoint):
    renamed = {key.replace(f"{TEXT}text_model.", TEXT): value for key, value in checkpoint.items()}
    one = load_single_file(saved(tmp_path / "a.safetensors", checkpoint))["text_encoder"].state_dict()
    two = load_single_file(saved(tmp_path / "b.safetensors", renamed))["text_encoder"].state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_half_precision_files_become_single_precision(tmp_path, checkpoint):
    half = {key: value.half() if value.is_floating_point() else value for key, value in checkpoint.items()}
    parts = load_single_file(saved(tmp_path / "half.safetensors", half))
    assert {p.dtype for part in ("unet", "vae", "text_encoder") for p in parts[part].parameters()} == {torch.float32}


def test_the_sizes_of_a_full_model_are_read_from_its_tensors():
    def make(shape):
        return torch.empty(shape, device="meta")

    unet = unet_config(tensors(unet_shapes([320, 640, 1280, 1280], 2, [True, True, True, False]), "", make))
    assert unet["block_out_channels"] == [320, 640, 1280, 1280]
    assert unet["layers_per_block"] == 2
    assert unet["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert unet["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    assert (unet["cross_attention_dim"], unet["attention_head_dim"], unet["sample_size"]) == (768, 8, 64)
    vae = vae_config(tensors(vae_shapes([128, 256, 512, 512], 2), "", make))
    assert (vae["block_out_channels"], vae["layers_per_block"]) == ([128, 256, 512, 512], 2)
    assert (vae["latent_channels"], vae["scaling_factor"]) == (4, 0.18215)
    text = text_config(tensors(text_shapes(49408, 768, 12, 3072), "", make))
    assert (text["num_hidden_layers"], text["num_attention_heads"], text["intermediate_size"]) == (12, 12, 3072)
    assert (text["bos_token_id"], text["eos_token_id"], text["hidden_act"]) == (49406, 49407, "quick_gelu")


@pytest.mark.parametrize(
    ("drop", "error", "message"),
    [
        (UNET, WeightsError, "expected a Stable Diffusion 1.x checkpoint"),
        (TEXT, MismatchError, "no CLIP-L text encoder.*not SD 2.x, SDXL"),
        (VAE, WeightsError, "no autoencoder"),
        (f"{UNET}middle_block.0.in_layers.2", WeightsError, "UNet2DConditionModel is incomplete"),
        (f"{UNET}out.2", WeightsError, "UNet2DConditionModel is incomplete"),
        (f"{UNET}input_blocks.1.1", WeightsError, "UNet2DConditionModel is incomplete"),
        (f"{VAE}encoder", WeightsError, "AutoencoderKL is incomplete"),
        (f"{TEXT}text_model.encoder", WeightsError, "text encoder is incomplete"),
        (f"{TEXT}text_model.final_layer_norm", WeightsError, "text encoder is incomplete"),
    ],
)
def test_an_incomplete_file_is_refused_in_one_line(tmp_path, checkpoint, drop, error, message):
    rest = {key: value for key, value in checkpoint.items() if not key.startswith(drop)}
    with pytest.raises(error, match=message) as caught:
        load_single_file(saved(tmp_path / "part.safetensors", rest))
    assert "part.safetensors" in str(caught.value) and "\n" not in str(caught.value)
