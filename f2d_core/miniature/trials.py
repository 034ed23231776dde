"""The measurements behind the tables: one mapping, one seed, everything that is asked of it, as one JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluate.metrics import BEST_OF, best_of_n
from ..files import write_atomically
from ..networks import Network, load_network
from ..s_star import SStar
from ..train.randomness import NOISE, generator
from .captions import GROUPS, MARKER, PROMPTS
from .gallery import (
    Characters,
    Judged,
    Request,
    characters,
    draw,
    encode_photos,
    expressions_of,
    judge,
    largest_face,
    quick_pipeline,
    true_pictures,
)
from .judging import Judging
from .mappings import Place, Recipe
from .photos import PhotoSet
from .situations import EXPRESSION
from .watching import Tell

FACES = PhotoSet(seed=4700, count=20, calm=True)
_EXPRESSION_DONORS = PhotoSet(seed=4770, count=20, calm=True)
_BEST_FACES, _BEST_PROMPTS = 4, tuple(range(2, 40, 5))
COEFFICIENTS = ("smile", "open", "wide", "eyes", "brows", "frown")  # that are plain to see at 64 px
_PLACES = {name: EXPRESSION.index(name) for name in COEFFICIENTS}
_DIGITS = 5  # behind the point, in files
DELAYED = 0.8  # the share of steps that see the person, with delayed subject conditioning


@dataclass(frozen=True)
class Design:
    """Which face goes with which prompt: every face with a quarter of the prompts, so that all are used equally."""

    faces: tuple[int, ...]
    prompts: tuple[int, ...]

    @property
    def groups(self) -> np.ndarray:
        return np.array([GROUPS[prompt // 10] for prompt in self.prompts])


def design(faces: int = FACES.count) -> Design:
    """Of every table."""
    pairs = [(face, prompt) for face in range(faces) for prompt in range(len(PROMPTS)) if prompt % 4 == face % 4]
    return Design(*map(tuple, zip(*pairs, strict=True)))


@dataclass(frozen=True)
class Tools:
    """Everything a trial needs besides the mapping."""

    pipe: Any
    judging: Judging
    recon: Network
    known: Characters


def tools(place: Place, judging: Judging) -> Tools:
    """Pictures are drawn in what the machine is quick in. Raises F2DError."""
    recon, known = load_network(place.recon, "recon"), characters(FACES, judging)
    return Tools(quick_pipeline(place.model), judging, recon, known)


def trial(
    recipe: Recipe,
    seed: int,
    encoder: Path,
    mapping: Path,
    out: Path,
    own: Tools,
    tell: Tell,
    extra: Sequence[str] = (),
) -> None:
    """Measure a mapping, but for what `out` has already. extra: "delayed", "best_of", "expression"."""
    found = read_json(out) if out.is_file() else {"recipe": recipe.name, "seed": seed}
    networks = load_network(encoder, "msid"), load_network(mapping, "mapping")
    people = encode_photos(FACES, *networks)
    measures: dict[str, Callable[[], Any]] = {
        "plain": lambda: _table(people, own, tell, seed),
        "delayed": lambda: _table(people, own, tell, seed, DELAYED),
        "best_of": lambda: _best_of(people, own, tell, seed),
        "expression": lambda: _expressions(networks, own, tell, seed),
    }
    for part in left_to_measure(out, extra):
        found[part] = measures[part]()
        write_json(out, found)


def left_to_measure(out: Path, extra: Sequence[str]) -> list[str]:
    """The parts that a trial's file has not yet."""
    found = read_json(out) if out.is_file() else {}
    return [part for part in ("plain", *extra) if part not in found]


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: dict[str, Any]) -> Path:
    text = json.dumps(values)
    return write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))


def truth(own: Tools) -> dict[str, Any]:
    """What the judges say of true renders of the same people in the same prompts."""
    plan = design()
    return _columns(judge(true_pictures(FACES, plan.faces, plan.prompts, 4790), *_of(plan), own.known, own.judging))


def _table(people: Sequence[SStar], own: Tools, tell: Tell, seed: int, subject_steps: float = 1.0) -> dict[str, Any]:
    plan = design()
    pairs = enumerate(zip(*_of(plan), strict=True))
    asked = [Request(PROMPTS[p], (people[f],), 1000 * seed + i, subject_steps) for i, (f, p) in pairs]
    return _columns(judge(draw(own.pipe, asked, tell("pictures")), *_of(plan), own.known, own.judging))


def _of(plan: Design) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return plan.faces, plan.prompts


def _columns(judged: Judged) -> dict[str, Any]:
    columns = {name: values.round(_DIGITS).tolist() for name, values in judged.columns.items()}
    yaw = judged.geometry[:, 0].round(_DIGITS).tolist()
    return {**columns, "yaw": [None if math.isnan(degrees) else degrees for degrees in yaw]}


def _best_of(people: Sequence[SStar], own: Tools, tell: Tell, seed: int) -> dict[str, float]:
    """N -> mean hMean of the best of N (Face2Diffusion, Fig. 7)."""
    most = max(BEST_OF)
    asked = [(face, prompt) for face in range(_BEST_FACES) for prompt in _BEST_PROMPTS for _ in range(most)]
    requests = [Request(PROMPTS[p], (people[f],), 50_000 + 1000 * seed + i) for i, (f, p) in enumerate(asked)]
    faces, prompts = zip(*asked, strict=True)
    judged = judge(draw(own.pipe, requests, tell("best of N")), faces, prompts, own.known, own.judging)
    numbers = [i % most for i in range(len(asked))]
    return {str(n): value for n, value in best_of_n(judged.columns["hmean"], asked, numbers).items()}


def _expressions(networks: tuple[Network, Network], own: Tools, tell: Tell, seed: int) -> dict[str, float]:
    """Coefficient -> correlation of the expression of a reference picture with the one that is drawn (Fig. 8)."""
    donors = _EXPRESSION_DONORS
    order = generator(seed, NOISE, 0).permutation(donors.count)
    people = encode_photos(FACES, *networks, expressions_of(donors, own.recon)[torch.from_numpy(order)])
    asked = [
        Request(f"a photo of {MARKER}", (person,), 70_000 + 1000 * seed + i) for i, person in enumerate(people * 3)
    ]
    pictures = draw(own.pipe, asked, tell("expressions"))
    points = [largest_face(own.judging, rgb) for rgb in pictures]
    at = [i for i, face in enumerate(points) if face is not None]
    if not at:
        return dict.fromkeys(COEFFICIENTS, 0.0)
    drawn = own.judging.geometry.measure([pictures[i] for i in at], [points[i] for i in at])[:, 3:]
    wanted = donors.rendered.expression[order][[i % len(people) for i in at]]
    return {name: _correlation(wanted[:, k], drawn[:, k]) for name, k in _PLACES.items()}


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
