"""A run that trains an encoder: what it leaves, stops, processes that come and go, and that it learns."""

import itertools
import json
import logging
import shutil

import pytest
import torch

from f2d_core.data.identities import Identities
from f2d_core.errors import DataError, SettingsError, TrainingError
from f2d_core.evaluate.verification import verify_levels
from f2d_core.msid import MSIDEncoder, build_msid
from f2d_core.networks import load_network
from f2d_core.state_dict import expected_shapes
from f2d_core.train import MSIDTrainConfig, read_metrics, train_msid
from f2d_core.train.checkpoint import load_checkpoint
from f2d_core.train.msid_run import watched_from, with_steps
from f2d_core.weights import convert, read_tensors, read_weights
from tests.support.identities import WITHOUT_GRADIENT, MemoryIdentities, config
from tests.support.msid_process import together, train_in_world


def run(folder, data=None, verify=None, progress=None, should_stop=None, **changes):
    data = data or MemoryIdentities()
    return train_msid(data, config(**changes), folder, verify=verify, progress=progress, should_stop=should_stop)


def weights(folder):
    return read_tensors(folder / "msid.safetensors")[0]


def same(found, expected):
    return all(torch.equal(value, expected[name]) for name, value in found.items())


def losses(folder):
    return [row["loss"] for row in read_metrics(folder) if row["kind"] == "train"]


@pytest.mark.parametrize(
    ("loss", "levels", "features"),
    [("concat", (0, 1, 2, 3), "msid"), ("sum", (0, 1, 2, 3), "msid"), ("deepest", (3,), "dreamidentity")],
)
def test_the_encoder_loads_like_any_other_and_says_where_it_comes_from(tmp_path, loss, levels, features):
    result = run(tmp_path, loss=loss, steps=2, licence="mine")
    network = load_network(result.encoder, "msid")
    assert network.module.config.levels == levels and network.licence == "mine"
    assert network.facts["features"] == features and network.facts["step"] == "2" and network.facts["seed"] == "3"
    assert network.facts["loss"] == f"arcface 0.2, scale 16, {loss}"
    assert network.facts["data_fingerprint"] == "memory 5 8 0"
    assert set(weights(tmp_path)) == set(expected_shapes(lambda: MSIDEncoder(network.module.config)))
    assert network.run(torch.zeros(1, 3, 16, 16)).shape == (1, 32 * len(levels))
    assert read_weights(convert(result.encoder, tmp_path / "other.safetensors")).metadata["features"] == features


@pytest.mark.parametrize("loss", ["concat", "sum", "deepest"])
def test_a_stopped_run_continues_to_the_same_bits(tmp_path, loss):
    run(tmp_path / "whole", loss=loss)
    done = []
    result = run(tmp_path / "cut", loss=loss, progress=done.append, should_stop=lambda: len(done) == 4)
    assert (result.finished, result.step) == (False, 4)
    assert run(tmp_path / "cut", loss=loss).finished
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    found, expected = (load_checkpoint(tmp_path / name / "checkpoints").tensors for name in ("cut", "whole"))
    assert all(same(found[file], tensors) for file, tensors in expected.items())
    assert [row["step"] for row in read_metrics(tmp_path / "cut") if row["kind"] == "train"] == list(range(1, 11))


def test_a_run_stopped_within_a_step_continues_to_the_same_bits(tmp_path):
    """Also the statistics of the batch norms, which the micro-batches of the step that is forgotten have changed."""
    run(tmp_path / "whole", steps=4)
    asked = itertools.count(1)
    result = run(tmp_path / "cut", steps=4, should_stop=lambda: next(asked) == 8)  # in the third step, before its 2nd
    assert (result.finished, result.step) == (False, 2)
    run(tmp_path / "cut", steps=4)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_processes_that_share_the_work_give_what_one_gives(tmp_path):
    """The batch norms see the same twelve faces in fours; only their running statistics are of one process' part."""
    run(tmp_path / "one", steps=4)
    together(3, train_in_world, tmp_path / "three", {"steps": 4})
    one, three = weights(tmp_path / "one"), weights(tmp_path / "three")
    heads = [load_checkpoint(tmp_path / name / "checkpoints").tensors for name in ("one", "three")]
    learnt = [name for name in one if "norms." not in name and name != WITHOUT_GRADIENT]
    for name in learnt:
        assert torch.allclose(three[name], one[name], atol=2e-4), name
    assert torch.allclose(heads[1]["heads.safetensors"]["head.0"], heads[0]["heads.safetensors"]["head.0"], atol=2e-4)
    assert heads[1]["moments.safetensors"]["exp_avg.head.0"].shape == (5, 128)


def test_processes_come_and_go(tmp_path):
    """Two processes stop, three go on; and two that stop and go on end at the bits of two that never stopped."""
    together(2, train_in_world, tmp_path / "whole", {"batch": 13})
    together(2, train_in_world, tmp_path / "same", {"batch": 13}, 4)
    assert load_checkpoint(tmp_path / "same" / "checkpoints").step == 4
    shutil.copytree(tmp_path / "same", tmp_path / "other")
    together(2, train_in_world, tmp_path / "same", {"batch": 13})
    together(3, train_in_world, tmp_path / "other", {"batch": 13})
    assert same(weights(tmp_path / "same"), weights(tmp_path / "whole"))
    assert load_checkpoint(tmp_path / "other" / "checkpoints").step == 10
    other, whole = (losses(tmp_path / name) for name in ("other", "whole"))
    assert other[:4] == whole[:4] and other[4] == pytest.approx(whole[4], rel=0.2) and len(other) == 10


def test_changed_settings_are_refused_and_free_ones_are_not(tmp_path):
    run(tmp_path, steps=4, should_stop=lambda: True)
    with pytest.raises(SettingsError, match="scale: 16.0 -> 8.0; micro_batch: 4 -> 6"):
        run(tmp_path, steps=4, micro_batch=6, scale=8.0)
    with pytest.raises(SettingsError, match="data: memory 5 8 0 -> memory 6 8 0"):
        run(tmp_path, MemoryIdentities(people=6), steps=4)
    assert run(tmp_path, steps=4, licence="other", workers=2, checkpoint_every=1).finished


def test_epochs_decide_how_many_steps(tmp_path):
    """40 faces in twelves: 3 epochs are 10 steps."""
    assert run(tmp_path, steps=0, epochs=3).step == 10
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 10
    epochs = [(row["epoch"], row["step"]) for row in read_metrics(tmp_path) if row["kind"] == "epoch"]
    assert epochs == [(1, 4), (2, 7), (3, 10)]


def test_shares_of_the_levels_are_written_and_bad_ones_are_said(tmp_path, monkeypatch, caplog):
    run(tmp_path / "good", steps=4)
    (row, *_) = [row for row in read_metrics(tmp_path / "good") if row["kind"] == "epoch"]
    assert sum(row[f"share_{i}"] for i in range(1, 5)) == pytest.approx(1, abs=1e-5)
    assert sum(row[f"class_share_{i}"] for i in range(1, 5)) == pytest.approx(1, abs=1e-5)
    assert not caplog.records
    spread = MSIDEncoder.__init__

    def uneven(self, *args):
        spread(self, *args)
        self.norms["layer_0"][1].weight.data.fill_(0.5)

    monkeypatch.setattr(MSIDEncoder, "__init__", uneven)
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "bad", steps=4)
    assert "the share of level 1: 0.0" in caplog.text and "outside 0.15 to 0.40" in caplog.text


@pytest.mark.parametrize("pictures", [5_822_653, 5_179_510, 490_623, 3_137_807])  # MS1MV2, MS1MV3, CASIA, VGGFace2
def test_a_run_may_count_as_stuck_at_the_end_of_the_fourth_epoch(pictures):
    """Of thirty: three of warm-up and one more. Its end and the first watched step are both rounded."""
    defaults = with_steps(MSIDTrainConfig(), pictures)
    ends = next(step for step in itertools.count(4 * pictures // 1024 - 2) if step * 1024 // pictures == 4)

    assert ends - 1 <= watched_from(defaults, pictures) <= ends


def test_a_stuck_run_stops_with_advice_and_is_saved(tmp_path):
    """4 steps an epoch, 2 of warm-up: the first end of an epoch after step 6 is step 7."""
    with pytest.raises(TrainingError, match=r"its mean loss is [\d.]+ at step 7, .*learning_rate \(0.0015\)") as caught:
        run(tmp_path, steps=20, stuck_loss=0.1)
    assert "cosface" in str(caught.value) and "\n" not in str(caught.value)
    assert load_checkpoint(tmp_path / "checkpoints").step == 7
    assert run(tmp_path, steps=20, stuck_loss=0.0).finished


def test_verification_is_told_and_changes_nothing(tmp_path):
    told, seen = [], []

    def verify(encoder, folder):
        seen.append((encoder.training, folder.name))
        encoder(torch.zeros(4, 3, 16, 16))
        return {"lfw_accuracy": 0.5}

    run(tmp_path / "with", verify=verify, progress=told.append, verify_every=2)
    run(tmp_path / "without")
    assert seen == [(False, "step_000000007")]
    assert told[5].validation is None and told[7].validation == {"lfw_accuracy": 0.5}
    assert same(weights(tmp_path / "with"), weights(tmp_path / "without"))


def test_a_damaged_picture_ends_the_run_and_is_named(tmp_path):
    class Damaged(MemoryIdentities):
        def picture(self, index):
            if index == 17:
                raise DataError("a.rec at byte 99 is damaged")
            return super().picture(index)

    with pytest.raises(DataError, match="byte 99"):
        run(tmp_path, Damaged())


def test_it_learns_to_tell_new_people_apart(tmp_path):
    """Thirty people are enough to learn that colours tell who it is, and light does not."""
    people = MemoryIdentities(people=30, each=8)
    strangers = MemoryIdentities(people=20, each=4, seed=9)
    settings = {"steps": 60, "batch": 60, "micro_batch": 30, "deterministic": True}
    run(tmp_path, people, **settings)
    rows = [row for row in read_metrics(tmp_path) if row["kind"] == "train"]
    assert rows[-1]["cosine"] > 0.3 > rows[0]["cosine"]
    found = verify_levels(build_msid(weights(tmp_path)), strangers, draws=3)
    assert all(value > 0.85 for value in found.auc.values()), found.auc


def test_identities_are_asked_for_more_than_one_person():
    class One:
        labels, fingerprint, title = torch.zeros(3, dtype=torch.int64).numpy(), "", "one"

    with pytest.raises(DataError, match="pictures of 1 people, expected at least 2"):
        Identities(One())
