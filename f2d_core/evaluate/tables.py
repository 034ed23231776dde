"""Results as files that other programs and people read: CSV of every picture, CSV, JSON and Markdown of the methods."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..files import write_atomically
from .cost import EncodeCost
from .paper_tables import DREAMIDENTITY, FACE2DIFFUSION, GMEAN, HMEAN, OURS, PaperTable, tables_of
from .plan import Plan
from .results import MethodResults, Results, as_json
from .scoring import Scores

TITLES = {
    "adaface": "AdaFace",
    "sphereface": "SphereFace",
    "facenet": "FaceNet",
    "clip": "CLIP",
    "dclip": "dCLIP",
    "siglip": "SigLIP",
    "hmean": "hMean",
    "gmean": "gMean",
    "text_alignment": "Text alignment",
    "face_similarity": "Face similarity",
    "fid": "FID",
    "parameters": "Parameters",
    "seconds": "Seconds",
}
_OWN_METHODS = {FACE2DIFFUSION: "Face2Diffusion", DREAMIDENTITY: "DreamIdentity"}

COSTS = "costs.csv"
COST_TABLE = next(table for table in tables_of(FACE2DIFFUSION) if table.place == "Table 2")

Rows = list[list[str]]  # the head first


def title(metric: str, results: Results | None = None) -> str:
    """How people see a metric; a network of its own by its name."""
    return TITLES.get(metric) or (results.judges.get(metric, metric) if results else metric)


def write_tables(folder: Path, plan: Plan, photos: Sequence[str], scores: Sequence[Scores], results: Results) -> None:
    """pictures.csv, methods.csv, results.json and results.md in `folder`. Raises OutputError."""
    texts = {
        "pictures.csv": _csv(picture_rows(scores, results)),
        "methods.csv": _csv(method_rows(results, plain=True)),
        "results.json": json.dumps(as_json(plan, photos, results), ensure_ascii=False, indent=1) + "\n",
        "results.md": markdown(plan, photos, results),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def write_costs(folder: Path, costs: Mapping[str, EncodeCost]) -> None:
    """costs.csv, with Face2Diffusion's Table 2 below; nothing where nothing was measured. Raises OutputError."""
    rows = [["method", "trained_parameters", "encode_seconds", "device"]]
    rows += [[name, str(cost.parameters), f"{cost.seconds:.6f}", cost.device] for name, cost in costs.items()]
    for name, values in COST_TABLE.rows.items():
        label = _OWN_METHODS[FACE2DIFFUSION] if name == OURS else name
        where = f"A100, in the paper's {COST_TABLE.place}"
        rows.append([label, f"{values['parameters']:.0f}", f"{values['seconds']:g}", where])
    if costs:
        write_text(folder / COSTS, _csv(rows))


def write_text(path: Path, text: str) -> Path:
    """UTF-8 with the line ends of the text, whole or not at all."""
    return write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def picture_rows(scores: Sequence[Scores], results: Results) -> Rows:
    """A line for each picture of each method."""
    rows = [["method", "face", "prompt", "group", "number", "face_found", *results.metrics]]
    for own in scores:
        for i, (face, prompt, number) in enumerate(own.keys):
            values = [_number(own.columns[metric][i]) for metric in results.metrics]
            found = ("yes" if own.found[i] else "no") if results.detector else ""
            rows.append([own.method, face, prompt, own.groups[i], str(number), found, *values])
    return rows


def method_rows(results: Results, plain: bool = False) -> Rows:
    """A line for each method: means, with intervals for people, in columns of their own for programs (`plain`)."""
    heads = [
        m for metric in results.metrics for m in ([metric, f"{metric}_low", f"{metric}_high"] if plain else [metric])
    ]
    heads = heads if plain else [title(metric, results) for metric in heads]
    distances = any(method.distances for method in results.methods)
    extra = (["fid", "kid"] if plain else ["FID", "KID"]) if distances else []
    names = ["method", "pictures", "no_face"] if plain else ["Method", "Pictures", "No face"]
    rows = [[*names, *heads, *extra]]
    for method in results.methods:
        cells = [cell for metric in results.metrics for cell in _cells(method, metric, plain)]
        rows.append([method.name, _count(method, plain), _part(method.no_face, plain), *cells, *_far(method, extra)])
    return rows


def group_rows(results: Results) -> Rows:
    """A line for each method and group of prompts."""
    rows = [["Method", "Prompts", *(title(metric, results) for metric in results.metrics)]]
    for method in results.methods:
        for group, means in method.groups.items():
            rows.append([method.name, group, *(_shown(means[metric]) for metric in results.metrics)])
    return rows


def best_of_rows(results: Results) -> Rows:
    """A line for each method: hMean of the best of N. No rows where it was not measured."""
    counts = sorted({n for method in results.methods for n in method.best_of})
    rows = [["Method", *(f"N = {n}" for n in counts)]]
    rows += [[m.name, *(_shown(m.best_of.get(n)) for n in counts)] for m in results.methods if m.best_of]
    return rows


def comparison_rows(results: Results) -> Rows:
    """A line for each pair of methods and metric."""
    rows = [["Metric", "A", "B", "A - B", "95% interval", "p", "A better", "B better", "Equal", "Scenes"]]
    for metric, a, b, found in results.comparisons:
        interval = f"{found.difference.low:+.4f} … {found.difference.high:+.4f}"
        counts = [str(found.wins), str(found.losses), str(found.ties), str(found.pairs)]
        rows.append(
            [title(metric, results), a, b, f"{found.difference.mean:+.4f}", interval, f"{found.p:.4f}", *counts]
        )
    return rows


def paper_table_rows(plan: Plan, results: Results) -> Rows:
    """Our means and the numbers of all tables of the paper below one another, in the columns that both have."""
    tables = tables_of(plan.paper)
    metrics = _metrics_beside(tables, results)
    if not metrics:
        return []
    rows = [["Method", "Source", *(title(metric) for metric in metrics)]]
    for method in results.methods:
        rows.append([method.name, "measured here", *(_shown(_mean_of(method, metric)) for metric in metrics)])
    for table in tables:
        for name, values in table.rows.items():
            if any(metric in values for metric in metrics) and (name != OURS or table is tables[0]):
                label = _OWN_METHODS[plan.paper] if name == OURS else name
                rows.append([label, _source(table), *(_shown(values.get(metric)) for metric in metrics)])
    return rows


def _metrics_beside(tables: Sequence[PaperTable], results: Results) -> list[str]:
    """The metrics that are measured here and printed there; means only where they are over the same six."""
    printed = {metric for table in tables for row in table.rows.values() for metric in row}
    measured = [*results.metrics, *(["fid"] if any(method.distances for method in results.methods) else [])]
    return [m for m in measured if m in printed and (m not in (HMEAN, GMEAN) or results.complete)]


def _mean_of(method: MethodResults, metric: str) -> float | None:
    if metric == "fid":
        return None if method.distances is None else method.distances.fid
    found = method.scores[metric]
    return found and found.mean


def _source(table: PaperTable) -> str:
    """A place that is no table says what its numbers are of."""
    return f"paper, {table.place}" + (f" ({table.title})" if table.place.startswith("Section") else "")


def notes(plan: Plan, results: Results) -> list[str]:
    """What has to be known to read the tables, a sentence each."""
    found = [
        f"{title(m, results)}: measured with {name}." for m, name in results.judges.items() if m in results.metrics
    ]
    if results.means_over:
        of = ", ".join(title(metric) for metric in results.means_over)
        found.append(f"hMean and gMean are taken of each picture's scores ({of}) and then averaged over the pictures.")
        if not results.complete:
            found.append("They are not over the paper's six metrics and cannot be compared with its numbers.")
    if results.detector:
        found.append(f"Faces: {results.detector}, the largest one; a picture without a face has identity 0.")
    if results.methods and any(m.missing for m in results.methods):
        lacking = ", ".join(f"{m.name} lacks {m.missing:,}" for m in results.methods if m.missing)
        found.append(f"Pictures that the plan asks for and that are not there: {lacking}.")
    for method in results.methods:
        for count in sorted(set(method.partial.values())):
            of = ", ".join(title(metric, results) for metric, own in method.partial.items() if own == count)
            found.append(
                f"{method.name}: {of} over {count:,} of {method.pictures:,} pictures; the others have no reference "
                "picture of their number."
            )
    found.append("Intervals: 95%, drawing faces again (bootstrap). p: by turning the sign of whole faces.")
    found += _paper_notes(plan, results)
    return [*found, *(f"Not measured: {problem}" for problem in results.problems)]


def _paper_notes(plan: Plan, results: Results) -> list[str]:
    if not paper_table_rows(plan, results):
        return []
    tables = tables_of(plan.paper)
    found = ["Numbers of the paper are of other faces, so for orientation only."]
    found += [f"{table.place}: {table.title}. {table.note}" for table in tables]
    return [" ".join(note.split()) for note in dict.fromkeys(found)]


def markdown(plan: Plan, photos: Sequence[str], results: Results) -> str:
    """The whole report without pictures."""
    sections = [
        ("Scores", method_rows(results)),
        ("Beside the paper's numbers", paper_table_rows(plan, results)),
        ("Groups of prompts", group_rows(results)),
        ("Best of N", best_of_rows(results)),
        ("Comparisons", comparison_rows(results)),
    ]
    parts = [f"# {_plain(plan.title)}\n\n{_plain(summary(plan, photos))}\n"]
    parts += [f"## {name}\n\n{_markdown_table(rows)}\n" for name, rows in sections if len(rows) > 1]
    parts.append("## Notes\n\n" + "".join(f"- {_plain(note)}\n" for note in notes(plan, results)))
    return "\n".join(parts)


def summary(plan: Plan, photos: Sequence[str]) -> str:
    return (
        f"{len(photos)} faces, {len(plan.prompts)} prompts, {plan.pictures} pictures of each; {plan.sampler}, "
        f"{plan.steps} steps, CFG {plan.cfg:g}, {plan.width} x {plan.height} px."
    )


def _csv(rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _markdown_table(rows: Rows) -> str:
    lines = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in a cell too."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _cells(method: MethodResults, metric: str, plain: bool) -> list[str]:
    found = method.scores[metric]
    if plain:
        return ["", "", ""] if found is None else [_number(v) for v in (found.mean, found.low, found.high)]
    return ["–" if found is None else f"{found.mean:.4f} ({found.low:.3f}…{found.high:.3f})"]


def _count(method: MethodResults, plain: bool) -> str:
    return str(method.pictures) if plain else f"{method.pictures:,}"


def _part(part: float | None, plain: bool) -> str:
    if part is None:
        return "" if plain else "–"
    return _number(part) if plain else f"{part:.1%}"


def _far(method: MethodResults, columns: Sequence[str]) -> list[str]:
    if not columns:
        return []
    if method.distances is None:
        return ["", ""]
    return [f"{method.distances.fid:.4f}", f"{method.distances.kid:.6f}"]


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value + 0.0:.6f}"


def _shown(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.4f}"
