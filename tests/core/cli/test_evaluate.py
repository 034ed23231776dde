"""The options of `evaluate` and what it says about mistakes; whole runs are in tests/core/evaluate/test_evaluate.py."""

import shutil

import numpy as np
import pytest

from f2d_core.cli import evaluate as command
from f2d_core.cli import main
from f2d_core.errors import MissingPackageError
from f2d_core.evaluate.extractors import Extractors
from f2d_core.image import write_png
from tests.support.evaluate_process import PHOTO_PX, PLAN, FakeDetector, judges


@pytest.fixture
def world(tmp_path, monkeypatch):
    """world(*options) -> the exit code of a run with a plan and two faces; judges and detector are fakes."""
    for i in range(2):
        rgb = np.random.RandomState(i).randint(0, 256, (PHOTO_PX, PHOTO_PX, 3)).astype(np.uint8)
        write_png(tmp_path / "faces" / f"p{i}.png", rgb)
    (tmp_path / "plan.toml").write_text('faces = "faces"\n' + PLAN, encoding="utf-8")
    monkeypatch.setattr(command, "usable_extractors", lambda folders, device: judges())
    monkeypatch.setattr(command, "find_extractors", lambda folders: {})
    monkeypatch.setattr(command, "chosen_detector", lambda name, weights: FakeDetector())
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    plan, out = str(tmp_path / "plan.toml"), str(tmp_path / "out")
    return lambda *options: main(["evaluate", plan, "--out", out, *map(str, options)])


@pytest.fixture
def theirs(tmp_path):
    """A folder of pictures made by somebody else, all of them."""
    for face in ("p0", "p1"):
        for k, key in enumerate(("_reference", "chef", "king", "venice")):
            for n in range(2):
                rgb = np.random.RandomState(50 + k * 2 + n).randint(30, 256, (48, 48, 3)).astype(np.uint8)
                write_png(tmp_path / "theirs" / face / key / f"{n}.png", rgb)
    return tmp_path / "theirs"


def test_the_names_of_folders_are_listed(world, capsys, tmp_path):
    assert world("--list") == 0
    text = capsys.readouterr().out
    assert all(part in text for part in ("FACE/PROMPT/N.png, 2 of each", "  p1", "venice", "A photo of S* in Venice"))
    assert "_reference" in text and "Methods: face2diffusion, delayed" in text
    assert not (tmp_path / "out").exists()


def test_pictures_of_others_are_scored_without_any_model(world, theirs, tmp_path, capsys):
    assert world("--images", f"other={theirs}", "--methods", "other") == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "out" / "report" / "index.html")
    rows = (tmp_path / "out" / "report" / "methods.csv").read_text().splitlines()
    assert len(rows) == 2 and rows[1].startswith("other,12,")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").rglob("pictures/other"))


def test_two_folders_are_compared_and_the_folder_names_the_method(world, theirs, tmp_path):
    second = tmp_path / "second"
    shutil.copytree(theirs, second)
    assert world("--images", theirs, "--images", second, "--methods", "theirs", "second") == 0
    text = (tmp_path / "out" / "report" / "results.md").read_text()
    assert "| hMean | theirs | second | +0.0000 |" in text


def test_one_judge_that_cannot_be_used_is_said_once_and_the_others_go_on(world, theirs, tmp_path, monkeypatch, capsys):
    found = judges()
    problem = "facenet.pt is damaged. Get it again."
    less = {kind: judge for kind, judge in found.identity.items() if kind != "facenet"}
    monkeypatch.setattr(
        command,
        "usable_extractors",
        lambda folders, device: Extractors(less, found.image_text, None, {"facenet": problem}),
    )
    assert world("--images", theirs, "--methods", "theirs") == 0
    assert capsys.readouterr().err.count(problem) == 1
    head = (tmp_path / "out" / "report" / "methods.csv").read_text().splitlines()[0]
    assert "adaface" in head and "siglip" in head and "facenet" not in head
    assert f"Not measured: {problem}" in (tmp_path / "out" / "report" / "results.md").read_text()


def test_without_a_detector_the_text_is_scored(world, theirs, tmp_path, monkeypatch, capsys):
    def none(name, weights):
        raise MissingPackageError("No face detector can be used: OpenCV is not installed.")

    monkeypatch.setattr(command, "chosen_detector", none)
    assert world("--images", theirs, "--methods", "theirs") == 0
    assert "Identity cannot be judged without a face detector. No face detector" in capsys.readouterr().err
    head = (tmp_path / "out" / "report" / "methods.csv").read_text().splitlines()[0]
    assert "clip" in head and "adaface" not in head


def test_no_judge_at_all(world, theirs, monkeypatch, capsys):
    monkeypatch.setattr(command, "usable_extractors", lambda folders, device: Extractors())
    assert world("--images", theirs, "--methods", "theirs") == 2
    assert "no network to judge them is in any folder" in capsys.readouterr().err


def test_real_judges_are_looked_for_and_missing_files_named(world, theirs, monkeypatch, capsys, tmp_path):
    monkeypatch.undo()
    assert world("--images", theirs, "--methods", "theirs", "--extractors", tmp_path) == 2
    said = capsys.readouterr().err
    assert all(said.count(name) == 1 for name in ("adaface_ir50_ms1mv2.ckpt", "sphere20a_20171020.pth"))
    assert f"no network to judge them is in {tmp_path}" in said


def test_fid_against_real_pictures(world, theirs, tmp_path):
    assert world("--images", theirs, "--methods", "theirs", "--real", tmp_path / "faces") == 0
    assert (tmp_path / "out" / "report" / "methods.csv").read_text().splitlines()[0].endswith(",fid,kid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "There are 32 pictures to make; expected --model (diffusers) or --server (ComfyUI)"),
        (("--methods", "nope"), 'no method "nope"; expected one of: face2diffusion, delayed'),
        (("--shard", "3/2"), "--shard is 3/2; expected I/N"),
        (("--faces", "no-such"), "no-such is no folder"),
        (("--set", "steps"), "--set steps is no setting"),
        (("--set", "stepz=3"), 'There is no key "stepz"'),
        (("--set", 'faces=""'), "There is no faces; expected a folder with one photo of each face. Give --faces"),
        (("--images", "x=no-such", "--methods", "x"), "no-such, the pictures of \"x\", is no folder"),
        (("--images", "../x=no-such", "--methods", "../x"), 'The method "../x" names a folder and cannot'),
        (("--model", "somewhere", "--msid", "m"), "There is no mapping; expected the mapping file. Give --mapping"),
        (("--model", "somewhere", "--msid", "m", "--mapping", "f"), "/m: No such file or directory. Put msid.pt"),
        (("--server", "no address"), "--server no address is no address"),
        (("--server", "127.0.0.1:1"), "No server answers: http://127.0.0.1:1 does not answer"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_code_2(world, options, message, capsys):
    assert world(*options) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_plan_that_is_not_there(tmp_path, capsys):
    assert main(["evaluate", "nope.toml", "--out", str(tmp_path)]) == 2
    assert "Cannot read the plan nope.toml" in capsys.readouterr().err
