"""Atomic writing and file names."""

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from f2d_core.errors import OutputError, SettingsError
from f2d_core.files import _umask, files_below, fresh_path, require_plain_name, safe_stem, write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        write_atomically(target, fail)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_programming_error_is_not_swallowed_and_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a.bin", lambda temporary: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_written_files_have_ordinary_permissions(tmp_path):
    path = write_atomically(tmp_path / "sub" / "a.bin", lambda temporary: temporary.write_bytes(b"x"))
    mask = os.umask(0)
    os.umask(mask)
    assert path.read_bytes() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_threads_that_write_leave_the_umask_alone(tmp_path):
    """It is read by changing it: without a lock one thread restores what another has set for a moment."""
    before = os.umask(0o022)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: _umask(), range(4000)))
        found = os.umask(0o022)
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)
    assert found == 0o022


def test_a_folder_that_is_a_file_is_said_to_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        write_atomically(tmp_path / "file" / "a.bin", lambda temporary: None)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("anna", "anna"),
        ("Anna Müller", "Anna Müller"),
        ("../../etc/passwd", "etc_passwd"),
        ("a/b\\c:d", "a_b_c_d"),
        ("con", "con_"),
        ("NUL.txt", "NUL.txt_"),
        ("", "person"),
        ("...", "person"),
        ("x" * 300, "x" * 100),
        ("line\nbreak", "line_break"),
        ("美咲", "美咲"),
        ("美" * 100, "美" * 66),  # 3 bytes each, and no part of a character
        ("é" * 100, "é" * 100),
        ("x" * 99 + "🚲" * 30, "x" * 99 + "🚲"),
        ("🚲" * 60, "🚲" * 50),
        ("a\ud800b", "a_b"),
    ],
)
def test_safe_stem(name, stem):
    assert safe_stem(name) == stem


@pytest.mark.parametrize(
    "name", ["../anna", "a/b", "a\\b", "", "  ", "con", "a:b", ".hidden", "x" * 101, "美" * 67, "\ud800"]
)
def test_a_name_that_is_no_file_name_is_refused_with_one_that_is(name):
    with pytest.raises(SettingsError, match="for example"):
        require_plain_name(name, "The name")


def test_a_plain_name_is_kept():
    assert require_plain_name(" Anna Müller ", "The name") == "Anna Müller"


def test_the_longest_names_can_be_written(tmp_path):
    stem = require_plain_name("🚲" * 50, "The name")
    for expected in (f"{stem}.safetensors", f"{stem}_2.safetensors"):
        path = write_atomically(fresh_path(tmp_path, stem, ".safetensors"), lambda temporary: temporary.write_text("a"))
        assert path.name == expected


def test_fresh_path_never_names_an_existing_file(tmp_path):
    for expected in ("a.txt", "a_2.txt", "a_3.txt"):
        path = fresh_path(tmp_path, "a", ".txt")
        assert path.name == expected
        path.write_text("")


def test_fresh_path_is_free_in_other_folders_too(tmp_path):
    for folder, name in (("one", "a.txt"), ("two", "a_2.txt"), ("two", "b.txt")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("")

    assert fresh_path(tmp_path / "one", "a", ".txt", [tmp_path / "two", tmp_path / "none"]).name == "a_3.txt"
    path = fresh_path(tmp_path / "one", "b", ".txt", [tmp_path / "one", tmp_path / "two"])
    assert path == tmp_path / "one" / "b_2.txt"
    assert fresh_path(tmp_path / "one", "b", ".txt") == tmp_path / "one" / "b.txt"


def test_files_below_leaves_out_one_folder_at_the_top(tmp_path):
    for name in ("a", "people/b", "sub/people/c", "sub/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    assert {file.relative_to(tmp_path).as_posix() for file in files_below(tmp_path)} == {
        *("a", "people/b", "sub/people/c", "sub/d")
    }
    assert tmp_path / "people" / "b" not in set(files_below(tmp_path, without="people"))
    assert len(list(files_below(str(tmp_path), without="people"))) == 3
    assert list(files_below(tmp_path / "absent")) == []
