"""Items of work: all, in parts that never overlap, and those that are left; photos; pictures with their record."""

import numpy as np
import pytest
from PIL import Image

from f2d_core.errors import OutputError, SettingsError
from f2d_core.evaluate.plan import REFERENCE, plan_from
from f2d_core.evaluate.work import (
    Item,
    Photo,
    Shard,
    all_items,
    find_photos,
    pending,
    record_of,
    remove_rests,
    request_of,
    save_picture,
    shard_from,
)
from f2d_core.image import write_png

PLAN = plan_from({"pictures": 2, "seed": 7, "negative": "blurry", "methods": {"a": {}, "b": {"subject_steps": 0.8}},
                  "prompts": {"job": {"chef": "S* as a chef", "king": "S* as a king"}}})  # fmt: skip
PHOTOS = [Photo("anna", "anna.png"), Photo("ben", "ben.png")]
ITEMS = all_items(PLAN, PLAN.methods, PHOTOS)


def picture(value=0):
    return np.full((16, 16, 3), value, np.uint8)


def test_every_picture_is_an_item_once():
    assert len(ITEMS) == len(set(ITEMS)) == 2 * 2 * 3 * 2
    assert ITEMS[0] == Item("a", "anna", REFERENCE, 0)
    assert len({item.place for item in ITEMS}) == len(ITEMS)
    assert ITEMS[2].place.as_posix() == "a/anna/chef/0.png"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_parts_are_the_whole_and_never_overlap(count):
    parts = [item for index in range(count) for item in Shard(index, count).of(ITEMS)]
    assert sorted(parts, key=ITEMS.index) == ITEMS


def test_what_is_there_is_not_pending(tmp_path):
    assert pending(ITEMS, tmp_path) == ITEMS
    for item in ITEMS[::3]:
        save_picture(tmp_path / item.place, picture(), {})
    assert pending(ITEMS, tmp_path) == [item for item in ITEMS if item not in ITEMS[::3]]


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard(0, 1)), (" 2/8 ", Shard(1, 8)), ("8/8", Shard(7, 8))])
def test_parts_as_people_write_them(text, shard):
    assert shard_from(text) == shard


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0", ""])
def test_parts_that_are_none(text):
    with pytest.raises(SettingsError, match="--shard is .* expected I/N"):
        shard_from(text)


def test_photos_by_name(tmp_path):
    for name in ("ben.png", "Änne.JPG", "_c.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [photo.key for photo in find_photos(tmp_path)] == ["c", "ben", "Änne"]


def test_photos_that_cannot_be_used(tmp_path):
    with pytest.raises(SettingsError, match="There is no photo in"):
        find_photos(tmp_path)
    with pytest.raises(SettingsError, match="is no folder; expected one with a photo of each face"):
        find_photos(tmp_path / "no")
    write_png(tmp_path / "a.png", picture())
    (tmp_path / "A.jpg").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"A.jpg and a.png have the same name"):
        find_photos(tmp_path)


def test_a_request_has_the_seed_of_its_number():
    request = request_of(PLAN, Item("b", "anna", "king", 1), ())
    assert (request.prompt, request.seed, request.negative, request.subject_steps) == ("S* as a king", 8, "blurry", 0.8)
    assert request_of(PLAN, Item("a", "anna", REFERENCE, 0), ()).prompt == "A photo of S*"


def test_pictures_say_how_they_were_made(tmp_path):
    path = save_picture(tmp_path / "x" / "0.png", picture(3), record_of(PLAN, ITEMS[2], "sd"))
    with Image.open(path) as found:
        assert np.asarray(found).tolist() == picture(3).tolist()
        assert found.text["Software"] == "Face2Diffusion (generated picture)"
        assert (found.text["prompt"], found.text["seed"], found.text["face"]) == ("S* as a chef", "7", "anna")


def test_rests_of_killed_runs_go_and_pictures_stay(tmp_path):
    kept = save_picture(tmp_path / "a" / "0.png", picture(), {})
    (tmp_path / "a" / ".1-xyz.part").write_bytes(b"half")
    remove_rests(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Cannot write"):
        save_picture(tmp_path / "file" / "0.png", picture(), {})
