"""The papers' measures as functions of features and scores: float64 inside, arrays or CPU tensors in, float64 out.

Face2Diffusion E.3 (Eq. 10 to 14) and 4.2; DreamIdentity 4.1. Features are (n, d) rows, one per picture; a row that
is compared with all pictures may be (1, d). Scores are (n,).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SettingsError

# The six that the harmonic and the geometric mean of a picture are of (Face2Diffusion, Table 1).
METRICS = ("adaface", "sphereface", "facenet", "clip", "dclip", "siglip")
BEST_OF = (1, 2, 4, 8, 16)  # Face2Diffusion, Fig. 7


def cosine(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of the angle between rows. A row of zeros points nowhere: its cosine is 0."""
    a, b = _rows(a), _rows(b)
    if a.shape[1] != b.shape[1] or (len(a) != len(b) and 1 not in (len(a), len(b))):
        raise SettingsError(
            f"Features of shapes {a.shape} and {b.shape} cannot be compared: expected rows of one kind."
        )
    return np.sum(unit(a) * unit(b), axis=1)


def unit(rows: ArrayLike) -> np.ndarray:
    """The rows at length 1; rows of zeros stay."""
    rows = _rows(rows)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)  # squares of what is left stay in range
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.divide(scaled, length, out=scaled, where=length > 0)


def _rows(values: ArrayLike) -> np.ndarray:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2:
        raise SettingsError(f"Features have shape {rows.shape}: expected (pictures, features).")
    if not np.isfinite(rows).all():
        raise SettingsError("Features hold values that are no numbers: expected finite ones. Check the weight file.")
    return rows


def identity_scores(pictures: ArrayLike, references: ArrayLike, found: ArrayLike | None = None) -> np.ndarray:
    """Eq. 10: max(cos, 0), and 0 where no face was found. found: (n,) bool; such rows may hold anything finite."""
    scores = np.maximum(cosine(pictures, references), 0.0)
    return scores if found is None else np.where(np.asarray(found, dtype=bool), scores, 0.0)


def clip_scores(pictures: ArrayLike, texts: ArrayLike) -> np.ndarray:
    """Eq. 11: max(cos, 0); the texts name the person "a person"."""
    return np.maximum(cosine(pictures, texts), 0.0)


def directional_scores(
    pictures: ArrayLike, reference_pictures: ArrayLike, texts: ArrayLike, reference_text: ArrayLike
) -> np.ndarray:
    """Eq. 12 and 13, dCLIP: whether the picture differs from its reference as the text does from the reference text.

    The features are brought to length 1 before the difference (the convention of StyleGAN-NADA). Where a picture
    equals its reference, or the text the reference text, there is no direction, and the score is 0.
    """
    moved = unit(pictures) - unit(reference_pictures)
    meant = unit(texts) - unit(reference_text)
    return np.maximum(cosine(moved, meant), 0.0)


def siglip_scores(pictures: ArrayLike, texts: ArrayLike, logit_scale: float, logit_bias: float) -> np.ndarray:
    """Eq. 14: the sigmoid of s cos + b, where s and b come with the network."""
    logits = logit_scale * cosine(pictures, texts) + logit_bias
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


# --- DreamIdentity, 4.1 ---


def text_alignment(pictures: ArrayLike, texts: ArrayLike) -> np.ndarray:
    """The cosine of CLIP's features of picture and editing prompt, as it is."""
    return cosine(pictures, texts)


def face_similarity(pictures: ArrayLike, references: ArrayLike, found: ArrayLike | None = None) -> np.ndarray:
    """The cosine of ArcFace's features of the two faces; 0 where no face was found (the paper does not say)."""
    scores = cosine(pictures, references)
    return scores if found is None else np.where(np.asarray(found, dtype=bool), scores, 0.0)


# --- several metrics at once, and several pictures ---


def harmonic_mean(scores: ArrayLike) -> np.ndarray:
    """(n, m) scores, at least 0 -> (n,): of each picture. 0 if any score is 0. (To be averaged over the pictures.)"""
    scores = _scores(scores)
    usable = np.all(scores > 0, axis=1)
    positive = np.where(usable[:, None], scores, 1.0)
    least = positive.min(axis=1, keepdims=True)  # so that the quotients stay in range whatever the scores
    return np.where(usable, least[:, 0] * scores.shape[1] / np.sum(least / positive, axis=1), 0.0)


def geometric_mean(scores: ArrayLike) -> np.ndarray:
    """(n, m) scores, at least 0 -> (n,): of each picture. 0 if any score is 0. (To be averaged over the pictures.)"""
    scores = _scores(scores)
    usable = np.all(scores > 0, axis=1)
    logarithms = np.log(np.where(usable[:, None], scores, 1.0))
    return np.where(usable, np.exp(logarithms.mean(axis=1)), 0.0)


def _scores(values: ArrayLike) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise SettingsError(f"Scores have shape {scores.shape}: expected (pictures, metrics) with at least one metric.")
    if not (scores >= 0).all():  # NaN is not
        raise SettingsError("Scores below 0, or that are no numbers, have no harmonic mean: expected clipped scores.")
    return scores


def best_pictures(scores: ArrayLike, pairs: Sequence[Hashable], numbers: Sequence[int], n: int) -> dict[Hashable, int]:
    """For each pair of face and prompt, which row has the best score among its first n pictures.

    scores: (rows,). pairs, numbers: of each row, the pair it belongs to and its number there (its seed index); the
    rows may come in any order. Of equal scores, the lower number counts. A pair with fewer than n pictures is left
    out.
    """
    scores = np.asarray(scores, dtype=np.float64)
    return {
        pair: max(rows[:n], key=lambda row: (scores[row], -numbers[row]))
        for pair, rows in _rows_of(pairs, numbers).items()
        if len(rows) >= n
    }


def best_of_n(
    scores: ArrayLike, pairs: Sequence[Hashable], numbers: Sequence[int], ns: Sequence[int] = BEST_OF
) -> dict[int, float | None]:
    """Face2Diffusion, Fig. 7: n -> the mean, over all pairs, of the best score among each pair's first n pictures.

    None where any pair has fewer than n pictures: means over other pairs could not be compared. Every pair counts
    once, however many pictures it has.
    """
    scores = np.asarray(scores, dtype=np.float64)
    count = len(set(pairs))
    means: dict[int, float | None] = {}
    for n in ns:
        if n < 1:
            raise SettingsError(f"The best of {n} pictures was asked for: expected at least 1.")
        best = best_pictures(scores, pairs, numbers, n)
        means[n] = float(np.mean([scores[row] for row in best.values()])) if count and len(best) == count else None
    return means


def _rows_of(pairs: Sequence[Hashable], numbers: Sequence[int]) -> dict[Hashable, list[int]]:
    """pair -> its rows in the order of their numbers; pairs in the order of their first row."""
    rows: dict[Hashable, list[int]] = {}
    for row, pair in enumerate(pairs):
        rows.setdefault(pair, []).append(row)
    return {pair: sorted(own, key=lambda row: numbers[row]) for pair, own in rows.items()}


def group_means(values: ArrayLike, groups: Sequence[str]) -> dict[str, float]:
    """The mean of the values of each group (jobs, activities, expressions, locations), in the order of appearance."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(groups):
        raise SettingsError(f"{len(values)} values and {len(groups)} groups: expected as many of one as of the other.")
    where = {group: [i for i, own in enumerate(groups) if own == group] for group in dict.fromkeys(groups)}
    return {group: float(values[rows].mean()) for group, rows in where.items()}
