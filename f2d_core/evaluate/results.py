"""From scores of pictures to what a report says: means with intervals, groups, best of N, comparisons, distances.

Everything is a function of the scores, so the same scores give the same report, to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from .judges import Judges
from .metrics import METRICS, best_of_n, group_means
from .paper_tables import HMEAN
from .plan import Plan
from .scoring import Scores, averaged, columns_of
from .statistics import Comparison, Interval, bootstrap_interval, compare_paired


@dataclass(frozen=True)
class Distances:
    """Of a method's pictures from real ones: FID, KID, and KID's deviation among subsets."""

    fid: float
    kid: float
    kid_deviation: float


@dataclass(frozen=True, eq=False)
class MethodResults:
    """scores: metric -> mean with its interval over faces, None where it was not measured. groups: group -> metric ->
    mean. best_of: N -> mean hMean of the best. no_face: part of the pictures without a face, None where not looked for.
    partial: metric -> how many pictures it could be measured of, where that is some and not all.
    """

    name: str
    pictures: int
    missing: int
    no_face: float | None
    scores: dict[str, Interval | None]
    groups: dict[str, dict[str, float | None]]
    best_of: dict[int, float | None]
    distances: Distances | None = None
    partial: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Results:
    """Of all methods. metrics: the columns, in order. judges: metric -> network. means_over: what hMean is of."""

    metrics: list[str]
    judges: dict[str, str]
    hashes: dict[str, str]
    means_over: list[str]
    methods: list[MethodResults]
    comparisons: list[tuple[str, str, str, Comparison]] = field(default_factory=list)  # metric, a, b
    problems: tuple[str, ...] = ()
    detector: str = ""
    real_pictures: int = 0

    @property
    def complete(self) -> bool:
        """Whether the means are over all six metrics, as in the paper."""
        return tuple(self.means_over) == METRICS


def collect(
    plan: Plan,
    scores: Sequence[Scores],
    judges: Judges,
    detector: str = "",
    distances: Sequence[Distances | None] = (),
    real_pictures: int = 0,
) -> Results:
    """The results of the methods whose scores are given. distances: of each method, if they were measured."""
    columns = columns_of(judges, plan.paper)
    means_over = averaged(columns)
    metrics = [column.metric for column in columns]
    metrics = [m for m in metrics if m in scores[0].columns] + [m for m in scores[0].columns if m not in metrics]
    hashes = {judge.name: judge.sha256 for judge in (*judges.identity, *judges.text)}
    looked = bool(judges.identity) and bool(detector)
    return Results(
        metrics=metrics,
        judges={column.metric: column.judge for column in columns},
        hashes=hashes,
        means_over=means_over,
        methods=[
            _of_method(own, metrics, looked, distance)
            for own, distance in zip(scores, distances or [None] * len(scores), strict=True)
        ],
        comparisons=[
            (metric, a.method, b.method, compared)
            for a, b in combinations(scores, 2)
            for metric in metrics
            if (compared := _compared(a, b, metric)) is not None
        ],
        problems=judges.problems,
        detector=detector,
        real_pictures=real_pictures,
    )


def _of_method(scores: Scores, metrics: Sequence[str], looked: bool, distances: Distances | None) -> MethodResults:
    return MethodResults(
        name=scores.method,
        pictures=len(scores),
        missing=scores.missing,
        no_face=float(1 - scores.found.mean()) if looked else None,
        scores={metric: _interval(scores, metric) for metric in metrics},
        groups=_groups(scores, metrics),
        best_of=_best_of(scores),
        distances=distances,
        partial=_partial(scores, metrics),
    )


def _interval(scores: Scores, metric: str) -> Interval | None:
    values = scores.columns[metric]
    there = np.flatnonzero(~np.isnan(values))
    return bootstrap_interval(values[there], [scores.faces[i] for i in there]) if len(there) else None


def _groups(scores: Scores, metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {group: {} for group in dict.fromkeys(scores.groups)}
    for metric in metrics:
        values = scores.columns[metric]
        there = np.flatnonzero(~np.isnan(values))
        means = group_means(values[there], [scores.groups[i] for i in there])
        for group, row in table.items():
            row[metric] = means.get(group)
    return table


def _partial(scores: Scores, metrics: Sequence[str]) -> dict[str, int]:
    counts = {metric: int((~np.isnan(scores.columns[metric])).sum()) for metric in metrics}
    return {metric: count for metric, count in counts.items() if 0 < count < len(scores)}


def _best_of(scores: Scores) -> dict[int, float | None]:
    values = scores.columns.get(HMEAN)
    if values is None or np.isnan(values).any():
        return {}
    return {n: mean for n, mean in best_of_n(values, scores.scenes, scores.numbers).items() if mean is not None}


def _compared(a: Scores, b: Scores, metric: str) -> Comparison | None:
    """a against b on the scenes that both have; None where there are none, or the metric is not measured."""
    first, second = a.columns[metric], b.columns[metric]
    common = set(a.scenes) & set(b.scenes)
    rows_a = [i for i, scene in enumerate(a.scenes) if scene in common and not np.isnan(first[i])]
    rows_b = [i for i, scene in enumerate(b.scenes) if scene in common and not np.isnan(second[i])]
    pairs_a, pairs_b = [a.scenes[i] for i in rows_a], [b.scenes[i] for i in rows_b]
    if not common or set(pairs_a) != set(pairs_b):
        return None
    return compare_paired(first[rows_a], second[rows_b], pairs_a, pairs_b)


def as_json(plan: Plan, photos: Sequence[str], results: Results) -> dict[str, Any]:
    """Everything as plain values, numbers rounded to what the other tables show and a little more."""
    sampling = {
        name: getattr(plan, name) for name in ("sampler", "steps", "cfg", "width", "height", "negative", "seed")
    }
    return {
        "title": plan.title,
        "paper": plan.paper,
        "sampling": sampling,
        "faces": list(photos),
        "prompts": {prompt.key: prompt.text for prompt in plan.prompts},
        "pictures_of_each": plan.pictures,
        "detector": results.detector,
        "networks": {metric: {"name": name, "sha256": results.hashes[name]} for metric, name in results.judges.items()},
        "means_over": results.means_over,
        "not_measured": list(results.problems),
        "methods": {method.name: _method_values(method) for method in results.methods},
        "comparisons": [
            {"metric": metric, "a": a, "b": b, **rounded(asdict(compared))}
            for metric, a, b, compared in results.comparisons
        ],
    }


def _method_values(method: MethodResults) -> dict[str, Any]:
    values = rounded(asdict(method))
    del values["name"]
    return values


def rounded(value: Any) -> Any:
    """Numbers to 6 digits behind the point, in any nesting: what rounding in batches of other sizes cannot reach."""
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return round(float(value), 6) + 0.0 if isinstance(value, float) else value
