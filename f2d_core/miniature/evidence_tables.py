"""From trials to numbers beside the papers': means and spreads over the seeds, and which orderings hold."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluate.paper_tables import TABLES, PaperTable
from ..evaluate.statistics import compare_paired
from .encoders import MSID, PLAIN
from .trials import FACES, design

Trials = Mapping[str, Sequence[Mapping[str, Any]]]  # recipe -> a trial for each seed
Levels = Mapping[str, Sequence[Mapping[str, float]]]  # kind of encoder -> for each seed, layer -> pair AUC in percent
METRICS = {"identity": "identity", "text": "text", "gmean": "gMean", "hmean": "hMean"}
SHARES = {"nearest": "nearest of 100", "prompt": "right prompt of 40", "found": "face found"}
ALL = "all"
TRUE = "true renders"


@dataclass(frozen=True)
class Row:
    """A method. trials: the recipe; part: which of its tables, "plain" or "delayed"; paper: its row in the paper."""

    title: str
    trials: str
    paper: str
    part: str = "plain"


@dataclass(frozen=True)
class Claim:
    """That `better` is above `worse` in a metric, on a group of prompts, as the paper has it."""

    better: int
    worse: int
    metric: str
    group: str = ALL


@dataclass(frozen=True)
class Table:
    """place: of the paper's table, (paper, place). metrics: ours -> the paper's. groups: shown apart from all."""

    name: str
    title: str
    place: tuple[str, str]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    paper_metrics: Mapping[str, str]
    groups: tuple[str, ...] = ()


_F2D = {"identity": "adaface", "text": "clip", "gmean": "gmean"}
_DREAM = {"identity": "face_similarity", "text": "text_alignment"}
_OURS = Row("Face2Diffusion", "face2diffusion", "ours")
TABLES_OF_OURS = (
    Table(
        "encoder",
        "The encoder",
        ("face2diffusion", "Table 3"),
        (
            Row("plain ArcFace", "arcface", "ArcFace"),
            Row("ArcFace's raw levels", "arcface_levels", "ArcFace with multi-scale features"),
            _OURS,
        ),
        (
            Claim(2, 0, "gmean"),
            Claim(2, 1, "gmean"),
            Claim(2, 0, "identity"),
            Claim(2, 1, "text"),
            Claim(0, 1, "gmean"),
            Claim(1, 0, "identity"),
            Claim(0, 1, "text"),
        ),
        _F2D,
    ),
    Table(
        "expression",
        "Expression guidance",
        ("face2diffusion", "Table 4"),
        (Row("without expressions", "no_expression", "without expression guidance"), _OURS),
        (Claim(1, 0, "text", "expressions"), Claim(1, 0, "text"), Claim(0, 1, "identity"), Claim(1, 0, "gmean")),
        _F2D,
        ("expressions",),
    ),
    Table(
        "objective",
        "What is learnt from the photos",
        ("face2diffusion", "Table 5"),
        (
            Row("reconstruction", "reconstruction", "Reconstruction"),
            Row("masked reconstruction", "masked", "Masked reconstruction"),
            Row("reconstruction, delayed", "reconstruction", "Reconstruction with DSC", "delayed"),
            Row("CGDR", "face2diffusion", "ours"),
        ),
        (
            *(Claim(3, other, "gmean") for other in (0, 1, 2)),
            *(Claim(3, other, "gmean", "scenes") for other in (0, 1, 2)),
            *(Claim(3, other, "text") for other in (0, 1)),
            *(Claim(3, other, "text", "scenes") for other in (0, 1)),
            *(Claim(3, other, "identity") for other in (0, 1, 2)),
            Claim(2, 0, "text"),
            Claim(0, 2, "identity"),
        ),
        _F2D,
        ("scenes",),
    ),
    Table(
        "words",
        "How many words",
        ("dreamidentity", "Figure 6"),
        (
            Row("1 word", "one_word", "1 word"),
            Row("2 words", "dreamidentity", "2 words"),
            Row("3 words", "three_words", "3 words"),
        ),
        (Claim(1, 0, "identity"), Claim(2, 1, "identity"), Claim(1, 2, "text")),
        _DREAM,
    ),
    Table(
        "editing",
        "Self-augmented editing data",
        ("dreamidentity", "Figure 5"),
        (
            Row("photos only", "photos_only", "reconstruction only"),
            Row("triplets only", "triplets_only", "self-augmented only"),
            Row("both", "dreamidentity", "ours"),
        ),
        (Claim(2, 0, "text"), Claim(2, 1, "text"), Claim(2, 0, "identity"), Claim(2, 1, "identity")),
        _DREAM,
    ),
    Table(
        "general",
        "A general encoder instead of one for faces",
        ("dreamidentity", "Table 2"),
        (Row("general", "general_encoder", "CLIP encoder"), Row("faces", "dreamidentity", "ours")),
        (Claim(1, 0, "identity"),),
        _DREAM,
    ),
)


def all_values(trials: Trials, levels: Levels, true: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that evidence.json holds. true: what the judges say of true renders of the same people in the same
    prompts."""
    ours = trials["face2diffusion"]
    return {
        "seeds": [trial["seed"] for trial in ours],
        "tables": {table.name: table_values(table, trials, true) for table in TABLES_OF_OURS},
        "levels": {_ENCODERS[kind]: _over_all_seeds(own) for kind, own in levels.items()},
        "pose": {row.title: _over_seeds(yaws(trials[row.trials])) for row in TABLES_OF_OURS[0].rows},
        "expression_reference": _over_all_seeds([trial["expression"] for trial in ours]),
        "best_of": _over_all_seeds([trial["best_of"] for trial in ours]),
        "other_claims": other_claims(trials, levels),
        "judges": {"true": _means([true], ALL), "ours": _means([trial["plain"] for trial in ours], ALL)},
    }


def table_values(table: Table, trials: Trials, true: Mapping[str, Any]) -> dict[str, Any]:
    """{"rows": [...], "claims": [...]} with means and spreads over the seeds, and what the paper prints.

    The last row is of true renders: how well the judges judge.
    """
    parts = [[trial[row.part] for trial in trials[row.trials]] for row in table.rows]
    paper = paper_table(*table.place)
    rows = [
        {
            "title": row.title,
            "groups": {group: _means(part, group) for group in (ALL, *table.groups)},
            "paper": {name: paper.rows[row.paper][theirs] for name, theirs in table.paper_metrics.items()},
        }
        for row, part in zip(table.rows, parts, strict=True)
    ]
    rows.append(
        {"title": TRUE, "groups": {group: _means([true], group) for group in (ALL, *table.groups)}, "paper": {}}
    )
    return {"rows": rows, "claims": [_claim(claim, table, parts, paper) for claim in table.claims]}


def paper_table(paper: str, place: str) -> PaperTable:
    return next(table for table in TABLES if (table.paper, table.place) == (paper, place))


def _claim(claim: Claim, table: Table, parts: Sequence[Sequence[Mapping[str, Any]]], paper: PaperTable) -> dict:
    """The difference, seed by seed and over all pictures with faces as clusters, and whether the ordering holds."""
    better, worse = parts[claim.better], parts[claim.worse]
    means = [[_mean(part, claim.metric, claim.group) for part in side] for side in (better, worse)]
    by_seed = [a - b for a, b in zip(*means, strict=True)]
    pairs, at = _pairs(claim.group)
    values = [np.concatenate([np.array(part[claim.metric])[at] for part in side]) for side in (better, worse)]
    compared = compare_paired(*values, pairs * len(better), pairs * len(worse))
    theirs = table.paper_metrics.get(claim.metric)
    rows = [paper.rows[table.rows[i].paper] for i in (claim.better, claim.worse)]
    return {
        "better": table.rows[claim.better].title,
        "worse": table.rows[claim.worse].title,
        "metric": claim.metric,
        "group": claim.group,
        "difference": statistics.mean(by_seed),
        "spread": _spread(by_seed),
        "low": compared.difference.low,
        "high": compared.difference.high,
        "paper_difference": rows[0][theirs] - rows[1][theirs] if theirs and claim.group == ALL else None,
        "holds": statistics.mean(by_seed) > 0,
        "certain": _one_sided(by_seed) and (compared.difference.low > 0 or compared.difference.high < 0),
    }


def _one_sided(differences: Sequence[float]) -> bool:
    """Whether all seeds say the same: the interval, over faces, knows nothing of how trainings differ."""
    return min(differences) > 0 or max(differences) < 0


def _pairs(group: str) -> tuple[list[tuple[int, int]], np.ndarray]:
    plan = design()
    at = np.arange(len(plan.faces)) if group == ALL else np.flatnonzero(plan.groups == group)
    return [(plan.faces[i], plan.prompts[i]) for i in at], at


def _mean(part: Mapping[str, Any], metric: str, group: str) -> float:
    _, at = _pairs(group)
    return float(np.mean(np.array(part[metric])[at]))


def _means(parts: Sequence[Mapping[str, Any]], group: str) -> dict[str, list[float | None]]:
    """metric -> [mean, spread] over the seeds."""
    found = {name: [_mean(part, name, group) for part in parts] for name in (*METRICS, *SHARES)}
    return {name: _over_seeds(values) for name, values in found.items()}


def _spread(values: Sequence[float]) -> float | None:
    """The standard deviation over the seeds; of one seed there is none."""
    return statistics.stdev(values) if len(values) > 1 else None


def _over_seeds(values: Sequence[float]) -> list[float | None]:
    return [statistics.mean(values), _spread(values)]


def _over_all_seeds(trials: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    return {name: _over_seeds([trial[name] for trial in trials]) for name in trials[0]}


# --- what is no table of methods ---

_ENCODERS = {MSID: "MSID", PLAIN: "plain ArcFace"}
_PAPER_AUC = 99.46 - 93.99  # Face2Diffusion, Fig. 4, layer 3 of 12


def yaws(trials: Sequence[Mapping[str, Any]]) -> list[float]:
    """For each seed, the correlation of the reference's yaw with the picture's."""
    return [_yaw(trial["plain"]) for trial in trials]


def _yaw(part: Mapping[str, Any]) -> float:
    drawn = np.array(part["yaw"], float)
    wanted = FACES.rendered.pose[list(design().faces), 0]
    seen = np.isfinite(drawn)
    return float(np.corrcoef(wanted[seen], drawn[seen])[0, 1]) if seen.sum() > 2 else 0.0


def other_claims(trials: Trials, levels: Levels) -> dict[str, list[dict[str, Any]]]:
    """Orderings of the paper's text and plots, compared seed by seed alone: levels, pose, reference."""
    shallow = list(levels[MSID][0])[:-1]
    auc = {layer: [a[layer] - b[layer] for a, b in zip(levels[MSID], levels[PLAIN], strict=True)] for layer in shallow}
    pose = [a - b for a, b in zip(yaws(trials["arcface_levels"]), yaws(trials["face2diffusion"]), strict=True)]
    shown = [statistics.mean(trial["expression"].values()) for trial in trials["face2diffusion"]]
    return {
        "levels": [
            _other(f"layer {n}: MSID > plain ArcFace", own, _PAPER_AUC if n == "1" else None) for n, own in auc.items()
        ],
        "pose": [_other("ArcFace's raw levels > Face2Diffusion", pose)],
        "reference": [_other("mean of these > 0", shown)],
    }


def _other(claim: str, differences: Sequence[float], theirs: float | None = None) -> dict[str, Any]:
    return {
        "claim": claim,
        "difference": statistics.mean(differences),
        "spread": _spread(differences),
        "paper_difference": theirs,
        "holds": statistics.mean(differences) > 0,
        "certain": len(differences) > 1 and _one_sided(differences),
    }
