"""FID and KID of each method's pictures from a folder of real ones (Face2Diffusion, Table 2); formulas in fid.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.prepare import SUFFIXES
from ..errors import SettingsError
from ..ports import Progress
from .fid import frechet_distance, kernel_distance, moments
from .reading import Reader
from .results import Distances
from .scoring import Scores

LEAST = 2  # pictures on either side


def real_pictures(folder: str | Path) -> list[Path]:
    """The pictures in a folder and below, by name. Raises SettingsError for fewer than two."""
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(found) < LEAST:
        raise SettingsError(f"{folder} has {len(found)} pictures; expected at least {LEAST} real ones. Check --real.")
    return found


def distances(
    real: Sequence[Path],
    scores: Sequence[Scores],
    reader: Reader,
    progress: Callable[[str], Progress] | None = None,
) -> list[Distances | None]:
    """Of each method, None where it has fewer than two pictures. reader: with the Inception. progress: from a label.

    Raises ImageError.
    """
    of_real = reader.spread(real, progress("Real pictures") if progress is not None else None)
    real_moments = moments(of_real)
    found: list[Distances | None] = []
    for own in scores:
        if len(own) < LEAST:
            found.append(None)
            continue
        rows = reader.spread(own.paths)  # kept since the pictures were scored
        kernel = kernel_distance(rows, of_real)
        found.append(Distances(frechet_distance(moments(rows), real_moments), kernel.mean, kernel.deviation))
    return found
