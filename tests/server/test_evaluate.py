"""`evaluate` over HTTP: two real servers make the pictures of one plan, and one of them is killed in the middle."""

import os
import subprocess
import sys
import time

import pytest

from f2d_core.backends.comfyui_server import ComfyUIServer, Files, Job
from f2d_core.evaluate.servers import Crew
from f2d_core.image import read_image
from f2d_core.ports import PictureRequest, Sampling
from tests.support import base_directory

PORTRAIT = "astronaut.png"
PICTURES = 2 * (5 + 1) * 4  # methods, prompts with the reference, numbers
SECONDS = 150
PLAN = """
pictures = 4
steps = 2
width = 64
height = 64
[methods.face2diffusion]
[methods.delayed]
subject_steps = 0.6
[prompts]
job = ["S* as a chef", "S* as a king", "S* as a pilot", "S* as a cowboy", "S* as a DJ"]
"""


@pytest.fixture
def command(photos, tmp_path):
    """command(servers, …) -> the arguments of a run that only makes pictures, of one face."""
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "Ästronaut.png").write_bytes((photos / PORTRAIT).read_bytes())
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")

    def arguments(servers, *more):
        places = [part for one in servers for part in ("--server", f"127.0.0.1:{one._port}")]
        files = ["--checkpoint", base_directory.CHECKPOINT, "--msid", "msid.pt", "--mapping", "mapping.pt"]
        options = ["--out", str(tmp_path / "out"), "--faces", str(tmp_path / "faces"), "--make-only", *files]
        return [sys.executable, "-m", "f2d_core", "evaluate", str(tmp_path / "plan.toml"), *options, *places, *more]

    return arguments


def made(tmp_path):
    return sorted((tmp_path / "out" / "pictures").rglob("*.png"))


def run(arguments):
    return subprocess.run(arguments, cwd=base_directory.REPO, capture_output=True, text=True, timeout=SECONDS)


def prompts_run(one):
    """How many prompts a server has finished."""
    return len(one.json("/history"))


def test_two_servers_and_one_killed_in_the_middle(start, command, tmp_path, yunet_file):
    first, second = start(), start()
    with (tmp_path / "log.txt").open("w") as log:
        working = subprocess.Popen(command([first, second]), cwd=base_directory.REPO, stdout=log, stderr=log)
    deadline = time.monotonic() + SECONDS
    # Both have made something, and more is to come.
    while not (len(made(tmp_path)) >= 6 and prompts_run(first) and prompts_run(second)):
        assert time.monotonic() < deadline and working.poll() is None, (tmp_path / "log.txt").read_text()
        time.sleep(0.05)
    os.kill(first._process.pid, 9)
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in made(tmp_path)}
    assert len(kept) < PICTURES
    assert working.wait(SECONDS) == 0, (tmp_path / "log.txt").read_text()

    told = (tmp_path / "log.txt").read_text()
    assert "48 pictures to make, 0 of 48 are there" in told
    assert f"127.0.0.1:{first._port} does not answer" in told and "its work goes to others" in told
    pictures = made(tmp_path)
    assert len(pictures) == PICTURES  # nothing lost
    assert all(path.read_bytes() == content and path.stat().st_mtime_ns == at for path, (content, at) in kept.items())
    counts = [int(part.split(" made ")[1]) for part in told.strip().splitlines()[-1].split("; ")]
    assert sum(counts) == PICTURES and all(counts)  # nothing double
    shown = [read_image(path) for path in pictures]
    assert all(rgb.shape == (64, 64, 3) and rgb.std() > 10 for rgb in shown)
    assert len({rgb.tobytes() for rgb in shown}) == PICTURES

    again = run(command([second]))
    assert again.returncode == 0 and "to make" not in again.stderr
    changed = run(command([second], "--set", "steps=3"))
    assert changed.returncode == 2
    assert "were made with other settings: steps: 2 -> 3." in changed.stderr


def test_delayed_conditioning_and_errors_on_one_server(server, photos, tmp_path, yunet_file):
    """The ends of the range: no step delayed is the plain graph, all steps delayed is the class prompt."""
    from PIL import Image

    Image.new("RGB", (256, 256)).save(tmp_path / "empty.png")

    def picture(photo=photos / PORTRAIT, prompt="a photo of S* as a chef", files=None, **changes):
        files = files or Files(base_directory.CHECKPOINT, "msid.pt", "mapping.pt")
        strength = changes.pop("strength", 1.0)
        sampler = changes.pop("sampler", "euler_ancestral")
        request = PictureRequest(prompt, 3, **changes)
        job = Job(photo, request, Sampling(sampler, steps=4, width=64, height=64), files, strength)
        found = []
        Crew([ComfyUIServer(f"127.0.0.1:{server._port}", lambda work: work)], lambda _, rgb: found.append(rgb)).run(
            [job]
        )
        return found[0].tobytes()

    for sampler in ("euler_ancestral", "ddim"):
        shown = [picture(subject_steps=part, sampler=sampler) for part in (1.0, 0.5, 0.0)]
        assert len(set(shown)) == 3
        assert shown[2] == picture(strength=0.0, sampler=sampler)  # "a person" has as many words as S*
        assert shown[0] == picture(sampler=sampler)
    for changes, message in (
        ({"photo": tmp_path / "empty.png"}, r"empty.png, on http.*node F2DEncodeFace: No face was found"),
        ({"prompt": "no one"}, r'node F2DInject: The marker "S\*" does not stand in the prompt'),
        ({"files": Files("no.ckpt")}, r'has no checkpoint "no.ckpt"; it has small-sd15.ckpt'),
        ({"files": Files("", "no.pt")}, r'has no msid "no.pt"; it has .*msid.pt'),
    ):
        with pytest.raises(Exception, match=message):
            picture(**changes)
    assert server.json("/queue") == {"queue_running": [], "queue_pending": []}
