"""From trials to tables beside the papers': JSON, Markdown, and a picture of each table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate.metrics import BEST_OF
from ..evaluate.paper_tables import TABLES, PaperTable
from ..evaluate.statistics import compare_paired
from ..files import write_atomically
from .photos import PhotoSet
from .table_picture import draw_table
from .trials import COEFFICIENTS, FACES, design

Trials = Mapping[str, Sequence[Mapping[str, Any]]]  # recipe -> a trial for each seed
METRICS = {"identity": "identity", "text": "text", "gmean": "gMean", "hmean": "hMean"}
_SHARES = {"nearest": "nearest of 100", "prompt": "right prompt of 40", "found": "face found"}
ALL = "all"


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
_OURS = Row("MSID, expression, CGDR (ours)", "face2diffusion", "ours")
TABLES_OF_OURS = (
    Table(
        "encoder",
        "The encoder",
        ("face2diffusion", "Table 3"),
        (
            Row("plain ArcFace", "arcface", "ArcFace"),
            Row("its levels, raw", "arcface_levels", "ArcFace with multi-scale features"),
            _OURS,
        ),
        (
            Claim(2, 0, "gmean"),
            Claim(2, 1, "gmean"),
            Claim(2, 0, "identity"),
            Claim(2, 1, "text"),
            Claim(0, 1, "gmean"),
        ),
        _F2D,
    ),
    Table(
        "expression",
        "Expression guidance",
        ("face2diffusion", "Table 4"),
        (Row("without", "no_expression", "without expression guidance"), _OURS),
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
            Row("CGDR (ours)", "face2diffusion", "ours"),
        ),
        (
            *(Claim(3, other, "gmean") for other in (0, 1, 2)),
            *(Claim(3, other, "gmean", "scenes") for other in (0, 1, 2)),
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


def write_tables(
    out: Path, trials: Trials, levels: Mapping[str, Sequence[Mapping[str, float]]], true: Mapping[str, Any]
) -> list[Path]:
    """evidence.json, evidence.md, and a picture of every table. Raises OutputError."""
    found = {table.name: table_values(table, trials) for table in TABLES_OF_OURS}
    whole = {
        "seeds": [trial["seed"] for trial in trials["face2diffusion"]],
        "tables": found,
        "levels": {kind: _levels_over_seeds(own) for kind, own in levels.items()},
        "pose": pose_table(trials),
        "expression_reference": reference_expressions(trials["face2diffusion"]),
        "best_of": best_of_table(trials["face2diffusion"]),
        "judges": judges_table(trials["face2diffusion"], true),
    }
    text = json.dumps(whole, indent=1)
    files = [write_atomically(out / "evidence.json", lambda path: path.write_text(text, encoding="utf-8"))]
    page = markdown(whole)
    files.append(write_atomically(out / "evidence.md", lambda path: path.write_text(page, encoding="utf-8")))
    for table in TABLES_OF_OURS:
        files.append(draw_table(out / f"{table.name}.png", table.title, *cells_of(table, found[table.name])))
    return files


# --- numbers ---


def table_values(table: Table, trials: Trials) -> dict[str, Any]:
    """{"rows": [...], "claims": [...]} with means and spreads over the seeds, and what the paper prints."""
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


def _means(parts: Sequence[Mapping[str, Any]], group: str) -> dict[str, list[float]]:
    """metric -> [mean, spread] over the seeds."""
    found = {name: [_mean(part, name, group) for part in parts] for name in (*METRICS, *_SHARES)}
    return {name: [statistics.mean(values), _spread(values)] for name, values in found.items()}


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def pose_table(trials: Trials) -> dict[str, list[float]]:
    """Encoder's recipe -> [mean, spread] of the correlation of the reference's yaw with the picture's."""
    return {name: _over_seeds([_yaw(trial["plain"]) for trial in trials[name]]) for name in _ENCODER_RECIPES}


_ENCODER_RECIPES = ("arcface", "arcface_levels", "face2diffusion")


def _yaw(part: Mapping[str, Any]) -> float:
    drawn = np.array(part["yaw"], float)
    wanted = _reference_yaw(FACES)[list(design().faces)]
    seen = np.isfinite(drawn)
    return float(np.corrcoef(wanted[seen], drawn[seen])[0, 1]) if seen.sum() > 2 else 0.0


def _reference_yaw(photos: PhotoSet) -> np.ndarray:
    return photos.rendered.pose[:, 0]


def _levels_over_seeds(levels: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {layer: _over_seeds([own[layer] for own in levels]) for layer in levels[0]}


def reference_expressions(trials: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {name: _over_seeds([trial["expression"][name] for trial in trials]) for name in COEFFICIENTS}


def best_of_table(trials: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {str(n): _over_seeds([trial["best_of"][str(n)] for trial in trials]) for n in BEST_OF}


def judges_table(trials: Sequence[Mapping[str, Any]], true: Mapping[str, Any]) -> dict[str, Any]:
    """What the judges say of true renders, and of our pictures."""
    return {"true": _means([true], ALL), "ours": _means([trial["plain"] for trial in trials], ALL)}


def _over_seeds(values: Sequence[float]) -> list[float]:
    return [statistics.mean(values), _spread(values)]


# --- for people ---


def cells_of(table: Table, found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the table, with the paper's numbers behind ours."""
    names = [
        (group, name)
        for group in (ALL, *table.groups)
        for name in (METRICS if group == ALL else ("identity", "text", "gmean"))
    ]
    header = ["", *(METRICS[name] + ("" if group == ALL else f", {group}") for group, name in names)]
    header += [f"paper: {METRICS[name]}" for name in table.paper_metrics]
    rows = []
    for row in found["rows"]:
        own = ["{:.3f} ± {:.3f}".format(*row["groups"][group][name]) for group, name in names]
        rows.append([row["title"], *own, *(f"{row['paper'][name]:.4g}" for name in table.paper_metrics)])
    return header, rows


def claim_cells(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["ordering of the paper", "difference", "95% interval", "in the paper", ""]
    return header, [_claim_row(claim) for claim in found["claims"]]


def _claim_row(claim: Mapping[str, Any]) -> list[str]:
    where = "" if claim["group"] == ALL else f", {claim['group']}"
    verdict = "holds" if claim["holds"] else "does not hold"
    theirs = claim["paper_difference"]
    return [
        f"{METRICS[claim['metric']]}{where}: {claim['better']} > {claim['worse']}",
        f"{claim['difference']:+.3f} ± {claim['spread']:.3f}",
        f"{claim['low']:+.3f} to {claim['high']:+.3f}",
        "not printed" if theirs is None else f"{theirs:+.4f}",
        verdict if claim["certain"] else f"{verdict}, within chance",
    ]


def markdown(whole: Mapping[str, Any]) -> str:
    """All tables, one after the other."""
    lines = []
    for table in TABLES_OF_OURS:
        found = whole["tables"][table.name]
        paper = f"{'Face2Diffusion' if table.place[0] == 'face2diffusion' else 'DreamIdentity'}, {table.place[1]}"
        lines += [
            f"### {table.title} ({paper})",
            "",
            *_grid(*cells_of(table, found)),
            "",
            *_grid(*claim_cells(found)),
            "",
        ]
    lines += [
        "### Levels of the encoders (Face2Diffusion, Fig. 4): pair AUC, %",
        "",
        *_levels_grid(whole["levels"]),
        "",
    ]
    lines += ["### Does the photo's pose come along (Face2Diffusion 3.2): correlation of yaw", ""]
    lines += [*_pair_grid(whole["pose"]), "", "### A reference's expression (Face2Diffusion, Fig. 8): correlation", ""]
    lines += [*_pair_grid(whole["expression_reference"]), "", "### The best of N (Face2Diffusion, Fig. 7): hMean", ""]
    lines += [*_pair_grid(whole["best_of"]), "", "### The judges", "", *_judges_grid(whole["judges"]), ""]
    return "\n".join(lines)


def _levels_grid(levels: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    layers = list(next(iter(levels.values())))
    rows = [[kind, *("{:.2f} ± {:.2f}".format(*own[n]) for n in layers)] for kind, own in levels.items()]
    return _grid(["", *(f"layer {n}" for n in layers)], rows)


def _pair_grid(values: Mapping[str, Sequence[float]]) -> list[str]:
    return _grid(list(values), [["{:.3f} ± {:.3f}".format(*pair) for pair in values.values()]])


def _judges_grid(judges: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    names = {**METRICS, **_SHARES}
    rows = [
        [title, *("{:.3f} ± {:.3f}".format(*judges[key][name]) for name in names)] for key, title in _JUDGED.items()
    ]
    return _grid(["", *names.values()], rows)


_JUDGED = {"true": "true renders", "ours": "our pictures"}


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    first = "|---|" if not header[0] or len(header) > 1 else "|"
    return [
        f"| {' | '.join(header)} |",
        first + "---:|" * (len(header) - 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
