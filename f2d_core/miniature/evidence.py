"""The papers' tables again, in the miniature world: train every mapping with three seeds, draw, judge, compare.

    python -m f2d_core.miniature.evidence --work runs/miniature [--out docs/evidence] [--seeds 0 1 2]

Takes the shipped base model, judges and encoder, and makes everything else in the folder of --work. What is finished is
not done again; a run that was interrupted goes on from its checkpoint. Two things are done side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..augment.plan import Shard
from ..backends.diffusers import load_tokenizer
from ..errors import WeightsError
from ..files import write_atomically
from ..weights import file_sha256
from .encoders import GENERAL, MSID, PLAIN, level_auc
from .evidence_tables import write_tables
from .judging import HELPERS, Helpers, Judging, load_helpers, load_judges
from .make import (
    MAPPING_FILE,
    MODEL,
    MSID_FILE,
    RECON_FILE,
    SEED,
    WEIGHTS,
    carried_out,
    encoder,
    judge_files,
    place_of,
    side_by_side,
)
from .mappings import (
    PHOTO_FOLDER,
    RECIPES,
    TRAINING_PHOTOS,
    Place,
    make_mapping,
    make_triplets,
    photo_cache,
    triplet_cache,
)
from .photos import write_photos
from .trials import Tools, tools, trial, truth
from .watching import Lines

EXTRA = {"face2diffusion": ("best_of", "expression"), "reconstruction": ("delayed",)}
_TRIALS, _TRUTH_FILE = "trials", "truth.json"


def run(work: Path, out: Path, seeds: Sequence[int]) -> list[Path]:
    """Everything that is not done yet, then the tables. Raises F2DError."""
    work = work / f"evidence-{_digest()[:8]}"
    write_photos(TRAINING_PHOTOS, work / PHOTO_FOLDER)  # once, before several processes read them
    side_by_side([partial(_encoders, work), partial(_helpers, work)])
    side_by_side([partial(_triplets, work, shard) for shard in (0, 1)])
    _triplets(work, 0)  # whoever finds all of it done ranks the pictures
    side_by_side([partial(_caches, work, names) for names in _CACHES])
    tasks = [partial(_trained_and_measured, work, name, seed) for seed in seeds for name in RECIPES]
    found = side_by_side([partial(_others, work, seeds), *tasks])
    levels, true = found[0]
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in RECIPES}
    for result, name in zip(found[1:], [name for _ in seeds for name in RECIPES], strict=True):
        by_name[name].append(result)
    return write_tables(out, by_name, levels, true)


def _digest() -> str:
    """Of the shipped weights: what was measured with others lies in a folder of its own. Raises WeightsError."""
    require_weights()
    files = [path for path in sorted(WEIGHTS.rglob("*.safetensors")) if path.name != MAPPING_FILE]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def require_weights(*others: str) -> None:
    """Raise WeightsError unless base model and encoders are there, and the other files of WEIGHTS named."""
    needed = (f"{MODEL}/model_index.json", MSID_FILE, RECON_FILE, *others)
    missing = [name for name in needed if not (WEIGHTS / name).is_file()]
    if missing:
        raise WeightsError(
            f"{WEIGHTS} lacks {', '.join(missing)}; expected the weights of the small world. Make them: make miniature."
        )


def _encoders(work: Path) -> None:
    for kind in (PLAIN, GENERAL):
        encoder(kind, SEED, work, WEIGHTS, Lines())


def _helpers(work: Path) -> None:
    judge_files(HELPERS, work, work / "weights" / "judges", Lines())


def _triplets(work: Path, shard: int) -> None:
    make_triplets(_place(work), _loaded_helpers(work), Lines(), Shard(shard, 2))


# Recipes whose data differ, so that nothing is prepared twice, and by two processes at once never.
_CACHES = (("face2diffusion", "general_encoder"), ("arcface", "dreamidentity"))


def _caches(work: Path, names: Sequence[str]) -> None:
    place, helpers = _place(work), _loaded_helpers(work)
    for recipe in (RECIPES[name] for name in names):
        own = encoder(recipe.encoder, SEED, work, WEIGHTS, Lines())
        photo_cache(recipe, own, place, Lines())
        if recipe.triplets:
            triplet_cache(recipe, own, place, helpers, Lines())


def _trained_and_measured(work: Path, name: str, seed: int) -> dict[str, Any]:
    recipe, place = RECIPES[name], _place(work)
    own = encoder(recipe.encoder, SEED, work, WEIGHTS, Lines())
    mapping = make_mapping(recipe, seed, own, place, _loaded_helpers(work), Lines())
    result = work / _TRIALS / f"{name}-{seed}.json"
    return trial(recipe, seed, own, mapping, result, _tools(work), Lines(), EXTRA.get(name, ()))


def _others(work: Path, seeds: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(encoder -> layer -> AUC of each seed, what the judges say of true renders)."""
    levels = {kind: [_levels(work, kind, seed) for seed in seeds] for kind in (MSID, PLAIN)}
    return levels, _kept(work / _TRIALS / _TRUTH_FILE, lambda: truth(_tools(work)))


def _levels(work: Path, kind: str, seed: int) -> dict[str, float]:
    def measured() -> dict[str, float]:
        file = encoder(kind, seed, work, WEIGHTS, Lines())
        return {str(layer): auc for layer, auc in level_auc(file, work / "encoders", Lines()).items()}

    return _kept(work / _TRIALS / f"levels-{kind}-{seed}.json", measured)


def _kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `file` holds, made if it is not there."""
    if not file.is_file():
        text = json.dumps(make())
        write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))
    return json.loads(file.read_text(encoding="utf-8"))


def _place(work: Path) -> Place:
    return place_of(work, WEIGHTS)


@cache
def _loaded_helpers(work: Path) -> Helpers:
    return load_helpers(work / "weights" / "judges", load_tokenizer(WEIGHTS / MODEL / "tokenizer"))


@cache
def _tools(work: Path) -> Tools:
    return tools(_place(work), shipped_judges())


def shipped_judges() -> Judging:
    """Raises WeightsError."""
    return load_judges(WEIGHTS / "judges", load_tokenizer(WEIGHTS / MODEL / "tokenizer"))


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where trainings are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/evidence"), metavar="DIR", help="where the tables go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings (default: 0 1 2)")
    options = parser.parse_args(argv)
    return carried_out("evidence", partial(run, options.work, options.out, options.seeds))


if __name__ == "__main__":
    sys.exit(main())
