"""A list of names from a user's file, each person once, and nobody who is held out for testing.

Two entries are the same person when their keys are equal. A key is made so:

    letters     Unicode compatibility forms (NFKC), no capitals, no accents on Latin and Greek letters
    signs       punctuation and hyphens are blanks, apostrophes are nothing, blanks are one
    turned      "Lincoln, Abraham" is "Abraham Lincoln"; what stands in brackets is left out
    titles      Sir, Dr, President, … in front of two words or more, Jr and PhD behind them
    initials    "J. R. R. Tolkien" is "JRR Tolkien"
    order       the words are sorted: "Curie Marie" is "Marie Curie"

Near duplicates are merged as well, unless the user says no: one word of five letters or more misspelled by one letter
(left out, added, changed, or two exchanged) and all others equal; a middle initial that the other one lacks or writes
out. Numbers ("Louis XIV", "Louis XV") are never near. The first spelling in the list is the one that is used.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import SettingsError

MOST_LETTERS = 80  # of a name
MOST_BYTES = 16 * 1024**2  # of a file
_LEAST_NEAR = 5  # letters of a word that may be misspelled

_BULLET = re.compile(r"^\s*(?:[-*•–]|\d{1,6}[.)])\s+")
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
_FORBIDDEN = re.compile(r"[()\[\]{}<>|\\:*\x00-\x1f\x7f]")  # prompt syntax, markers and control characters
_APOSTROPHES = re.compile(r"['’‘ʼ`´]")
_ROMAN = re.compile(r"m*(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_TITLES = frozenset(
    "sir dame lord lady dr doctor prof professor president mr mrs ms miss rev reverend saint st king queen prince "
    "princess emperor empress pope general captain senator chancellor maestro".split()
)
_SUFFIXES = frozenset("jr junior phd md obe cbe".split())  # not sr, ii, …: those tell a father from a son
SAME, NEAR = "same name", "near duplicate"


@dataclass(frozen=True)
class Name:
    """A person as in the prompts; `key`, the words that count, sorted."""

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        return _words(self.text)

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(sorted(self.words))


@dataclass(frozen=True)
class Merged:
    """An entry that was left out. line: in the file, from 1. rule: SAME or NEAR. into: the name it was taken for."""

    line: int
    text: str
    into: str
    rule: str


@dataclass(frozen=True)
class NameList:
    """names: each person once, in the order of the file. held_out: entries that name somebody kept for testing."""

    names: tuple[str, ...]
    merged: tuple[Merged, ...] = ()
    held_out: tuple[Merged, ...] = ()


def read_names(path: str | Path, held_out: Sequence[str] = (), near: bool = True) -> NameList:
    """The list in a text file: one name a line, `#` begins a comment. Raises SettingsError."""
    return parse_names(read_lines(path, "names"), held_out, near)


def read_lines(path: str | Path, what: str) -> str:
    """A user's text file, UTF-8 with or without a byte order mark. Raises SettingsError."""
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise SettingsError(f"{path} is larger than {MOST_BYTES >> 20} MB: expected a text file with {what}.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"Cannot read the {what} in {path}: {error.strerror or error}. Expected a text file, one entry a line."
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no text in UTF-8 (byte {error.start}). Save the {what} as UTF-8.") from error


def parse_names(text: str, held_out: Sequence[str] = (), near: bool = True) -> NameList:
    """The list in a text. held_out: names of test faces, which are left out whatever their spelling.

    near: merge near duplicates too. Raises SettingsError for a line that cannot be a name, or when none is left.
    """
    kept, kept_out = _Index(near), _Index(near)
    for other in held_out:
        kept_out.add(Name(cleaned(other)))
    merged, refused = [], []
    for line, entry in _entries(text):
        name = Name(cleaned(entry, f"Line {line} of the names"))
        for index, found in ((kept_out, refused), (kept, merged)):
            match = index.find(name)
            if match is not None:
                found.append(Merged(line, name.text, *match))
                break
        else:
            kept.add(name)
    if not kept.names:
        raise SettingsError("The list has no name that can be used: expected one a line. Add names.")
    return NameList(tuple(kept.names), tuple(merged), tuple(refused))


def entries(text: str) -> list[str]:
    """The lines of a text that count: no comments, bullets or blanks around them."""
    return [entry for _, entry in _entries(text)]


def _entries(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        entry = _BULLET.sub("", line.split("#", 1)[0]).strip()
        if entry:
            yield number, entry


def cleaned(entry: str, where: str = "The list of names") -> str:
    """An entry as it goes into prompts. Raises SettingsError for one that cannot be a name."""
    text = _BRACKETS.sub("", " ".join(unicodedata.normalize("NFC", entry).split())).strip(' ,;."“”')
    last, comma, first = text.partition(",")
    if comma and "," not in first and not set(_words(first)) <= _SUFFIXES:
        text = f"{first.strip()} {last.strip()}"
    if not any(map(str.isalpha, text)) or len(text) > MOST_LETTERS or _FORBIDDEN.search(text):
        raise SettingsError(
            f'{where}: "{entry[:100]}" is no name. Expected 1 to {MOST_LETTERS} letters without signs such as * : [ '
            "and |, one name a line. Mend or delete it."
        )
    return text


# --- when are two names the same? ---


def _words(text: str) -> tuple[str, ...]:
    """The words that count, in their order. Titles stay where nothing but one word would be left."""
    plain = _APOSTROPHES.sub("", _without_accents(unicodedata.normalize("NFKC", text).casefold()))
    words = "".join(sign if _is_of_words(sign) else " " for sign in plain).split()
    while len(words) > 2 and words[0] in _TITLES:
        words.pop(0)
    while len(words) > 2 and words[-1] in _SUFFIXES:
        words.pop()
    return tuple(_initials_joined(words))


def _is_of_words(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LMN"


def _without_accents(text: str) -> str:
    """Latin and Greek letters without their marks; in other scripts a mark makes another letter."""
    kept: list[str] = []
    for sign in unicodedata.normalize("NFD", text.translate(_PLAIN)):
        on_letter = kept and unicodedata.name(kept[-1], "").startswith(("LATIN", "GREEK"))
        if not (unicodedata.combining(sign) and on_letter):
            kept.append(sign)
    return unicodedata.normalize("NFC", "".join(kept))


def _initials_joined(words: Sequence[str]) -> Iterator[str]:
    run = ""
    for word in words:
        if len(word) == 1 and word.isalpha():
            run += word
            continue
        yield from (run,) if run else ()
        run = ""
        yield word
    yield from (run,) if run else ()


class _Index:
    """Names that others are compared with, found without looking at all of them."""

    def __init__(self, near: bool):
        self.names: list[str] = []
        self._near = near
        self._same: dict[tuple[str, ...], str] = {}
        self._alike: dict[tuple, list[Name]] = {}

    def add(self, name: Name) -> None:
        self.names.append(name.text)
        self._same.setdefault(name.key, name.text)
        for place in _places(name):
            self._alike.setdefault(place, []).append(name)

    def find(self, name: Name) -> tuple[str, str] | None:
        """(the name it is the same as, by which rule), or None."""
        if name.key in self._same:
            return self._same[name.key], SAME
        if self._near:
            for place in _places(name):
                for other in self._alike.get(place, ()):
                    if _are_near(name, other):
                        return other.text, NEAR
        return None


def _places(name: Name) -> Iterator[tuple]:
    """Near names share one of these: all words but one and its first letter, or the first and the last word."""
    for i, word in enumerate(name.key):
        yield word[0], name.key[:i] + name.key[i + 1 :]
    if len(name.words) > 1:
        yield name.words[0], name.words[-1]


def _are_near(a: Name, b: Name) -> bool:
    return _one_word_misspelled(a.key, b.key) or _middle_initial(a.words, b.words) or _middle_initial(b.words, a.words)


def _one_word_misspelled(a: Sequence[str], b: Sequence[str]) -> bool:
    different_a, different_b = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    if len(a) != len(b) or len(different_a) != 1 or len(different_b) != 1:
        return False
    (one,), (other,) = different_a, different_b
    long_enough = min(len(one), len(other)) >= _LEAST_NEAR
    return long_enough and one[0] == other[0] and not (_is_number(one) or _is_number(other)) and _one_slip(one, other)


def _middle_initial(short: Sequence[str], other: Sequence[str]) -> bool:
    """Whether short is "first initials last", and other the same with middle names written out, or without any."""
    if len(short) != 3 or len(other) < 2 or (short[0], short[-1]) != (other[0], other[-1]):
        return False
    middle = other[1:-1]
    return short[1] == "".join(word[0] for word in middle) if middle else len(short[1]) == 1


def _is_number(word: str) -> bool:
    return word.isdecimal() or _ROMAN.fullmatch(word) is not None


def _one_slip(a: str, b: str) -> bool:
    """Whether one letter was left out, added or changed, or two neighbours exchanged."""
    a, b = sorted((a, b), key=len)
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) == len(b):
        exchanged = a[start : start + 2] == b[start : start + 2][::-1] and a[start + 2 :] == b[start + 2 :]
        return exchanged or a[start + 1 :] == b[start + 1 :]
    return len(b) == len(a) + 1 and a[start:] == b[start + 1 :]
