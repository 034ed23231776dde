"""From names to triplets: what is made, recorded and kept, going on, sharing the work, and what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.align import check_points
from f2d_core.augment.clean import Candidate, best
from f2d_core.augment.names import NameList
from f2d_core.augment.plan import Shard
from f2d_core.augment.run import augment
from f2d_core.augment.settings import AugmentSettings
from f2d_core.augment.store import HEAD, KEPT, PICTURES, REPORT, WORK
from f2d_core.data.crop import crop_face, ffhq_square
from f2d_core.detect import choose_face
from f2d_core.errors import CacheError, ImageError, NoFaceError, OutputError, PromptError
from f2d_core.image import read_image, rgb_sha256
from f2d_core.ports import PictureRequest, Sampling
from tests.support.augment import NAMES, NOBODY, PROMPTS, SIZE, SMALL, FakePictures
from tests.support.extractors import FakeIdentity, FakeImageText


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def content(folder):
    """Path -> bytes of everything in a folder, hidden files included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def make(tmp_path, models, settings):
    """make("folder", names=…, prompts=…, settings…) -> Augmented."""

    def run(
        out="aug",
        names=NAMES,
        prompts=PROMPTS,
        models=models,
        shard=None,
        held_out_faces=None,
        progress=None,
        **changes,
    ):
        making, scoring = progress or (None, None)
        places = {"held_out_faces": held_out_faces, "shard": shard, "making": making, "scoring": scoring}
        return augment(names, prompts, tmp_path / out, models, replace(settings, **changes), **places)

    return run


@pytest.fixture
def whole(make):
    """The folder of an unbroken run."""
    return make("whole").folder


def test_what_is_made_is_told(make):
    done = make()

    assert (done.faces, done.edited, done.kept, done.without_face, done.outstanding, done.others) == (4, 24, 6, 0, 0, 0)
    reasons = {path.split("-")[0].split("/")[1]: reason for path, reason in done.rejected}
    assert "No face was found" in reasons["mark"]
    assert reasons["marie"] == "The face is too small: its short side is 13 px, expected more than 20."
    assert {p.name for p in done.folder.iterdir()} == {HEAD, PICTURES, KEPT, REPORT, "faces", "edited"}


def test_pictures_are_those_of_their_prompts_and_the_face_is_cut_out(whole, models, settings):
    sampling = Sampling("ddim", 2, 7.5, SIZE, SIZE)
    face, edit = lines(whole, PICTURES)[:2]

    assert face["prompt"] == "Ada Lovelace face, looking at the camera" and edit["request"] == "Ada Lovelace as a chef"
    source = models.pictures.make(PictureRequest(face["prompt"], face["seed"]), sampling)
    found = choose_face(models.detector.detect(source, 0.5))
    square = ffhq_square(found.points)
    crop = crop_face(source, found, square, round(square.side_px))
    assert np.array_equal(read_image(whole / face["path"]), crop.pixels)
    assert np.allclose(face["points"], crop.points, atol=1e-3) and face["rgb_sha256"] == rgb_sha256(crop.pixels)
    made = models.pictures.make(PictureRequest(edit["request"], edit["seed"]), sampling)
    assert np.array_equal(read_image(whole / edit["path"]), made) and made.shape == (SIZE, SIZE, 3)
    with Image.open(whole / edit["path"]) as picture:
        assert "generated" in picture.text["Software"] and picture.text["prompt"] == edit["request"]


def test_scores_are_cosines_of_the_features(whole, models, settings):
    records = {line["path"]: line for line in lines(whole, PICTURES)}
    edits = [line for line in records.values() if line["kind"] == "edit"]
    for line in (edits[0], edits[-1]):
        face = records[line["face"]]
        rgb, source = read_image(whole / line["path"]), read_image(whole / line["face"])
        found = choose_face(models.detector.detect(rgb, 0.5))
        rows = FakeIdentity().features([rgb, source], [found.points, check_points(face["points"])])
        assert line["identity"] == pytest.approx(torch.dot(*rows).item(), abs=1e-6)
        clip, words = FakeImageText(), line["prompt"].replace("S*", "a person")
        text = torch.dot(clip.image_features([rgb])[0], clip.text_features([words])[0]).item()
        assert line["text"] == pytest.approx(text, abs=1e-6)
    assert sorted(models.text.read) == ["Oil painting style, a person face", "a person as a chef"]  # each once


def test_kept_are_exactly_the_ranked_quarter_of_every_prompt(whole):
    edits = [line for line in lines(whole, PICTURES) if line["kind"] == "edit"]
    kept = lines(whole, KEPT)
    for prompt in PROMPTS:
        of_prompt = [line for line in edits if line["prompt"] == prompt]
        ranked = best([Candidate(line["path"], line["identity"], line["text"]) for line in of_prompt], 0.25)
        assert len(of_prompt) == 12
        assert {r.candidate.path for r in ranked[:3]} == {line["image"] for line in kept if line["prompt"] == prompt}
        assert {r.candidate.path for r in ranked if r.kept} == {line["path"] for line in of_prompt if line["kept"]}
    assert len(kept) == 6


def test_a_triplet_is_what_training_reads(whole):
    for line in lines(whole, KEPT):
        assert re.fullmatch(r"faces/[a-z0-9-]+_\d+\.png", line["face"])
        assert line["image"] == f"edited/{line['face'][6:-4]}/{line['image'].split('/')[-1]}"
        assert "S*" in line["prompt"] and line["name"] in NAMES.names
        face = read_image(whole / line["face"])
        assert face.shape[0] == face.shape[1] and np.array(line["points"]).shape == (5, 2)
        assert rgb_sha256(read_image(whole / line["image"])) == line["rgb_sha256"]


def test_settings_models_and_names_are_recorded(make, models):
    names = replace(NAMES, merged=(), held_out=())
    head = json.loads((make(names=names).folder / HEAD).read_text(encoding="utf-8"))

    assert head["models"] == {"pictures": "fake pictures", "detector": "fake"}
    assert head["scores"] == {"identity": ["Fake identity", "0" * 64], "text": ["Fake CLIP", "1" * 64]}
    assert head["prompts"] == list(PROMPTS) and head["names"] == list(NAMES.names)
    assert head["settings"]["sampler"] == "ddim" and head["choice"]["keep"] == 0.25


def test_a_second_run_does_nothing(make, models, whole):
    before, requests = content(whole), len(models.pictures.requests)
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}

    assert make("whole").kept == 6

    assert content(whole) == before and len(models.pictures.requests) == requests
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == times


class Stopped(Exception):
    pass


def stop_at(number):
    def progress(done, total):
        if done == number:
            raise Stopped

    return progress


@pytest.mark.parametrize("stop", [1, 2, 9, 56])
def test_stopped_anywhere_and_gone_on_with_it_is_the_same(make, models, whole, stop, tmp_path):
    models.pictures.requests.clear()
    for progress in ((stop_at(stop), None), (None, stop_at(5))):
        with pytest.raises(Stopped):
            make(progress=progress)
        assert not (tmp_path / "aug" / KEPT).exists()
    make()
    assert content(tmp_path / "aug") == content(whole)
    assert len(models.pictures.requests) == 8 + 24  # none was made twice


def test_a_picture_that_is_gone_is_made_again(make, whole, models):
    before = content(whole)
    models.pictures.requests.clear()
    (whole / lines(whole, KEPT)[0]["image"]).unlink()
    make("whole")

    assert content(whole) == before and len(models.pictures.requests) == 1


def test_a_damaged_picture_is_named_and_made_again_once_it_is_deleted(make, whole):
    before, path = content(whole), whole / lines(whole, KEPT)[0]["image"]
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ImageError, match="delete .*edited/.*png and run this again: it is made anew"):
        make("whole", subject="somebody")
    path.unlink()
    make("whole")
    assert content(whole) == before


def test_shares_give_what_one_process_gives(make, whole, tmp_path):
    states = [make(shard=Shard(i, 3)) for i in (2, 0)]
    assert all(state.outstanding > 0 for state in states) and not (tmp_path / "aug" / KEPT).exists()

    assert make(shard=Shard(1, 3)).kept == 6

    assert content(tmp_path / "aug") == content(whole)


def test_shares_may_be_cut_otherwise_when_gone_on_with(make, whole, tmp_path):
    make(shard=Shard(1, 3))
    assert make(shard=Shard(0, 2)).outstanding > 0
    make()
    assert content(tmp_path / "aug") == content(whole)


def test_half_a_line_of_a_killed_process_does_not_count(make, whole, tmp_path):
    make(shard=Shard(0, 2))
    (journal,) = (tmp_path / "aug" / WORK).iterdir()
    data = journal.read_bytes()
    journal.write_bytes(data[: len(data) - 40])
    (tmp_path / "aug" / "faces" / ".x-abc.part").write_bytes(b"half")
    make(shard=Shard(0, 2))
    make(shard=Shard(1, 2))
    assert content(tmp_path / "aug") == content(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3}, "steps: 2, now 3"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"min_face_px": 30}, "min_face_px: 20, now 30"),
        ({"prompts": PROMPTS[::-1]}, "new ones may only be added at the end"),
    ],
)
def test_what_pictures_depend_on_cannot_change(make, whole, change, message):
    before = content(whole)
    with pytest.raises(CacheError, match=re.escape(message)):
        make("whole", **change)
    assert content(whole) == before


def test_another_model_or_detector_is_refused(make, whole, models):
    other = FakePictures()
    other.key = "another model"
    with pytest.raises(CacheError, match="pictures: fake pictures, now another model"):
        make("whole", models=replace(models, pictures=other))


def test_names_and_prompts_may_be_added_and_names_taken_away(make, whole, models):
    models.pictures.requests.clear()
    more = NameList(("Grace Hopper", *NAMES.names))
    done = make("whole", names=more, prompts=(*PROMPTS, "S* wearing a hat"))
    assert (done.faces, done.edited, done.kept) == (6, 6 * 9, 3 * 5)
    grown = content(whole)
    assert len(models.pictures.requests) == 2 * (1 + 9) + 4 * 3
    fewer = make("whole", names=NameList(("Ada Lovelace",)), prompts=(*PROMPTS, "S* wearing a hat"))
    assert {line["name"] for line in lines(whole, KEPT)} == {"Ada Lovelace"}
    assert fewer.others == (10 + 54) - (2 + 18)
    out = [line for line in lines(whole, PICTURES) if "left_out" in line]
    assert len(out) == fewer.others and not any(line.get("kept") for line in out)
    again = make("whole", names=more, prompts=(*PROMPTS, "S* wearing a hat"))
    assert content(whole) == grown
    assert len(models.pictures.requests) == 2 * (1 + 9) + 4 * 3 and again == done


def test_killed_while_only_the_choice_changes_it_is_made_up_for(make, whole, monkeypatch):
    import f2d_core.augment.run as run

    fewer = NameList(("Ada Lovelace",))
    with monkeypatch.context() as patched:
        patched.setattr(run, "write_report", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            make("whole", names=fewer)
    assert len(lines(whole, KEPT)) == 6
    make("whole", names=fewer)
    assert {line["name"] for line in lines(whole, KEPT)} == {"Ada Lovelace"}


def test_how_many_are_kept_and_who_scores_may_change(make, whole, models):
    models.pictures.requests.clear()
    assert make("whole", keep=0.5).kept == 12
    before = {line["path"]: line["identity"] for line in lines(whole, PICTURES) if line["kind"] == "edit"}
    assert make("whole", models=replace(models, identity=FakeIdentity(sha256="3" * 64)), subject="{name}").kept == 6
    after = {line["path"]: line for line in lines(whole, PICTURES) if line["kind"] == "edit"}
    assert {path: line["identity"] for path, line in after.items()} == before  # the same features under another hash
    assert models.pictures.requests == [] and "Ada Lovelace as a chef" in models.text.read


def test_boxes_instead_of_squares(make):
    folder = make(crop="box").folder
    face = next(line for line in lines(folder, PICTURES) if "points" in line)
    assert read_image(folder / face["path"]).shape == (38, 38, 3)  # 0.2 to 0.8 of 64 px, whole pixels
    assert np.allclose(face["points"][0], (0.42 * 64 - 13, 0.40 * 64 - 13), atol=1e-3)


def test_faces_like_held_out_ones_are_left_out(make, models, whole, tmp_path):
    """One of the source faces itself, as a picture in which the detector finds the same points."""
    face = next(line for line in lines(whole, PICTURES) if "points" in line)
    held_out = tmp_path / "held out"
    held_out.mkdir()
    Image.fromarray(read_image(whole / face["path"])).save(held_out / "somebody.png")
    detect, points = models.detector.detect, np.array(face["points"])

    def knows(rgb, threshold):
        return [replace(f, points=points) if rgb.shape[0] != SIZE else f for f in detect(rgb, threshold)]

    models.detector.detect = knows
    done = make("whole", held_out_faces=held_out)

    (out,) = [reason for path, reason in done.rejected if path == face["path"]]
    assert out == "The face is like the held-out somebody.png: similarity 1.00, expected less than 0.4."
    assert face["path"] not in {line["face"] for line in lines(whole, KEPT)}
    assert done.faces == 3 and done.edited == 18 and done.kept == 6  # 9 of each prompt, a quarter rounded up is 3
    shown = {line["path"]: line for line in lines(whole, PICTURES)}
    assert shown[face["path"]]["similarity"] == pytest.approx(1) and shown[face["path"]]["left_out"] == out


def test_held_out_pictures_without_a_face_are_named(make, tmp_path):
    folder = tmp_path / "held out"
    with pytest.raises(ImageError, match="no pictures of held-out faces"):
        make(held_out_faces=folder)
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "nobody.png")
    with pytest.raises(NoFaceError, match=r"nobody\.png shows no face"):
        make(held_out_faces=folder)


def test_nobody_to_be_seen_is_said_and_shown(make, tmp_path):
    with pytest.raises(NoFaceError, match="None of the 4 source pictures can be used; the first, faces/mark-twain"):
        make(names=NameList((NOBODY, SMALL)))
    assert (tmp_path / "aug" / REPORT).is_file() and (tmp_path / "aug" / KEPT).read_bytes() == b""


def test_edits_that_show_no_face_are_never_kept(make, models, tmp_path):
    class Faceless(FakePictures):
        def make(self, request, sampling, progress=None):
            rgb = super().make(request, sampling)
            rgb[:8, :8] = 0 if "chef" in request.prompt else rgb[0, 0]
            return rgb

    done = make(models=replace(models, pictures=Faceless()))
    assert done.without_face == 12 and done.kept == 3
    assert {line["prompt"] for line in lines(done.folder, KEPT)} == {PROMPTS[1]}
    with pytest.raises(NoFaceError, match="No edited picture shows a face"):
        make("other", models=replace(models, pictures=Faceless()), prompts=PROMPTS[:1])


def test_strange_and_damaged_folders_are_refused(make, whole, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "holiday.jpg").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for out, message in (("strange", "holiday.jpg"), ("file", "is a file")):
        with pytest.raises(CacheError, match=message):
            make(out)
    for text in ("", "{}", '{"format": "f2d-editing-data", "version": 9, "settings": {}, "models": {}, "prompts": []}'):
        (whole / HEAD).write_text(text)
        with pytest.raises(CacheError, match="cannot be read"):
            make("whole")


def test_a_full_disk_is_said_and_gone_on_with(make, models, whole, monkeypatch, tmp_path):
    import f2d_core.augment.store as store

    calls, write = [], store._write_all

    def full(file, data):
        calls.append(None)
        if len(calls) == 5:
            write(file, data[:20])
            raise OSError(28, "No space left on device")
        write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(store, "_write_all", full)
        with pytest.raises(OutputError, match="No space left on device. What is done so far is kept"):
            make()
    make()
    assert content(tmp_path / "aug") == content(whole)


def test_a_read_only_folder_is_said(make, tmp_path):
    (tmp_path / "aug").mkdir()
    (tmp_path / "aug" / "faces").write_bytes(b"")  # a file where a folder should be
    with pytest.raises(CacheError, match="holds other files"):
        make()
    with pytest.raises(OutputError, match="Cannot write"):
        make("../" * 30 + "proc/nothing")


def test_prompts_without_the_person_are_refused_before_any_work(make, models):
    with pytest.raises(PromptError):
        make(prompts=("a chef",))
    assert models.pictures.requests == []


def test_progress_counts_what_is_still_to_be_done(make):
    told = ([], [])
    make(progress=tuple((lambda done, total, kind=kind: kind.append((done, total))) for kind in told))

    assert [done for done, _ in told[0]] == list(range(1, 57)) and {total for _, total in told[0]} == {56}
    assert told[1] == [(i, 24) for i in range(1, 25)]
    for kind in told:
        kind.clear()
    make(progress=tuple((lambda done, total, kind=kind: kind.append((done, total))) for kind in told))
    assert told == ([], [])


def test_defaults_are_used(tmp_path, models):
    with pytest.raises(NoFaceError):
        augment(NameList((NOBODY,)), PROMPTS, tmp_path / "aug", models, AugmentSettings(size=192, faces_per_name=1))
    assert models.pictures.requests[0].prompt == f"{NOBODY} face, looking at the camera"
