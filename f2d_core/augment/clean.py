"""Cleaning (DreamIdentity 3.3, step 4): of every prompt's pictures the best quarter, by identity and by text.

The paper ranks by both and keeps the top 25 %, without saying how the two are combined. Here each picture has a rank
by each measure among all pictures of its prompt, and the mean of the two decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Candidate:
    """An edited picture. identity: cosine to its source face, None where it shows no face. text: cosine to its text."""

    path: str
    identity: float | None
    text: float


@dataclass(frozen=True)
class Ranked:
    """rank: mean of both ranks, 1 is best. kept: whether it is among the best."""

    candidate: Candidate
    identity_rank: float
    text_rank: float
    kept: bool

    @property
    def rank(self) -> float:
        return (self.identity_rank + self.text_rank) / 2


def kept_count(candidates: int, keep: float) -> int:
    """How many of a prompt's pictures are kept: the part `keep` of all, rounded up."""
    return math.ceil(Fraction(str(keep)) * candidates)


def best(candidates: Sequence[Candidate], keep: float) -> list[Ranked]:
    """All pictures of one prompt, best first; kept are `kept_count` of them, fewer only where too few show a face.

    Equal values share the mean of their ranks. Equal mean ranks go by identity, then by text, then by path. Pictures
    without a face come last, and are never kept.
    """
    identity = _ranks([-math.inf if c.identity is None else c.identity for c in candidates])
    text = _ranks([c.text for c in candidates])
    order = sorted(range(len(candidates)), key=lambda i: _place(candidates[i], identity[i] + text[i]))
    count = kept_count(len(candidates), keep)
    return [
        Ranked(candidates[i], identity[i], text[i], place < count and candidates[i].identity is not None)
        for place, i in enumerate(order)
    ]


def _place(candidate: Candidate, ranks: float) -> tuple:
    if candidate.identity is None:
        return 1, ranks, 0.0, -candidate.text, candidate.path
    return 0, ranks, -candidate.identity, -candidate.text, candidate.path


def _ranks(values: Sequence[float]) -> list[float]:
    """1 for the largest; equal ones share the mean of their ranks."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for i in order[start:end]:
            ranks[i] = (start + 1 + end) / 2
        start = end
    return ranks
