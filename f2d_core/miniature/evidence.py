"""The papers' tables again, in the miniature world: train every mapping with three seeds, draw, judge, compare.

    python -m f2d_core.miniature.evidence --work runs/miniature [--out docs/evidence] [--seeds 0 1 2]

Takes the shipped base model, judges and encoder, and makes everything else in the folder of --work. What is measured is
kept beside the tables, in a folder named after weights and settings, and not measured again; a training that was
interrupted goes on from its checkpoint. Two things are done side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..augment.plan import Shard
from ..backends.diffusers import load_tokenizer
from ..errors import WeightsError
from ..weights import file_sha256
from .encoders import GENERAL, MSID, PLAIN, level_auc
from .evidence_page import write_tables
from .evidence_tables import all_values
from .gallery import GUIDANCE
from .gallery import STEPS as SAMPLING_STEPS
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
from .trials import Tools, left_to_measure, read_json, tools, trial, truth, write_json
from .watching import Lines

EXTRA = {"face2diffusion": ("best_of", "expression"), "reconstruction": ("delayed",)}
_WITH_LEVELS, _TRUTH_FILE = (MSID, PLAIN), "truth.json"


def run(work: Path, out: Path, seeds: Sequence[int]) -> list[Path]:
    """Everything that is not done yet, then the tables. Raises F2DError."""
    digest = _digest()[:8]
    work, measured = work / f"evidence-{digest}", out / f"measured-{digest}"
    trials = [(name, seed) for seed in seeds for name in RECIPES]
    left = [own for own in trials if left_to_measure(_trial_file(measured, *own), _extra(own[0]))]
    if left:
        _prepare(work)
    to_do = [partial(_trained_and_measured, work, measured, *own) for own in left]
    side_by_side([partial(_others, work, measured, seeds), *to_do])
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in RECIPES}
    for name, seed in trials:
        by_name[name].append(read_json(_trial_file(measured, name, seed)))
    levels = {kind: [read_json(_levels_file(measured, kind, seed)) for seed in seeds] for kind in _WITH_LEVELS}
    return write_tables(out, all_values(by_name, levels, read_json(measured / _TRUTH_FILE)))


def _prepare(work: Path) -> None:
    """What all mappings are trained on."""
    write_photos(TRAINING_PHOTOS, work / PHOTO_FOLDER)  # once, before several processes read them
    side_by_side([partial(_encoders, work), partial(_helpers, work)])
    side_by_side([partial(_triplets, work, shard) for shard in (0, 1)])
    _triplets(work, 0)  # whoever finds all of it done ranks the pictures
    side_by_side([partial(_caches, work, names) for names in _CACHES])


def _trial_file(measured: Path, name: str, seed: int) -> Path:
    return measured / f"{name}-{seed}.json"


def _levels_file(measured: Path, kind: str, seed: int) -> Path:
    return measured / f"levels-{kind}-{seed}.json"


def _extra(name: str) -> tuple[str, ...]:
    """What is measured of a recipe besides its table."""
    return EXTRA.get(name, ())


def _digest() -> str:
    """Of the shipped weights and of all settings but the precision, which is the machine's: what was measured with
    others lies in a folder of its own. Raises WeightsError."""
    require_weights()
    files = [path for path in sorted(WEIGHTS.rglob("*.safetensors")) if path.name != MAPPING_FILE]
    configs = [{**asdict(recipe.config(SEED)), "precision": ""} for recipe in RECIPES.values()]
    settings = repr((RECIPES, configs, TRAINING_PHOTOS, SAMPLING_STEPS, GUIDANCE))
    return hashlib.sha256("".join([*map(file_sha256, files), settings]).encode()).hexdigest()


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


def _trained_and_measured(work: Path, measured: Path, name: str, seed: int) -> None:
    recipe, place = RECIPES[name], _place(work)
    own = encoder(recipe.encoder, SEED, work, WEIGHTS, Lines())
    mapping = make_mapping(recipe, seed, own, place, _loaded_helpers(work), Lines())
    trial(recipe, seed, own, mapping, _trial_file(measured, name, seed), _tools(work), Lines(), _extra(name))


def _others(work: Path, measured: Path, seeds: Sequence[int]) -> None:
    """The AUC of each layer of the encoders, and what the judges say of true renders."""
    for kind in _WITH_LEVELS:
        for seed in seeds:
            _keep(_levels_file(measured, kind, seed), partial(_levels, work, kind, seed))
    _keep(measured / _TRUTH_FILE, lambda: truth(_tools(work)))


def _levels(work: Path, kind: str, seed: int) -> dict[str, float]:
    file = encoder(kind, seed, work, WEIGHTS, Lines())
    return {str(layer): auc for layer, auc in level_auc(file, work / "encoders", Lines()).items()}


def _keep(file: Path, make: Callable[[], dict[str, Any]]) -> None:
    """Write what `make` gives, if it is not there."""
    if not file.is_file():
        write_json(file, make())


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
    return carried_out("evidence", partial(run, options.work, options.out, options.seeds), kept=True)


if __name__ == "__main__":
    sys.exit(main())
