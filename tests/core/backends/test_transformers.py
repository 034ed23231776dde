"""The text encoder back end: golden hidden states, injection at the right rows, nothing changed on the way."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from f2d_core.backends.stand_in import write_letter_tokenizer
from f2d_core.backends.transformers import DiffusersTextEncoder
from f2d_core.chunks import Slot, WeightedToken, Word
from f2d_core.errors import MismatchError, PromptError, SettingsError
from f2d_core.prompt import Person
from f2d_core.s_star import SStar

transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")


def text_model(width=768, layers=12, inner=3072, vocabulary=49408):
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // 64, hidden_act="quick_gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.CLIPTextModel(config).eval()


@pytest.fixture(scope="module")
def golden_model(golden_weights):
    model = text_model()
    prefix = "text_model." if hasattr(model, "text_model") else ""
    weights = {k.removeprefix("text_model."): v for k, v in golden_weights("clip-text").items()}
    model.load_state_dict({prefix + k: v for k, v in weights.items() if not k.endswith("position_ids")})
    return model


@pytest.fixture(scope="module")
def golden_prompt(golden):
    texts = json.loads((golden / "prompt.json").read_text(encoding="utf-8"))["prompts"]
    with np.load(golden / "prompt.npz") as arrays:
        return texts, {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def clip_tokenizer():
    root = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    folder = root / "comfy" / "sd1_tokenizer"
    if not folder.is_dir():
        pytest.skip("no CLIP vocabulary: a ComfyUI checkout has one (github.com/Comfy-Org/ComfyUI, COMFYUI_PATH)")
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    folder = write_letter_tokenizer(tmp_path_factory.mktemp("letters"))
    return transformers.CLIPTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def model():
    return text_model(layers=2, inner=64, vocabulary=514)


@pytest.fixture(scope="module")
def encoder(model, letters):
    return DiffusersTextEncoder(model, letters)


def golden_person(arrays, number):
    return Person(SStar(torch.cat([arrays[f"first_{number}"], arrays[f"last_{number}"]]), marker="f l"))


def person(marker="S*", words=2, injection="sum", strength=1.0, seed=1):
    vectors = torch.randn(words, 768, generator=torch.Generator().manual_seed(seed))
    return Person(SStar(vectors, marker=marker, injection=injection), strength)


@pytest.mark.parametrize("number", [0, 1])
def test_golden_hidden_states_from_ids(golden_model, golden_prompt, number):
    texts, arrays = golden_prompt
    chunk = [WeightedToken(token, 1.0) for token in arrays[f"ids_{number}"][0].tolist()]
    for index, position in enumerate((texts[number]["pos_first"], texts[number]["pos_last"])):
        chunk[position] = WeightedToken(Word(0, index), 1.0)
    found = DiffusersTextEncoder(golden_model).encode_chunks([chunk], [golden_person(arrays, number)])
    assert (found.hidden - arrays[f"hidden_{number}"]).abs().max() < 5e-5
    assert found.hidden.dtype == torch.float32


@pytest.mark.parametrize("number", [0, 1])
def test_golden_hidden_states_from_text(golden_model, golden_prompt, clip_tokenizer, number):
    texts, arrays = golden_prompt
    encoder = DiffusersTextEncoder(golden_model, clip_tokenizer)
    found = encoder.encode(texts[number]["prompt"], [golden_person(arrays, number)])
    assert (found.hidden - arrays[f"hidden_{number}"]).abs().max() < 5e-5
    assert [slot.position for slot in found.slots] == [texts[number]["pos_first"], texts[number]["pos_last"]]


def test_golden_empty_prompt(golden_model, golden_prompt):
    chunk = [WeightedToken(token, 1.0) for token in golden_prompt[1]["uncond_ids"][0].tolist()]
    hidden = DiffusersTextEncoder(golden_model).encode_chunks([chunk]).hidden
    assert (hidden - golden_prompt[1]["uncond_hidden"]).abs().max() < 5e-5


def test_the_real_f_l_is_replaced_where_an_f_stands_before_it(golden_model, golden_prompt, clip_tokenizer):
    encoder = DiffusersTextEncoder(golden_model, clip_tokenizer)
    found = encoder.encode("5 f 1 car with f l", [golden_person(golden_prompt[1], 0)])
    assert [slot.position for slot in found.slots] == [6, 7]


def test_a_prompt_without_people_is_what_the_model_itself_gives(encoder, model, letters):
    ids = torch.tensor([letters("a cat").input_ids + [513] * 71])
    assert ids.shape == (1, 77)
    expected = model(input_ids=ids).last_hidden_state
    assert (encoder.encode("a cat").hidden - expected).abs().max() < 1e-6


def test_a_person_made_of_plain_words_encodes_as_those_words(encoder):
    """A token S* of the vectors of `qj` and a sum S* of the same plus positions equal the text itself."""
    words = encoder.word_embeddings("qj")
    expected = encoder.encode("a (qj:1.2) hat")
    token = Person(SStar(words, injection="token"))
    assert (encoder.encode("a (S*:1.2) hat", [token]).hidden - expected.hidden).abs().max() < 1e-5
    both = Person(SStar(words + encoder.position_embedding()[2:4]))
    assert (encoder.encode("a (S*:1.2) hat", [both]).hidden - expected.hidden).abs().max() < 1e-5


def test_slots_say_where_everybody_stands(encoder):
    found = encoder.encode("S*, T* " + "x " * 71 + "S*", [person(), person("T*", words=3, seed=2)])
    assert found.slots == (
        Slot(Word(0, 0), 0, 1), Slot(Word(0, 1), 0, 2), Slot(Word(1, 0), 0, 4), Slot(Word(1, 1), 0, 5),
        Slot(Word(1, 2), 0, 6), Slot(Word(0, 0), 1, 3), Slot(Word(0, 1), 1, 4),
    )  # fmt: skip
    assert found.hidden.shape == (1, 154, 768) and found.chunks == 2


def test_two_people_do_not_mix(encoder):
    def called(marker, seed):
        return Person(SStar(person(seed=seed).s_star.vectors, marker=marker, injection="token"))

    both = encoder.encode("anna ben", [called("anna", 1), called("ben", 2)]).hidden
    assert torch.equal(both, encoder.encode("ben anna", [called("anna", 2), called("ben", 1)]).hidden)
    assert not torch.equal(both, encoder.encode("anna ben", [called("anna", 2), called("ben", 1)]).hidden)


def test_a_weight_moves_the_person_away_from_the_empty_prompt(encoder):
    plain, strong = (encoder.encode(text, [person()]).hidden[0] for text in ("a S* b", "a (S*:1.5) b"))
    empty = encoder.encode("").hidden[0]
    assert torch.equal(plain[[0, 1, 4]], strong[[0, 1, 4]])
    assert (strong[2:4] - (empty[2:4] + 1.5 * (plain[2:4] - empty[2:4]))).abs().max() < 1e-6


def test_strength_one_changes_nothing_and_zero_is_the_class_word(encoder):
    plain = encoder.encode("a S* b", [person()]).hidden
    assert torch.equal(plain, encoder.encode("a S* b", [person(strength=1.0)]).hidden)
    none = encoder.encode("a S* b", [person(strength=0.0)]).hidden
    assert (none - encoder.encode("a on b").hidden).abs().max() < 1e-5  # the last letters of "a person"


def test_padding_appends_empty_chunks(encoder):
    found = encoder.encode("a")
    longer = encoder.padded(found, 3)
    assert longer.hidden.shape == (1, 231, 768)
    assert torch.equal(longer.hidden[:, :77], found.hidden)
    empty = encoder.encode("").hidden
    assert torch.equal(longer.hidden[:, 77:], torch.cat([empty, empty], dim=1))
    assert encoder.padded(longer, 2) is longer


def test_the_users_model_is_left_as_it_was(encoder, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    encoder.encode("(S*:1.2) b", [person()])
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_half_precision_model_gives_fp32(letters, encoder):
    half = DiffusersTextEncoder(text_model(layers=2, inner=64, vocabulary=514).bfloat16(), letters)
    found = half.encode("a S* b", [person()]).hidden
    assert found.dtype == torch.float32
    difference = (found - encoder.encode("a S* b", [person()]).hidden).abs()
    assert 0 < difference.mean() < 0.02


def test_words_are_looked_up_without_start_and_end(encoder, model):
    table = model.get_input_embeddings().weight
    assert torch.equal(encoder.word_embeddings("ab"), table[[97, 98 + 256]])
    assert encoder.position_embedding().shape == (77, 768)


def test_a_missing_marker_is_an_error(encoder):
    with pytest.raises(PromptError, match=r"S\*"):
        encoder.encode("a photo of s*", [person()])


def test_an_s_star_of_another_text_encoder_is_refused(encoder):
    other = Person(SStar(torch.zeros(2, 1024), encoder_key="h"))
    with pytest.raises(MismatchError, match=r"SD 2\.x.*width 1024.*SD 1\.x.*width 768"):
        encoder.encode("S*", [other])


def test_a_text_encoder_of_another_family_is_named_after_its_width():
    encoder = DiffusersTextEncoder(text_model(width=128, layers=1, inner=64, vocabulary=10))

    assert (encoder.key, encoder.width) == ("w128", 128)


def test_text_needs_a_tokenizer(model):
    with pytest.raises(SettingsError, match="without a tokenizer"):
        DiffusersTextEncoder(model).encode("a")
