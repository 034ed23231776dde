"""The saved identities of a folder: hostile names, links out of it, damaged files, nothing overwritten."""

import io
import os

import pytest
import torch
from PIL import Image

from f2d_core.errors import F2DError, OutputError, SettingsError, WeightsError
from f2d_core.library import MOST_BYTES, Library
from f2d_core.s_star import SStar, load_s_star, save_s_star


def person(name="Anna", **values):
    thumbnail = torch.full((112, 112, 3), 200, dtype=torch.uint8)
    return SStar(torch.arange(1536.0).reshape(2, 768), name, thumbnail=thumbnail, **values)


@pytest.fixture
def folder(tmp_path):
    save_s_star(
        person(licence="CC0", detector="yunet", msid_sha256="ab" * 32), tmp_path / "identities" / "anna.safetensors"
    )
    return tmp_path / "identities"


@pytest.fixture
def library(folder):
    return Library([folder])


def by_file(library):
    return {entry.file: entry for entry in library.entries()[0]}


def test_an_entry_says_who_and_where_from(library, folder):
    (entry,) = library.entries()[0]

    assert (entry.file, entry.name, entry.marker, entry.words) == ("anna.safetensors", "Anna", "S*", 2)
    assert (entry.licence, entry.detector, entry.msid_sha256, entry.problem) == ("CC0", "yunet", "ab" * 32, "")
    assert entry.bytes == (folder / "anna.safetensors").stat().st_size
    picture = Image.open(io.BytesIO(entry.thumbnail))
    assert (picture.format, picture.size, picture.getpixel((5, 5))) == ("JPEG", (112, 112), (200, 200, 200))
    assert set(entry.as_dict()) >= {"file", "name", "thumbnail", "problem"}


def test_files_in_folders_below_and_in_a_second_folder(library, folder, tmp_path):
    save_s_star(person("Ben"), folder / "work" / "ben.safetensors")
    save_s_star(person("other Anna"), tmp_path / "second" / "anna.safetensors")
    save_s_star(person("Carl"), tmp_path / "second" / "carl.safetensors")
    (folder / "notes.txt").write_text("no identity")

    entries = by_file(Library([folder, tmp_path / "second", tmp_path / "absent"]))

    assert list(entries) == ["anna.safetensors", "carl.safetensors", "work/ben.safetensors"]
    assert entries["anna.safetensors"].name == "Anna"  # the first folder counts


def test_damaged_and_foreign_files_are_shown_as_such(library, folder):
    whole = (folder / "anna.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:100])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "huge.safetensors").write_bytes(b"\0" * (MOST_BYTES + 1))
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")

    entries = by_file(library)

    assert "damaged" in entries["cut.safetensors"].problem and "damaged" in entries["empty.safetensors"].problem
    assert f"at most {MOST_BYTES:,}" in entries["huge.safetensors"].problem
    assert entries["loop.safetensors"].problem and entries["anna.safetensors"].problem == ""


def test_a_picture_that_is_none_is_left_out(folder, library):
    large = torch.zeros(200, 200, 3, dtype=torch.uint8)
    save_s_star(SStar(torch.zeros(2, 768), thumbnail=large), folder / "c.safetensors")
    save_s_star(
        SStar(torch.zeros(2, 768), thumbnail=torch.zeros(4000, 2, 3, dtype=torch.uint8)), folder / "a.safetensors"
    )
    save_s_star(SStar(torch.zeros(2, 768), thumbnail=torch.zeros(9)), folder / "b.safetensors")

    entries = by_file(library)

    assert [entries[f"{name}.safetensors"].thumbnail for name in "abc"] == [b""] * 3
    assert [entries[f"{name}.safetensors"].problem for name in "abc"] == [""] * 3


def test_a_changed_file_is_read_again(library, folder):
    assert by_file(library)["anna.safetensors"].name == "Anna"
    save_s_star(person("Anna the second"), folder / "anna.safetensors")
    assert by_file(library)["anna.safetensors"].name == "Anna the second"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x.safetensors", "a/../../x.safetensors", "/etc/x.safetensors", "a//x.safetensors"),
        *(
            "..\\x.safetensors",
            "C:/x.safetensors",
            "x\0.safetensors",
            "x.txt",
            ".hidden.safetensors",
            "a/./x.safetensors",
        ),
        *("anna.safetensors/", " anna.safetensors", "x" * 600 + ".safetensors"),
    ],
)
@pytest.mark.parametrize("act", ["path", "delete", "data", "load"])
def test_names_that_leave_the_folder_are_refused(library, folder, tmp_path, name, act):
    save_s_star(person(), tmp_path / "x.safetensors")

    with pytest.raises(SettingsError, match="no identity file of the library"):
        getattr(library, act)(name)
    assert (tmp_path / "x.safetensors").exists() and (folder / "anna.safetensors").exists()


def test_links_that_leave_the_folder_are_not_followed(library, folder, tmp_path):
    outside = save_s_star(person("Outside"), tmp_path / "elsewhere" / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(outside)
    (folder / "sub").symlink_to(outside.parent, target_is_directory=True)

    assert "leads out" in by_file(library)["link.safetensors"].problem
    for name in ("link.safetensors", "sub/outside.safetensors"):
        for act in (library.delete, library.data, lambda file: library.rename(file, "x")):
            with pytest.raises(SettingsError, match="leads out"):
                act(name)
    assert outside.exists()


def test_renaming_changes_the_file_and_the_person_and_nothing_else(library, folder):
    before = load_s_star(folder / "anna.safetensors")

    assert library.rename("anna.safetensors", "Анна 2") == "Анна 2.safetensors"

    after = load_s_star(folder / "Анна 2.safetensors")
    assert after.name == "Анна 2" and torch.equal(after.vectors, before.vectors)
    assert torch.equal(after.thumbnail, before.thumbnail) and after.licence == "CC0"
    assert [file.name for file in folder.iterdir()] == ["Анна 2.safetensors"]


def test_renaming_stays_in_the_folder_below(library, folder):
    save_s_star(person("Ben"), folder / "work" / "ben.safetensors")

    assert library.rename("work/ben.safetensors", "benno") == "work/benno.safetensors"
    assert (folder / "work" / "benno.safetensors").exists()


def test_renaming_overwrites_nobody(library, folder):
    save_s_star(person("Ben"), folder / "ben.safetensors")

    with pytest.raises(OutputError, match="There is a ben.safetensors already"):
        library.rename("anna.safetensors", "ben")
    assert load_s_star(folder / "ben.safetensors").name == "Ben" and (folder / "anna.safetensors").exists()


@pytest.fixture
def two(folder, tmp_path):
    """A library of two folders: Anna and Bob, and Carl and another, hidden, Anna."""
    save_s_star(person("Bob"), folder / "bob.safetensors")
    save_s_star(person("Carl"), tmp_path / "second" / "carl.safetensors")
    save_s_star(person("hidden Anna"), tmp_path / "second" / "anna.safetensors")
    return Library([folder, tmp_path / "second"])


@pytest.mark.parametrize(("who", "new"), [("carl", "bob"), ("bob", "carl"), ("carl", "anna")])
def test_renaming_hides_nobody_in_another_folder(two, who, new):
    with pytest.raises(OutputError, match=f"There is a {new}.safetensors already"):
        two.rename(f"{who}.safetensors", new)

    assert {file: entry.name for file, entry in by_file(two).items()} == {
        "anna.safetensors": "Anna",
        "bob.safetensors": "Bob",
        "carl.safetensors": "Carl",
    }


def test_a_name_taken_in_a_folder_below_is_another_name(two, folder, tmp_path):
    save_s_star(person("Dora"), folder / "work" / "dora.safetensors")
    save_s_star(person("Emil"), tmp_path / "second" / "work" / "emil.safetensors")

    assert two.rename("carl.safetensors", "dora") == "dora.safetensors"
    with pytest.raises(OutputError, match="There is a emil.safetensors already"):
        two.rename("work/dora.safetensors", "emil")


def test_a_person_takes_the_name_that_the_file_has_already(two, folder):
    assert two.rename("anna.safetensors", "anna") == "anna.safetensors"

    assert load_s_star(folder / "anna.safetensors").name == "anna"
    assert by_file(two)["anna.safetensors"].name == "anna" and len(list(folder.iterdir())) == 2


def test_capitals_change_where_the_file_system_does_not_tell_them_apart(library, folder, monkeypatch):
    """Played here: there, both names lead to one file."""
    exists = os.path.exists

    def alike(one, other):
        return str(one).casefold() == str(other).casefold()

    monkeypatch.setattr("os.path.samefile", alike)
    monkeypatch.setattr("f2d_core.library._write_new", lambda path, write: pytest.fail(f"{path} is there already"))
    monkeypatch.setattr("os.path.exists", lambda path: exists(path) or exists(str(path).replace("Anna", "anna")))

    assert library.rename("anna.safetensors", "Anna") == "Anna.safetensors"
    assert [file.name for file in folder.iterdir()] == ["Anna.safetensors"]
    assert load_s_star(folder / "Anna.safetensors").name == "Anna"


def test_a_link_to_another_name_is_not_the_same_file(library, folder):
    os.link(folder / "anna.safetensors", folder / "ben.safetensors")

    with pytest.raises(OutputError, match="There is a ben.safetensors already"):
        library.rename("anna.safetensors", "ben")
    assert load_s_star(folder / "ben.safetensors").name == "Anna"


def test_what_comes_in_gets_a_name_that_is_free_in_all_folders(two, folder):
    data = two.data("anna.safetensors")

    assert two.add("carl.safetensors", data) == "carl_2.safetensors"
    assert (folder / "carl_2.safetensors").exists() and by_file(two)["carl.safetensors"].name == "Carl"


@pytest.mark.parametrize("act", ["path", "delete", "data", "load"])
def test_a_name_that_no_file_system_takes_is_not_there(library, act):
    with pytest.raises(WeightsError, match="is not in the identities folder"):
        getattr(library, act)("x" * 300 + ".safetensors")


def test_long_names_get_in_and_get_renamed(library, folder):
    assert library.rename("anna.safetensors", "美" * 66) == "美" * 66 + ".safetensors"
    data = library.data("美" * 66 + ".safetensors")
    assert library.add("美" * 100 + ".safetensors", data) == "美" * 66 + "_2.safetensors"


@pytest.mark.parametrize("new", ["", "../x", "a/b", "con", "x:y", "美" * 100])
def test_names_that_are_none_are_refused(library, folder, new):
    with pytest.raises(SettingsError, match="cannot be a file name"):
        library.rename("anna.safetensors", new)
    assert [file.name for file in folder.iterdir()] == ["anna.safetensors"]


def test_a_damaged_file_can_be_deleted_but_not_renamed(library, folder):
    (folder / "cut.safetensors").write_bytes(b"")

    with pytest.raises(WeightsError, match="damaged"):
        library.rename("cut.safetensors", "whole")
    library.delete("cut.safetensors")
    assert [file.name for file in folder.iterdir()] == ["anna.safetensors"]
    with pytest.raises(WeightsError, match="not in the identities folder"):
        library.delete("cut.safetensors")


def test_a_file_goes_out_and_comes_in_as_it_is(library, folder, tmp_path):
    data = library.data("anna.safetensors")
    other = Library([tmp_path / "new" / "folder"])

    assert other.add("anna.safetensors", data) == "anna.safetensors"
    assert other.add("anna.safetensors", data) == "anna_2.safetensors"  # nobody is overwritten
    assert other.add("..\\../Berta:1.safetensors", data) == "Berta_1.safetensors"

    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["Berta_1.safetensors", "anna.safetensors", "anna_2.safetensors"]
    assert {file.read_bytes() for file in files} == {data}


@pytest.mark.parametrize("data", [b"", b"no identity", b"\0" * (MOST_BYTES + 1)])
def test_what_is_no_identity_does_not_come_in(library, folder, data):
    with pytest.raises(WeightsError, match="odd"):
        library.add("odd.safetensors", data)
    assert [file.name for file in folder.iterdir()] == ["anna.safetensors"]


def test_a_folder_that_cannot_be_written(library, folder, tmp_path):
    data = library.data("anna.safetensors")
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(F2DError, match="Cannot"):
        Library([tmp_path / "file" / "identities"]).add("anna.safetensors", data)
