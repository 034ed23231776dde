"""Make Editing Triplets in process: noise in which a stand-in detector sees faces; cancelled and gone on with."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.augment import FakeDetector
from tests.support.extractors import FakeIdentity, FakeImageText

SIZE = 64


@pytest.fixture
def face_everywhere(host, monkeypatch):
    module = host.pack_module("nodes.augmentation")
    face = host.pack_module("f2d_core.detect").Face

    class Detector(FakeDetector):
        def detect(self, rgb, threshold):
            marked = rgb.copy()
            marked[0, 0] = 2
            return [face(f.box, f.points, f.score) for f in super().detect(marked, threshold)]

    monkeypatch.setattr(module, "detector_named", lambda name: Detector())
    return module


@pytest.fixture
def make(run_node, small_models, face_everywhere):
    """make("name", names=…) -> outputs: two faces, four edits, of 64 px."""
    model, clip, vae = small_models
    judges = SimpleNamespace(identity=(FakeIdentity(),), text=(FakeImageText(),), problems=())
    fixed = {
        "model": model,
        "clip": clip,
        "vae": vae,
        "judges": judges,
        "names": "Ada Lovelace\nlovelace ada\nMark Twain",
    }
    fixed |= {
        "prompts": "S* as a chef\nS* wearing a hat",
        "faces_per_name": 1,
        "size": SIZE,
        "steps": 2,
        "min_face_px": 16,
    }

    def run(name, **inputs):
        return run_node("F2DAugment", **{**fixed, "name": name, **inputs})

    return run


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_become_triplets_and_a_contact_sheet(host, make, small_models):
    folder, sheet, report = outputs = make("people")

    place = host.base / "output" / "face2diffusion" / "editing" / "people"
    assert folder == str(place) and sheet.shape[0] == 1 and np.ptp(sheet.numpy()) > 0.5
    assert report.startswith("2 of 4 edited pictures kept, of 2 source faces") and "2 names; 1 merged" in report
    assert outputs.ui["images"] == [
        {"filename": "report.png", "subfolder": "face2diffusion/editing/people", "type": "output"}
    ]
    kept = lines(place, "kept.jsonl")
    assert [line["prompt"] for line in sorted(kept, key=lambda line: line["prompt"])] == [
        "S* as a chef",
        "S* wearing a hat",
    ]
    maker = host.pack_module("nodes.host_sampling").PictureMaker(*small_models)
    assert json.loads((place / "augment.json").read_text(encoding="utf-8"))["models"]["pictures"] == maker.key
    ports, read = host.pack_module("f2d_core.ports"), host.pack_module("f2d_core.image").read_image
    edit = lines(place, "pictures.jsonl")[1]
    request = ports.PictureRequest(edit["request"], edit["seed"])
    assert np.array_equal(read(place / edit["path"]), maker.make(request, ports.Sampling("ddim", 2, 7.5, SIZE, SIZE)))


def test_cancelled_and_run_again_it_is_the_same(host, make, face_everywhere, monkeypatch):
    devices = __import__("comfy.model_management", fromlist=["model_management"])
    whole = host.base / "output" / "face2diffusion" / "editing"
    make("whole")
    sampling, calls = host.pack_module("nodes.host_sampling").PictureMaker, []
    original = sampling.make

    def pressed(self, *args):
        calls.append(None)
        if len(calls) == 4:
            devices.interrupt_current_processing(True)
        return original(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(sampling, "make", pressed)
        with pytest.raises(devices.InterruptProcessingException):
            make("cancelled")
    assert len(lines(whole / "cancelled" / "work", "0_of_1.jsonl")) == 3
    make("cancelled")
    assert content(whole / "cancelled") == content(whole / "whole")


def test_lists_may_be_files(host, make, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("# people\nMarie Curie\nAda Lovelace\n", encoding="utf-8")
    (host.base / "input" / "prompts.txt").write_text("S* in a boat\n", encoding="utf-8")
    folder, _, report = make("files", names=str(file), prompts="prompts.txt", held_out="curie, marie")
    assert "1 names; 0 merged, 1 held out" in report and "Marie Curie: held out, as marie curie (same name)" in report
    assert {line["name"] for line in lines(Path(folder), "kept.jsonl")} == {"Ada Lovelace"}


def test_other_settings_are_refused_and_another_share_is_not(host, make):
    make("kept")
    with pytest.raises(host.pack_module("f2d_core.errors").CacheError, match="seed: 0, now 1"):
        make("kept", seed=1)
    assert make("kept", keep=1.0)[2].startswith("4 of 4 edited")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"judges": SimpleNamespace(identity=(), text=(FakeImageText(),), problems=("No file.",))}, "WeightsError",
         "have none for identity.*Load Likeness Models. No file."),
        ({"names": "nobody here.txt"}, "SettingsError", "Cannot read the names"),
        ({"names": ""}, "SettingsError", "no name that can be used"),
        ({"prompts": "a chef"}, "PromptError", "cannot be used"),
        ({"name": "../out"}, "SettingsError", "cannot be a file name"),
        ({"held_out_faces": "not there"}, "ImageError", "no pictures of held-out faces"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(host, make, inputs, error, message):
    with pytest.raises(getattr(host.pack_module("f2d_core.errors"), error), match=message):
        make(**{"name": "wrong", **inputs})


def test_the_default_texts_are_the_example_and_the_papers_prompts(host):
    inputs = {item.id: item for item in host.mappings["F2DAugment"].GET_SCHEMA().inputs}
    assert "Marie Curie" in inputs["names"].default.splitlines()
    assert inputs["prompts"].default.splitlines()[4] == "S* as a wizard, looking at the camera"


def test_it_runs_again_when_a_list_or_the_result_changes(host, tmp_path):
    def seen():
        node = host.mappings["F2DAugment"]
        return node.fingerprint_inputs(name="printed", names=str(file), seed=0)

    file = tmp_path / "names.txt"
    nothing = seen()
    file.write_text("Ada Lovelace")
    one = seen()
    folder = host.base / "output" / "face2diffusion" / "editing" / "printed"
    folder.mkdir(parents=True)
    (folder / "kept.jsonl").write_text("{}")
    assert len({repr(nothing), repr(one), repr(seen())}) == 3 and seen() == seen()
