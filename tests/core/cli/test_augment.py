"""`augment`: from a list of names to editing data, on a small model made on the spot, killed and gone on with."""

import json
import time

import numpy as np
import pytest

from f2d_core.augment.store import HEAD, KEPT, PICTURES
from f2d_core.augment.texts import EXAMPLE_NAMES
from f2d_core.backends.diffusers import load_pipeline
from f2d_core.backends.pictures import DiffusersPictures
from f2d_core.cli import augment as command
from f2d_core.image import read_image
from f2d_core.ports import PictureRequest, Sampling
from f2d_core.weights import read_weights
from tests.support.augment_process import stand_in, start_command

# diffusers 0.42 under numpy 2, at every scheduler of the stand-in.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def names(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("Ada Lovelace\nMark Twain\nlovelace, ada\nMarie Curie\n", encoding="utf-8")
    return file


@pytest.fixture
def options(names, weights, model, tmp_path, monkeypatch):
    """Of a run that makes four faces and eight edits of 64 px."""
    stand_in(command, monkeypatch.setattr)
    (tmp_path / "prompts.txt").write_text("# mine\n1. S* as a chef\nS* wearing a hat\n", encoding="utf-8")
    (tmp_path / "held_out.txt").write_text("Marie Curie\n", encoding="utf-8")
    files = {
        **{"--out": tmp_path / "aug", "--model": model, "--identity": weights / "msid.safetensors"},
        **{"--clip": weights / "clip", "--prompts": tmp_path / "prompts.txt", "--held-out": tmp_path / "held_out.txt"},
        **{"--size": 64, "--steps": 2, "--min-face-px": 16, "--faces-per-name": 2, "--device": "cpu"},
    }
    return [names, *(part for option in files.items() for part in option), "--only-my-prompts"]


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_become_editing_data(f2d, options, model, weights, tmp_path):
    code, out, err = f2d("augment", *options)

    assert code == 0, err
    folder = tmp_path / "aug"
    assert "2 of 8 edited pictures kept, of 4 source faces" in out and f"Look at {folder / 'report.png'}" in out
    head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    assert head["names"] == ["Ada Lovelace", "Mark Twain"] and head["held_out_names"][0]["text"] == "Marie Curie"
    assert head["merged_names"][0] == {"line": 3, "text": "ada lovelace", "into": "Ada Lovelace", "rule": "same name"}
    encoder = read_weights(weights / "msid.safetensors")
    assert head["scores"]["identity"] == ["MSID encoder (not independent: S* is made with it)", encoder.sha256]
    edits = [line for line in lines(folder, PICTURES) if line["kind"] == "edit"]
    assert all(-1 <= line["identity"] <= 1 and line["kept"] == (line["path"] in _kept(folder)) for line in edits)
    assert len({line["identity"] for line in edits}) == 8
    maker = DiffusersPictures(load_pipeline(model, device="cpu"))
    assert head["models"]["pictures"] == maker.key
    picture = maker.make(PictureRequest(edits[3]["request"], edits[3]["seed"]), Sampling("ddim", 2, 7.5, 64, 64))
    assert np.array_equal(read_image(folder / edits[3]["path"]), picture) and picture.std() > 1


def _kept(folder):
    return {line["image"] for line in lines(folder, KEPT)}


def test_killed_again_and_again_it_ends_the_same(options, tmp_path):
    """SIGKILL when there are so many pictures and scores, 12 and 8 in all, and a little later."""
    folders = {name: tmp_path / name for name in ("whole", "killed")}

    def run(name, enough=None):
        """enough: lines of the journal, after which the process is killed."""
        arguments = [str(folders[name]) if option == tmp_path / "aug" else str(option) for option in options]
        process = start_command(arguments)
        journal, end = folders[name] / "work" / "0_of_1.jsonl", time.monotonic() + 120
        while process.is_alive() and time.monotonic() < end:
            if enough is not None and journal.exists() and journal.read_bytes().count(b"\n") >= enough:
                process.kill()
            process.join(0.005)
        return process.exitcode

    assert run("whole") == 0
    kills = [run("killed", enough) for enough in (1, 8, 13)]
    assert kills[:2] == [-9, -9] and run("killed") == 0
    assert content(folders["killed"]) == content(folders["whole"])


def test_shares_add_up(f2d, options, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = f2d("augment", *options)
    assert code == 0 and out == "" and "Share 1 of 2 is done" in err and "run the same again" in err
    code, out, _ = f2d("augment", *options, "--shard", "0/2")
    assert code == 0 and "2 of 8 edited pictures kept" in out


def test_other_settings_and_another_model_are_refused(refused, f2d, options):
    assert f2d("augment", *options)[0] == 0
    assert "steps: 2, now 3" in refused("augment", *options, "--steps", 3)
    assert "face_prompt" in refused("augment", *options, "--face-prompt", "a photo of {name}")
    code, out, _ = f2d("augment", *options, "--keep", 0.5)
    assert code == 0 and "4 of 8 edited pictures kept" in out


def test_the_plan_is_told_without_any_model(f2d, names):
    code, out, _ = f2d("augment", names, "--plan")
    assert code == 0
    assert "3 names; 1 merged, 0 held out" in out
    assert "line 3, ada lovelace: merged into Ada Lovelace (same name)" in out
    assert "8 editing prompts" in out and "S* as a wizard, looking at the camera" in out
    assert "12 source pictures and up to 96 edited ones of 512 x 512 px, 30 steps each; 25% of the edited" in out


def test_example_names_can_be_used(f2d, tmp_path):
    code, out, _ = f2d("augment", "--example-names")
    file = tmp_path / "example.txt"
    file.write_text(out, encoding="utf-8")
    assert code == 0 and f"{len(EXAMPLE_NAMES)} names; 0 merged" in f2d("augment", file, "--plan")[1]


def test_mistakes_are_told_in_one_line(refused, options, names, weights, tmp_path):
    assert "The list of names is missing" in refused("augment")
    assert "--out, --model, --identity, --clip" in refused("augment", names)
    assert "Cannot read the names" in refused("augment", tmp_path / "nobody.txt", "--plan")
    assert "--shard is 3: expected two numbers" in refused("augment", names, "--plan", "--shard", "3")
    assert "The shard is 2 of 2" in refused("augment", names, "--plan", "--shard", "2/2")
    (tmp_path / "bad.txt").write_text("as a chef", encoding="utf-8")
    assert "cannot be used: expected S*" in refused("augment", names, "--plan", "--prompts", tmp_path / "bad.txt")
    assert "expected a multiple of 8" in refused("augment", *options, "--size", 100)
    wrong = [weights / "recon.safetensors" if option == weights / "msid.safetensors" else option for option in options]
    assert "recon.safetensors" in refused("augment", *wrong)
    (tmp_path / "held out").mkdir()
    assert "no pictures of held-out faces" in refused("augment", *options, "--held-out-faces", tmp_path / "held out")
