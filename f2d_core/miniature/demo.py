"""The method on three people it has never seen, with the weights that `make miniature` made.

    python -m f2d_core.miniature.demo [--out demo]

Draws three invented characters, encodes one photo of each as S*, and puts them into six prompts: one contact sheet, and
what the judges say of it beside what they say of true renders of the same people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..backends.diffusers import load_pipeline
from ..cli.progress import Bar, note
from ..networks import load_network
from ..s_star import SStar
from .captions import PROMPTS
from .evidence import require_weights, shipped_judges
from .gallery import CHARACTERS, Characters, Judged, Request, characters, draw, encode_photos, judge, true_pictures
from .judging import Judging
from .make import MAPPING_FILE, MODEL, MSID_FILE, WEIGHTS, carried_out
from .photos import PhotoSet
from .sheet import draw_sheet

PHOTOS = PhotoSet(seed=4903, count=3, calm=True)  # chosen by the photos, since these three look different
_SINGLE = tuple(
    PROMPTS.index(f"a photo of S* {what}")
    for what in ("wearing a chef hat", "wearing a pirate hat", "in a snowy forest", "laughing", "holding a cat")
)
TOGETHER = "a photo of S* and T* at the beach"
PER_PROMPT = 4  # pictures; the sheet shows the first
SHEET_FILE = "demo_sheet.png"
_SEED = 7


def run(out: Path) -> Path:
    """The contact sheet. Raises F2DError."""
    require_weights(MAPPING_FILE)
    pipe, judging = load_pipeline(WEIGHTS / MODEL), shipped_judges()
    people = encode_photos(
        PHOTOS, load_network(WEIGHTS / MSID_FILE, "msid"), load_network(WEIGHTS / MAPPING_FILE, "mapping")
    )
    asked = [(face, prompt) for face in range(PHOTOS.count) for prompt in _SINGLE for _ in range(PER_PROMPT)]
    singles = [Request(PROMPTS[p], (people[f],), _SEED + i) for i, (f, p) in enumerate(asked)]
    pictures = draw(pipe, [*singles, *_pairs(people)], Bar("pictures"))
    sheet = _write_sheet(out / SHEET_FILE, pictures[: len(singles)], pictures[len(singles) :])
    known = characters(PHOTOS, judging)
    note(_report(asked, pictures[: len(singles)], known, judging))
    note(f"\nThe sheet: {sheet}")
    note(_NEXT)
    return sheet


def _pairs(people: Sequence[SStar]) -> list[Request]:
    """Everyone with the next one."""
    others = [replace(person, marker="T*") for person in [*people[1:], people[0]]]
    pairs = zip(people, others, strict=True)
    return [Request(TOGETHER, pair, _SEED + 900 + i) for i, pair in enumerate(pairs)]


def _write_sheet(path: Path, singles: np.ndarray, pairs: np.ndarray) -> Path:
    rows = singles.reshape(PHOTOS.count, len(_SINGLE), PER_PROMPT, *singles.shape[1:])[:, :, 0]
    titles = [
        "the photo",
        *(PROMPTS[p].removeprefix("a photo of ") for p in _SINGLE),
        TOGETHER.removeprefix("a photo of "),
    ]
    cells = [[photo, *row, pair] for photo, row, pair in zip(PHOTOS.rendered.pixels, rows, pairs, strict=True)]
    return draw_sheet(path, titles, cells)


def _report(asked: Sequence[tuple[int, int]], pictures: np.ndarray, known: Characters, judging: Judging) -> str:
    faces, prompts = zip(*asked, strict=True)
    ours = judge(pictures, faces, prompts, known, judging)
    true = judge(true_pictures(PHOTOS, faces, prompts, _SEED), faces, prompts, known, judging)
    lines = [f"{len(asked)} pictures of one person each, judged by networks that saw no training of the method:"]
    lines += [_line(what, name, ours, true) for name, what in _MEASURES.items()]
    return "\n".join(lines)


_MEASURES = {
    "nearest": f"the right character is the nearest of {CHARACTERS}",
    "prompt": f"the right prompt is the best of {len(PROMPTS)}",
    "found": "a face is found",
}


def _line(what: str, name: str, ours: Judged, true: Judged) -> str:
    shares = (100 * judged.columns[name].mean() for judged in (ours, true))
    return "  {:<48}{:4.0f} %   (true renders: {:.0f} %)".format(what, *shares)


_NEXT = """
These people are invented and so is the small model that draws them. For a photo of yours and real weights:
  make demo PHOTO=me.jpg        the same way with stand-ins: shows that your photo is read and its face found
  python -m f2d_core doctor     which weights are missing, how large they are, under which licence, and where they are
Use photos of people who agreed to it, and label the pictures as generated."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where the sheet goes")
    return carried_out("demo", partial(run, parser.parse_args(argv).out))


if __name__ == "__main__":
    sys.exit(main())
