"""Markers in prompts, and the vectors that stand at their place."""

import pytest
import torch

from f2d_core.chunks import Slot, Word
from f2d_core.errors import MismatchError, PromptError
from f2d_core.prompt import (
    Person,
    check_encoder,
    describe_slots,
    find_markers,
    near_misses,
    replace_markers,
    require_marker,
    require_markers,
    slot_vectors,
)
from f2d_core.s_star import SStar


def person(marker="S*", strength=1.0, injection="token", words=2, name=""):
    vectors = torch.randn(words, 8, generator=torch.Generator().manual_seed(words))
    return Person(SStar(vectors, marker=marker, injection=injection, name=name), strength)


def found(text, *markers):
    return [text[o.start : o.end] for o in find_markers(text, markers or ("S*",))]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a photo of S*", 1),
        ("S*", 1),
        ("S*, smiling", 1),
        ("(S*:1.3)", 1),
        ("((S*))", 1),
        ("[S*]", 1),
        ("S*'s hat", 1),
        ("“S*”", 1),
        ("S*-like", 1),
        ("S*. S*! S*?", 3),
        ("S* S*", 2),
        ("S*\nS*", 2),
        ("日本、S*", 1),
        ("", 0),
        ("xS*", 0),
        ("S*x", 0),
        ("S*2", 0),
        ("S*_a", 0),
        ("S**", 0),
        ("s*", 0),
        ("S *", 0),
        ("ÄS*", 0),
        ("写S*真", 0),
    ],
)
def test_whole_words_only(text, count):
    assert found(text) == ["S*"] * count


@pytest.mark.parametrize("text", ["f l eating", "F L eating", "f  l", "f\nl", "(f l:1.2)", "f l's hat", "with f l."])
def test_the_official_identifier_wherever_it_stands_as_two_words(text):
    assert len(found(text, "f l")) == 1


@pytest.mark.parametrize("text", ["fl", "f, l", "f-l", "f.l.", "of love", "5 f 1 car", "if lost", "f la"])
def test_what_is_not_the_official_identifier(text):
    assert found(text, "f l") == []


def test_the_real_identifier_is_found_behind_a_false_one():
    text = "5 f 1 car with f l"
    assert [o.start for o in find_markers(text, ["f l"])] == [text.index("f l")]


def test_a_marker_with_capitals_is_exact_and_one_without_is_not():
    assert found("Anna and anna", "anna") == ["Anna", "anna"]
    assert found("Anna and anna", "Anna") == ["Anna"]


def test_the_longer_marker_wins():
    text = "f and f l and f l x"
    got = [(o.marker, text[o.start : o.end]) for o in find_markers(text, ["f", "f l", "f l x"])]
    assert got == [(0, "f"), (1, "f l"), (2, "f l x")]


def test_signs_of_regular_expressions_are_ordinary_in_markers():
    for marker in ("a.b", "x+", "<anna>", "[me]", "$1a", "who?", "a|b", "^a"):
        assert found(f"photo of {marker}, and axb", marker) == [marker]


@pytest.mark.parametrize("marker", ["", "  ", "a(b", "a)b", "a:b", "a\\b", "a\nb", "1.5", "42", "nan", "x" * 65])
def test_markers_that_prompts_would_misread_are_refused(marker):
    with pytest.raises(PromptError, match="cannot be a marker"):
        require_marker(marker)


def test_blanks_around_a_marker_do_not_matter():
    assert require_marker(" S* ") == "S*"


@pytest.mark.parametrize(
    ("text", "marker", "misses"),
    [
        ("a photo of s*", "S*", ["s*"]),
        ("a photo of S *", "S*", ["S *"]),
        ("a photo of xS*", "S*", ["xS*"]),
        ("a photo of S**", "S*", ["S**"]),
        ("S*'s and S*.", "S*", []),
        ("a photo of S*", "S*", []),
        ("fl and F-L", "f l", ["fl", "F-L"]),
        ("flower", "f l", []),
        ("anna", "Anna", ["anna"]),
        ("class *", "S*", []),
    ],
)
def test_near_misses(text, marker, misses):
    assert near_misses(text, [marker]) == misses


def test_a_missing_marker_is_an_error_that_shows_the_near_miss():
    with pytest.raises(PromptError, match=r'"S\*" of Anna.*a photo of s\*.*"s\*" is there'):
        require_markers("a photo of s*", [person(name="Anna")])


def test_every_person_must_be_in_the_prompt():
    with pytest.raises(PromptError, match=r'"T\*"'):
        require_markers("a photo of S*", [person("S*"), person("T*")])


def test_two_people_cannot_share_a_marker():
    with pytest.raises(PromptError, match="share the marker"):
        require_markers("S*", [person("S*"), person("S*")])


def test_replacing_keeps_everything_else():
    text = "S*, T* and S*!"
    assert replace_markers(text, find_markers(text, ["S*", "T*"]), ["<a>", "<b>"]) == "<a>, <b> and <a>!"


class FakeEncoder:
    key, width = "l", 8

    def position_embedding(self):
        return torch.arange(77.0)[:, None].expand(77, 8)

    def word_embeddings(self, text):
        return torch.stack([torch.full((8,), float(len(word))) for word in text.split()])


def test_a_token_s_star_goes_in_as_it_is():
    someone = person()
    assert slot_vectors(someone, [4, 5], FakeEncoder()) is someone.s_star.vectors


def test_a_sum_s_star_has_the_position_of_every_word_subtracted():
    someone = person(injection="sum")
    expected = someone.s_star.vectors - torch.tensor([[75.0], [1.0]])
    assert torch.equal(slot_vectors(someone, [75, 1], FakeEncoder()), expected)


@pytest.mark.parametrize("injection", ["token", "sum"])
def test_strength_moves_from_the_class_word_to_the_person_and_beyond(injection):
    words = slot_vectors(person(injection=injection), [4, 5], FakeEncoder())
    class_words = torch.tensor([[1.0], [6.0]]).expand(2, 8)  # "a", "person"
    for strength in (0.0, 0.5, 1.5):
        got = slot_vectors(person(injection=injection, strength=strength), [4, 5], FakeEncoder())
        assert torch.allclose(got, class_words + strength * (words - class_words))


def test_the_class_word_is_fitted_to_the_number_of_words():
    one = slot_vectors(person(words=1, strength=0.0), [4], FakeEncoder())
    three = slot_vectors(person(words=3, strength=0.0), [4, 5, 6], FakeEncoder())
    assert one[:, 0].tolist() == [6.0] and three[:, 0].tolist() == [1.0, 6.0, 6.0]


def test_the_right_text_encoder_is_accepted():
    check_encoder(SStar(torch.zeros(2, 768)), {"l": 768})


@pytest.mark.parametrize(
    ("encoders", "words"),
    [
        ({"l": 768, "g": 1280}, "SDXL"),
        ({"h": 1024}, "SD 2.x"),
        ({"l": 1024}, "width 1024"),
        ({"l": 768, "t5xxl": 4096}, "t5xxl"),
        ({}, "none"),
    ],
)
def test_another_text_encoder_is_refused_naming_both(encoders, words):
    with pytest.raises(MismatchError, match=f"SD 1.x.*{words}"):
        check_encoder(SStar(torch.zeros(2, 768), name="anna"), encoders)


def test_slots_are_described_a_line_for_each_time_a_person_stands_there():
    people = [person(name="anna"), person("T*", words=1)]
    slots = [Slot(Word(0, 0), 0, 4), Slot(Word(0, 1), 0, 5), Slot(Word(1, 0), 1, 1)]
    assert describe_slots(slots, people) == "S* (anna): token 4 of chunk 1, token 5 of chunk 1\nT*: token 1 of chunk 2"
