"""A prompt as the text encoder will see it: its tokens, where people stand, where chunks end; for people to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .chunks import SpecialTokens, Word, prompt_chunks
from .prompt import find_markers, marker_key, near_misses, require_marker

MOST_CHARACTERS = 20_000  # of a prompt that is looked at
MOST_PEOPLE = 16


@dataclass(frozen=True)
class Marked:
    """A person of the prompt: the marker, and how many word vectors stand for it."""

    marker: str
    words: int = 2


@dataclass(frozen=True)
class Token:
    """text: as it is read. person: the number of the person whose word vector stands here, else None."""

    text: str
    weight: float
    person: int | None = None


@dataclass(frozen=True)
class Near:
    """text: stands in the prompt, looks like the marker of that person and is none."""

    text: str
    person: int


@dataclass(frozen=True)
class TokenView:
    """chunks: the tokens of each chunk of 77, without start, end and padding. missing: the people whose marker is not
    there. shared: the people whose marker is an earlier one's. near: what looks like a marker and is none."""

    chunks: list[list[Token]]
    missing: list[int]
    shared: list[int]
    near: list[Near]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def view_tokens(
    text: str,
    people: Sequence[Marked],
    tokenize: Callable[[str], list[int]],
    decode: Callable[[int], str],
    special: SpecialTokens,
) -> TokenView:
    """What `text` becomes. tokenize: text -> ids, without start and end. decode: id -> text.

    Raises PromptError for a marker that can be none, and for weights that cannot be read.
    """
    markers = [require_marker(person.marker) for person in people]
    found = find_markers(text, markers)
    chunks = prompt_chunks(text, found, [person.words for person in people], tokenize, special)
    there = {occurrence.marker for occurrence in found}
    frame = {special.start, special.end, special.pad}
    return TokenView(
        chunks=[[_token(entry, markers, decode) for entry in chunk if entry.token not in frame] for chunk in chunks],
        missing=[i for i in range(len(people)) if i not in there],
        shared=_shared(markers),
        near=_near(text, markers),
    )


def _shared(markers: Sequence[str]) -> list[int]:
    keys = [marker_key(marker) for marker in markers]
    return [i for i, key in enumerate(keys) if key in keys[:i]]


def _near(text: str, markers: Sequence[str]) -> list[Near]:
    """One person is named for each miss, the first whose marker it resembles."""
    left, near = near_misses(text, markers), []
    for person, marker in enumerate(markers):
        own = [miss for miss in near_misses(text, [marker]) if miss in left]
        near += [Near(miss, person) for miss in own]
        left = [miss for miss in left if miss not in own]
    return near


def _token(entry: Any, markers: Sequence[str], decode: Callable[[int], str]) -> Token:
    if isinstance(entry.token, Word):
        return Token(markers[entry.token.person], entry.weight, entry.token.person)
    return Token(decode(entry.token), entry.weight)
