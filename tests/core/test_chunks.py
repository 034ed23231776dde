"""Prompt weights and chunking. That the results equal ComfyUI's is checked in tests/host/test_same_conditioning.py."""

import pytest
import torch

from f2d_core.chunks import (
    CLIP_SPECIAL,
    SpecialTokens,
    Word,
    apply_weights,
    empty_chunk,
    find_slots,
    has_weights,
    prompt_chunks,
    weighted_spans,
)
from f2d_core.errors import PromptError
from f2d_core.prompt import find_markers

START, END, PAD = CLIP_SPECIAL.start, CLIP_SPECIAL.end, CLIP_SPECIAL.pad


def tokenize(text):
    """One token for each word or sign, its number the length of the word."""
    return [len(word) for word in text.replace(",", " , ").split()]


def chunks_of(text, markers=("S*",), words=(2,)):
    return prompt_chunks(text, find_markers(text, markers), words, tokenize, CLIP_SPECIAL)


def body(chunk):
    """What stands between start and the first end token."""
    tokens = [entry.token for entry in chunk]
    return tokens[1 : tokens.index(END)]


def segments(text):
    return [(text[span.start : span.end], round(span.weight, 6)) for span in weighted_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a b", [("a b", 1.0)]),
        ("(a)", [("a", 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("(a:1.3)", [("a", 1.3)]),
        ("((a:1.3))", [("a", 1.3)]),
        ("(a (b:0.5) c)", [("a ", 1.1), ("b", 0.5), (" c", 1.1)]),
        ("((a) b:2)", [("a", 2.2), (" b", 2.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:b:1.5)", [("a:b", 1.5)]),
        ("(:1.3)", [(":1.3", 1.1)]),
        ("(a: -1 )", [("a", -1.0)]),
        ("()", []),
        ("x (a", [("x ", 1.0), ("(a", 1.0)]),
        ("(a (b)", [("a ", 1.1), ("(b", 1.1)]),
        ("a) (b:2)", [("a) (b:2)", 1.0)]),
        (r"\(a\) (b:2)", [(r"\(a\) ", 1.0), ("b", 2.0)]),
        (r"(a\))", [(r"a\)", 1.1)]),
        (r"(a\)", [(r"(a\)", 1.0)]),
        ("a\\\\(b)", [("a\\\\(b)", 1.0)]),
    ],
)
def test_weights_are_read_from_parentheses(text, expected):
    assert segments(text) == expected


def test_escaped_parentheses_reach_the_tokenizer_as_letters():
    seen = []
    prompt_chunks(
        r"a \(b\) S* \)", find_markers(r"a \(b\) S* \)", ["S*"]), [2], lambda t: seen.append(t) or [], CLIP_SPECIAL
    )
    assert seen == ["a (b) ", " )"]


def test_a_chunk_is_start_words_end_and_padding():
    special = SpecialTokens(start=1, end=2, pad=0)
    (chunk,) = prompt_chunks("aaa bbbb", [], [], tokenize, special)
    assert [entry.token for entry in chunk] == [1, 3, 4, 2] + [0] * 73
    assert not has_weights([chunk])


def test_an_empty_prompt_is_one_empty_chunk():
    assert chunks_of("") == chunks_of("   ") == [empty_chunk(CLIP_SPECIAL)]
    assert [entry.token for entry in empty_chunk(CLIP_SPECIAL)] == [START, END] + [PAD] * 75


def test_a_person_stands_where_the_marker_is_with_the_weight_of_the_place():
    (chunk,) = chunks_of("a photo, (S*:1.3), as aa")
    assert body(chunk) == [1, 5, 1, Word(0, 0), Word(0, 1), 1, 2, 2]
    assert [entry.weight for entry in chunk[4:6]] == [1.3, 1.3]
    assert [entry.weight for entry in chunk[:4] + chunk[6:]] == [1.0] * 75


def test_several_people_and_repeats():
    (chunk,) = chunks_of("S* and T*, S*", markers=("S*", "T*"), words=(2, 3))
    assert [slot[0] for slot in find_slots([chunk])] == [
        Word(0, 0), Word(0, 1), Word(1, 0), Word(1, 1), Word(1, 2), Word(0, 0), Word(0, 1),
    ]  # fmt: skip
    assert [slot.position for slot in find_slots([chunk])] == [1, 2, 4, 5, 6, 8, 9]


@pytest.mark.parametrize(
    ("before", "expected"),
    [(73, [(0, 74), (0, 75)]), (74, [(1, 1), (1, 2)]), (75, [(1, 1), (1, 2)]), (76, [(1, 2), (1, 3)])],
)
def test_a_person_is_never_cut_between_two_chunks(before, expected):
    chunks = chunks_of("x " * before + "S*")
    assert [(slot.chunk, slot.position) for slot in find_slots(chunks)] == expected
    assert all(len(chunk) == 77 for chunk in chunks)
    assert sum(len(body(chunk)) for chunk in chunks) == before + 2


def test_prose_is_cut_where_the_chunk_ends():
    chunks = chunks_of("x " * 160)
    assert [len(body(chunk)) for chunk in chunks] == [75, 75, 10]


def test_fewer_than_eight_tokens_of_one_weight_stay_together_and_eight_do_not():
    seven = chunks_of("x " * 70 + "(" + "yy " * 7 + ":1.2)")
    eight = chunks_of("x " * 70 + "(" + "yy " * 8 + ":1.2)")
    assert [len(body(chunk)) for chunk in seven] == [70, 7]
    assert [len(body(chunk)) for chunk in eight] == [75, 3]


def test_a_person_of_eight_words_may_be_cut():
    chunks = chunks_of("x " * 70 + "S*", words=(8,))
    assert [(s.chunk, s.position) for s in find_slots(chunks)] == [(0, p) for p in range(71, 76)] + [
        (1, p) for p in range(1, 4)
    ]


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
def test_a_weight_that_is_not_finite_is_refused(weight):
    with pytest.raises(PromptError, match=f'weight "{weight}".*finite number'):
        chunks_of(f"(S*:{weight})")


def test_a_weight_nested_too_deep_is_refused():
    with pytest.raises(PromptError, match="more than 100 deep"):
        chunks_of("(" * 500 + "a" + ")" * 500)


def test_a_marker_inside_a_weight_is_refused():
    with pytest.raises(PromptError, match="inside a prompt weight"):
        chunks_of("(a:-.5)", markers=("-",), words=(1,))


def test_weights_move_away_from_the_empty_prompt():
    hidden = torch.tensor([[[1.0], [2.0], [3.0]]])
    weighted = apply_weights(hidden, torch.tensor([[1.0], [1.0], [5.0]]), torch.tensor([[1.3, 2.0, 0.5]]))
    assert weighted.flatten().tolist() == [1.0, 3.0, 4.0]
    assert hidden.flatten().tolist() == [1.0, 2.0, 3.0]


def test_a_weight_of_one_changes_no_bit():
    hidden, empty = torch.rand(2, 77, 8, generator=torch.Generator().manual_seed(0)) * 1e4, torch.rand(77, 8)
    weights = torch.ones(2, 77)
    weights[1, 3] = 1.2
    weighted = apply_weights(hidden, empty, weights)
    changed = (weighted != hidden).any(dim=-1)
    assert changed.nonzero().tolist() == [[1, 3]]
