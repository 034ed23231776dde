"""The whole protocol on a small model: killed with SIGKILL it goes on, and ends with the same tables, byte for byte."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from f2d_core.evaluate.work import rests
from f2d_core.image import read_image, write_png
from f2d_core.testing import tiny_mapping_state_dict
from f2d_core.weights import write_safetensors
from tests.support.evaluate_process import start, write_world

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TABLES = ("pictures.csv", "methods.csv", "results.json", "results.md", "index.html")
PICTURES = 2 * 2 * 4 * 2  # methods, faces, prompts with the reference, numbers
SECONDS = 150
SIGKILL = -9


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The command's arguments but for --out."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The results of an unbroken run."""
    out = tmp_path_factory.mktemp("whole")
    finish(world, out)
    return out


def finish(world, out, *options, environment=None):
    process = start([*world, "--out", str(out), *options], environment, out / "log.txt")
    process.join(SECONDS)
    assert process.exitcode == 0, (out / "log.txt").read_text()


def pictures(out):
    return sorted(path.relative_to(out / "pictures") for path in (out / "pictures").rglob("*.png"))


def require_same(out, whole):
    assert pictures(out) == pictures(whole) and len(pictures(out)) == PICTURES
    for name in pictures(out):
        assert (out / "pictures" / name).read_bytes() == (whole / "pictures" / name).read_bytes()
    for name in TABLES:
        assert (out / "report" / name).read_bytes() == (whole / "report" / name).read_bytes(), name
    assert not list(rests(out)), "rests of killed runs"


def until(condition, process):
    deadline = time.monotonic() + SECONDS
    while process.exitcode is None and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_three_times_and_resumed_it_gives_the_same_report(world, whole, tmp_path):
    """Twice while pictures are made, each of which must stay whole, and once while they are scored."""
    moments = random.Random(3)
    kept: dict[Path, bytes] = {}
    for goal in (7, 19):
        process = start([*world, "--out", str(tmp_path)], log=tmp_path / "log.txt")
        until(lambda goal=goal: len(pictures(tmp_path)) >= goal, process)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == SIGKILL
        for name, content in kept.items():
            assert (tmp_path / "pictures" / name).read_bytes() == content, "a picture was made twice"
        kept = {name: (tmp_path / "pictures" / name).read_bytes() for name in pictures(tmp_path)}
        assert goal <= len(kept) < PICTURES
        assert all(read_image(tmp_path / "pictures" / name).shape == (64, 64, 3) for name in kept)
    process = start([*world, "--out", str(tmp_path)], log=tmp_path / "log.txt")
    until(lambda: len(list((tmp_path / "features").rglob("*.safetensors"))) >= 3, process)
    process.kill()
    process.join()
    assert process.exitcode == SIGKILL and not (tmp_path / "report" / "index.html").exists()
    finish(world, tmp_path)
    require_same(tmp_path, whole)


def test_two_processes_give_the_same_as_one(world, whole, tmp_path):
    """With the environment that torchrun gives its processes."""
    processes = [
        start([*world, "--out", str(tmp_path)], {"RANK": str(rank), "WORLD_SIZE": "2"}, tmp_path / f"{rank}.txt")
        for rank in range(2)
    ]
    for process in processes:
        process.join(SECONDS)
    logs = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], logs
    assert all(f"part {rank + 1} of 2: 16 pictures to make" in log for rank, log in enumerate(logs))
    assert "index.html" in logs[0] and "index.html" not in logs[1]
    require_same(tmp_path, whole)


def test_parts_made_one_after_the_other_give_the_same(world, whole, tmp_path):
    finish(world, tmp_path, "--shard", "2/3")
    assert len(pictures(tmp_path)) == 11 and not (tmp_path / "report").exists()
    assert "the same command without --shard makes the report" in (tmp_path / "log.txt").read_text()
    finish(world, tmp_path)
    require_same(tmp_path, whole)


def test_a_finished_run_makes_scores_and_decodes_nothing_again(world, whole, tmp_path):
    """Not even the model is there any more."""
    shutil.copytree(whole, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "features").rglob("*.safetensors")}
    without_model = list(world)
    at = without_model.index("--model")
    finish([*without_model[:at], *without_model[at + 2 :]], tmp_path / "out")
    log = (tmp_path / "out" / "log.txt").read_text().split("index.html")[1]
    assert "to make" not in log and "Loading" in log
    found = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "features").rglob("*.safetensors")}
    assert found == times
    require_same(tmp_path / "out", whole)


def test_a_finished_run_is_not_reported_for_another_mapping(world, whole, tmp_path):
    other = {key: value + 1 for key, value in tiny_mapping_state_dict().items()}
    write_safetensors(tmp_path / "other.safetensors", other)
    shutil.copytree(whole, tmp_path / "out")
    process = start([*world, "--out", str(tmp_path / "out"), "--mapping", str(tmp_path / "other.safetensors")],
                    log=tmp_path / "log.txt")  # fmt: skip
    process.join(SECONDS)
    assert process.exitcode == 2
    assert "made with other settings: method face2diffusion mapping: " in (tmp_path / "log.txt").read_text()


def test_photos_without_a_face_are_told_before_the_first_picture_and_may_be_replaced(world, tmp_path):
    faces = tmp_path / "faces"
    shutil.copytree(world[world.index("--faces") + 1], faces)
    for name in ("x.png", "y.png"):
        write_png(faces / name, np.zeros((96, 96, 3), np.uint8))
    arguments = [*world, "--out", str(tmp_path / "out"), "--faces", str(faces), "--set", "pictures=1", "--make-only"]
    arguments += ["--methods", "face2diffusion"]
    process = start(arguments, log=tmp_path / "log.txt")
    process.join(SECONDS)
    assert process.exitcode != 0 and not (tmp_path / "out" / "pictures").exists()
    assert "x.png: " in (log := (tmp_path / "log.txt").read_text()) and "1 more of the photos" in log
    (faces / "y.png").unlink()
    shutil.copy(faces / "person 0.png", faces / "x.png")
    process = start(arguments, log=tmp_path / "log.txt")
    process.join(SECONDS)
    assert process.exitcode == 0, (tmp_path / "log.txt").read_text()


def test_pictures_differ_by_face_prompt_seed_and_method(whole):
    shown = {name: read_image(whole / "pictures" / name) for name in pictures(whole)}
    assert len({rgb.tobytes() for rgb in shown.values()}) == PICTURES
    assert all(np.std(rgb) > 10 for rgb in shown.values())
