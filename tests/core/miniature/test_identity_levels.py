"""The experiment end to end on a few people: drawn, trained, measured, written, and not done twice."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from f2d_core.miniature import identity_levels
from f2d_core.miniature.histograms import HEIGHT, WIDTH
from f2d_core.miniature.identity_levels import Experiment, Result, run, table
from f2d_core.miniature.identity_set import IdentitySet
from f2d_core.networks import load_network

PLAN = Experiment(
    training=IdentitySet(seed=1, people=6, pictures=6, side=16),
    held_out=IdentitySet(seed=2, people=8, pictures=3, side=16),
    settings=replace(
        Experiment().settings, image_size=16, width=32, depth=2, levels=2, batch=12, micro_batch=12, steps=4
    ),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return folder, run(PLAN, folder, seeds=[0, 1], losses=["deepest", "concat"], workers=1)


def test_every_level_of_every_run_is_measured(done):
    _, results = done

    assert [(r.loss, r.seed) for r in results] == [("deepest", 0), ("deepest", 1), ("concat", 0), ("concat", 1)]
    for result in results:
        assert set(result.auc) == set(result.standardised) == {1, 2}
        assert all(0 < value <= 100 for value in (*result.auc.values(), *result.standardised.values(), result.v_id))
    assert all(result.cpu_seconds is not None for result in results)


def test_levels_tell_invented_people_apart_even_when_hardly_trained(done):
    _, results = done

    assert all(value > 60 for result in results for value in result.auc.values())


def test_files(done):
    folder, results = done

    assert len(json.loads((folder / "results.json").read_text())) == 4
    assert (folder / "table.md").read_text() == table(results)
    for level in (1, 2):
        with Image.open(folder / f"level-{level}.png") as picture:
            assert picture.size == (2 * WIDTH, HEIGHT)


def test_what_is_finished_is_not_trained_again(done, monkeypatch):
    folder, results = done
    monkeypatch.setattr(identity_levels, "train_msid", None)

    assert run(PLAN, folder, seeds=[0, 1], losses=["deepest", "concat"], workers=1) == results


def test_the_table_by_hand():
    results = [
        Result(loss, seed, {1: auc + seed, 4: 99.0}, {1: 85.0, 4: 99.0}, 98.0, None, None)
        for loss, auc in (("deepest", 80.0), ("concat", 90.0))
        for seed in (0, 2)
    ]

    assert table(results).splitlines() == [
        "| pair AUC, % | level 1 | level 4 | v_id |",
        "|---|---:|---:|---:|",
        "| plain ArcFace | 81.00 ± 1.41 | 99.00 ± 0.00 | 98.00 ± 0.00 |",
        "| plain ArcFace, standardised | 85.00 ± 0.00 | 99.00 ± 0.00 | 98.00 ± 0.00 |",
        "| multi-scale (Eq. 3) | 91.00 ± 1.41 | 99.00 ± 0.00 | 98.00 ± 0.00 |",
        "| multi-scale (Eq. 3) minus plain | +10.00 ± 0.00 | +0.00 ± 0.00 | +0.00 ± 0.00 |",
    ]


def test_plain_arcface_gives_its_deepest_level(done):
    _, results = done

    assert all(result.v_id == pytest.approx(result.auc[2]) for result in results if result.loss == "deepest")
    assert all(result.v_id != pytest.approx(result.auc[2]) for result in results if result.loss == "concat")


def test_standardised_features_do_not_depend_on_shift_and_scale(done):
    """What it is for: a raw class token with a large common part tells people apart all the same."""
    folder, _ = done
    network = load_network(folder / "runs" / "deepest-0" / "msid.safetensors", "msid").module
    before, _ = identity_levels.further(network, folder)
    original = identity_levels.extract
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity_levels, "extract", lambda *a: {k: 3 * v + 7 for k, v in original(*a).items()})
        after, _ = identity_levels.further(network, folder)

    assert after == pytest.approx(before, abs=0.2)


def test_reported_people_are_not_those_of_the_choices():
    plan = Experiment()

    assert {plan.training.seed, plan.held_out.seed}.isdisjoint({900, 901})
    assert plan.training.seed != plan.held_out.seed
    assert min(plan.training.people, plan.held_out.people) >= 200


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    assert identity_levels.main(["--out", str(tmp_path / "file"), "--workers", "1"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "Cannot write" in said[-1] and not any("Traceback" in line for line in said)
