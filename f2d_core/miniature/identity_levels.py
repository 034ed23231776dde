"""Does the multi-scale loss make shallow levels tell people apart? Face2Diffusion's Fig. 4, on invented people.

    python -m f2d_core.miniature.identity_levels --out runs/identity-levels [--seeds 0 1 2] [--workers 2]

Trains the same small encoder with plain ArcFace on its deepest level, with one ArcFace on the concatenation of its
levels (Eq. 3), and with a head per level, by the ordinary trainer on an ordinary identity set; measures the pair AUC
of every level on people it has not seen; writes table.md, results.json and a histogram per level. What is finished is
not done again; a run that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..cli import INTERRUPTED, USER_ERROR
from ..cli.progress import Bar, announce, note
from ..data.identities import open_identities
from ..errors import F2DError
from ..evaluate.verification import DRAWS, LevelResult, area_under_curve, cosine, extract, triplets, verify_levels
from ..files import write_atomically
from ..msid import MSIDEncoder
from ..networks import load_network
from ..train import MSIDTrainConfig, train_msid
from ..train.msid_config import CONCAT, DEEPEST, SUM
from .histograms import Panel, draw_panels
from .identity_set import IdentitySet, write_identity_set

TITLES = {DEEPEST: "plain ArcFace", CONCAT: "multi-scale (Eq. 3)", SUM: "a head per level"}
RESULTS_FILE, TABLE_FILE, RESULT_FILE = "results.json", "table.md", "result.json"
_TRAINING, _HELD_OUT = "training", "held-out"


# Chosen on other people (seeds 900 and 901) and another training seed (100).
_PEOPLE = IdentitySet(seed=4100, people=240, pictures=20, side=48)
_OTHERS = IdentitySet(seed=4200, people=240, pictures=12, side=48)
_SETTINGS = MSIDTrainConfig(
    image_size=48,
    width=64,
    depth=4,
    scale=32.0,
    margin=0.3,
    batch=64,
    micro_batch=64,
    steps=1000,
    precision="fp32",
    verify_every=0,
    workers=1,
    checkpoint_every=200,
    keep_last=1,
    licence="free: made of invented people",
)


@dataclass(frozen=True)
class Experiment:
    """The people trained on, others to be told apart, and the encoder: 4 blocks of width 64, a level after each."""

    training: IdentitySet = _PEOPLE
    held_out: IdentitySet = _OTHERS
    settings: MSIDTrainConfig = _SETTINGS


@dataclass(frozen=True)
class Result:
    """Pair AUC in percent. auc: by level, counted from 1. standardised: with every feature brought to mean 0 and
    deviation 1 over the people trained on, which a level's batch norm does and a raw class token lacks. v_id: of all
    that the encoder gives. seconds, cpu_seconds: of training, None when it was interrupted."""

    loss: str
    seed: int
    auc: Mapping[int, float]
    standardised: Mapping[int, float]
    v_id: float
    seconds: float | None
    cpu_seconds: float | None


def run(
    experiment: Experiment, folder: Path, seeds: Sequence[int], losses: Sequence[str], workers: int
) -> list[Result]:
    """Everything, or what is left of it; the results in the order of losses and seeds. Raises F2DError."""
    for name, wanted in ((_TRAINING, experiment.training), (_HELD_OUT, experiment.held_out)):
        announce(f"Drawing {wanted.people} people for {name.replace('-', ' ')}")
        write_identity_set(wanted, folder / name, Bar("people"))
    tasks = [(experiment, folder, loss, seed) for loss in losses for seed in seeds]
    if workers == 1:
        results = [train_and_measure(*task) for task in tasks]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            results = list(pool.map(train_and_measure, *zip(*tasks, strict=True)))
    write_report(folder, results)
    return results


def train_and_measure(experiment: Experiment, folder: Path, loss: str, seed: int) -> Result:
    """One encoder, on one thread. Raises F2DError."""
    torch.set_num_threads(1)
    place = folder / "runs" / f"{loss}-{seed}"
    if (place / RESULT_FILE).is_file():
        return _read(place / RESULT_FILE)
    whole, before = not place.exists(), (time.perf_counter(), time.process_time())
    config = replace(experiment.settings, loss=loss, seed=seed)
    trained = train_msid(open_identities(folder / _TRAINING, config.image_size), config, place)
    spent = [round(now - then, 1) for now, then in zip((time.perf_counter(), time.process_time()), before, strict=True)]
    network = load_network(trained.encoder, "msid").module
    levels = verify_levels(network, open_identities(folder / _HELD_OUT, config.image_size))
    _write_cosines(place, levels)
    auc = {layer: 100 * value for layer, value in levels.auc.items()}
    result = Result(loss, seed, auc, *further(network, folder), *(spent if whole else (None, None)))
    write_atomically(place / RESULT_FILE, lambda path: path.write_text(json.dumps(asdict(result)), encoding="utf-8"))
    note(f"{TITLES[loss]}, seed {seed}: " + " ".join(f"{value:.2f}" for value in auc.values()))
    return result


def further(network: MSIDEncoder, folder: Path) -> tuple[dict[int, float], float]:
    """(standardised, v_id) of a `Result`."""
    side = network.config.image_size
    data, known = (open_identities(folder / name, side) for name in (_HELD_OUT, _TRAINING))
    found, usual = (extract(network, people.pictures, len(people)) for people in (data, known))
    v_id = torch.cat([found[level + 1] for level in network.config.levels], dim=1)
    plain = {layer: (found[layer] - own.mean(dim=0)) / own.std(dim=0) for layer, own in usual.items()}
    return {layer: _auc(features, data.labels) for layer, features in plain.items()}, _auc(v_id, data.labels)


def _auc(features: torch.Tensor, labels: np.ndarray) -> float:
    """In percent, over the draws of `verify_levels`."""
    areas = []
    for anchors, alike, apart in (triplets(labels, 0, draw) for draw in range(DRAWS)):
        pairs = (cosine(features[anchors], features[others]) for others in (alike, apart))
        areas.append(area_under_curve(*pairs))
    return 100 * statistics.mean(areas)


def _read(path: Path) -> Result:
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("auc", "standardised"):
        values[name] = {int(layer): value for layer, value in values[name].items()}
    return Result(**values)


def _write_cosines(place: Path, levels: LevelResult) -> None:
    values = {f"{kind}_{layer}": cosines[layer] for kind, cosines in _kinds(levels) for layer in cosines}
    write_atomically(place / "cosines.npz", lambda path: _savez(path, values))


def _kinds(levels: LevelResult) -> tuple[tuple[str, Mapping[int, np.ndarray]], ...]:
    return ("same", levels.same), ("other", levels.other)


def _savez(path: Path, values: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez(file, **values)


# --- what is written ---


def write_report(folder: Path, results: Sequence[Result]) -> None:
    """results.json, table.md and level-N.png. Raises OutputError."""
    text = json.dumps([asdict(result) for result in results], indent=1)
    write_atomically(folder / RESULTS_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    write_atomically(folder / TABLE_FILE, lambda path: path.write_text(table(results), encoding="utf-8"))
    for layer in results[0].auc:
        draw_level(folder, layer, results)


def table(results: Sequence[Result]) -> str:
    """Mean and spread (standard deviation over the seeds) of every level and of v_id, and what a loss changes against
    plain ArcFace with the same seed, in Markdown."""
    layers = list(results[0].auc)
    lines = [f"| pair AUC, % | {' | '.join(f'level {layer}' for layer in layers)} | v_id |"]
    lines.append("|---|" + "---:|" * (len(layers) + 1))
    rows = {result.loss: [r for r in results if r.loss == result.loss] for result in results}
    plain = {result.seed: _values(result) for result in rows.get(DEEPEST, [])}
    for loss, runs in rows.items():
        lines.append(_row(TITLES[loss], [_values(run) for run in runs], ""))
        if loss == DEEPEST:
            standard = [[*run.standardised.values(), run.v_id] for run in runs]
            lines.append(_row(f"{TITLES[loss]}, standardised", standard, ""))
    for loss in (loss for loss in rows if loss != DEEPEST):
        if gains := [_values(run) - plain[run.seed] for run in rows[loss] if run.seed in plain]:
            lines.append(_row(f"{TITLES[loss]} minus plain", gains, "+"))
    return "\n".join(lines) + "\n"


def _values(result: Result) -> np.ndarray:
    return np.array([*result.auc.values(), result.v_id])


def _row(title: str, runs: Sequence[Sequence[float] | np.ndarray], sign: str) -> str:
    cells = [f"{statistics.mean(own):{sign}.2f} ± {_spread(own):.2f}" for own in np.transpose(runs).tolist()]
    return f"| {title} | {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def draw_level(folder: Path, layer: int, results: Sequence[Result]) -> Path:
    """level-N.png: the cosines of pairs of one person and of two people, all seeds together, a panel for each loss."""
    panels = []
    for name in dict.fromkeys(result.loss for result in results):
        chosen = [result for result in results if result.loss == name]
        files = [np.load(folder / "runs" / f"{name}-{result.seed}" / "cosines.npz") for result in chosen]
        same, other = (np.concatenate([file[f"{kind}_{layer}"] for file in files]) for kind in ("same", "other"))
        auc = statistics.mean(result.auc[layer] for result in chosen)
        panels.append(Panel(f"{TITLES[name]}, level {layer}: {auc:.2f}", same, other))
    return draw_panels(folder / f"level-{layer}.png", panels)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings (default: 0 1 2)")
    parser.add_argument("--losses", nargs="+", choices=list(TITLES), default=list(TITLES), help="default: all three")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side, a thread each (default: 2)")
    options = parser.parse_args(argv)
    try:
        results = run(Experiment(), options.out, options.seeds, options.losses, options.workers)
    except F2DError as error:
        note(f"identity_levels: {error}")
        return USER_ERROR
    except KeyboardInterrupt:
        note("Stopped; the same command goes on.")
        return INTERRUPTED
    note(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
