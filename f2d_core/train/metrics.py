"""metrics.jsonl: one line of figures per event, readable while the run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError, OutputError
from ..files import write_atomically

FILE = "metrics.jsonl"

Row = dict[str, Any]


def read_metrics(folder: str | Path) -> list[Row]:
    """All lines of a run's metrics, in order; an unfinished last line is left out."""
    path = Path(folder) / FILE
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # the process was killed while writing it
            break
    return rows


class Metrics:
    """Appends to a run's metrics. Lines beyond `step` are of a future that was forgotten, and go.

    tensorboard: write the numbers for it as well. Raises MissingPackageError, OutputError.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False):
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        self._path = write_atomically(folder / FILE, lambda path: path.write_text(_lines(kept), encoding="utf-8"))
        self._board = _tensorboard(folder / "tensorboard", step) if tensorboard else None

    def add(self, row: Row) -> None:
        """Raises OutputError."""
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(_lines([row]))
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._path}: {error.strerror or error}. Free some space, then continue the run."
            ) from error
        if self._board is not None:
            for name, value in row.items():
                if name not in ("kind", "step"):
                    self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackageError(
            "The setting tensorboard needs the package tensorboard, which is not installed: pip install tensorboard. "
            "metrics.jsonl and loss.png are written without it."
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
