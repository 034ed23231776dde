"""FID and KID by their formulas in float64, on features that are given (f2d_core/evaluate/extractors/inception.py).

FID: Heusel et al. 2017, the Fréchet distance between two normal distributions. KID: Bińkowski et al. 2018, the squared
maximum mean discrepancy with the kernel (x . y / d + 1)^3, unbiased. Both depend on how many pictures there are and
on which: they compare methods on the same prompts, and mean little alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SettingsError

KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020  # as in torch-fidelity
_DEGREE, _SHIFT = 3, 1.0


@dataclass(frozen=True, eq=False)
class Moments:
    """mean: (d,). covariance: (d, d), of a sample. count: of pictures. Small enough to publish beside a score."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


@dataclass(frozen=True)
class KernelDistance:
    """KID: the mean over subsets, and the deviation among them."""

    mean: float
    deviation: float


def moments(features: ArrayLike) -> Moments:
    """(n, d) features of at least two pictures -> their mean and covariance. Raises SettingsError."""
    features = _features(features)
    return Moments(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)), len(features))


def frechet_distance(a: Moments, b: Moments) -> float:
    """FID: |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)); at least 0.

    The trace of the root is that of the root of S_a^(1/2) S_b S_a^(1/2), which is symmetric, so it needs no complex
    numbers and no epsilon where a covariance has not full rank (fewer pictures than features).
    """
    if a.mean.shape != b.mean.shape:
        raise SettingsError(f"Moments of {a.mean.shape} and {b.mean.shape} features: expected the same network.")
    root = _root(a.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
    shared = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    difference = a.mean - b.mean
    distance = difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared
    return max(float(distance), 0.0)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric matrix without negative eigenvalues but for rounding."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def kernel_distance(
    a: ArrayLike, b: ArrayLike, subsets: int = KID_SUBSETS, size: int = KID_SUBSET_SIZE, seed: int = KID_SEED
) -> KernelDistance:
    """KID of two sets of features: the mean over `subsets` pairs of random subsets of `size` pictures.

    Where a set has fewer pictures than `size`, the subsets are as large as the smaller set. Raises SettingsError.
    """
    a, b = _features(a), _features(b)
    if a.shape[1] != b.shape[1]:
        raise SettingsError(f"Features of widths {a.shape[1]} and {b.shape[1]}: expected the same network.")
    if subsets < 1 or size < 2:
        raise SettingsError(f"{subsets} subsets of {size} pictures: expected at least 1 of at least 2.")
    size = min(size, len(a), len(b))
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        first = a[random.choice(len(a), size, replace=False)]
        values.append(mean_discrepancy(first, b[random.choice(len(b), size, replace=False)]))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def mean_discrepancy(a: ArrayLike, b: ArrayLike) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy of all rows; may be a little below 0."""
    a, b = _features(a), _features(b)
    return _mean_off_diagonal(_kernel(a, a)) + _mean_off_diagonal(_kernel(b, b)) - 2 * float(_kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + _SHIFT) ** _DEGREE


def _mean_off_diagonal(kernel: np.ndarray) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def _features(values: ArrayLike) -> np.ndarray:
    features = np.asarray(values, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise SettingsError(f"Features have shape {features.shape}: expected those of at least two pictures.")
    if not np.isfinite(features).all():
        raise SettingsError("Features hold values that are no numbers: expected finite ones. Check the weight file.")
    return features
