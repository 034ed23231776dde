"""How alike mappings of the small world are, and how well they follow a prompt, on people and prompts of no table.

    python -m f2d_core.miniature.choices [MAPPING ...]      # default: the one in the repository

Settings are chosen here, so that the tables stay a test; mappings that learnt from editing data have seen these
prompts. All are asked for the same pictures, from the same noise. Expected are mappings of the shipped MSID encoder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..cli.progress import Bar, note
from ..networks import load_network
from ..s_star import SStar
from .captions import CHOICE_PROMPTS
from .evidence import require_weights, shipped_judges
from .gallery import (
    CHARACTERS,
    Characters,
    Judged,
    Request,
    characters,
    draw,
    encode_photos,
    judge,
    quick_pipeline,
    true_pictures,
)
from .judging import Judging
from .make import MAPPING_FILE, MODEL, MSID_FILE, WEIGHTS, carried_out
from .photos import PhotoSet

FACES = PhotoSet(seed=5001, count=32, calm=True)
EACH = 6  # pictures of each of them
_SEED = 900_000
_COLUMNS = {
    "found": "face found",
    "nearest": f"nearest of {CHARACTERS}",
    "prompt": f"prompt of {len(CHOICE_PROMPTS)}",
    "identity": "identity",
    "text": "text",
    "gmean": "gMean",
}


def run(mappings: Sequence[Path]) -> None:
    """A line for each mapping, and one for true renders. Raises F2DError, before anything is drawn."""
    require_weights(*([MAPPING_FILE] if WEIGHTS / MAPPING_FILE in mappings else []))
    msid = load_network(WEIGHTS / MSID_FILE, "msid")
    people = {file: encode_photos(FACES, msid, load_network(file, "mapping")) for file in mappings}
    pipe, judging = quick_pipeline(WEIGHTS / MODEL), shipped_judges()
    known = characters(FACES, judging)
    note(f"{EACH * FACES.count} pictures of {FACES.count} people for each line")
    note(_line(_COLUMNS.values(), ""))
    for file, own in people.items():
        note(_line(_values(_judged(own, pipe, known, judging)), str(file)))
    faces, prompts = zip(*asked(), strict=True)
    true = true_pictures(FACES, faces, prompts, _SEED, choices=True)
    note(_line(_values(judge(true, faces, prompts, known, judging, choices=True)), "(true renders)"))


def asked() -> list[tuple[int, int]]:
    """(face, place in CHOICE_PROMPTS) of each picture; a face has EACH different prompts."""
    return [(face, (face + turn) % len(CHOICE_PROMPTS)) for turn in range(EACH) for face in range(FACES.count)]


def _judged(people: Sequence[SStar], pipe: Any, known: Characters, judging: Judging) -> Judged:
    requests = [Request(CHOICE_PROMPTS[p], (people[f],), _SEED + i) for i, (f, p) in enumerate(asked())]
    faces, prompts = zip(*asked(), strict=True)
    return judge(draw(pipe, requests, Bar("pictures")), faces, prompts, known, judging, choices=True)


def _values(judged: Judged) -> list[str]:
    return [f"{judged.columns[name].mean():.3f}" for name in _COLUMNS]


def _line(cells: Iterable[str], name: str) -> str:
    return "".join(f"{cell:>16}" for cell in cells) + f"   {name}"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mappings", type=Path, nargs="*", default=[WEIGHTS / MAPPING_FILE], metavar="MAPPING")
    return carried_out("choices", partial(run, parser.parse_args(argv).mappings))


if __name__ == "__main__":
    sys.exit(main())
