"""How well an identity encoder tells people apart: accuracy on pair sets, and the pair AUC of every level.

Accuracy as InsightFace measures it (recognition/arcface_torch/eval/verification.py): features of a crop and of its
mirror image are added and normalised; the threshold on the squared distance that is best on nine tenths of the pairs
is used on the tenth, in ten turns. The AUC of a level as in Face2Diffusion's Fig. 4: one anchor, one picture of the
same person and one of another per person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from ..data.identities import Identities
from ..data.pairs import PairSet
from ..errors import DataError
from ..msid import MSIDConfig, MSIDEncoder
from ..ports import Progress

FOLDS = 10
THRESHOLDS = np.arange(0, 4, 0.01)  # of squared distances between features of length 1
DRAWS = 10


class Pictures(Protocol):
    def __call__(self, indices: Sequence[int]) -> np.ndarray:
        """(B, S, S, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class PairResult:
    """Of a pair set. accuracy, deviation: mean and standard deviation over the folds, 0..1. threshold: the mean one.
    auc: layer -> area under the curve, 0..1."""

    pairs: int
    accuracy: float
    deviation: float
    threshold: float
    auc: Mapping[int, float]


@dataclass(frozen=True)
class LevelResult:
    """Of triplets of many people. auc: layer (counted from 1) -> mean over the draws, 0..1. same, other: cosines of
    all draws, (n,) each, by layer."""

    people: int
    auc: Mapping[int, float]
    same: Mapping[int, np.ndarray]
    other: Mapping[int, np.ndarray]


def layers_of(config: MSIDConfig) -> tuple[int, ...]:
    """The blocks, counted from 0, that are looked at: the encoder's levels and the ends of the depth's quarters."""
    return tuple(sorted({*config.levels, *(block for block in config.quarters if block >= 0)}))


def level_features(encoder: MSIDEncoder, faces: torch.Tensor) -> dict[int, torch.Tensor]:
    """faces: (B, 3, S, S) in [-1, 1]. Layer, counted from 1 -> (B, width): the class token, normalised where the
    encoder normalises it, raw elsewhere."""
    layers = layers_of(encoder.config)
    found = {}
    for block, token in zip(layers, encoder.class_tokens(faces, layers), strict=True):
        found[block + 1] = encoder.norms[f"layer_{block}"](token) if block in encoder.config.levels else token
    return found


@torch.no_grad()
def extract(
    encoder: MSIDEncoder,
    pictures: Pictures,
    count: int,
    batch: int = 64,
    mirrored: bool = False,
    progress: Progress | None = None,
) -> dict[int, torch.Tensor]:
    """Layer -> (count, width) fp32 on the CPU. The encoder is in eval mode, on any device."""
    device, parts = encoder.cls_token.device, []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        faces = torch.from_numpy(pictures(range(start, stop))).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = level_features(encoder, faces.flip(3) if mirrored else faces)
        parts.append({layer: value.float().cpu() for layer, value in found.items()})
        if progress is not None:
            progress(stop, count)
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


def verify_pairs(encoder: MSIDEncoder, pairs: PairSet, batch: int = 64, progress: Progress | None = None) -> PairResult:
    """Accuracy of v_id, and the AUC of every layer without mirror images. Raises DataError."""
    total = 2 * len(pairs.pictures)
    plain = extract(encoder, pairs.decoded, len(pairs.pictures), batch, False, _part(progress, 0, total))
    mirror = extract(encoder, pairs.decoded, len(pairs.pictures), batch, True, _part(progress, total // 2, total))
    levels = [level + 1 for level in encoder.config.levels]
    both = torch.cat([plain[level] + mirror[level] for level in levels], dim=1)
    accuracies, thresholds = fold_accuracies(F.normalize(both.double()).numpy(), pairs.same)
    cosines = {layer: cosine(features[0::2], features[1::2]) for layer, features in plain.items()}
    auc = {layer: area_under_curve(values[pairs.same], values[~pairs.same]) for layer, values in cosines.items()}
    return PairResult(len(pairs), float(accuracies.mean()), float(accuracies.std()), float(thresholds.mean()), auc)


def fold_accuracies(features: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(accuracies, thresholds) of ten contiguous folds. features: (2 n, d) of length 1, pairs side by side."""
    distances = np.square(features[0::2] - features[1::2]).sum(axis=1)
    right = (distances[:, None] < THRESHOLDS) == same[:, None]  # (n, thresholds)
    accuracies, thresholds = [], []
    for fold in np.array_split(np.arange(len(same)), FOLDS):
        if not len(fold):
            continue
        others = np.delete(right, fold, axis=0)
        best = int(others.mean(axis=0).argmax()) if len(others) else 0
        accuracies.append(right[fold, best].mean())
        thresholds.append(THRESHOLDS[best])
    return np.array(accuracies), np.array(thresholds)


def verify_levels(
    encoder: MSIDEncoder,
    data: Identities,
    draws: int = DRAWS,
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
) -> LevelResult:
    """The pair AUC of every layer. People with a single picture only lend it to others. Raises DataError.

    Only the pictures that are drawn are looked at: of a set of millions a small part.
    """
    drawn = [triplets(data.labels, seed, draw) for draw in range(draws)]
    if len(drawn[0][0]) == 0:
        raise DataError(f"{data.title}: nobody has two pictures, expected at least one such person. Add pictures.")
    used, places = np.unique(np.stack([np.stack(rows) for rows in drawn]), return_inverse=True)
    drawn = places.reshape(draws, 3, -1)
    found = extract(encoder, lambda rows: data.pictures(used[rows].tolist()), len(used), batch, False, progress)
    auc, same, other = {}, {}, {}
    for layer, features in found.items():
        alike = [cosine(features[anchors], features[positives]) for anchors, positives, _ in drawn]
        apart = [cosine(features[anchors], features[negatives]) for anchors, _, negatives in drawn]
        auc[layer] = float(np.mean([area_under_curve(*cosines) for cosines in zip(alike, apart, strict=True)]))
        same[layer], other[layer] = np.concatenate(alike), np.concatenate(apart)
    return LevelResult(drawn.shape[2], auc, same, other)


def triplets(labels: np.ndarray, seed: int, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(anchors, positives, negatives): numbers of pictures, one triplet per person with at least two of them."""
    random = np.random.Generator(np.random.Philox(key=[seed, draw]))
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rows = []
    for person in np.flatnonzero(counts >= 2):
        first, second = random.choice(counts[person], 2, replace=False) + starts[person]
        stranger = random.integers(len(labels) - counts[person])  # any picture that is not this person's
        stranger += counts[person] if stranger >= starts[person] else 0
        rows.append((order[first], order[second], order[stranger]))
    anchors, positives, negatives = np.array(rows, np.int64).reshape(-1, 3).T
    return anchors, positives, negatives


def cosine(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """(n,) float64, row by row."""
    return F.cosine_similarity(first.double(), second.double()).numpy()


def area_under_curve(same: np.ndarray, other: np.ndarray) -> float:
    """The probability that a value of `same` is greater than one of `other`; ties count one half. NaN without any."""
    if not len(same) or not len(other):
        return float("nan")
    values = np.concatenate((same, other))
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of equal values, their mean
    return float((ranks[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other)))


def _part(progress: Progress | None, before: int, total: int) -> Progress | None:
    """`progress` for a stretch of a longer work."""
    return None if progress is None else lambda done, _: progress(before + done, total)
