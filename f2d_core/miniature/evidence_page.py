"""The tables of the small world for people: evidence.json, a Markdown page, and a picture of each table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomically
from .evidence_tables import ALL, METRICS, SHARES, TABLES_OF_OURS, TRUE, Table
from .table_picture import draw_table

Cells = tuple[list[str], list[list[str]]]  # header, rows
_PAPERS = {"face2diffusion": "Face2Diffusion", "dreamidentity": "DreamIdentity"}
_VERDICT_HEADER = ["ordering of the paper", "difference", "95% interval", "in the paper", ""]


@dataclass(frozen=True)
class Section:
    """A table with its orderings, if it has any. name: of its picture."""

    name: str
    title: str
    cells: Cells
    verdicts: Cells | None = None


def write_tables(out: Path, whole: Mapping[str, Any]) -> list[Path]:
    """evidence.json, evidence.md, and a picture of every table. whole: `evidence_tables.all_values`.

    Raises OutputError.
    """
    text, page = json.dumps(whole, indent=1), markdown(whole)
    return [
        write_atomically(out / "evidence.json", lambda path: path.write_text(text, encoding="utf-8")),
        write_atomically(out / "evidence.md", lambda path: path.write_text(page, encoding="utf-8")),
        *(draw_table(out / f"{own.name}.png", own.title, *own.cells) for own in sections(whole)),
    ]


def sections(whole: Mapping[str, Any]) -> list[Section]:
    """Everything there is to show, in the order of the papers."""
    tables = [
        Section(
            table.name,
            f"{table.title} ({_PAPERS[table.place[0]]}, {table.place[1]})",
            cells_of(table, whole["tables"][table.name]),
            _verdicts(_ordering, whole["tables"][table.name]["claims"]),
        )
        for table in TABLES_OF_OURS
    ]
    others = {name: _verdicts(_said, claims) for name, claims in whole["other_claims"].items()}
    cells = {
        "levels": _levels_cells(whole["levels"]),
        "pose": _one_row(whole["pose"]),
        "reference": _one_row(whole["expression_reference"]),
        "best-of": _one_row(whole["best_of"]),
        "judges": _judges_cells(whole["judges"]),
    }
    return [*tables, *(Section(name, _OTHERS[name], own, others.get(name)) for name, own in cells.items())]


_OTHERS = {
    "levels": "Pair AUC of the encoders' levels, % (Face2Diffusion, Fig. 4)",
    "pose": "Yaw of photo and picture, correlation (Face2Diffusion, 3.2)",
    "reference": "Expression of reference and picture, correlation (Face2Diffusion, Fig. 8)",
    "best-of": "hMean of the best of N (Face2Diffusion, Fig. 7)",
    "judges": "What the judges say of all pictures",
}


def _verdicts(ordering: Callable[[Mapping[str, Any]], str], claims: Sequence[Mapping[str, Any]]) -> Cells:
    return _VERDICT_HEADER, [verdict(ordering(claim), claim) for claim in claims]


def markdown(whole: Mapping[str, Any]) -> str:
    """All tables, one after the other."""
    lines = []
    for own in sections(whole):
        lines += [f"### {own.title}", "", *grid(*own.cells), ""]
        lines += [*grid(*own.verdicts), ""] if own.verdicts else []
    return "\n".join(lines)


def cells_of(table: Table, found: Mapping[str, Any]) -> Cells:
    """The paper's numbers stand behind ours."""
    names = [
        (group, name)
        for group in (ALL, *table.groups)
        for name in (METRICS if group == ALL else ("identity", "text", "gmean"))
    ]
    header = ["", *(METRICS[name] + ("" if group == ALL else f", {group}") for group, name in names)]
    header += [f"paper: {METRICS[name]}" for name in table.paper_metrics]
    rows = []
    for row in found["rows"]:
        theirs = [f"{row['paper'][name]:.4g}" if row["paper"] else "" for name in table.paper_metrics]
        rows.append([row["title"], *(_pair(row["groups"][group][name]) for group, name in names), *theirs])
    return header, rows


def verdict(ordering: str, claim: Mapping[str, Any]) -> list[str]:
    """A row: the ordering, our difference, its interval, the paper's difference, and whether it holds."""
    said = "holds" if claim["holds"] else "does not hold"
    low, theirs = claim.get("low"), claim["paper_difference"]
    return [
        ordering,
        _pair((claim["difference"], claim["spread"]), "+"),
        "" if low is None else f"{low:+.3f} to {claim['high']:+.3f}",
        "not printed" if theirs is None else f"{theirs:+.4g}",
        said if claim["certain"] else f"{said}, within chance",
    ]


def _ordering(claim: Mapping[str, Any]) -> str:
    where = "" if claim["group"] == ALL else f", {claim['group']}"
    return f"{METRICS[claim['metric']]}{where}: {claim['better']} > {claim['worse']}"


def _said(claim: Mapping[str, Any]) -> str:
    return claim["claim"]


def _levels_cells(levels: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Cells:
    layers = list(next(iter(levels.values())))
    rows = [[kind, *(_pair(own[layer], digits=2) for layer in layers)] for kind, own in levels.items()]
    return ["", *(f"layer {n}" for n in layers)], rows


def _one_row(values: Mapping[str, Sequence[float | None]]) -> Cells:
    return list(values), [[_pair(own) for own in values.values()]]


def _judges_cells(judges: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Cells:
    names = {**METRICS, **SHARES}
    rows = [[title, *(_pair(judges[key][name]) for name in names)] for key, title in _JUDGED.items()]
    return ["", *names.values()], rows


_JUDGED = {"true": TRUE, "ours": "our pictures"}


def _pair(values: Sequence[float | None], sign: str = "", digits: int = 3) -> str:
    """Mean and spread; of a single seed, the value alone."""
    mean, spread = values
    text = f"{mean:{sign}.{digits}f}"
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        "|---|" + "---:|" * (len(header) - 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
