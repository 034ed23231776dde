"""What the page shows before and while nodes run: a prompt as tokens, and how a training run is going."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..f2d_core.chunks import CLIP_SPECIAL
from ..f2d_core.constants import CHUNK_TOKENS
from ..f2d_core.errors import SettingsError, WeightsError
from ..f2d_core.library import Library
from ..f2d_core.token_view import MOST_CHARACTERS, MOST_PEOPLE, Marked, view_tokens
from ..f2d_core.train import read_metrics, run_folder
from ..f2d_core.train.metrics import Row
from . import host, host_routes, host_training

MOST_POINTS = 400  # of a curve
MOST_PREVIEWS = 12
_CURVES = ("loss", "foreground", "background", "edited")


def tokens(body: Mapping[str, Any]) -> dict[str, Any]:
    """{text, people: [{marker, words} or {file}]} -> the people and the TokenView. Raises F2DError."""
    text = _text(body.get("text"), "text", MOST_CHARACTERS)
    given = body.get("people", [])
    if not isinstance(given, list) or len(given) > MOST_PEOPLE:
        raise SettingsError(f"people is not a list of at most {MOST_PEOPLE}; send fewer.")
    people = [_person(person) for person in given]
    tokenizer = host_routes.tokenizer()
    view = view_tokens(text, people, tokenizer.encode, tokenizer.decode, CLIP_SPECIAL)
    return {"people": [{"marker": person.marker, "words": person.words} for person in people], **view.as_dict()}


def _text(value: Any, what: str, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        found = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise SettingsError(f"{what} is {found}, expected a text of at most {most} characters.")
    return value


def _person(given: Any) -> Marked:
    """Said outright, or as a saved identity, whose own marker counts where none is given."""
    if not isinstance(given, Mapping):
        raise SettingsError(f"A person is {type(given).__name__}, expected an object with marker or file.")
    marker = _text(given.get("marker", ""), "marker", MOST_CHARACTERS)
    if "file" in given:
        return _saved(_text(given["file"], "file", MOST_CHARACTERS), marker)
    words = given.get("words", Marked.words)
    if type(words) is not int or not 1 <= words <= CHUNK_TOKENS - 2:
        raise SettingsError(f"words is {words!r}, expected 1 to {CHUNK_TOKENS - 2}.")
    return Marked(marker, words)


def _saved(file: str, marker: str) -> Marked:
    if "\0" in file or host.find_identity(file) is None:
        raise WeightsError(host.identity_message(file.replace("\0", " ")))
    person = Library(host.identities_folders()).load(file)  # which has limits: the page may ask for anything
    return Marked(marker.strip() or person.marker, person.words)


def training(query: Mapping[str, str]) -> dict[str, Any]:
    """{run} -> its newest step, curves and previews; all empty for a run that has not begun. Raises SettingsError."""
    folder = run_folder(host_training.work_folder("runs"), query.get("run", ""))
    rows = read_metrics(folder)
    trained = [row for row in rows if row.get("kind") == "train"]
    return {
        "run": folder.name,
        "step": trained[-1]["step"] if trained else 0,
        "curve": _thinned([_figures(row) for row in trained]),
        "validation": [_figures(row) for row in rows if row.get("kind") == "validation"][-MOST_POINTS:],
        "previews": _previews(folder),
    }


def _figures(row: Row) -> Row:
    """What is drawn of one row; JSON has no word for what is not finite."""
    return {name: row[name] for name in ("step", *_CURVES) if name in row and math.isfinite(row[name])}


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """At most MOST_POINTS rows: the means of neighbours, at the last step of each."""
    size = -(-len(rows) // MOST_POINTS) or 1
    return [_mean(rows[at : at + size]) for at in range(0, len(rows), size)]


def _mean(rows: Sequence[Row]) -> Row:
    figures = {name: [row[name] for row in rows if name in row] for name in _CURVES}
    means = {name: sum(values) / len(values) for name, values in figures.items() if values}
    return {"step": rows[-1]["step"], **means}


def _previews(folder: Path) -> list[dict[str, Any]]:
    """The newest last, as /view wants them."""
    files = sorted((folder / "previews").glob("step_*.png"))[-MOST_PREVIEWS:]
    return host_training.saved_images(files)["images"]
