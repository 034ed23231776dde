"""Endless sets of captioned pictures: what the small models of this world learn from.

Picture number i of a set depends on the set's seed and on i alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from ..train.randomness import CHOICES, generator
from .appearance import described
from .calling import CALLED
from .captions import NAMES, PERSON, caption, celebrity_identities
from .people import Identities, sample_identities
from .render import Rendered, render_together
from .situations import Situations, sample_situations, side_by_side

FAMOUS = 0.15  # how often a person is one of those who have a name
BY_OWN_WORDS = 0.8  # how often a person without a name is called by words of their own, instead of described
TOGETHER = 0.15  # how often there are two
PLAINLY = 0.5  # how often people in steady pictures wear no costume, so that their hair is seen, and hold nothing
_SECOND = 1 << 40  # added to the seed of whatever the second person has


class PictureSet:
    """The set of one seed. famous: whether people with names are among them. together: whether there are pairs.
    looks: whether captions say who people without a name are, by words of their own or by what they look like.
    steady: see `Situations.steady` and PLAINLY."""

    def __init__(self, seed: int, famous: bool = True, together: bool = True, looks: bool = True, steady: bool = False):
        self._seed, self._looks, self._steady = seed, looks, steady
        self._famous, self._together = FAMOUS * famous, TOGETHER * together

    def pictures(self, numbers: range) -> np.ndarray:
        """(n, 64, 64, 3) uint8."""
        return self.render(numbers).pixels

    def render(self, numbers: range) -> Rendered:
        """The pictures with all that is known of them; points are (n, 2, 5, 2) px, NaN for a person not there."""
        pairs = self._pairs(numbers)
        first, second = (self._people(numbers, which)[0] for which in (0, 1))
        how, other = self._situations(numbers)
        alone, both = np.flatnonzero(~pairs), np.flatnonzero(pairs)
        parts = [(alone, [first.take(alone)], [how.take(alone)])] if len(alone) else []
        if len(both):
            placed = side_by_side(how.take(both), other.take(both))
            parts += [(both, [first.take(both), second.take(both)], list(placed))]
        drawn = [(rows, render_together(people, situations)) for rows, people, situations in parts]
        return _joined(drawn, len(numbers))

    def captions(self, numbers: range) -> list[str]:
        """As people would describe the pictures: most of what is there, always true."""
        pairs = self._pairs(numbers)
        first, second = (self._said(numbers, which) for which in (0, 1))
        how, _ = self._situations(numbers)
        return [
            caption(how, i, f"{first[i]} and {second[i]}" if pairs[i] else first[i], self._random(number, 1))
            for i, number in enumerate(numbers)
        ]

    def facts(self, numbers: range) -> np.ndarray:
        """(n, facts): what captions speak of, in numbers: expression, role, scene and prop, the first person, the
        second one (0 without one), and whether there are two."""
        pairs = self._pairs(numbers)[:, None]
        first, second = (self._people(numbers, which)[0].numbers for which in (0, 1))
        return np.concatenate([self._situations(numbers)[0].numbers, first, second * pairs, pairs], axis=1)

    def people(self, numbers: range) -> np.ndarray:
        """(n, 2, numbers of a person): the first person and the second, who is not shown where there is one alone."""
        return np.stack([self._people(numbers, which)[0].numbers for which in (0, 1)], axis=1)

    def _said(self, numbers: range, which: int) -> list[str]:
        """What captions call the people: a name, words of their own, or what they look like."""
        (people, names), pairs = self._people(numbers, which), self._pairs(numbers)
        said = []
        for i, name in enumerate(names):
            random = self._random(numbers[i], 2 + which)
            if not self._looks or name != PERSON:
                said.append(name)
            elif random.random() < BY_OWN_WORDS:
                said.append(CALLED[which])
            else:
                said.append(described(name, people, i, random, briefly=pairs[i]))
        return said

    def _pairs(self, numbers: range) -> np.ndarray:
        """(n,): where there are two."""
        return self._draws(numbers)[:, 1] < self._together

    def _random(self, number: int, purpose: int) -> np.random.Generator:
        return generator(self._seed, CHOICES, number, purpose)

    def _draws(self, numbers: range) -> np.ndarray:
        """(n, 6): what decides how many there are, who, and how plain they are."""
        return np.stack([self._random(number, 0).random(6) for number in numbers])

    def _people(self, numbers: range, which: int) -> tuple[Identities, list[str]]:
        """(identities, what captions call them)."""
        drawn = self._draws(numbers)
        known = drawn[:, 2] < self._famous if which == 0 else drawn[:, 4] < self._famous
        star = (drawn[:, 3 - 3 * which] * len(NAMES)).astype(int)
        strangers = sample_identities(self._seed + which * _SECOND, len(numbers), numbers.start)
        stars = _celebrities().take(star)
        people = Identities(
            np.where(known[:, None], stars.traits, strangers.traits),
            np.where(known[:, None], stars.styles, strangers.styles),
        )
        return people, [NAMES[k] if is_known else PERSON for k, is_known in zip(star, known, strict=True)]

    def _situations(self, numbers: range) -> tuple[Situations, Situations]:
        """Of the first person and of the second; two people do the same, with empty hands."""
        how = sample_situations(self._seed, len(numbers), numbers.start)
        other = sample_situations(self._seed + _SECOND, len(numbers), numbers.start)
        if self._steady:
            how, other = how.steady, other.steady
            shown = self._draws(numbers)[:, 5] >= PLAINLY
            how = replace(how, role=how.role * shown, prop=how.prop * shown)
        pairs = self._pairs(numbers)
        how = replace(how, prop=np.where(pairs, 0, how.prop))
        shared = {name: getattr(how, name) for name in ("mood", "role", "prop", "scene", "light", "expression")}
        return how, replace(other, **shared)


@cache
def _celebrities() -> Identities:
    return celebrity_identities()


def _joined(parts: list[tuple[np.ndarray, Rendered]], count: int) -> Rendered:
    """Pictures drawn in groups, in their own order again."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    points = [np.full((len(rows), 2, 5, 2), np.nan) for rows, _ in parts]
    for place, (_, drawn) in zip(points, parts, strict=True):
        place[:, : drawn.points.shape[1]] = drawn.points
    arrays = {name: [getattr(drawn, name) for _, drawn in parts] for name in ("pixels", "mask", "expression", "pose")}
    captions = [text for _, drawn in parts for text in drawn.captions]
    return Rendered(
        points=np.concatenate(points)[order],
        captions=[captions[i] for i in order],
        **{name: np.concatenate(values)[order] for name, values in arrays.items()},
    )
