"""The prompt as it is read, person by person and chunk by chunk."""

import pytest

from f2d_core.chunks import SpecialTokens
from f2d_core.errors import PromptError
from f2d_core.token_view import Marked, Near, Token, view_tokens

SPECIAL = SpecialTokens(1000, 1001, 1001)


def view(text, *people):
    """With a tokenizer whose words are its tokens."""
    words = []

    def tokenize(part):
        words.extend(part.split())
        return list(range(len(words) - len(part.split()), len(words)))

    return view_tokens(text, people, tokenize, lambda number: words[number], SPECIAL)


def test_people_stand_at_their_words_with_their_weights():
    found = view("a photo of S* and (anna:1.3)", Marked("S*"), Marked("anna", words=3))

    plain = [Token(word, 1.0) for word in ("a", "photo", "of")]
    assert found.chunks == [[*plain, *[Token("S*", 1.0, 0)] * 2, Token("and", 1.0), *[Token("anna", 1.3, 1)] * 3]]
    assert found.missing == [] and found.near == []


def test_chunks_end_where_the_text_encoders_do():
    found = view(" ".join(["word,"] * 20 + ["S*"] + ["more"] * 60), Marked("S*"))

    assert [len(chunk) for chunk in found.chunks] == [75, 7]


def test_what_is_missing_and_what_only_looks_like_a_marker():
    found = view("a photo of s* and Anna", Marked("S*"), Marked("anna"), Marked("ben"))

    assert found.missing == [0, 2] and found.near == [Near("s*", 0)]


def test_a_near_miss_belongs_to_one_person_and_a_marker_to_one_as_well():
    found = view("a photo of A*, b * and anna", Marked("a*"), Marked("B*"), Marked("Anna"), Marked("b*"))

    assert found.near == [Near("b *", 1), Near("anna", 2)]
    assert found.shared == [3]


def test_a_prompt_without_people_and_an_empty_one():
    assert view("a photo").chunks == [[Token("a", 1.0), Token("photo", 1.0)]]
    assert view("", Marked("S*")).chunks == [[]] and view("", Marked("S*")).missing == [0]


def test_a_marker_that_can_be_none():
    with pytest.raises(PromptError, match="cannot be a marker"):
        view("a", Marked("(x)"))
