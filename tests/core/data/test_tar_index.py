"""Tar shards: people by folder or by `.cls`, pictures by number."""

import io
import tarfile

import pytest

from f2d_core.data.tar_index import TarSource, shards
from f2d_core.errors import DataError
from tests.support.identities import encoded, faces

PICTURES = [encoded(picture) for picture in faces(3, 2)]


def write_tar(path, members, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_folder_is_a_person(tmp_path, form):
    members = [(f"./anna {'x' * 60 if i < 2 else 'y'} {i // 2}/{i}.PNG", data) for i, data in enumerate(PICTURES)]
    write_tar(tmp_path / "0.tar", [*members[:4], ("notes.txt", b"no picture")], form)
    write_tar(tmp_path / "1.tar", members[4:], form)
    source = TarSource(shards(tmp_path))
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [source.encoded(i) for i in range(6)] == PICTURES
    assert source.title == "2 tar shards (6 pictures of 3 people)"


def test_a_class_beside_the_picture(tmp_path):
    members = []
    for i, data in enumerate(PICTURES):
        members += [(f"{i:06}.cls", f"{i // 2 + 7}\n".encode()), (f"{i:06}.jpg", data)]
    source = TarSource(shards(write_tar(tmp_path / "a.tar", members)))
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2] and source.encoded(5) == PICTURES[5]


def test_full_stops_in_a_name(tmp_path):
    """A folder per person takes them like any other; beside a .cls they are something else of that sample."""
    members = [("anna/a.1.jpg", PICTURES[0]), ("anna/b.JPG", PICTURES[1]), ("ben/c.x.png", PICTURES[2])]
    assert TarSource([write_tar(tmp_path / "a.tar", members)]).labels.tolist() == [0, 0, 1]
    samples = [("x/1.cls", b"3"), ("x/1.jpg", PICTURES[0]), ("x/1.seg.png", PICTURES[1]), ("2.note.png", PICTURES[2])]
    assert len(TarSource([write_tar(tmp_path / "b.tar", samples)]).labels) == 1


def test_without_a_person_it_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.tar has 1 without a person: expected a folder before it or a file 1\.cls"):
        TarSource([write_tar(tmp_path / "a.tar", [("1.png", PICTURES[0])])])


def test_damage_is_named(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"a/{i}.png", data) for i, data in enumerate(PICTURES)])
    source = TarSource([path])
    content = path.read_bytes()
    path.write_bytes(content[:600])
    with pytest.raises(DataError, match=r"a\.tar at byte 512 is cut off: 88 of"):
        source.encoded(0)
    with pytest.raises(DataError, match=r"Cannot read .*a\.tar"):
        TarSource([path])
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match=r"Cannot read .*a\.tar.*not compressed"):
        TarSource([path])


def test_no_pictures(tmp_path):
    with pytest.raises(DataError, match="no pictures in its .tar files"):
        TarSource([write_tar(tmp_path / "a.tar", [("a.txt", b"x")])])


def test_the_fingerprint_tells_sets_apart(tmp_path):
    first = TarSource([write_tar(tmp_path / "a.tar", [("a/1.png", PICTURES[0]), ("b/1.png", PICTURES[1])])])
    other = TarSource([write_tar(tmp_path / "b.tar", [("a/1.png", PICTURES[0]), ("a/2.png", PICTURES[1])])])
    assert first.fingerprint != other.fingerprint
