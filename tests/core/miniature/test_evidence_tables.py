"""Tables of made-up trials: means, spreads, what holds, and the paper's numbers beside ours."""

import json

import numpy as np
import pytest

from f2d_core.evaluate.metrics import BEST_OF
from f2d_core.miniature.evidence_page import markdown, sections, write_tables
from f2d_core.miniature.evidence_tables import TABLES_OF_OURS, all_values, paper_table, table_values
from f2d_core.miniature.mappings import RECIPES
from f2d_core.miniature.trials import COEFFICIENTS, design

COUNT = len(design().faces)


def part(level, seed):
    """Scores around `level`; those of scenes 0.1 lower."""
    noise = np.random.default_rng(seed).normal(0, 0.02, COUNT)
    values = level + noise - 0.1 * (design().groups == "scenes")
    columns = {name: values.tolist() for name in ("identity", "text", "gmean", "hmean", "nearest", "prompt", "found")}
    return {**columns, "yaw": noise.tolist()}


def trials(levels):
    """Recipe -> three trials; "reconstruction" delayed is 0.05 better than not."""
    found = {}
    for name in RECIPES:
        level = levels.get(name, 0.5)
        found[name] = [
            {
                "seed": seed,
                "plain": part(level, seed),
                "delayed": part(level + 0.05, seed),
                "best_of": {str(n): 0.1 * n for n in BEST_OF},
                "expression": dict.fromkeys(COEFFICIENTS, 0.4),
            }
            for seed in range(3)
        ]
    return found


TRUE = part(0.8, 9)
LEVELS = {
    "msid": [{"1": 97.0, "2": 98.5, "3": 97.0}, {"1": 96.0, "2": 98.0, "3": 96.0}],
    "plain": [{"1": 91.0, "2": 98.2, "3": 99.0}] * 2,
}


def table(name):
    return next(table for table in TABLES_OF_OURS if table.name == name)


def test_every_row_and_metric_is_in_the_paper():
    for own in TABLES_OF_OURS:
        paper = paper_table(*own.place)
        for row in own.rows:
            assert row.trials in RECIPES
            assert set(own.paper_metrics.values()) <= set(paper.rows[row.paper])
        for claim in own.claims:
            theirs = own.paper_metrics.get(claim.metric)
            if theirs and claim.group == "all":
                better, worse = (paper.rows[own.rows[i].paper][theirs] for i in (claim.better, claim.worse))
                assert better > worse, (own.name, claim)


def test_means_and_spreads_are_over_the_seeds():
    found = table_values(table("objective"), trials({"masked": 0.3}), TRUE)
    rows = {row["title"]: row for row in found["rows"]}

    by_seed = [np.mean(part(0.3, seed)["gmean"]) for seed in range(3)]
    assert rows["masked reconstruction"]["groups"]["all"]["gmean"] == pytest.approx(
        [np.mean(by_seed), np.std(by_seed, ddof=1)]
    )
    scenes = rows["masked reconstruction"]["groups"]["scenes"]["gmean"][0]
    assert scenes == pytest.approx(0.2, abs=0.01)
    assert rows["masked reconstruction"]["paper"]["gmean"] == 0.1282
    assert (
        rows["reconstruction, delayed"]["groups"]["all"]["text"][0] > rows["reconstruction"]["groups"]["all"]["text"][0]
    )


def test_an_ordering_holds_by_its_difference_and_is_certain_by_its_interval():
    better = trials({"face2diffusion": 0.6, "masked": 0.4})
    claims = table_values(table("objective"), better, TRUE)["claims"]
    against_masked = next(c for c in claims if c["worse"] == "masked reconstruction" and c["group"] == "all")
    assert against_masked["holds"] and against_masked["certain"]
    assert against_masked["difference"] == pytest.approx(0.2, abs=1e-6)
    assert against_masked["paper_difference"] == pytest.approx(0.2252 - 0.1282)

    turned = table_values(table("objective"), trials({"face2diffusion": 0.4, "masked": 0.6}), TRUE)["claims"]
    against_masked = next(c for c in turned if c["worse"] == "masked reconstruction" and c["group"] == "all")
    assert not against_masked["holds"] and against_masked["certain"]

    equal = table_values(table("words"), trials({}), TRUE)["claims"][0]
    assert not equal["certain"]


def test_every_table_ends_with_what_the_judges_say_of_true_renders():
    last = table_values(table("objective"), trials({}), TRUE)["rows"][-1]

    assert last["title"] == "true renders" and last["paper"] == {}
    assert last["groups"]["all"]["text"] == [pytest.approx(np.mean(TRUE["text"])), None]
    assert last["groups"]["scenes"]["text"][0] == pytest.approx(0.7, abs=0.01)


def test_shallow_levels_poses_and_expressions_are_compared_seed_by_seed():
    claims = all_values(trials({}), LEVELS, TRUE)["other_claims"]
    first, second = claims["levels"]  # and no third: the paper says nothing of the deepest

    assert first["claim"] == "layer 1: MSID > plain ArcFace"
    assert first["difference"] == pytest.approx(5.5) and first["spread"] == pytest.approx(0.5**0.5)
    assert first["holds"] and first["certain"] and first["paper_difference"] == pytest.approx(5.47)
    assert not second["certain"] and second["paper_difference"] is None  # +0.3 and -0.2
    assert claims["reference"][0]["difference"] == pytest.approx(0.4)
    assert claims["pose"][0]["difference"] == 0.0  # all recipes have the same made-up poses


def test_a_single_seed_has_no_spread_and_is_never_certain_of_levels():
    one = {name: own[:1] for name, own in trials({}).items()}
    whole = all_values(one, {kind: own[:1] for kind, own in LEVELS.items()}, TRUE)

    assert whole["levels"]["MSID"]["1"] == [97.0, None]
    assert not any(own["certain"] for group in whole["other_claims"].values() for own in group)
    assert "±" not in markdown(whole)


def test_everything_is_written(tmp_path):
    whole = all_values(trials({}), LEVELS, TRUE)
    files = write_tables(tmp_path, whole)

    assert all(file.stat().st_size > 500 for file in files)
    kept = json.loads((tmp_path / "evidence.json").read_text())
    assert kept["seeds"] == [0, 1, 2] and kept["judges"]["true"]["identity"][0] == pytest.approx(
        np.mean(TRUE["identity"])
    )
    text = (tmp_path / "evidence.md").read_text()
    assert text == markdown(kept)
    assert "| holds" in text and "| does not hold, within chance |" in text
    assert {f"{own.name}.png" for own in sections(whole)} == {file.name for file in files if file.suffix == ".png"}


def test_every_face_is_in_ten_prompts_and_every_prompt_with_five_faces():
    plan = design()

    assert np.bincount(plan.faces).tolist() == [10] * 20
    assert np.bincount(plan.prompts).tolist() == [5] * 40
