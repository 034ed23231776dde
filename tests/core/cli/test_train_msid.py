"""`train-msid`: settings from a file and the command line, data in its forms, stops, several processes."""

import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from f2d_core.cli import train_msid
from f2d_core.networks import load_network
from f2d_core.train import MSIDTrainConfig, read_metrics, read_toml
from f2d_core.train.settings import settings_from
from f2d_core.weights import read_weights
from tests.support.identities import SIDE, encoded, faces, insightface_set, write_folders, write_records

REPO = Path(__file__).resolve().parents[3]
SMALL = {"image_size": SIDE, "patch": 8, "width": 32, "depth": 4, "batch": 12, "micro_batch": 6, "steps": 4,
         "scale": 16, "workers": 1, "device": "cpu"}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_folders(folder, people=4, each=4)
    return folder


def sets(tmp_path, data, **changes):
    pairs = {**SMALL, "data": data, "runs": tmp_path / "runs", **changes}
    return [part for name, value in pairs.items() for part in ("--set", f"{name}={value}")]


def test_a_run_verified_at_its_end(f2d, people, tmp_path):
    pictures = [encoded(picture) for picture in faces(4, 1)]
    (tmp_path / "toy set.bin").write_bytes(pickle.dumps((pictures, [True, False])))
    pairs = f" {tmp_path / 'toy set.bin'} ,"
    code, out, err = f2d("train-msid", *sets(tmp_path, people, pairs=pairs, folder=people, name="anna"))
    encoder = tmp_path / "runs" / "anna" / "msid.safetensors"
    assert code == 0, err
    assert out == f"{encoder}: step 4\n"
    assert re.search(
        r"step 4/4: loss \d+\.\d{4}, cosine -?0\.\d{3}, toy set_accuracy [01]\.\d{4}, .*images/s, 0 s left", err
    )
    assert load_network(encoder, "msid").module.config.levels == (0, 1, 2, 3)
    (row,) = [row for row in read_metrics(encoder.parent)[-1:] if row["kind"] == "validation"]
    assert {"toy set_accuracy", "people_auc_1", "people_auc_4"} <= set(row)
    assert len(list((encoder.parent / "verification" / "step_000000004").glob("*.png"))) == 4
    assert read_toml(encoder.parent / "config.toml")["steps"] == 4


def test_records_are_trained_on_like_folders(f2d, people, tmp_path):
    pictures = [encoded(picture) for picture in faces(4, 4)]
    write_records(tmp_path / "train.rec", insightface_set(pictures, 4))
    assert f2d("train-msid", *sets(tmp_path, tmp_path / "train.rec", name="records"))[0] == 0
    assert f2d("train-msid", *sets(tmp_path, people, name="folders"))[0] == 0
    found, expected = (
        read_weights(tmp_path / "runs" / name / "msid.safetensors").sha256 for name in ("records", "folders")
    )
    assert found == expected


def test_defaults_are_a_file_with_every_setting(f2d, tmp_path):
    code, out, _ = f2d("train-msid", "--defaults")
    (tmp_path / "all.toml").write_text(out, encoding="utf-8")
    values = read_toml(tmp_path / "all.toml")
    places = {name: values.pop(name) for name in ("data", "pairs", "folder", "runs", "name", "device")}
    assert code == 0 and places["runs"] == "runs" and settings_from(MSIDTrainConfig, values) == MSIDTrainConfig()


def test_a_signal_stops_and_saves_and_the_same_command_goes_on(f2d, people, tmp_path, monkeypatch):
    shown = train_msid.StatusLine.__call__

    def signalled(self, report):
        shown(self, report)
        if report.result.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train_msid.StatusLine, "__call__", signalled)
    code, out, err = f2d("train-msid", *sets(tmp_path, people))
    assert (code, out.endswith("step 2\n")) == (130, True) and "the same command goes on" in err
    monkeypatch.undo()
    assert f2d("train-msid", *sets(tmp_path, people))[0] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ""}, "The setting data is missing"),
        ({"data": "nowhere"}, "nowhere does not exist, expected a folder"),
        ({"image_size": 32}, "16 x 16 px, expected an aligned face crop of 32 x 32"),
        ({"colour": "red"}, 'There is no setting "colour"'),
        ({"pair": "lfw.bin"}, ", mlp, name, pairs, patch, "),
        ({"pairs": "nowhere.bin"}, "Cannot read nowhere.bin"),
        ({"name": "../elsewhere"}, 'The run name "../elsewhere" cannot be a file name'),
    ],
)
def test_mistakes_are_one_line(refused, people, tmp_path, changes, message):
    assert message in refused("train-msid", *sets(tmp_path, changes.pop("data", people), **changes))


def test_two_processes_share_the_people(people, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "f2d_core", "train-msid", *sets(tmp_path, people, folder=people, verify_every=2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 4") == 1  # process 0 alone speaks
    assert read_metrics(tmp_path / "runs" / "msid")[-1]["kind"] in ("epoch", "validation")


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(f2d, people, tmp_path, name):
    code, _, err = f2d("train-msid", *sets(tmp_path, people, device=name))
    assert code == 2 and err == f'f2d: The device "{name}" cannot be used here; expected cpu, cuda or mps.\n'


def test_a_run_that_never_got_anywhere_may_be_mended(f2d, people, tmp_path):
    """A wrong size is told by the first picture, when the run's folder is there already."""
    code, _, err = f2d("train-msid", *sets(tmp_path, people, image_size=2 * SIDE))
    assert code == 2 and "is 16 x 16 px, expected an aligned face crop of 32 x 32" in err
    code, _, err = f2d("train-msid", *sets(tmp_path, people))
    assert code == 0, err
    assert read_toml(tmp_path / "runs" / "msid" / "config.toml")["image_size"] == SIDE
    code, _, err = f2d("train-msid", *sets(tmp_path, people, width=64))
    assert code == 2 and "was begun with other settings: width: 32 -> 64" in err
    assert read_toml(tmp_path / "runs" / "msid" / "config.toml")["width"] == 32
