"""Several photos of one person as one identity, and which of them does not belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from .blend import MADE_OF, blend, check_features, mean_identity, parts, tangents
from .errors import SettingsError
from .s_star import SStar

if TYPE_CHECKING:
    from .networks import Network

MEAN, ROBUST = "mean", "robust"
METHODS = (ROBUST, MEAN)
# A photo this many times as far from the others as they are from each other is said to disagree. A choice of ours, not
# calibrated on the published weights.
DISAGREES = 1.3
_ROUNDS = 100
_NEAREST = 1e-6  # radians; closer photos count as this close


@dataclass(frozen=True)
class Photo:
    """What one photo has to do with the others.

    share: its part of the identity, the sum is 1. distance: its mean distance to the others, as a multiple of their
    mean distance to each other; about 1 where it is one of them. None for fewer than three photos.
    """

    share: float
    distance: float | None

    @property
    def disagrees(self) -> bool:
        return self.distance is not None and self.distance > DISAGREES


def average_faces(
    people: Sequence[SStar], mapping: Network, weights: Sequence[float] = (), method: str = ROBUST
) -> tuple[SStar, list[Photo]]:
    """The S* of each photo -> one S* for the person, and what is to be said of each photo.

    weights: how much each photo counts; empty: all alike. "mean" takes them as they are, "robust" gives photos that are
    far from the rest less (the weighted geometric median), so that one wrong photo of four changes little.
    Raises SettingsError and MismatchError.
    """
    weights = [1.0] * len(people) if not weights else list(weights)
    if len(weights) != len(people) or min(weights) < 0 or not sum(weights) > 0:
        raise SettingsError(
            f"The weights are {', '.join(f'{weight:g}' for weight in weights)} for {len(people)} photos: expected one "
            "of 0 or more for each, and not all 0. Leave them empty to count all alike."
        )
    if method not in METHODS:
        raise SettingsError(f'Unknown way to average "{method}", expected one of {", ".join(METHODS)}.')
    check_features(people, mapping)
    v_id = torch.stack([person.v_id for person in people])
    shares = [weight / sum(weights) for weight in weights]
    if method == ROBUST:
        shares = median_shares(v_id, shares, people[0].features)
    photos = [Photo(share, far) for share, far in zip(shares, distances(v_id, people[0].features), strict=True)]
    person = replace(blend(people, shares, mapping), name=people[0].name, thumbnail=_closest(people, shares).thumbnail)
    if len(people) > 1:
        listed = ", ".join(f"{share:.4g}" for share in shares)
        person = replace(person, unknown_metadata={MADE_OF: f"{len(people)} photos: {listed}"})
    return person, photos


def _closest(people: Sequence[SStar], shares: Sequence[float]) -> SStar:
    """The photo that counts most, to show the person: a sharp picture instead of several laid over each other."""
    return people[max(range(len(people)), key=lambda i: shares[i])]


def median_shares(v_id: torch.Tensor, shares: Sequence[float], features: str) -> list[float]:
    """(n, width) and n shares -> the shares with which the mean on the sphere is the weighted geometric median.

    Weiszfeld's algorithm on the sphere: every photo counts by the inverse of its distance to the result. Fletcher et
    al., "The geometric median on Riemannian manifolds" (2009).
    """
    found = torch.tensor(shares, dtype=torch.float64)
    given = found
    for _ in range(_ROUNDS):
        middle = mean_identity(v_id, found.tolist(), features)
        nearness = given / _far(middle, v_id, features).clamp_min(_NEAREST)
        before, found = found, nearness / nearness.sum()
        if (found - before).abs().max() < 1e-6:
            break
    return found.tolist()


def distances(v_id: torch.Tensor, features: str) -> list[float | None]:
    """(n, width) -> for each photo its mean distance to the others by their mean distance to each other."""
    count = len(v_id)
    if count < 3:
        return [None] * count
    between = torch.stack([_far(row, v_id, features) for row in v_id])
    to_others = between.sum(dim=1) / (count - 1)
    among_others = (between.sum() - 2 * between.sum(dim=1)) / ((count - 1) * (count - 2))
    return (to_others / among_others.clamp_min(_NEAREST)).tolist()


def _far(one: torch.Tensor, v_id: torch.Tensor, features: str) -> torch.Tensor:
    """(width,), (n, width) -> (n,) fp64: the angles of all parts, in radians, as one distance."""
    here, there = parts(one[None].double(), features), parts(v_id.double(), features)
    angles = [
        tangents(base[0] / base.norm(), part / part.norm(dim=1, keepdim=True)).norm(dim=1)
        for base, part in zip(here, there, strict=True)
    ]
    return torch.stack(angles).norm(dim=0)
