"""What is measured once and written down is not measured again: the tables are made of it, on any machine."""

import json

import numpy as np
import pytest

from f2d_core.miniature import evidence, trials
from f2d_core.miniature.encoders import MSID, PLAIN
from f2d_core.miniature.gallery import Judged
from f2d_core.miniature.mappings import RECIPES, SETTINGS

SEEDS = (0, 1)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The folder of a run whose measurements are all there; what it would compute is an error."""
    folder = tmp_path / "out" / f"measured-{evidence._digest()[:8]}"
    for seed in SEEDS:
        for name in RECIPES:
            parts = {key: {} for key in ("plain", *evidence._extra(name))}
            trials.write_json(evidence._trial_file(folder, name, seed), {"seed": seed, "recipe": name, **parts})
        for kind in (MSID, PLAIN):
            trials.write_json(evidence._levels_file(folder, kind, seed), {"4": 90.0 + seed})
    trials.write_json(folder / evidence._TRUTH_FILE, {"identity": [0.7]})
    monkeypatch.setattr(evidence, "side_by_side", lambda lanes: [lane() for lane in lanes])
    monkeypatch.setattr(evidence, "_prepare", lambda work: pytest.fail("photos were prepared again"))
    monkeypatch.setattr(evidence, "_trained_and_measured", lambda *own: pytest.fail(f"{own} was measured again"))
    return folder


def tables_of(measured, monkeypatch):
    given = []
    monkeypatch.setattr(evidence, "all_values", lambda *arguments: arguments)
    monkeypatch.setattr(evidence, "write_tables", lambda *arguments: given.append(arguments) or [])
    evidence.run(measured.parent / "work", measured.parent, SEEDS)
    return given[0]


def test_tables_are_made_of_what_is_there(measured, monkeypatch):
    out, (by_name, levels, true) = tables_of(measured, monkeypatch)

    assert out == measured.parent and list(by_name) == list(RECIPES)
    assert [trial["seed"] for trial in by_name["masked"]] == list(SEEDS)
    assert [trial["recipe"] for trial in by_name["one_word"]] == ["one_word"] * 2
    assert levels == {MSID: [{"4": 90.0}, {"4": 91.0}], PLAIN: [{"4": 90.0}, {"4": 91.0}]}
    assert true == {"identity": [0.7]}


def test_a_part_that_is_missing_is_measured_and_nothing_else(measured, monkeypatch):
    file = evidence._trial_file(measured, "reconstruction", 1)
    trials.write_json(file, {"seed": 1, "recipe": "reconstruction", "plain": {}})
    done, whole = [], {"seed": 1, "recipe": "reconstruction", "plain": {}, "delayed": {}}
    monkeypatch.setattr(evidence, "_prepare", lambda work: done.append("prepared"))

    def finish(work, folder, name, seed):
        done.append((name, seed))
        trials.write_json(evidence._trial_file(folder, name, seed), whole)

    monkeypatch.setattr(evidence, "_trained_and_measured", finish)

    _, (by_name, _, _) = tables_of(measured, monkeypatch)
    assert done == ["prepared", ("reconstruction", 1)]
    assert by_name["reconstruction"][1] == whole


def test_other_settings_have_a_folder_of_their_own(monkeypatch):
    before = evidence._digest()
    monkeypatch.setitem(SETTINGS, "learning_rate", 2e-3)

    assert evidence._digest() != before


def test_a_face_that_was_not_found_has_no_yaw_in_the_file(tmp_path):
    judged = Judged({"identity": np.array([0.123456789, 0.0])}, np.array([[12.3456789], [np.nan]]))

    written = json.loads(trials.write_json(tmp_path / "a.json", trials._columns(judged)).read_text())
    assert written == {"identity": [0.12346, 0.0], "yaw": [12.34568, None]}


def test_the_precision_of_the_machine_changes_no_folder(monkeypatch):
    found = []
    for precision in ("fp32", "bf16"):
        monkeypatch.setattr("f2d_core.miniature.mappings.precision", lambda precision=precision: precision)
        found.append(evidence._digest())

    assert found[0] == found[1]
