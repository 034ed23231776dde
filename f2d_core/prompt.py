"""Find a person's marker in a prompt and work out the vectors that stand at its place. Pure functions.

A marker is found as a whole word: not inside another word, but next to commas, brackets, weights and apostrophes.
A marker without capital letters also matches capitals ("f l" matches "F L", as the SD tokenizer does); a marker with
capitals is matched exactly. A blank in a marker matches any run of blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from .chunks import Slot
from .constants import DEFAULT_CLASS_WORD, INJECTION_SUM
from .errors import MismatchError, PromptError
from .ports import TextEncoder
from .s_star import SStar

_ENCODERS = {"l": "SD 1.x (CLIP-L)", "h": "SD 2.x (OpenCLIP-H)", "g": "SDXL's second (OpenCLIP-G)"}
# These would be read as prompt weights or escapes, or end the line.
_FORBIDDEN = re.compile(r"[()\\:\x00-\x1f]")
_MAX_MARKER = 64  # characters


@dataclass(frozen=True)
class Person:
    """An S* and how strongly it is meant: 1 is the person, 0 the class word ("a person"), above 1 exaggerates."""

    s_star: SStar
    strength: float = 1.0


@dataclass(frozen=True)
class Occurrence:
    """A marker in a text: text[start:end], and the number of the marker."""

    start: int
    end: int
    marker: int


def require_marker(marker: str) -> str:
    """`marker` without blanks around it, if it can stand in a prompt; else PromptError."""
    marker = marker.strip()
    if not marker or len(marker) > _MAX_MARKER or _FORBIDDEN.search(marker) or _is_number(marker):
        raise PromptError(
            f'"{marker}" cannot be a marker: use a word of 1 to {_MAX_MARKER} characters without ( ) : \\ that is no '
            "number, for example S* or anna."
        )
    return marker


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def find_markers(text: str, markers: Sequence[str]) -> list[Occurrence]:
    """All places where a marker stands as a whole word, in order. Where two fit, the longer marker wins."""
    if not markers:
        return []
    order = sorted(range(len(markers)), key=lambda i: -len(markers[i]))
    pattern = "|".join(f"(?P<m{i}>{_whole_word(markers[i])})" for i in order)
    return [Occurrence(match.start(), match.end(), int(match.lastgroup[1:])) for match in re.finditer(pattern, text)]


def _whole_word(marker: str) -> str:
    """Not next to a letter, digit or underscore, and "S*" not in "S**"."""
    body = r"\s+".join(re.escape(part) for part in marker.split())
    flag = "" if any(c.isupper() for c in marker) else "i"
    body = f"(?{flag}:{body})"
    return rf"(?<!\w)(?<!{re.escape(marker[0])}){body}(?!\w)(?!{re.escape(marker[-1])})"


def near_misses(text: str, markers: Sequence[str]) -> list[str]:
    """What looks like a marker but is not one: other capitals, blanks or dots between its signs, inside a word."""
    found = find_markers(text, markers)
    exact = {(o.start, o.end) for o in found}
    misses = []
    for marker in markers:
        loose = r"[\s._\-]*".join(re.escape(c) for c in marker if not c.isspace())
        inside = rf"\w*{re.escape(marker)}(?:\w|{re.escape(marker[-1])})*"
        for match in re.finditer(rf"(?i:{inside}|(?<!\w){loose}(?!\w))", text):
            if not any(start <= match.start() and match.end() <= end for start, end in exact):
                misses.append(match.group())
    return list(dict.fromkeys(misses))


def marker_key(marker: str) -> str:
    """Equal for markers that would stand at the same words."""
    return " ".join(marker.split()).casefold()


def require_people(people: Sequence[Person]) -> None:
    """Raise PromptError when two people would stand at the same word."""
    seen: dict[str, Person] = {}
    for person in people:
        marker = marker_key(person.s_star.marker)
        if marker in seen:
            raise PromptError(
                f'Two people share the marker "{person.s_star.marker}" ({seen[marker].s_star.title} and '
                f"{person.s_star.title}). Give one of them another marker where it is encoded or loaded, for "
                "example T*."
            )
        seen[marker] = person


def require_markers(text: str, people: Sequence[Person]) -> list[Occurrence]:
    """The places of all markers; PromptError when a person's marker is missing or two people share one."""
    require_people(people)
    markers = [person.s_star.marker for person in people]
    found = find_markers(text, markers)
    present = {occurrence.marker for occurrence in found}
    for i, person in enumerate(people):
        if i not in present:
            raise PromptError(_missing(text, person))
    return found


def _missing(text: str, person: Person) -> str:
    marker = person.s_star.marker
    who = f" of {person.s_star.name}" if person.s_star.name else ""
    misses = near_misses(text, [marker])
    hint = f' "{misses[0]}" is there, which is spelled differently.' if misses else ""
    shown = text if len(text) <= 80 else text[:77] + "…"
    return (
        f'The marker "{marker}"{who} does not stand in the prompt "{shown}".{hint} '
        f'Write {marker} as a word of its own where the person belongs, for example "a photo of {marker}".'
    )


def replace_markers(text: str, occurrences: Iterable[Occurrence], words: Sequence[str]) -> str:
    """`text` with every occurrence replaced by words[its marker]."""
    parts, at = [], 0
    for occurrence in occurrences:
        parts += [text[at : occurrence.start], words[occurrence.marker]]
        at = occurrence.end
    return "".join(parts) + text[at:]


def check_encoder(s_star: SStar, encoders: dict[str, int]) -> None:
    """Raise MismatchError unless the text encoder is the one S* was made for.

    encoders: key -> word width of every encoder the prompt goes through; S* must know all of them, since one that
    does not see the person would be told a prompt without them.
    """
    if encoders == {s_star.encoder_key: s_star.width}:
        return
    made_for = f"{_ENCODERS.get(s_star.encoder_key, s_star.encoder_key)}, width {s_star.width}"
    found = " + ".join(f"{_ENCODERS.get(key, key)}, width {width}" for key, width in encoders.items()) or "none"
    raise MismatchError(
        f"The S* of {s_star.title} was made for the text encoder {made_for}, this model has {found}. "
        "Use a checkpoint of that family, or a mapping trained for this one."
    )


def slot_vectors(person: Person, positions: Sequence[int], encoder: TextEncoder) -> torch.Tensor:
    """(k, width) fp32: the token embeddings to put at `positions` (0..76 within the chunk, one for each word).

    The encoder adds its position embedding afterwards, so a "sum" S*, which already contains one, has it subtracted
    here (official code: the vectors replace the sum). Strength moves between the class word and the person.
    """
    s_star = person.s_star
    words = s_star.vectors
    if s_star.injection == INJECTION_SUM:
        words = words - encoder.position_embedding()[list(positions)]
    if person.strength == 1.0:
        return words
    class_words = _fit(encoder.word_embeddings(s_star.class_word or DEFAULT_CLASS_WORD), s_star.words)
    return class_words + person.strength * (words - class_words)


def _fit(embeddings: torch.Tensor, count: int) -> torch.Tensor:
    """The class word's embeddings as `count` words: its last ones, the last repeated where there are too few."""
    if len(embeddings) >= count:
        return embeddings[-count:]
    return torch.cat([embeddings, embeddings[-1:].expand(count - len(embeddings), -1)])


def describe_slots(slots: Sequence[Slot], people: Sequence[Person]) -> str:
    """Which token of which chunk every word became, a line for each time a person stands in the prompt."""
    lines, at = [], 0
    while at < len(slots):
        s_star = people[slots[at].word.person].s_star
        own = slots[at : at + s_star.words]
        where = ", ".join(f"token {slot.position} of chunk {slot.chunk + 1}" for slot in own)
        who = f"{s_star.marker} ({s_star.name})" if s_star.name else s_star.marker
        lines.append(f"{who}: {where}")
        at += len(own)
    return "\n".join(lines)
