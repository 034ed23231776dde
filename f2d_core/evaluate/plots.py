"""Plots as SVG text, drawn without a plotting package; readable on light and on dark paper, and sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from .results import Results
from .tables import title

WIDTH, HEIGHT = 900, 340  # of the drawing; shown at any size
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 44, 56
_COLOURS = ("#3b82c4", "#d9694f", "#3f9b6e", "#b08a1e", "#8a63c9", "#c75b95", "#5f7f93", "#8c6b4f")
_GREY = "#888888"

Bar = tuple[float, float, float]  # value, low, high


def plots_of(results: Results) -> dict[str, str]:
    """File name -> SVG, of those for which there is something to draw."""
    plots = {"scores.svg": scores_plot(results), "groups.svg": groups_plot(results)}
    if any(len(method.best_of) > 1 for method in results.methods):
        plots["best_of_n.svg"] = best_of_plot(results)
    return plots


def scores_plot(results: Results) -> str:
    """Every metric's mean, with its interval, side by side for the methods."""
    groups = {
        title(metric, results): {
            method.name: (found.mean, found.low, found.high)
            for method in results.methods
            if (found := method.scores[metric]) is not None
        }
        for metric in results.metrics
    }
    return bars("Scores, with 95% intervals", groups, [method.name for method in results.methods])


def groups_plot(results: Results) -> str:
    """The mean score of every group of prompts: hMean, or the first metric where there is none."""
    metric = "hmean" if "hmean" in results.metrics else results.metrics[0]
    names = list(dict.fromkeys(group for method in results.methods for group in method.groups))
    groups = {
        group: {
            method.name: (mean, mean, mean)
            for method in results.methods
            if (mean := method.groups.get(group, {}).get(metric)) is not None
        }
        for group in names
    }
    return bars(f"{title(metric, results)} by group of prompts", groups, [method.name for method in results.methods])


def best_of_plot(results: Results) -> str:
    """hMean of the best of N pictures over N (Face2Diffusion, Fig. 7)."""
    lines = {method.name: dict(method.best_of) for method in results.methods if method.best_of}
    counts = sorted({n for line in lines.values() for n in line})
    top = _round_up(max(mean for line in lines.values() for mean in line.values()))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(counts), 1)
    x = {n: _LEFT + step * (i + 0.5) for i, n in enumerate(counts)}
    parts = [_frame("hMean of the best of N pictures", 0.0, top), _legend(list(lines))]
    parts += [_text(x[n], HEIGHT - _BOTTOM + 18, f"N = {n}", "middle") for n in counts]
    for i, line in enumerate(lines.values()):
        places = " ".join(f"{x[n]:.1f},{_y(mean, 0.0, top):.1f}" for n, mean in line.items())
        parts.append(f'<polyline points="{places}" fill="none" stroke="{_colour(i)}" stroke-width="2.5"/>')
        parts += [
            f'<circle cx="{x[n]:.1f}" cy="{_y(mean, 0.0, top):.1f}" r="4" fill="{_colour(i)}">'
            f"<title>N = {n}: {mean:.4f}</title></circle>"
            for n, mean in line.items()
        ]
    return _svg(parts)


def bars(head: str, groups: Mapping[str, Mapping[str, Bar]], series: Sequence[str]) -> str:
    """Bars in groups, one colour for each of `series`; a line from low to high where they differ."""
    values = [v for group in groups.values() for bar in group.values() for v in bar]
    low, top = min(0.0, *values, 0.0), _round_up(max([*values, 0.0]))
    low = -_round_up(-low) if low < 0 else 0.0
    step = (WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    width = min(46.0, 0.8 * step / max(len(series), 1))
    parts = [_frame(head, low, top), _legend(series)]
    for i, (name, group) in enumerate(groups.items()):
        middle = _LEFT + step * (i + 0.5)
        parts.append(_text(middle, HEIGHT - _BOTTOM + 18, name, "middle", most=step))
        for j, one in enumerate(series):
            if one in group:
                left = middle + (j - len(series) / 2) * width
                parts.append(_bar(left + 1, width - 2, group[one], low, top, _colour(j), f"{one}, {name}"))
    return _svg(parts)


def _bar(left: float, width: float, bar: Bar, low: float, top: float, colour: str, name: str) -> str:
    value, least, most = bar
    y, zero, middle = _y(value, low, top), _y(0.0, low, top), left + width / 2
    box = (
        f'<rect x="{left:.1f}" y="{min(y, zero):.1f}" width="{width:.1f}" height="{abs(y - zero):.1f}" '
        f'fill="{colour}"><title>{escape(name)}: {value:.4f}</title></rect>'
    )
    if most <= least:
        return box
    ends = f'y1="{_y(least, low, top):.1f}" y2="{_y(most, low, top):.1f}"'
    return f'{box}<line x1="{middle:.1f}" x2="{middle:.1f}" {ends} stroke="currentColor" stroke-width="1.5"/>'


def _frame(head: str, low: float, top: float) -> str:
    lines = [_text(_LEFT, 18, head, "start", weight="bold")]
    for i in range(5):
        value = low + (top - low) * i / 4
        y = _y(value, low, top)
        lines.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GREY}" '
                     'stroke-opacity="0.35"/>')  # fmt: skip
        lines.append(_text(_LEFT - 8, y + 4, f"{value:.3g}", "end"))
    return "".join(lines)


def _legend(names: Sequence[str]) -> str:
    step = (WIDTH - _LEFT - _RIGHT) / max(len(names), 1)
    y = HEIGHT - 14
    return "".join(
        f'<rect x="{_LEFT + step * i:.1f}" y="{y - 9}" width="10" height="10" fill="{_colour(i)}"/>'
        + _text(_LEFT + step * i + 15, y, name, "start", most=step - 20)
        for i, name in enumerate(names)
    )


def _text(x: float, y: float, text: str, anchor: str, weight: str = "normal", most: float = WIDTH) -> str:
    """Text that is cut where it would be wider than `most` (about 7 px a letter)."""
    letters = max(4, int(most / 7))
    shown = text if len(text) <= letters else f"{text[: letters - 1]}…"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="currentColor">'
        f"{escape(shown)}<title>{escape(text)}</title></text>"
    )


def _y(value: float, low: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (value - low) / (top - low) * (HEIGHT - _TOP - _BOTTOM)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 4, 5, 8, 10 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 4, 5, 8, 10, 20) if power * step >= value)


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _svg(parts: Sequence[str]) -> str:
    style = "font-family:system-ui,sans-serif;font-size:13px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" style="{style}">'
        f"{''.join(parts)}</svg>\n"
    )
