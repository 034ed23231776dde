"""S* into CONDITIONING: golden numbers, nothing upstream touched, weight types, strengths, batches, wrong encoders."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def s_star(host):
    module = host.pack_module("f2d_core.s_star")

    def make(vectors=None, marker="S*", injection="token", seed=0, **kwargs):
        if vectors is None:
            vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(seed)) * 0.05
        return module.SStar(vectors, marker=marker, injection=injection, **kwargs)

    return make


def cond(run_node, clip, text, *people, **kwargs):
    extra = {f"s_star_{i}": p if isinstance(p, tuple) else (p,) for i, p in enumerate(people[1:], 2)}
    first = people[0] if isinstance(people[0], tuple) else (people[0],)
    return run_node("F2DInject", clip=clip, text=text, s_star=first, **extra, **kwargs)[0]


@pytest.mark.parametrize("number", [0, 1])
def test_golden_hidden_states(number, golden, golden_clip, run_node, s_star):
    arrays = np.load(golden / "prompt.npz")
    prompt = json.loads((golden / "prompt.json").read_text())["prompts"][number]["prompt"]
    vectors = torch.from_numpy(np.concatenate([arrays[f"first_{number}"], arrays[f"last_{number}"]]))
    person = s_star(vectors, "f l", "sum")
    hidden = cond(run_node, golden_clip, prompt, person)[0][0]
    assert np.abs(hidden.numpy() - arrays[f"hidden_{number}"]).max() < 5e-5


def test_golden_empty_prompt_through_an_applied_clip(golden, golden_clip, run_node, s_star):
    arrays = np.load(golden / "prompt.npz")
    (applied,) = run_node("F2DApplyToClip", clip=golden_clip, s_star=(s_star(marker="f l", injection="sum"),))
    (empty,) = run_node("CLIPTextEncode", clip=applied, text="")
    assert np.abs(empty[0][0].numpy() - arrays["uncond_hidden"]).max() < 5e-5


def fingerprint(clip, *people):
    """SHA-256 over everything that stands upstream."""
    digest = hashlib.sha256()
    for key, value in sorted(clip.cond_stage_model.state_dict().items()):
        digest.update(key.encode() + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for person in people:
        digest.update(person.vectors.numpy().tobytes())
    digest.update(repr(clip.tokenize("a photo of S* and T*")).encode())
    digest.update(repr((clip.layer_idx, clip.tokenizer_options, list(clip.patcher.patches))).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_a_b_a_gives_equal_bytes_and_nothing_upstream_changes(injection, run_node, clip, s_star):
    anna, bert = s_star(seed=1, injection=injection), s_star(seed=2, injection=injection)
    before = fingerprint(clip(), anna, bert)
    first = cond(run_node, clip(), "a photo of S*", anna)[0][0]
    other = cond(run_node, clip(), "a photo of S*", bert, strength=0.7)[0][0]
    again = cond(run_node, clip(), "a photo of S*", anna)[0][0]
    run_node("F2DApplyToClip", clip=clip(), s_star=(anna,))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert fingerprint(clip(), anna, bert) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("injection", ["token", "sum"])
def test_text_encoders_of_other_types(dtype, injection, run_node, clip, s_star):
    person = s_star(injection=injection)
    low = cond(run_node, clip(dtype), "a photo of S*, smiling", person)[0][0]
    full = cond(run_node, clip(), "a photo of S*, smiling", person)[0][0]
    assert low.dtype == torch.float32 and torch.isfinite(low).all()
    # The weights are rounded, so the two agree in direction only; without the person they would not.
    (without,) = run_node("CLIPTextEncode", clip=clip(dtype), text="a photo of a person, smiling")
    similar = torch.cosine_similarity(low[0], full[0]).mean()
    assert similar > torch.cosine_similarity(without[0][0][0], full[0]).mean()
    assert similar > (0.9 if dtype.itemsize == 1 else 0.999)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_export_is_bit_identical_for_every_weight_type(dtype, run_node, clip, s_star):
    person = s_star()
    (line,) = run_node("F2DExportEmbedding", s_star=(person,), filename=f"types {dtype}".replace(".", " "))
    (stock,) = run_node("CLIPTextEncode", clip=clip(dtype), text=f"a photo of {line} , smiling")
    assert torch.equal(cond(run_node, clip(dtype), "a photo of S*, smiling", person)[0][0], stock[0][0])


def test_a_sum_export_is_exact_at_its_position_only(run_node, clip, s_star):
    person = s_star(injection="sum")
    (line,) = run_node("F2DExportEmbedding", s_star=(person,), filename="at four", position=4, clip=clip())
    for text, stock_text, exact in (
        ("a photo of S*", f"a photo of {line}", True),
        ("the photo of S*, hat", f"the photo of {line} , hat", True),
        ("S* smiling", f"{line} smiling", False),
    ):
        (stock,) = run_node("CLIPTextEncode", clip=clip(), text=stock_text)
        ours = cond(run_node, clip(), text, person)[0][0]
        difference = (ours - stock[0][0]).abs().max()
        assert difference < 1e-5 if exact else difference > 1e-3


def test_a_sum_export_without_clip_says_what_it_needs(run_node, s_star):
    with pytest.raises(Exception, match="text encoder it will be used with"):
        run_node("F2DExportEmbedding", s_star=(s_star(injection="sum"),), filename="x")


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_strength_zero_is_the_class_word_and_one_changes_nothing(injection, run_node, clip, s_star):
    person = s_star(injection=injection)
    assert torch.equal(
        cond(run_node, clip(), "a photo of S*", person, strength=1.0)[0][0],
        cond(run_node, clip(), "a photo of S*", person)[0][0],
    )
    nobody = cond(run_node, clip(), "a photo of S*", person, strength=0.0)[0][0]
    (class_prompt,) = run_node("CLIPTextEncode", clip=clip(), text="a photo of a person")
    assert (nobody - class_prompt[0][0]).abs().max() < 1e-5
    half = cond(run_node, clip(), "a photo of S*", person, strength=0.5)[0][0]
    assert (half - nobody).abs().max() > 1e-3


def test_a_batch_of_people_becomes_a_batch_of_conditionings(run_node, clip, s_star):
    anna, bert, carl = (s_star(seed=i) for i in range(3))
    together = cond(run_node, clip(), "S* with T*", (anna, bert), replace(carl, marker="T*"))
    assert together[0][0].shape == (2, 77, 768) and together[0][1]["pooled_output"].shape == (2, 768)
    for i, person in enumerate((anna, bert)):
        alone = cond(run_node, clip(), "S* with T*", person, replace(carl, marker="T*"))
        assert torch.equal(together[0][0][i], alone[0][0][0])
        assert torch.equal(together[0][1]["pooled_output"][i], alone[0][1]["pooled_output"][0])


def test_batches_of_different_word_counts_are_repeated_to_one_length(run_node, clip, s_star):
    text = "x " * 73 + "S*"  # two words fit into the first chunk, three do not
    short, long = s_star(torch.ones(2, 768) * 0.1), s_star(torch.ones(3, 768) * 0.1)
    batch = cond(run_node, clip(), text, (short, long))[0][0]
    assert batch.shape == (2, 154, 768)
    assert torch.equal(batch[0, :77], batch[0, 77:])
    assert torch.equal(batch[1:], cond(run_node, clip(), text, long)[0][0])


def test_a_batch_cannot_be_applied_to_one_clip(run_node, clip, s_star):
    with pytest.raises(Exception, match="batch of 2"):
        run_node("F2DApplyToClip", clip=clip(), s_star=(s_star(), s_star(seed=1)))


@pytest.mark.parametrize(("kind", "words"), [("sdxl", "SDXL"), ("sd2", "SD 2.x")])
@pytest.mark.parametrize("node", ["F2DInject", "F2DApplyToClip"])
def test_another_text_encoder_is_refused_naming_both(node, kind, words, run_node, clip, s_star, host):
    text = {"text": "a photo of S*"} if node == "F2DInject" else {}
    with pytest.raises(Exception, match=f"SD 1.x.*{words}") as error:
        run_node(node, clip=clip(foreign=kind), s_star=(s_star(name="anna"),), **text)
    assert isinstance(error.value, host.pack_module("f2d_core.errors").MismatchError)


def test_a_checkpoint_without_text_encoder_is_said_to_be(run_node, s_star):
    with pytest.raises(Exception, match="no text encoder"):
        run_node("F2DInject", clip=None, text="S*", s_star=(s_star(),))


def test_a_hook_schedule_keeps_its_entries(host, run_node, clip, s_star):
    """CLIP hooks with keyframes give one entry per part of the schedule; S* is in each."""
    hooks = __import__("comfy.hooks", fromlist=["hooks"])
    group = hooks.HookGroup()
    hook = hooks.WeightHook()
    hook.weights_clip = {
        "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight": (torch.ones(768, 768) * 0.01,)
    }
    hook.need_weight_init = False
    group.add(hook)
    frames = hooks.HookKeyframeGroup()
    frames.add(hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    frames.add(hooks.HookKeyframe(strength=0.2, start_percent=0.5))
    group.set_keyframes_on_hooks(frames)
    hooked = clip().clone()
    hooked.patcher.forced_hooks = group
    hooked.use_clip_schedule = True
    person = s_star()
    ours = cond(run_node, hooked, "a photo of S*", person)
    (line,) = run_node("F2DExportEmbedding", s_star=(person,), filename="hooks")
    (stock,) = run_node("CLIPTextEncode", clip=hooked, text=f"a photo of {line}")
    assert len(ours) == len(stock) == 2
    assert all(torch.equal(a[0], b[0]) for a, b in zip(ours, stock, strict=True))
    batch = cond(run_node, hooked, "a photo of S*", (person, s_star(seed=9)))
    assert [entry[0].shape[0] for entry in batch] == [2, 2]
    assert torch.equal(batch[1][0][0], ours[1][0][0])
