"""Killed with SIGKILL at random moments, a run that trains an encoder continues to the same bits."""

import random
import time

import torch

from f2d_core.weights import read_tensors
from tests.support.msid_process import start_run

SETTINGS = {"steps": 30, "checkpoint_every": 1, "deterministic": True, "class_rate": 0.8}
KILLS = 6


def finish(folder):
    process = start_run(folder, SETTINGS)
    process.join(60)
    assert process.exitcode == 0


def kill_at_moments(folder, moments, seconds):
    """Start the run again and again until it is done, killing it on the way; the number of kills."""
    for kills in range(KILLS):
        process = start_run(folder, SETTINGS)
        process.join(moments.uniform(0.1, 0.5) * seconds)
        process.kill()
        process.join()
        if process.exitcode == 0:
            return kills
    finish(folder)
    return KILLS


def test_killed_at_random_moments(tmp_path):
    finish(tmp_path / "first")  # brings torch into the server that processes start from
    began = time.monotonic()
    finish(tmp_path / "whole")
    seconds, moments, kills, runs = time.monotonic() - began, random.Random(2), 0, 0
    while kills < KILLS:
        cut, runs = tmp_path / f"cut{runs}", runs + 1
        kills += kill_at_moments(cut, moments, seconds)
        require_same(cut, tmp_path / "whole")
        assert runs < 4 * KILLS


def require_same(cut, whole):
    found, expected = (read_tensors(folder / "msid.safetensors")[0] for folder in (cut, whole))
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert not list(cut.rglob(".*"))
