"""A CLIP tokenizer whose vocabulary is the words of the miniature world: every word is one token.

The format is CLIP's own (vocab.json, merges.txt); letters stay tokens, so any other text can be read too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from ..backends.stand_in import END, START, WORD_END, byte_letters
from ..files import write_atomically

Pair = tuple[str, str]


def write_word_tokenizer(folder: str | Path, words: Iterable[str]) -> Path:
    """Write the tokenizer of `words`, lower-case and of plain letters, into `folder`; the same files every time."""
    folder = Path(folder)
    merges = learn_merges(sorted(set(words)))
    letters = byte_letters()
    names = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = json.dumps({name: number for number, name in enumerate(names)}, ensure_ascii=False)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    for name, text in (("vocab.json", vocabulary), ("merges.txt", "\n".join(lines) + "\n")):
        write_atomically(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    return folder


def learn_merges(words: Sequence[str]) -> list[Pair]:
    """Byte-pair merges, most frequent pair first, until every word is one token.

    A merge is made in all words at once, so that the tokenizer, which goes through the merges in this order, arrives
    where the learning did.
    """
    spelled = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges = []
    while pairs := Counter(pair for parts in spelled for pair in pairwise(parts)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(parts, best) for parts in spelled]
    return merges


def _merged(parts: Sequence[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
