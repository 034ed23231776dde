"""Invented people: what makes one who they are, drawn from a seed.

A trait is a number in [0, 1]; what it means is said where it is drawn. A style is one of a few kinds. At 64 px people
have to be told apart by what is large: colours come in kinds that no eye takes for one another, and what is small is
seldom far from the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .draws import IDENTITY, uniforms

TRAITS = (
    *("face_width", "face_length", "jaw_width", "jaw_square", "cheeks"),
    *("skin_tone", "skin_warmth", "blush", "freckles"),
    *("hair_colour", "hair_shade", "hair_volume", "hairline", "parting"),
    *("eye_size", "eye_spacing", "eye_height", "eye_tilt", "eye_roundness", "iris_colour", "lashes"),
    *("brow_thickness", "brow_arch", "brow_tilt", "brow_height"),
    *("nose_length", "nose_width", "nose_tip"),
    *("mouth_width", "mouth_height", "lip_fullness", "lip_colour"),
    *("ear_size", "glasses_size", "frame_colour"),
)
STYLES = {
    "hair": (
        *("bald", "buzz cut", "short hair", "quiff", "curls", "bob", "long hair", "wavy hair", "ponytail", "bun"),
        *("pigtails", "spiky hair"),
    ),
    "beard": ("none", "stubble", "moustache", "goatee", "full beard"),
    "glasses": ("none", "round", "square", "half rim"),
    "mark": ("none", "left cheek", "right cheek", "chin"),
    "earrings": ("none", "studs", "hoops"),
}
_HAIR_ODDS = (  # by how much the face is of the softer kind: 0, then 1
    (0.08, 0.14, 0.24, 0.16, 0.12, 0.02, 0.04, 0.03, 0.02, 0.02, 0.00, 0.13),
    (0.01, 0.01, 0.05, 0.03, 0.12, 0.17, 0.16, 0.14, 0.11, 0.10, 0.08, 0.02),
)
_BEARD_ODDS = ((0.42, 0.16, 0.12, 0.12, 0.18), (1.0, 0.0, 0.0, 0.0, 0.0))
_GLASSES_ODDS = (0.46, 0.18, 0.18, 0.18)
_MARK_ODDS = (0.82, 0.07, 0.07, 0.04)
_EARRING_ODDS = ((0.92, 0.06, 0.02), (0.45, 0.30, 0.25))
_COLOURS = {  # the kinds, all equally frequent, and how far a person may be from one
    "skin_tone": ((0.03, 0.27, 0.50, 0.73, 0.97), 0.03),
    "hair_colour": ((0.04, 0.22, 0.37, 0.47, 0.62, 0.83, 0.88, 0.93, 0.98), 0.02),
    "iris_colour": ((0.08, 0.50, 0.86), 0.08),
    "frame_colour": ((0.05, 0.27, 0.50, 0.73, 0.95), 0.05),
}
_EVEN = ("freckles", "blush", "parting")  # all values equally frequent
_SOFTER = {"jaw_width": -0.35, "jaw_square": -0.4, "brow_thickness": -0.4, "lashes": 0.6, "lip_fullness": 0.3}


@dataclass(frozen=True)
class Identities:
    """n people. traits: (n, len(TRAITS)) in [0, 1]. styles: (n, len(STYLES)) int64."""

    traits: np.ndarray
    styles: np.ndarray

    def __len__(self) -> int:
        return len(self.traits)

    def take(self, rows: Sequence[int] | np.ndarray) -> Identities:
        """The people `rows`, in that order."""
        return Identities(self.traits[rows], self.styles[rows])

    def trait(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(n,): the trait, laid between low and high."""
        return low + (high - low) * self.traits[:, TRAITS.index(name)]

    def changed(self, **traits: float) -> Identities:
        """The same people with these traits, all of them alike."""
        values = self.traits.copy()
        for name, value in traits.items():
            values[:, TRAITS.index(name)] = value
        return Identities(values, self.styles)

    @property
    def numbers(self) -> np.ndarray:
        """(n, numbers): the traits but for the colours, and 1 for the kind that a colour or a style is of. Colours lie
        in their palettes in no order that a word could follow."""
        plain = [i for i, name in enumerate(TRAITS) if name not in _COLOURS]
        kinds = [np.eye(len(kinds))[self._colour(name)] for name, (kinds, _) in _COLOURS.items()]
        kinds += [np.eye(len(kinds))[self.styles[:, i]] for i, kinds in enumerate(STYLES.values())]
        return np.concatenate([self.traits[:, plain], *kinds], axis=1)

    def _colour(self, name: str) -> np.ndarray:
        """(n,): the kind that is nearest."""
        return np.abs(self.trait(name)[:, None] - np.array(_COLOURS[name][0])).argmin(axis=1)

    def style(self, name: str) -> np.ndarray:
        """(n,): which of STYLES[name]."""
        return self.styles[:, list(STYLES).index(name)]


def sample_identities(seed: int, n: int, start: int = 0) -> Identities:
    """People number start to start + n of this seed."""
    drawn = uniforms(seed, IDENTITY, start, n, 1 + len(TRAITS) + len(STYLES))
    softer = (drawn[:, 0] < 0.5).astype(np.float64)
    traits = np.stack([_spread_out(name, drawn[:, 1 + i]) for i, name in enumerate(TRAITS)], axis=1)
    for name, pull in _SOFTER.items():
        column = traits[:, TRAITS.index(name)]
        towards = softer if pull > 0 else 1 - softer
        column += abs(pull) * (towards - column)
    odds = (_between(_HAIR_ODDS, softer), _between(_BEARD_ODDS, softer), _GLASSES_ODDS, _MARK_ODDS)
    odds = (*odds, _between(_EARRING_ODDS, softer))
    choices = drawn[:, 1 + len(TRAITS) :]
    styles = [_choose(choices[:, i], chances) for i, chances in enumerate(odds)]
    return Identities(traits, np.stack(styles, axis=1))


def _spread_out(trait: str, uniform: np.ndarray) -> np.ndarray:
    """(n,): the trait of people with these numbers in [0, 1)."""
    if trait in _EVEN:
        return uniform.copy()
    if trait not in _COLOURS:
        return 0.5 + 0.5 * (2 * uniform - 1) ** 3
    kinds, reach = _COLOURS[trait]
    place = uniform * len(kinds)
    return np.array(kinds)[place.astype(int)] + reach * (2 * (place % 1) - 1)


def _between(odds: Sequence[Sequence[float]], share: np.ndarray) -> np.ndarray:
    first, second = (np.array(chances) for chances in odds)
    return first + share[:, None] * (second - first)


def _choose(uniform: np.ndarray, chances: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,): where each number falls among the chances, (n, kinds) or (kinds,)."""
    steps = np.broadcast_to(np.cumsum(np.asarray(chances), axis=-1), (len(uniform), np.shape(chances)[-1]))
    return np.minimum((uniform[:, None] >= steps).sum(axis=1), steps.shape[1] - 1)
