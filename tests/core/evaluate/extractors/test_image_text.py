"""CLIP and SigLIP from files: the features of open_clip and of transformers, recognition, tokenizers, wrong files."""

import logging
import socket

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from f2d_core.catalogue import PUBLISHED
from f2d_core.errors import ImageError, MissingPackageError, PromptError, SettingsError, WeightsError
from f2d_core.evaluate.extractors import IMAGE_TEXT_KINDS, extractor_kind, image_text, load_image_text_extractor
from f2d_core.evaluate.extractors.image_text import KINDS
from tests.support.extractors import TINY_CLIP, TINY_SIGLIP, add_tiny_models, tiny_model, write_tokenizer

open_clip = pytest.importorskip("open_clip", reason="the extra `eval` is not installed")

TEXTS = ["A photo of a person as a chef", "a café, by night", "word " * 200]


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """Small models; and whoever asks for the network fails."""

    def refuse(*_):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "configs").mkdir()
    add_tiny_models(monkeypatch, tmp_path / "configs")


def photos():
    random = np.random.RandomState(0)
    return [random.randint(0, 256, size).astype(np.uint8) for size in ((90, 70, 3), (40, 200, 3), (32, 32, 3))]


def saved(model, folder, name="open_clip_model.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / name)
    return folder / name


def features_of(model, judge):
    """(pictures, texts) through open_clip's own functions."""
    with torch.inference_mode():
        pictures = model.encode_image(judge.preprocess(photos()), normalize=True)
        return pictures, model.encode_text(judge.tokenize(TEXTS), normalize=True)


@pytest.mark.parametrize("name", [TINY_CLIP, f"{TINY_CLIP}-quickgelu"])
def test_clip_gives_the_features_of_open_clip(tmp_path, name):
    model = tiny_model(name)
    judge = load_image_text_extractor(saved(model, tmp_path / "clip"))

    pictures, texts = features_of(model, judge)

    assert judge.name == f"CLIP {TINY_CLIP}" + (" (OpenAI)" if name != TINY_CLIP else "")
    assert torch.allclose(judge.image_features(photos()), pictures, atol=1e-6)
    assert torch.allclose(judge.text_features(TEXTS), texts, atol=1e-6)
    assert judge.logit_scale == pytest.approx(model.logit_scale.exp().item()) and judge.logit_bias == 0
    assert torch.equal(judge.tokenize(TEXTS), open_clip.get_tokenizer("ViT-L-14")(TEXTS))
    assert (pictures[0] - pictures[1]).abs().max() > 1e-3 and (texts[0] - texts[1]).abs().max() > 1e-3


def test_the_rectifier_matters_and_can_be_said(tmp_path):
    file = saved(tiny_model(TINY_CLIP), tmp_path / "clip")

    plain, quick = (load_image_text_extractor(file, model=name) for name in (TINY_CLIP, f"{TINY_CLIP}-quickgelu"))

    assert plain.sha256 == quick.sha256 and plain.name != quick.name
    assert (plain.image_features(photos()) - quick.image_features(photos())).abs().max() > 1e-4


def test_siglip_gives_the_features_of_open_clip(tmp_path):
    model = tiny_model(TINY_SIGLIP)
    write_tokenizer(saved(model, tmp_path / "siglip").with_name("tokenizer.json"))
    judge = load_image_text_extractor(tmp_path / "siglip")

    pictures, texts = features_of(model, judge)

    assert judge.name == TINY_SIGLIP and judge.logit_bias == -10
    assert torch.allclose(judge.image_features(photos()), pictures, atol=1e-6)
    assert torch.allclose(judge.text_features(TEXTS), texts, atol=1e-6)


def test_siglip_reads_small_letters_without_punctuation(tmp_path):
    write_tokenizer(saved(tiny_model(TINY_SIGLIP), tmp_path / "siglip").with_name("tokenizer.json"))
    tokenize = load_image_text_extractor(tmp_path / "siglip").tokenize

    ids = tokenize(["  A Photo, of the_Person! ", "", "chef " * 100])

    assert ids.shape == (3, 64)
    # a photo of the person, then </s> to the end; the whole context is never without one
    assert ids[0, :6].tolist() == [3, 4, 5, 8, 6, 1] and set(ids[0, 6:].tolist()) == {1}
    assert set(ids[1].tolist()) == {1}
    assert ids[2, 62:].tolist() == [9, 1]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_layout_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            text = {"hidden_size": 16, "intermediate_size": 64, **layers}
            vision = {"hidden_size": 16, "intermediate_size": 64, "patch_size": 16, "image_size": 32, **layers}
            config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
            model = transformers.CLIPModel(config)
        else:
            ends = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "vocab_size": 32000}
            text = {"hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 64, **ends, **layers}
            vision = {"hidden_size": 64, "intermediate_size": 256, "patch_size": 16, "image_size": 64, **layers}
            model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.1 * torch.randn(value.shape) if value.dim() == 1 else 0)
                value.copy_(value.half())
    saved(model.eval(), tmp_path / "hf", "model.safetensors")
    write_tokenizer(tmp_path / "hf" / "tokenizer.json")

    judge = load_image_text_extractor(tmp_path / "hf")

    with torch.inference_mode():
        given = model.get_image_features(pixel_values=judge.preprocess(photos()))
        read = model.get_text_features(input_ids=judge.tokenize(TEXTS))
    pictures, texts = (F.normalize(getattr(each, "pooler_output", each), dim=1) for each in (given, read))
    # transformers' SigLIP rectifies with the tanh approximation, open_clip and timm exactly
    atol = 1e-6 if kind == "clip" else 5e-4
    assert torch.allclose(judge.image_features(photos()), pictures, atol=atol)
    assert torch.allclose(judge.text_features(TEXTS), texts, atol=atol)
    assert (pictures[0] - pictures[1]).abs().max() > 20 * atol and (texts[0] - texts[1]).abs().max() > 20 * atol


def test_both_towers_are_placed(tmp_path):
    file, placed = saved(tiny_model(TINY_CLIP), tmp_path / "clip"), []

    def place(module):
        placed.append(module)
        return lambda inputs: torch.full((len(inputs), 4), float(len(placed)))

    judge = load_image_text_extractor(file, place=place)

    assert len(placed) == 2
    assert judge.image_features(photos()).tolist() == [[0.5] * 4] * 3
    assert judge.text_features(TEXTS).shape == (3, 4)


def test_batches_give_what_single_pictures_give(tmp_path):
    judge = load_image_text_extractor(saved(tiny_model(TINY_CLIP), tmp_path / "clip"), batch=2)

    single = [judge.image_features([picture]) for picture in photos()]

    assert torch.allclose(judge.image_features(photos()), torch.cat(single), atol=1e-6)


def test_nothing_given(tmp_path):
    judge = load_image_text_extractor(saved(tiny_model(TINY_CLIP), tmp_path / "clip"))

    with pytest.raises(ImageError, match="no picture"):
        judge.image_features([])
    with pytest.raises(PromptError, match="no text"):
        judge.text_features([])


def test_a_missing_tensor_is_named_with_the_file(tmp_path):
    state = tiny_model(TINY_CLIP).state_dict()
    del state["visual.transformer.resblocks.1.ln_1.bias"]
    save_file(state, tmp_path / "part.safetensors")

    with pytest.raises(WeightsError, match=r"part\.safetensors: CLIP tiny-CLIP: key visual.*ln_1\.bias is missing"):
        load_image_text_extractor(tmp_path / "part.safetensors")


@pytest.mark.parametrize("lost", ["visual.positional_embedding", "visual.transformer.resblocks.0.mlp.c_fc.weight"])
def test_a_tensor_that_a_size_is_read_from_is_missing(tmp_path, lost):
    state = tiny_model(TINY_CLIP).state_dict()
    del state[lost]
    save_file(state, tmp_path / "part.safetensors")

    with pytest.raises(WeightsError, match=rf"part\.safetensors: CLIP or SigLIP: key {lost} is missing"):
        load_image_text_extractor(tmp_path / "part.safetensors")
    assert extractor_kind(tmp_path / "part.safetensors") == ""


def test_transformers_layout_with_a_tensor_lost(tmp_path):
    keys = ("text_model.embeddings.token_embedding", "text_model.final_layer_norm", "vision_model.post_layernorm")
    query = "vision_model.encoder.layers.0.self_attn.q_proj.weight"
    save_file(
        {query: torch.zeros(2, 2), **{f"{key}.weight": torch.zeros(2) for key in keys}}, tmp_path / "x.safetensors"
    )

    with pytest.raises(WeightsError, match=r"x\.safetensors: key '.*k_proj\.weight' is missing"):
        load_image_text_extractor(tmp_path / "x.safetensors")


def test_the_picture_tower_alone(tmp_path):
    state = {k: v for k, v in tiny_model(TINY_CLIP).state_dict().items() if k.startswith("visual.")}
    save_file(state, tmp_path / "vision.safetensors")

    with pytest.raises(WeightsError, match=r"vision\.safetensors holds the picture tower of CLIP alone"):
        load_image_text_extractor(tmp_path / "vision.safetensors")


def test_something_else_and_nothing(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()

    with pytest.raises(WeightsError, match=r"other\.safetensors holds no CLIP or SigLIP"):
        load_image_text_extractor(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="holds no weights of CLIP or SigLIP: expected one of open_clip_model"):
        load_image_text_extractor(tmp_path / "empty")
    with pytest.raises(WeightsError, match=r"Cannot read .*none\.bin"):
        load_image_text_extractor(tmp_path / "none.bin")


def test_a_size_that_is_not_known(tmp_path, monkeypatch):
    file = saved(tiny_model(TINY_CLIP), tmp_path / "clip")
    monkeypatch.delitem(image_text._CLIP_MODELS, (16, 16, 5))

    with pytest.raises(WeightsError, match=r"CLIP of a size that is not known here \(patches of 16 px, width 16"):
        load_image_text_extractor(file)


def test_a_model_that_is_not_known(tmp_path):
    file = saved(tiny_model(TINY_CLIP), tmp_path / "clip")

    with pytest.raises(SettingsError, match='The model is "ViT-X": expected one of ViT-B-32'):
        load_image_text_extractor(file, model="ViT-X")
    with pytest.raises(WeightsError, match="CLIP ViT-H-14: key"):
        load_image_text_extractor(file, model="ViT-H-14")


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}'])
def test_siglip_without_its_tokenizer(tmp_path, content):
    file = saved(tiny_model(TINY_SIGLIP), tmp_path / "siglip")
    if content is not None:
        file.with_name("tokenizer.json").write_text(content, encoding="utf-8")

    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        load_image_text_extractor(file)


def test_without_open_clip(tmp_path, monkeypatch):
    import sys

    file = saved(tiny_model(TINY_CLIP), tmp_path / "clip")
    monkeypatch.setitem(sys.modules, "open_clip", None)

    with pytest.raises(MissingPackageError, match="pip install open_clip_torch"):
        load_image_text_extractor(file)


def test_every_kind_is_published():
    assert set(KINDS.values()) == set(IMAGE_TEXT_KINDS)
    assert all(PUBLISHED[kind].where for kind in IMAGE_TEXT_KINDS)


@pytest.mark.parametrize("name", image_text.MODELS)
def test_every_model_is_one_of_open_clip_and_recognised_by_its_shape(name):
    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]

    known = image_text._SIGLIP_MODELS if "SigLIP" in name else image_text._CLIP_MODELS
    (shape,) = (shape for shape, own in known.items() if own == name.removesuffix("-quickgelu"))

    grid = vision["image_size"] // shape[0]
    assert shape[2] == grid * grid + ("SigLIP" not in name)
    assert shape[:2] == (vision.get("patch_size", shape[0]), vision.get("width", shape[1]))
    assert config.get("quick_gelu", False) == name.endswith("-quickgelu")
