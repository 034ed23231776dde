"""A weighted prompt becomes chunks of 77 tokens, as ComfyUI cuts them; no tokenizer and no model of its own.

The rules are ComfyUI's (`comfy/sd1_clip.py`, 0.9.2 to 0.33.0), stated here in our words:
`(text:1.3)` sets a weight, bare parentheses multiply it by 1.1, an inner explicit weight replaces the outer
one, `\\(` and `\\)` are letters. Every stretch of equal weight and every S* is one group. A group of fewer
than eight tokens is never cut: it moves to the next chunk. A longer one is cut wherever the chunk ends.

A file `embedding:name` is not looked up here: those words are read as letters.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .constants import CHUNK_TOKENS
from .errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

    from .prompt import Occurrence

BRACKET_WEIGHT = 1.1  # what one pair of bare parentheses multiplies by
CUTTABLE_GROUP = 8  # from this many tokens on, a group may be cut between two chunks
MAX_NESTING = 100

_PARENTHESIS = re.compile(r"\\[()]|[()]")


class Word(NamedTuple):
    """One word vector of a person, standing where a token id would."""

    person: int  # index into the list of people
    index: int  # which of that person's k words


class WeightedToken(NamedTuple):
    token: int | Word
    weight: float


class Slot(NamedTuple):
    """Where a word vector ended up."""

    word: Word
    chunk: int
    position: int  # 0..76 inside its chunk


class Span(NamedTuple):
    """A stretch of the prompt with one weight, free of unescaped parentheses that count."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that frame and fill a chunk."""

    start: int
    end: int
    pad: int


CLIP_SPECIAL = SpecialTokens(start=49406, end=49407, pad=49407)  # of SD 1.x

Group = list[WeightedToken]
Chunk = list[WeightedToken]


def prompt_chunks(
    text: str,
    occurrences: Sequence[Occurrence],
    words: Sequence[int],
    tokenize: Callable[[str], list[int]],
    special: SpecialTokens,
) -> list[Chunk]:
    """Chunks of exactly 77 weighted tokens, at least one.

    occurrences: where markers stand in `text`, as f2d_core.prompt finds them. words: how many vectors each person
    has. tokenize: text -> ids, without start and end. Raises PromptError for a weight that is not finite, for
    parentheses nested too deep and for a marker that stands inside a weight.
    """
    return pack(token_groups(text, occurrences, words, tokenize), special)


def weighted_spans(text: str) -> list[Span]:
    """The stretches of `text` in order, each with its weight; parentheses and weights themselves left out."""
    return list(_spans(text, 0, len(text), 1.0, 0))


def token_groups(
    text: str, occurrences: Sequence[Occurrence], words: Sequence[int], tokenize: Callable[[str], list[int]]
) -> list[Group]:
    """The groups of `text`: tokens of one weight that belong together. See `prompt_chunks`."""
    groups, placed = [], 0
    for span in weighted_spans(text):
        inside = [o for o in occurrences if span.start <= o.start and o.end <= span.end]
        placed += len(inside)
        groups += _span_groups(text, span, inside, words, tokenize)
    if placed != len(occurrences):
        raise PromptError("A marker stands inside a prompt weight; expected it among the words. Choose another marker.")
    return groups


def pack(groups: Iterable[Group], special: SpecialTokens) -> list[Chunk]:
    """Fill chunks of 77 with the groups in order, each framed by start and end and padded."""
    room = CHUNK_TOKENS - 2
    bodies: list[Chunk] = [[]]
    for group in groups:
        cuttable = len(group) >= CUTTABLE_GROUP
        rest = group
        while len(bodies[-1]) + len(rest) > room:
            fits = room - len(bodies[-1]) if cuttable else 0
            bodies[-1].extend(rest[:fits])
            rest = rest[fits:]
            bodies.append([])
        bodies[-1].extend(rest)
    return [_framed(body, special) for body in bodies]


def empty_chunk(special: SpecialTokens) -> Chunk:
    """The chunk of the empty prompt."""
    return _framed([], special)


def find_slots(chunks: Iterable[Chunk]) -> list[Slot]:
    """Where the word vectors stand, in the order of the prompt."""
    return [
        Slot(entry.token, number, position)
        for number, chunk in enumerate(chunks)
        for position, entry in enumerate(chunk)
        if isinstance(entry.token, Word)
    ]


def has_weights(chunks: Iterable[Chunk]) -> bool:
    """Whether any token has a weight other than 1."""
    return any(entry.weight != 1.0 for chunk in chunks for entry in chunk)


def apply_weights(hidden: torch.Tensor, empty_hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Move every position away from, or towards, the empty prompt: empty + w (hidden - empty).

    hidden: (n, 77, width); empty_hidden: (77, width) or (1, 77, width); weights: (n, 77). A weight of exactly 1
    leaves its position bit for bit as it is. Returns a new tensor.
    """
    scale = weights.to(hidden)[..., None]
    return hidden.where(scale == 1.0, empty_hidden + scale * (hidden - empty_hidden))


def _spans(text: str, start: int, end: int, weight: float, depth: int) -> Iterable[Span]:
    if depth > MAX_NESTING:
        raise PromptError(
            f"The prompt nests parentheses more than {MAX_NESTING} deep; expected a few levels. Remove some, or write "
            r"\( and \) for parentheses that are text."
        )
    for piece_start, piece_end, bracketed in _pieces(text, start, end):
        if bracketed:
            inner_end, inner_weight = _explicit_weight(text, piece_start + 1, piece_end - 1, weight)
            yield from _spans(text, piece_start + 1, inner_end, inner_weight, depth + 1)
        else:
            yield Span(piece_start, piece_end, weight)


def _pieces(text: str, start: int, end: int) -> Iterable[tuple[int, int, bool]]:
    """Cut [start, end) before each outermost "(" and after its ")": (start, end, is a pair of parentheses).

    A ")" without its "(" lowers the level below zero and so turns the next "(" into a letter, as in ComfyUI.
    """
    level, begin, last = 0, start, -1
    for match in _PARENTHESIS.finditer(text, start, end):
        if len(match.group()) == 2:
            continue
        last = match.start()
        if match.group() == "(":
            if level == 0 and begin < last:
                yield begin, last, False
                begin = last
            level += 1
        else:
            level -= 1
            if level == 0:
                yield begin, last + 1, _is_pair(text, begin, last)
                begin = last + 1
    if begin < end:
        yield begin, end, last == end - 1 and _is_pair(text, begin, last)


def _is_pair(text: str, first: int, last: int) -> bool:
    return last > first and text[first] == "(" and text[last] == ")"


def _explicit_weight(text: str, start: int, end: int, weight: float) -> tuple[int, float]:
    """Where the words inside one pair of parentheses end, and their weight."""
    colon = text.rfind(":", start, end)
    if colon > start:
        try:
            explicit = float(text[colon + 1 : end])
        except ValueError:
            return end, weight * BRACKET_WEIGHT
        if not math.isfinite(explicit):
            found = text[colon + 1 : end].strip()
            raise PromptError(f'The prompt has the weight "{found}"; expected a finite number, for example 1.2.')
        return colon, explicit
    return end, weight * BRACKET_WEIGHT


def _span_groups(
    text: str, span: Span, occurrences: list[Occurrence], words: Sequence[int], tokenize: Callable[[str], list[int]]
) -> Iterable[Group]:
    at = span.start
    for occurrence in occurrences:
        yield _letters(text[at : occurrence.start], span.weight, tokenize)
        person = occurrence.marker
        yield [WeightedToken(Word(person, i), span.weight) for i in range(words[person])]
        at = occurrence.end
    yield _letters(text[at : span.end], span.weight, tokenize)


def _letters(text: str, weight: float, tokenize: Callable[[str], list[int]]) -> Group:
    plain = text.replace(r"\(", "(").replace(r"\)", ")")
    return [WeightedToken(token, weight) for token in tokenize(plain)] if plain else []


def _framed(body: Chunk, special: SpecialTokens) -> Chunk:
    framed = [WeightedToken(special.start, 1.0), *body, WeightedToken(special.end, 1.0)]
    return framed + [WeightedToken(special.pad, 1.0)] * (CHUNK_TOKENS - len(framed))
