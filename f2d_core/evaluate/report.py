"""The report: one folder with a page, its pictures, its plots and the tables, which can be moved or zipped as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..files import write_atomically
from ..image import read_image, scaled
from .cost import EncodeCost
from .paper_tables import HMEAN
from .plan import Plan
from .plots import plots_of
from .results import Results
from .scoring import Scores
from .tables import (
    COSTS,
    Rows,
    best_of_rows,
    comparison_rows,
    group_rows,
    method_rows,
    notes,
    paper_table_rows,
    summary,
    title,
    write_costs,
    write_tables,
    write_text,
)
from .work import Photo

PAGE = "index.html"
_PICTURES, _FACES = "pictures", "faces"
_SHOWN = 4  # best ones and worst ones, of each method and metric
_SIDE_PX = 224
_TABLES = ("results.md", "methods.csv", "pictures.csv", "results.json")

_RIGHT = " class=n"  # of columns of numbers

_STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfa;--ink:#1d1f21;--faint:#6a6f75;--line:#d9dadc;--soft:#f1f1ee}
@media(prefers-color-scheme:dark){:root{--paper:#17191b;--ink:#e7e7e4;--faint:#9aa0a6;--line:#3a3d41;--soft:#212427}}
body{background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:1120px;margin:0 auto;
padding:24px}
h1{margin-bottom:4px}h2{margin-top:44px;border-bottom:1px solid var(--line)}h3{margin:26px 0 6px}
.faint{color:var(--faint)}a{color:inherit}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;vertical-align:top;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{background:var(--soft)}.n{text-align:right}small{font-size:11px}
svg{width:100%;height:auto;margin:14px 0}
.row{display:flex;flex-wrap:wrap;gap:10px;margin:6px 0 14px}
figure{margin:0;position:relative;width:150px;font-size:12px;line-height:1.3}
figure img{width:150px;height:150px;object-fit:cover;border-radius:4px;background:var(--soft)}
figure img.face{position:absolute;left:104px;top:104px;width:42px;height:42px;border:2px solid var(--paper)}
figcaption b{font-size:13px}details summary{cursor:pointer}
"""


def write_report(
    folder: Path,
    plan: Plan,
    photos: Sequence[Photo],
    scores: Sequence[Scores],
    results: Results,
    costs: Mapping[str, EncodeCost] | None = None,
) -> Path:
    """Write the report; the path of its page. costs: of methods, a file of their own since times never repeat.

    Raises OutputError, ImageError.
    """
    keys = [photo.key for photo in photos]
    write_tables(folder, plan, keys, scores, results)
    write_costs(folder, costs or {})
    plots = plots_of(results)
    for name, text in plots.items():
        write_text(folder / name, text)
    gallery = _Gallery(folder, photos)
    page = _page(plan, keys, results, plots, gallery, scores, [*_TABLES, *([COSTS] if costs else [])])
    gallery.forget_others()
    return write_text(folder / PAGE, page)


def _page(
    plan: Plan,
    keys: Sequence[str],
    results: Results,
    plots: Mapping[str, str],
    gallery: _Gallery,
    scores: Sequence[Scores],
    tables: Sequence[str],
) -> str:
    files = " · ".join(f'<a href="{name}">{name}</a>' for name in tables)
    body = [
        f"<h1>{escape(plan.title)}</h1><p class=faint>{escape(summary(plan, keys))}<br>{files}</p>",
        _section("Scores", _table(method_rows(results)), plots.get("scores.svg", "")),
        _section("Beside the paper's numbers", _table(paper_table_rows(plan, results))),
        _section("Groups of prompts", _table(group_rows(results)), plots.get("groups.svg", "")),
        _section("Best of N", _table(best_of_rows(results)), plots.get("best_of_n.svg", "")),
        _section("Comparisons", _table(comparison_rows(results))),
        _section("Notes", f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes(plan, results))}</ul>"),
        _section("Best and worst pictures", *(_extremes(own, results, gallery) for own in scores)),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(plan.title)}</title><style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _section(name: str, *parts: str) -> str:
    """Nothing where its first part is empty."""
    return f"<h2>{escape(name)}</h2>{''.join(parts)}" if parts and parts[0] else ""


def _table(rows: Rows) -> str:
    """Nothing for a head alone. What stands in brackets goes to a second line, so that tables fit the page."""
    if len(rows) < 2:
        return ""
    numeric = [all(_is_number(row[i]) for row in rows[1:]) for i in range(len(rows[0]))]
    head = "".join(f"<th{_RIGHT * right}>{escape(cell)}" for cell, right in zip(rows[0], numeric, strict=True))
    lines = "".join(f"<tr>{_line(row, numeric)}" for row in rows[1:])
    return f"<div class=wide><table><tr>{head}{lines}</table></div>"


def _line(row: Sequence[str], numeric: Sequence[bool]) -> str:
    return "".join(f"<td{_RIGHT * right}>{_cell(cell)}" for cell, right in zip(row, numeric, strict=True))


def _is_number(cell: str) -> bool:
    return not cell or cell[0] in "+-–0123456789"


def _cell(text: str) -> str:
    value, bracket, interval = text.partition(" (")
    return f"{escape(value)}<br><small class=faint>({escape(interval)}</small>" if bracket else escape(text)


def _extremes(own: Scores, results: Results, gallery: _Gallery) -> str:
    """The best and the worst pictures of a method, metric by metric; all but the first folded."""
    metrics = sorted(results.metrics, key=lambda metric: metric != HMEAN)
    parts = []
    for i, metric in enumerate(metrics):
        values = own.columns[metric]
        order = [int(row) for row in np.argsort(-values, kind="stable") if not np.isnan(values[row])]
        count = min(_SHOWN, max(1, len(order) // 2))
        rows = _row("best", own, metric, order[:count], gallery) + _row(
            "worst", own, metric, order[::-1][:count], gallery
        )
        opened = " open" if i == 0 else ""
        parts.append(f"<details{opened}><summary>{escape(title(metric, results))}</summary>{rows}</details>")
    return f"<h3>{escape(own.method)}</h3>{''.join(parts)}"


def _row(word: str, own: Scores, metric: str, rows: Sequence[int], gallery: _Gallery) -> str:
    figures = "".join(gallery.figure(own, row, own.columns[metric][row]) for row in rows)
    return f"<p class=faint>{word}</p><div class=row>{figures}</div>"


class _Gallery:
    """Small copies of pictures in the report's folder, each once."""

    def __init__(self, folder: Path, photos: Sequence[Photo]):
        self._folder = folder
        self._photos = {photo.key: photo.path for photo in photos}
        self._written: set[str] = set()

    def figure(self, own: Scores, row: int, value: float) -> str:
        face, prompt, number = own.keys[row]
        found = "" if own.found[row] or not own.found.any() else ", no face"
        source = self._copy(_PICTURES, own.paths[row])
        photo = self._copy(_FACES, self._photos[face])
        text = escape(f"{face}, {prompt}, {number}{found}")
        return (
            f'<figure><img src="{source}" loading="lazy" alt="{text}">'
            f'<a href="{photo}"><img class=face src="{photo}" loading="lazy" alt="{escape(face)}" title="the face"></a>'
            f"<figcaption><b>{value:.4f}</b><br>{text}</figcaption></figure>"
        )

    def _copy(self, part: str, path: Path) -> str:
        """A copy of at most 224 px, named by its content -> its relative address."""
        name = f"{part}/{hashlib.sha256(path.read_bytes()).hexdigest()[:20]}.jpg"
        if name not in self._written:
            self._written.add(name)
            if not (self._folder / name).exists():
                _write_small(self._folder / name, path)
        return name

    def forget_others(self) -> None:
        """Take away copies that an earlier report showed and this one does not."""
        for path in _files(self._folder / _PICTURES, self._folder / _FACES):
            if path.relative_to(self._folder).as_posix() not in self._written:
                path.unlink(missing_ok=True)


def _files(*folders: Path) -> Iterable[Path]:
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]


def _write_small(path: Path, source: Path) -> None:
    from PIL import Image

    rgb = read_image(source)
    part = min(1.0, _SIDE_PX / max(rgb.shape[:2]))
    small = scaled(rgb, max(1, round(rgb.shape[1] * part)), max(1, round(rgb.shape[0] * part)))
    picture = Image.fromarray(np.ascontiguousarray(small))
    write_atomically(path, lambda temporary: picture.save(temporary, format="JPEG", quality=88))
