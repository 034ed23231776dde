"""Which step of a sampler sees how much of a second person."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import SettingsError


@dataclass(frozen=True)
class Stretch:
    """Steps first .. stop - 1, counted from 0, that see the same mixture: `share` of the second person, 0..1."""

    share: float
    first: int
    stop: int


def ramp(steps: int, begin: float, end: float, mixtures: int) -> list[Stretch]:
    """Steps that see the first person until `begin`, the second from `end`, and mixtures in even parts between.

    begin, end: 0..1, the place among the steps: 0 is the first step and 1 the last. mixtures: how many different ones
    there may be, both people included; 2 is a switch in the middle. Neighbouring steps with the same one are a stretch.
    Raises SettingsError.
    """
    if steps < 1 or mixtures < 2:
        raise SettingsError(f"{steps} steps and {mixtures} mixtures: expected at least 1 step and 2 mixtures.")
    if not 0 <= begin <= end <= 1:
        raise SettingsError(f"The change begins at {begin:g} and ends at {end:g}: expected 0 <= begin <= end <= 1.")
    stretches: list[Stretch] = []
    for step in range(steps):
        share = _share(step / max(steps - 1, 1), begin, end, mixtures)
        if stretches and stretches[-1].share == share:
            stretches[-1] = Stretch(share, stretches[-1].first, step + 1)
        else:
            stretches.append(Stretch(share, step, step + 1))
    return stretches


def _share(place: float, begin: float, end: float, mixtures: int) -> float:
    if place >= end:
        return 1.0
    if place <= begin:
        return 0.0
    return math.floor((place - begin) / (end - begin) * (mixtures - 1) + 0.5) / (mixtures - 1)
