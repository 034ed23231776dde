"""Stopped at any moment, by kill -9 or a full disk: nothing unreadable is left, and the end result is the same."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from f2d_core.data import writer as module
from f2d_core.data.cache import JOURNAL, MANIFEST, Cache, Made, Photo, read_manifest
from f2d_core.data.settings import PrepareSettings
from f2d_core.data.writer import CacheWriter
from f2d_core.errors import CacheError, OutputError

REPO = Path(__file__).resolve().parents[3]
MODELS = {"msid": "a" * 64, "expression_encoder": "", "autoencoder": "c" * 64, "detector": "x", "parser": "d" * 64}
MADE = Made(PrepareSettings(size=64), MODELS)


def value_of(name: str) -> np.ndarray:
    return np.random.RandomState(int(name)).rand(2, 5).astype(np.float32)


def work(folder: Path, names: str, batch: int = 2) -> None:
    """A small `prepare`: photos are digits, a 9 is rejected."""
    with CacheWriter(folder, MADE) as writer:
        live = {name: photo for name, photo in writer.known.items() if name in names}
        writer.start(live)
        fresh = [name for name in names if name not in live]
        for i in range(0, len(fresh), batch):
            part = fresh[i : i + batch]
            values = [value_of(name) for name in part if name != "9"]
            arrays = {"v_id": np.stack(values), "mask": np.ones((len(values), 8, 8), np.uint8)} if values else {}
            writer.add([Photo(name, name * 64, reason="a nine" if name == "9" else "") for name in part], arrays)
        writer.finish({photo.name: "" for photo in writer.photos if photo.kept})


def check(folder: Path, names: str) -> None:
    """The finished cache holds just these photos, each with its own values, and no leftovers."""
    manifest = read_manifest(folder)
    assert "".join(photo.name for photo in manifest.photos) == names.replace("9", "")
    v_id = np.load(folder / "v_id.npy")
    for photo in manifest.photos:
        assert np.array_equal(v_id[photo.row], value_of(photo.name))
    named = {photo.row for photo in manifest.photos}
    assert all(not v_id[row].any() for row in range(len(v_id)) if row not in named)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "mask.npy", "v_id.npy"]


class Killed(BaseException):
    pass


def strike(monkeypatch, moment: int, error: BaseException) -> list[int]:
    """From the moment-th write or move on, nothing reaches the disk any more; the first of them by half."""
    count = [0]
    write_all, replace, fsync, unlink = module._write_all, os.replace, os.fsync, os.unlink

    def late() -> bool:
        count[0] += 1
        return count[0] > moment

    def dying_write(file, data):
        if late():
            if count[0] == moment + 1:
                write_all(file, data[: len(data) // 2])
            raise error
        write_all(file, data)

    def dying(function):
        def call(*arguments, **options):
            if late():
                raise error
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(module, "_write_all", dying_write)
    monkeypatch.setattr(os, "replace", dying(replace))
    monkeypatch.setattr(os, "fsync", dying(fsync))
    if isinstance(error, Killed):  # a full disk lets files go
        monkeypatch.setattr(os, "unlink", dying(unlink))
    return count


def events(tmp_path, names_before: str, names: str, error: BaseException) -> int:
    """How many writes and moves the second of two runs makes."""
    folder = tmp_path / "counted"
    if names_before:
        work(folder, names_before)
    with pytest.MonkeyPatch.context() as patch:
        count = strike(patch, 10**9, error)
        work(folder, names)
    return count[0]


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full"])
@pytest.mark.parametrize("before, names", [("", "01923"), ("01923", "1345")], ids=["new", "updated"])
def test_stopped_at_every_single_moment(tmp_path, before, names, error):
    """A new cache, and a finished one in which photos come and go; stopped, then run again."""
    total = events(tmp_path, before, names, error)
    assert total > 20
    for moment in range(total):
        folder = tmp_path / str(moment)
        if before:
            work(folder, before)
        with pytest.MonkeyPatch.context() as patch:
            strike(patch, moment, error)
            with pytest.raises((Killed, OutputError)):
                work(folder, names)
        manifest = read_manifest(folder)  # the old one or the new one, whole
        for photo in manifest.photos if manifest else ():
            assert np.array_equal(np.load(folder / "v_id.npy")[photo.row], value_of(photo.name)), moment
        work(folder, names)
        check(folder, names)


def test_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    work(tmp_path / "cache", "01")
    strike(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OutputError, match="Cannot write .*cache.* No space left on device.*run `prepare` again"):
        work(tmp_path / "cache", "0123")


def test_counted_photos_are_not_done_again(tmp_path):
    folder = tmp_path / "cache"
    with CacheWriter(folder, MADE) as writer:
        writer.start({})
        writer.add([Photo("4", "")], {"v_id": np.stack([value_of("4")]), "mask": np.ones((1, 8, 8), np.uint8)})
    with open(folder / JOURNAL, "a") as journal:
        journal.write('[{"name": "5", "sha')  # cut off in mid-writing

    with CacheWriter(folder, MADE) as writer:
        assert list(writer.known) == ["4"] and writer.unfinished
    with pytest.raises(CacheError, match="is not finished"):
        Cache.open(folder)


def test_rows_that_readers_see_are_not_written_to(tmp_path):
    folder = tmp_path / "cache"
    work(folder, "012")
    before = np.load(folder / "v_id.npy")
    with CacheWriter(folder, MADE) as writer:
        writer.start({name: writer.known[name] for name in "02"})
        for name in "34":
            writer.add([Photo(name, "")], {"v_id": np.stack([value_of(name)])})

        assert np.array_equal(np.load(folder / "v_id.npy"), before)  # the row of 1 is used again later only
    work(folder, "0234")
    check(folder, "0234")


@pytest.mark.parametrize(
    "content, message",
    [
        ("nonsense\n", "is damaged"),
        ("\n", "is damaged"),
        ('{"format": "other", "version": 1}\n', "of format other 1"),
    ],
)
def test_damaged_journals_are_refused(tmp_path, content, message):
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(CacheError, match=message):
        CacheWriter(tmp_path, MADE)


def test_damaged_and_other_arrays_are_refused(tmp_path):
    work(tmp_path / "cache", "01")
    np.save(tmp_path / "cache" / "mask.npy", np.ones((2, 4, 4), np.uint8))
    with pytest.raises(CacheError, match=r"mask\.npy has rows of uint8 \(4, 4\), expected uint8 \(8, 8\)"):
        work(tmp_path / "cache", "012")
    (tmp_path / "cache" / "mask.npy").write_bytes(b"nothing")
    with pytest.raises(CacheError, match=r"mask\.npy is damaged"):
        work(tmp_path / "cache", "012")


def test_arrays_are_plain_npy_files(tmp_path):
    work(tmp_path / "cache", "01")

    array = np.load(tmp_path / "cache" / "v_id.npy")

    assert array.dtype == np.float32 and np.array_equal(array, np.stack([value_of("0"), value_of("1")]))
    assert json.loads((tmp_path / "cache" / MANIFEST).read_text())["format"] == "f2d-cache"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9 (not on Windows)")
def test_kill_9_at_random_moments(photos, tmp_path):
    """A real `prepare` in a process of its own, killed again and again, ends with the same bytes as a quiet one."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed_prepare.py"), photos, tmp_path / "work", "15"],
        cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])

    assert report["killed"] == 15 and report["unreadable"] == 0
    quiet, killed = tmp_path / "work" / "quiet", tmp_path / "work" / "killed"
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in quiet.iterdir())
    for path in quiet.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes(), path.name
