"""Killed with SIGKILL before any file call, or with many processes at once, the result is that of an unbroken run."""

import os
from pathlib import Path

import pytest

from f2d_core.augment.store import KEPT
from tests.support.augment_process import start

STRIDE = int(os.environ.get("F2D_KILL_STRIDE", "5"))  # 1: before every file call, some minutes
SIGKILL = -9


def finish(folder, **options):
    process = start(folder, **options)
    process.join(60)
    assert process.exitcode == 0


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "aug"
    finish(folder)
    return content(folder)


def test_killed_before_file_calls(whole, tmp_path):
    """One run for every n-th call of an unbroken run, then once more to its end."""
    assert len([path for path in whole if path.startswith("edited/")]) == 4
    number, killed = 1, 0
    while True:
        folder = tmp_path / str(number)
        process = start(folder, kill_at=number)
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == SIGKILL
        killed += 1
        if (folder / KEPT).exists():
            assert (folder / KEPT).read_bytes() == whole[KEPT]  # whole or not at all
        finish(folder)
        assert content(folder) == whole, number
        number += STRIDE
    assert killed >= 3


def test_killed_again_and_again(whole, tmp_path):
    """Every run gets some file calls further; the last one has to have enough for the lists and the sheet."""
    folder, kills = tmp_path / "aug", 0
    while True:
        process = start(folder, kill_at=24)
        process.join(60)
        if process.exitcode == 0:
            break
        kills += 1
    assert kills >= 2 and content(folder) == whole


def test_processes_that_run_at_once_share_the_work(whole, tmp_path):
    processes = [start(tmp_path / "aug", shard=(i, 3)) for i in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert content(tmp_path / "aug") == whole


def test_processes_with_the_same_share_do_no_harm(whole, tmp_path):
    processes = [start(tmp_path / "aug") for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert content(tmp_path / "aug") == whole
