"""Where S* ends up in real prompts: a table of cases through ComfyUI's own tokenizer and text encoder.

Every case is checked three ways: the slots are where they should be, the vectors at those places are the person's,
and for a `token` S* the conditioning is bit-identical to stock CLIPTextEncode with the exported embedding file.
"""

from dataclasses import replace

import pytest
import torch

X = "x " * 200  # "x" is one token

# text, {marker: ((chunk, first position), ...)}; every S* has two words, which follow each other.
TABLE = {
    "plain": ("a photo of S*", {"S*": ((0, 4),)}),
    "alone": ("S*", {"S*": ((0, 1),)}),
    "first": ("S* as a chef", {"S*": ((0, 1),)}),
    "middle": ("a photo of S* as a chef", {"S*": ((0, 4),)}),
    "comma": ("a photo of S*, smiling", {"S*": ((0, 4),)}),
    "comma before": ("photo,S*,smiling", {"S*": ((0, 3),)}),
    "full stop": ("a photo of S*.", {"S*": ((0, 4),)}),
    "exclamation": ("hello S*!", {"S*": ((0, 2),)}),
    "quotes": ('a sign "S*"', {"S*": ((0, 4),)}),
    "apostrophe": ("S*'s hat", {"S*": ((0, 1),)}),
    "hyphen": ("a S*-like doll", {"S*": ((0, 2),)}),
    "square brackets": ("a photo of [S*]", {"S*": ((0, 5),)}),
    "line break": ("a photo\nS*\nsmiling", {"S*": ((0, 3),)}),
    "many blanks": ("a   photo   of    S*  ", {"S*": ((0, 4),)}),
    "weight": ("a photo of (S*:1.3)", {"S*": ((0, 4),)}),
    "weight below one": ("a photo of (S*:0.5), chef", {"S*": ((0, 4),)}),
    "inside a weighted phrase": ("a (photo of S* as a chef:1.2)", {"S*": ((0, 4),)}),
    "bare parentheses": ("a photo of (S*)", {"S*": ((0, 4),)}),
    "double parentheses": ("a photo of ((S*))", {"S*": ((0, 4),)}),
    "nested weights": ("a ((photo of S*:1.4) chef:0.8)", {"S*": ((0, 4),)}),
    "escaped parentheses": (r"a photo \(S*\)", {"S*": ((0, 4),)}),
    "twice": ("S* and S*", {"S*": ((0, 1), (0, 4))}),
    "twice side by side": ("S* S*", {"S*": ((0, 1), (0, 3))}),
    "three times with weights": ("(S*:1.2), S*, (S*:0.8)", {"S*": ((0, 1), (0, 4), (0, 7))}),
    "two people": ("S* and T* at a table", {"S*": ((0, 1),), "T*": ((0, 4),)}),
    "two people side by side": ("S* T*", {"S*": ((0, 1),), "T*": ((0, 3),)}),
    "two people weighted": ("(S*:1.2) with (T*:0.9)", {"S*": ((0, 1),), "T*": ((0, 4),)}),
    "two people, other order": ("T* and S*", {"S*": ((0, 4),), "T*": ((0, 1),)}),
    "official identifier": ("f l eating bread in front of the Eiffel Tower", {"f l": ((0, 1),)}),
    "official, capitals": ("a photo of F L as a chef", {"f l": ((0, 4),)}),
    "official, false one before": ("5 f 1 car with f l", {"f l": ((0, 6),)}),
    "official, apostrophe": ("f l's hat", {"f l": ((0, 1),)}),
    "a name": ("a photo of Anna, smiling", {"anna": ((0, 4),)}),
    "unicode name": ("a photo of 美咲 、 smiling", {"美咲": ((0, 4),)}),
    "unicode around": ("фото S* — café", {"S*": ((0, 2),)}),
    "emoji": ("😀 S* 😀", {"S*": ((0, 2),)}),
    "ends at token 74": (X[: 2 * 72] + "S*", {"S*": ((0, 73),)}),
    "ends at token 75": (X[: 2 * 73] + "S*", {"S*": ((0, 74),)}),
    "would end at token 76": (X[: 2 * 74] + "S*", {"S*": ((1, 1),)}),
    "behind a full chunk": (X[: 2 * 75] + "S*", {"S*": ((1, 1),)}),
    "in the second chunk": (X[: 2 * 80] + "S* as a chef", {"S*": ((1, 6),)}),
    "in three chunks": ("S* " + X[: 2 * 80] + "S* " + X[: 2 * 70] + "S*", {"S*": ((0, 1), (1, 8), (2, 5))}),
    "long prompt after it": ("a photo of S* " + X[: 2 * 160], {"S*": ((0, 4),)}),
    "weight past the border": (X[: 2 * 74] + "(S*:1.3) as a chef", {"S*": ((1, 1),)}),
    "marker inside a word too": ("xS* S* S*x", {"S*": ((0, 3),)}),
    "other capitals too": ("s* and S*", {"S*": ((0, 4),)}),
}


@pytest.fixture(scope="module")
def s_star(host):
    module = host.pack_module("f2d_core.s_star")

    def make(marker="S*", injection="token", seed=0, **kwargs):
        vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(seed + len(marker))) * 0.05
        return module.SStar(vectors, marker=marker, injection=injection, **kwargs)

    return make


def people_of(slots, s_star, injection):
    return [s_star(marker, injection, seed=ord(marker[0])) for marker in slots]


def inject(run_node, clip, text, people, **strengths):
    extra = {f"s_star_{i}": (person,) for i, person in enumerate(people[1:], 2)}
    return run_node("F2DInject", clip=clip, text=text, s_star=(people[0],), **extra, **strengths)


def export(host, run_node, person):
    """The name of the person's embedding file, written once."""
    (line,) = run_node("F2DExportEmbedding", s_star=(person,), filename=f"table {ord(person.marker[0])}")
    return line


@pytest.fixture(scope="module")
def exported(host):
    """exported(person) -> "embedding:name"; a file for each person of this module."""
    made = {}

    def make(person):
        if person.marker not in made:
            made[person.marker] = export(host, host.run, person)
        return made[person.marker]

    return make


def with_embeddings(prompt_module, text, people, exported):
    found = prompt_module.find_markers(text, [person.marker for person in people])
    return prompt_module.replace_markers(text, found, [f" {exported(person)} " for person in people])


@pytest.mark.parametrize("case", TABLE)
def test_slots(case, host, run_node, clip, s_star):
    text, expected = TABLE[case]
    people = people_of(expected, s_star, "token")
    tokenizer = clip().clone()
    patched = host.pack_module("nodes.host").with_people(
        tokenizer, [host.pack_module("f2d_core.prompt").Person(p) for p in people]
    )
    chunks = patched.tokenize(text)["l"]
    for person in people:
        places = [
            (i, j)
            for i, chunk in enumerate(chunks)
            for j, token in enumerate(chunk)
            if torch.is_tensor(token[0]) and torch.equal(token[0], person.vectors[0])
        ]
        assert tuple(places) == expected[person.marker]
        assert all(torch.equal(chunks[i][j + 1][0], person.vectors[1]) for i, j in places)
    assert all(len(chunk) == 77 for chunk in chunks)
    total = sum(torch.is_tensor(token[0]) for chunk in chunks for token in chunk)
    assert total == 2 * sum(len(places) for places in expected.values())


@pytest.mark.parametrize("case", TABLE)
def test_conditioning_equals_the_stock_node_with_the_exported_embedding(case, host, run_node, clip, s_star, exported):
    text, expected = TABLE[case]
    people = people_of(expected, s_star, "token")
    conditioning, report = inject(run_node, clip(), text, people)
    stock_text = with_embeddings(host.pack_module("f2d_core.prompt"), text, people, exported)
    (stock,) = run_node("CLIPTextEncode", clip=clip(), text=stock_text)
    assert torch.equal(conditioning[0][0], stock[0][0])
    assert torch.equal(conditioning[0][1]["pooled_output"], stock[0][1]["pooled_output"])
    first = {marker: places[0] for marker, places in expected.items()}
    for marker, (chunk, position) in first.items():
        assert f"{marker}: token {position} of chunk {chunk + 1}, token {position + 1} of chunk {chunk + 1}" in report


@pytest.mark.parametrize("case", TABLE)
def test_a_sum_s_star_has_each_slots_position_embedding_taken_off(case, host, clip, s_star):
    text, expected = TABLE[case]
    people = people_of(expected, s_star, "sum")
    person_class = host.pack_module("f2d_core.prompt").Person
    patched = host.pack_module("nodes.host").with_people(clip(), [person_class(p) for p in people])
    chunks = patched.tokenize(text)["l"]
    table = clip().cond_stage_model.clip_l.transformer.text_model.embeddings.position_embedding.weight
    for person in people:
        for i, j in expected[person.marker]:
            for word in (0, 1):
                assert torch.equal(chunks[i][j + word][0], person.vectors[word] - table[j + word])


@pytest.mark.parametrize("case", ["plain", "nested weights", "two people", "in three chunks"])
def test_clip_skip(case, run_node, clip, host, s_star, exported):
    text, expected = TABLE[case]
    people = people_of(expected, s_star, "token")
    (skipped,) = run_node("CLIPSetLastLayer", clip=clip(), stop_at_clip_layer=-2)
    conditioning, _ = inject(run_node, skipped, text, people)
    stock_text = with_embeddings(host.pack_module("f2d_core.prompt"), text, people, exported)
    (stock,) = run_node("CLIPTextEncode", clip=skipped, text=stock_text)
    plain, _ = inject(run_node, clip(), text, people)
    assert torch.equal(conditioning[0][0], stock[0][0])
    assert not torch.equal(conditioning[0][0], plain[0][0])


def with_lora(clip):
    """The CLIP with a LoRA-like patch on the first layer's query matrix, as a LoRA loader adds it."""
    patched = clip.clone()
    key = "clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    patched.add_patches({key: (torch.randn(768, 768, generator=torch.Generator().manual_seed(5)) * 0.05,)})
    return patched


@pytest.mark.parametrize("case", ["plain", "weight", "two people", "in three chunks"])
def test_a_clip_lora_before_or_after(case, run_node, clip, host, s_star, exported):
    text, expected = TABLE[case]
    people = people_of(expected, s_star, "token")
    loaded = with_lora(clip())
    conditioning, _ = inject(run_node, loaded, text, people)
    stock_text = with_embeddings(host.pack_module("f2d_core.prompt"), text, people, exported)
    (stock,) = run_node("CLIPTextEncode", clip=loaded, text=stock_text)
    assert torch.equal(conditioning[0][0], stock[0][0])
    extra = {f"s_star_{i}": (person,) for i, person in enumerate(people[1:], 2)}
    (applied,) = run_node("F2DApplyToClip", clip=clip(), s_star=(people[0],), **extra)
    (after,) = run_node("CLIPTextEncode", clip=with_lora(applied), text=text)
    assert torch.equal(conditioning[0][0], after[0][0])
    plain, _ = inject(run_node, clip(), text, people)
    assert not torch.equal(conditioning[0][0], plain[0][0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a photo of a chef", r"does not stand in the prompt"),
        ("", r"does not stand in the prompt"),
        ("a photo of xS*", r"\"xS\*\" is there"),
        ("a photo of s*", r"\"s\*\" is there"),
        ("a photo of S *", r"\"S \*\" is there"),
    ],
)
def test_a_missing_marker_is_an_error(text, words, run_node, clip, s_star, host):
    with pytest.raises(Exception, match=words) as error:
        inject(run_node, clip(), text, [s_star()])
    assert isinstance(error.value, host.pack_module("f2d_core.errors").PromptError)


def test_the_second_persons_missing_marker_is_an_error_too(run_node, clip, s_star):
    with pytest.raises(Exception, match=r'"T\*"'):
        inject(run_node, clip(), "a photo of S*", [s_star(), s_star("T*")])


@pytest.mark.parametrize("text", ["", "a photo of a chef", "s* and S * and xS*", X, "embedding:nothing (a:1.2)"])
def test_applied_to_a_clip_a_text_without_marker_encodes_as_before(text, run_node, clip, s_star):
    (applied,) = run_node("F2DApplyToClip", clip=clip(), s_star=(s_star(),))
    (ours,), (stock,) = (run_node("CLIPTextEncode", clip=c, text=text) for c in (applied, clip()))
    assert torch.equal(ours[0][0], stock[0][0])
    assert torch.equal(ours[0][1]["pooled_output"], stock[0][1]["pooled_output"])


@pytest.mark.parametrize("miss", ["s*", "S *", "xS*"])
def test_applied_to_a_clip_a_near_miss_is_warned_about(miss, run_node, clip, s_star, caplog):
    (applied,) = run_node("F2DApplyToClip", clip=clip(), s_star=(s_star(),))
    applied.tokenize(f"a photo of {miss}")
    assert any("looks like a marker" in record.getMessage() for record in caplog.records)
    caplog.clear()
    applied.tokenize("a photo of S*")
    assert not caplog.records


def test_applied_twice_both_people_are_understood(run_node, clip, s_star):
    anna, bert = s_star("S*"), s_star("T*")
    (one,) = run_node("F2DApplyToClip", clip=clip(), s_star=(anna,))
    (two,) = run_node("F2DApplyToClip", clip=one, s_star=(bert,))
    (chained,) = run_node("CLIPTextEncode", clip=two, text="S* and (T*:1.2)")
    together, _ = inject(run_node, clip(), "S* and (T*:1.2)", [anna, bert])
    assert torch.equal(chained[0][0], together[0][0])
    with pytest.raises(Exception, match="share the marker"):
        run_node("F2DApplyToClip", clip=two, s_star=(replace(anna, name="other"),))
