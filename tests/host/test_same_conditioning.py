"""The diffusers back end gives what ComfyUI gives: same chunks, same slots, same hidden states, prompt by prompt."""

import random

import pytest
import torch

from tests.support.text_encoders import FEWEST_LAYERS

TOLERANCE = 5e-5  # fp32; the two text encoders order their sums differently
X = "x " * 200  # "x" is one token

# Prompts and the markers in them; every S* has two words, the one of "W*" has nine.
PROMPTS = {
    "plain": ("a photo of S* as a chef", ["S*"]),
    "alone": ("S*", ["S*"]),
    "commas": ("photo,S*,smiling, S*.", ["S*"]),
    "apostrophe": ("S*'s hat", ["S*"]),
    "weight": ("a photo of (S*:1.3), chef", ["S*"]),
    "weights around": ("(a photo:0.7) of S* as (a (chef:1.5) in white)", ["S*"]),
    "negative weight": ("a photo of S* (glasses:-0.5)", ["S*"]),
    "bare parentheses": ("a photo of ((S*)), (((hat)))", ["S*"]),
    "nested": ("a ((photo of S*:1.4) chef:0.8)", ["S*"]),
    "escaped": (r"a photo \(S*\) (hat\):1.2)", ["S*"]),
    "unbalanced": ("a) photo (of S* (hat:1.2", ["S*"]),
    "colons": ("a photo: S* (at 5:3) (time::1.2)", ["S*"]),
    "two people": ("(S*:1.2) with T* at a table", ["S*", "T*"]),
    "other order": ("T*, S*, T*", ["S*", "T*"]),
    "official identifier": ("5 f 1 car with f l, F L", ["f l"]),
    "unicode": ("фото S* — café 😀 美咲", ["S*"]),
    "line breaks": ("a photo\n\nS*\t smiling ", ["S*"]),
    "ends at token 75": (X[: 2 * 73] + "S*", ["S*"]),
    "would end at token 76": (X[: 2 * 74] + "S*", ["S*"]),
    "behind a full chunk": (X[: 2 * 75] + "S*", ["S*"]),
    "three chunks": ("S* " + X[: 2 * 80] + "(S*:1.2) " + X[: 2 * 70] + "S*", ["S*"]),
    "short group past the border": (X[: 2 * 72] + "(a b c d:1.1) S*", ["S*"]),
    "long group past the border": (X[: 2 * 72] + "(a b c d e f g h:1.1) S*", ["S*"]),
    "weight on a full chunk": (f"({X[: 2 * 90]}:1.3) S*", ["S*"]),
    "a person of nine words": (X[: 2 * 70] + "W* S*", ["S*", "W*"]),
}
PLAIN = ["", "  ", "a cat", "(a cat:1.3), (dog)", X, "()", "((a:1.2)b:0.5)"]


@pytest.fixture(scope="module")
def text_encoder(host, small_text_encoder):
    """The tiny text encoder of `clip()` once more, in transformers, behind our back end."""
    from comfy.sd1_clip import SDTokenizer
    from transformers import CLIPTextConfig, CLIPTextModel

    tensors = {key.removeprefix("text_model."): value for key, value in small_text_encoder(FEWEST_LAYERS).items()}
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=FEWEST_LAYERS,
            num_attention_heads=12, hidden_act="quick_gelu",
        )
    ).eval()  # fmt: skip
    prefix = "text_model." if hasattr(model, "text_model") else ""
    model.load_state_dict({prefix + key: value for key, value in tensors.items()})
    back_end = host.pack_module("f2d_core.backends.transformers")
    return back_end.DiffusersTextEncoder(model, SDTokenizer().tokenizer)


@pytest.fixture(scope="module")
def people_for(host):
    s_star, prompt = host.pack_module("f2d_core.s_star"), host.pack_module("f2d_core.prompt")

    def make(markers, injection="sum", strength=1.0):
        people = []
        for marker in markers:
            noise = torch.Generator().manual_seed(ord(marker[0]))
            vectors = torch.randn(9 if marker == "W*" else 2, 768, generator=noise) * 0.05
            people.append(prompt.Person(s_star.SStar(vectors, marker=marker, injection=injection), strength))
        return people

    return make


def check(host, clip, text_encoder, text, people):
    conditioning, slots, _ = host.pack_module("nodes.host").encode_prompt(clip, text, people)
    found = text_encoder.encode(text, people)
    assert list(found.slots) == slots
    assert found.hidden.shape == conditioning[0][0].shape
    assert (found.hidden - conditioning[0][0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_with_people(case, host, clip, text_encoder, people_for):
    text, markers = PROMPTS[case]
    check(host, clip(), text_encoder, text, people_for(markers))


@pytest.mark.parametrize("case", ["plain", "weight", "two people", "three chunks"])
def test_the_token_convention(case, host, clip, text_encoder, people_for):
    text, markers = PROMPTS[case]
    check(host, clip(), text_encoder, text, people_for(markers, "token"))


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.4])
def test_strengths(strength, host, clip, text_encoder, people_for):
    check(host, clip(), text_encoder, "(S*:1.2) and T*", people_for(["S*", "T*"], strength=strength))


@pytest.mark.parametrize("text", PLAIN)
def test_prompts_without_people(text, run_node, clip, text_encoder):
    (stock,) = run_node("CLIPTextEncode", clip=clip(), text=text)
    found = text_encoder.encode(text)
    assert found.hidden.shape == stock[0][0].shape
    assert (found.hidden - stock[0][0]).abs().max() < TOLERANCE


def test_chunks_of_random_prompts(host, clip):
    """Parsing and packing alone, against ComfyUI's tokenizer, on what nobody would write."""
    chunks, prompt = host.pack_module("f2d_core.chunks"), host.pack_module("f2d_core.prompt")
    tokenizer = clip().tokenizer.clip_l
    draw = random.Random(0)
    parts = ["(", ")", r"\(", r"\)", ":1.3", ":0.5", "S*", " ", "photo", ", ", ":", "\\", "((", "))", "f l", "x " * 20,
             "ABC" * 12, ":-1", "é", "🙂", "\n", ":1e1", "S* "]  # fmt: skip
    for _ in range(300):
        text = "".join(draw.choice(parts) for _ in range(draw.randint(0, 40)))
        stock = tokenizer.tokenize_with_weights(text)
        markers = prompt.find_markers(text, [])
        ours = chunks.prompt_chunks(
            text, markers, [], lambda t: tokenizer.tokenizer(t).input_ids[1:-1], chunks.CLIP_SPECIAL
        )
        assert [[tuple(entry) for entry in chunk] for chunk in ours] == stock, text
