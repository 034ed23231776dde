"""Killed with SIGKILL at any moment, a run continues to the same bits and leaves nothing unreadable."""

import os
import random
import time

import pytest
import torch

from f2d_core.train.checkpoint import load_checkpoint
from f2d_core.weights import read_tensors
from tests.support.train_process import start_run

SETTINGS = {"steps": 24, "checkpoint_every": 1, "keep_last": 2, "batch": 4, "micro_batch": 2, "deterministic": True,
            "validate_every": 3}  # fmt: skip
FILES = ("mapping.safetensors", "mapping_ema.safetensors")
KILLS = 25
STRIDE = int(os.environ.get("F2D_KILL_STRIDE", "10"))  # 1: before every file call of two saves, some minutes
SIGKILL = -9


def finish(folder):
    process = start_run(folder, SETTINGS)
    process.join(60)
    assert process.exitcode == 0


def require_nothing_unreadable(folder):
    """Every mapping file is whole, and the newest checkpoint is the newest folder or the one before it."""
    for file in folder.glob("mapping*.safetensors"):
        read_tensors(file)
    for file in folder.glob("checkpoints/step_*/*.safetensors"):
        read_tensors(file)
    load_checkpoint(folder / "checkpoints")


def require_same(folder, whole):
    for file in FILES:
        found, expected = read_tensors(folder / file)[0], read_tensors(whole / file)[0]
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not [path for path in folder.rglob(".*")], "rests of killed saves"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder of an uninterrupted run, the seconds it took)"""
    finish(tmp_path_factory.mktemp("first"))  # brings torch into the server that processes start from
    folder = tmp_path_factory.mktemp("whole")
    start = time.monotonic()
    finish(folder)
    return folder, time.monotonic() - start


def test_killed_at_25_random_moments(whole, tmp_path):
    """The moments lie in whatever is left of the run, so later runs are cut up further."""
    expected, seconds = whole
    moments = random.Random(5)
    kills, runs = 0, 0
    while kills < KILLS:
        folder = tmp_path / str(runs)
        runs += 1
        while kills < KILLS:
            process = start_run(folder, SETTINGS)
            process.join(moments.uniform(0, 0.5 * seconds))
            if process.exitcode is not None:
                break  # it was done before the moment came
            process.kill()
            process.join()
            if process.exitcode != SIGKILL:
                break  # it was done in the moment between
            kills += 1
            require_nothing_unreadable(folder)
        finish(folder)
        require_same(folder, expected)


def test_killed_before_file_calls_of_a_save(whole, tmp_path):
    """From the begin of the run to the end of its second save, one kill before every n-th file call."""
    expected, _ = whole
    number, saved = 1, 0
    while saved < 2:
        folder = tmp_path / str(number)
        process = start_run(folder, SETTINGS, kill_at=number)
        process.join(60)
        assert process.exitcode == SIGKILL
        require_nothing_unreadable(folder)
        checkpoint = load_checkpoint(folder / "checkpoints")
        saved = 0 if checkpoint is None else checkpoint.step
        number += STRIDE
    assert number > 20
    for last in (1, 1 + (number // STRIDE // 2) * STRIDE, number - STRIDE):
        finish(tmp_path / str(last))
        require_same(tmp_path / str(last), expected)
