"""How sure a mean is, and whether one method is better than another: bootstrap intervals and a sign-flip test.

Pictures of one face are alike in how well they come out, so faces, not pictures, are what is drawn again: clusters.
Everything is a function of its inputs and the seed, with numpy's legacy generator, whose numbers never change.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SettingsError

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 1 << 22  # numbers drawn at once, which bounds the memory
_EXACT_CLUSTERS = 14  # with no more, all 2^14 assignments of signs are tried
_SLACK = 1e-12  # equal sums come out of rounding a little different


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Method a against method b on the same pairs of face and prompt.

    difference: of a - b, with its interval. p: how often chance alone gives a mean difference as large, in either
    direction. wins, losses, ties: pairs where a is better, worse, equal. pairs, clusters: how many there were.
    """

    difference: Interval
    p: float
    wins: int
    losses: int
    ties: int
    pairs: int
    clusters: int


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of all values, and the percentiles of the means when the clusters are drawn with replacement.

    values: (n,). clusters: of each value, for example its face; each value its own: the plain bootstrap. One cluster
    has no spread: the bounds are the mean. Raises SettingsError.
    """
    _check(level, resamples)
    sums, counts = _totals(_values(values), clusters)
    means = np.concatenate(
        [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in _draws(len(sums), resamples, seed)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def compare_paired(
    a: ArrayLike,
    b: ArrayLike,
    pairs_a: Sequence[tuple[Hashable, Hashable]],
    pairs_b: Sequence[tuple[Hashable, Hashable]],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Two methods, paired by face and prompt, faces as clusters.

    a, b: (n,), (m,) scores of single pictures. pairs_a, pairs_b: (face, prompt) of each. Pictures of one pair are
    averaged first, so the methods may have made different numbers of them. Both must have the same pairs. The test
    turns the sign of whole faces: all ways to do so where there are few, else `resamples` of them drawn.
    Raises SettingsError.
    """
    _check(level, resamples)
    means_a, means_b = _pair_means(_values(a), pairs_a), _pair_means(_values(b), pairs_b)
    if set(means_a) != set(means_b):
        raise SettingsError(
            f"The methods cover {len(means_a)} and {len(means_b)} pairs of face and prompt, of which "
            f"{len(set(means_a) & set(means_b))} are common: expected the same ones. Finish both runs, or compare "
            "what both have."
        )
    differences = np.array([means_a[pair] - means_b[pair] for pair in means_a])
    faces = [face for face, _ in means_a]
    return Comparison(
        bootstrap_interval(differences, faces, level, resamples, seed),
        sign_flip_p(differences, faces, resamples, seed),
        int((differences > 0).sum()),
        int((differences < 0).sum()),
        int((differences == 0).sum()),
        len(differences),
        len(set(faces)),
    )


def sign_flip_p(
    differences: ArrayLike, clusters: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """How often the sum of the differences is at least as far from 0 when whole clusters change their sign.

    Exact for up to 14 clusters; else drawn, the observed one counted in, so the least p is 1 / (resamples + 1).
    """
    sums, _ = _totals(_values(differences), clusters)
    observed = abs(sums.sum())
    scale = np.abs(sums).sum()
    threshold = observed - _SLACK * scale
    if len(sums) <= _EXACT_CLUSTERS:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float(np.mean(np.abs(signs @ sums) >= threshold))
    reached = sum(int((np.abs(signs @ sums) >= threshold).sum()) for signs in _signs(len(sums), resamples, seed))
    return (1 + reached) / (1 + resamples)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise SettingsError(f"The level of confidence is {level:g}: expected more than 0 and less than 1.")
    if resamples < 1:
        raise SettingsError(f"{resamples} resamples were asked for: expected at least 1.")


def _values(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise SettingsError(f"Values of shape {values.shape} were given: expected one or more finite numbers in a row.")
    return values


def _totals(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """(sum, count) of the values of each cluster, in the order of their first value."""
    if len(clusters) != len(values):
        raise SettingsError(f"{len(values)} values and {len(clusters)} clusters were given: expected as many.")
    order = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    which = np.array([order[cluster] for cluster in clusters])
    return np.bincount(which, weights=values), np.bincount(which)


def _pair_means(values: np.ndarray, pairs: Sequence[tuple[Hashable, Hashable]]) -> dict:
    sums, counts = _totals(values, pairs)
    return dict(zip(dict.fromkeys(pairs), sums / counts, strict=True))


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(part of resamples, clusters) indices, with replacement, a bounded part at a time."""
    random = np.random.RandomState(seed)
    for part in _parts(clusters, resamples):
        yield random.randint(0, clusters, size=(part, clusters))


def _signs(clusters: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.RandomState(seed)
    for part in _parts(clusters, resamples):
        yield 1 - 2 * random.randint(0, 2, size=(part, clusters))


def _parts(width: int, rows: int) -> Iterator[int]:
    most = max(1, _CHUNK // width)
    for start in range(0, rows, most):
        yield min(most, rows - start)
