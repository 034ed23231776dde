"""Sets of people, whatever form they come in."""

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from f2d_core.data.identities import Names, open_identities
from f2d_core.errors import DataError
from tests.support.identities import SIDE, encoded, faces, insightface_set, write_folders, write_records


def test_a_folder_per_person(tmp_path):
    pictures = write_folders(tmp_path)
    (tmp_path / "person 00 ü" / "notes.txt").write_text("no picture")
    (tmp_path / "person 00 ü" / "._0.png").write_text("what macOS leaves on other disks")
    (tmp_path / "empty").mkdir()
    data = open_identities(tmp_path, SIDE)
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and (len(data), data.people) == (12, 3)
    assert np.array_equal(data.pictures(range(12)), pictures)
    with ThreadPoolExecutor(2) as workers:
        assert np.array_equal(data.pictures([7, 0], workers), pictures[[7, 0]])
    assert "12 pictures of 3 people" in data.title


def test_a_record_set_is_found_by_its_folder(tmp_path):
    pictures = faces(3, 4)
    write_records(tmp_path / "train.rec", insightface_set([encoded(picture) for picture in pictures], 4))
    data = open_identities(tmp_path, SIDE)
    assert np.array_equal(data.pictures([11, 2]), pictures[[11, 2]]) and data.people == 3


def test_tar_shards_are_found_by_their_folder(tmp_path):
    pictures = faces(2, 2)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i, picture in enumerate(pictures):
            info = tarfile.TarInfo(f"{i // 2}/{i}.png")
            info.size = len(encoded(picture))
            archive.addfile(info, io.BytesIO(encoded(picture)))
    data = open_identities(tmp_path, SIDE)
    assert np.array_equal(data.pictures([3, 0]), pictures[[3, 0]]) and data.labels.tolist() == [0, 0, 1, 1]
    assert len(open_identities(tmp_path / "a.tar", SIDE)) == 4


def test_the_fingerprint_tells_sets_apart(tmp_path):
    write_folders(tmp_path / "a")
    before = open_identities(tmp_path / "a", SIDE).fingerprint
    write_folders(tmp_path / "b")
    assert open_identities(tmp_path / "b", SIDE).fingerprint == before
    (tmp_path / "b" / "person 01 ü" / "3.png").unlink()
    assert open_identities(tmp_path / "b", SIDE).fingerprint != before


def test_another_size_is_refused_or_scaled(tmp_path):
    write_folders(tmp_path)
    with pytest.raises(DataError, match=r"0\.png is 16 x 16 px, expected .* 112 x 112.*scaled \(resize\)"):
        open_identities(tmp_path).picture(0)
    assert open_identities(tmp_path, 8, resize=True).picture(0).shape == (8, 8, 3)
    (tmp_path / "person 00 ü" / "0.png").write_bytes(encoded(np.zeros((32, 48, 3), np.uint8)))
    with pytest.raises(DataError, match=r"48 x 32 px, expected .* Align and crop the faces first\.$"):
        open_identities(tmp_path, 32, resize=True).picture(0)


def test_a_damaged_picture_is_named(tmp_path):
    write_folders(tmp_path)
    file = tmp_path / "person 01 ü" / "2.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"2\.png is damaged .*It is picture 6 of "):
        open_identities(tmp_path, SIDE).picture(6)


def test_a_link_to_nowhere_is_named(tmp_path):
    write_folders(tmp_path)
    link = tmp_path / "person 00 ü" / "gone.png"
    link.symlink_to(tmp_path / "nothing.png")
    with pytest.raises(DataError, match=r"Cannot read .*gone\.png: No such file or directory\. Restore or remove it\."):
        open_identities(tmp_path, SIDE)


def test_what_is_no_set_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist, expected a folder with one folder"):
        open_identities(tmp_path / "nowhere")
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(DataError, match="is no set of face crops"):
        open_identities(tmp_path / "a.zip")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no pictures in folders"):
        open_identities(tmp_path / "loose")
    write_folders(tmp_path / "one", people=1)
    with pytest.raises(DataError, match="pictures of 1 people, expected at least 2"):
        open_identities(tmp_path / "one")


def test_names_in_two_arrays():
    names = Names(["a", "", "ü/b", "c"])
    assert [names[i] for i in range(len(names))] == ["a", "", "ü/b", "c"]
