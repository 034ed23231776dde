"""Checkpoints: whole or not there, damage is noticed, old ones go."""

import errno
import logging
import shutil

import pytest
import torch

from f2d_core.errors import OutputError, WeightsError
from f2d_core.train.checkpoint import Checkpoint, clean, load_checkpoint, prune, save_checkpoint
from f2d_core.train.state import LossScale


def checkpoint(step, seed=0):
    def tensors(offset):
        return {"a": torch.randn(3, 2, generator=torch.Generator().manual_seed(seed + offset), dtype=torch.float64)}

    names = ("mapping.safetensors", "ema.safetensors", "moments.safetensors")
    return Checkpoint(step, {name: tensors(i) for i, name in enumerate(names)}, LossScale(8.0, True, 3))


def same(found, expected):
    return (found.step, found.scale) == (expected.step, expected.scale) and all(
        torch.equal(found.tensors[name]["a"], value["a"]) for name, value in expected.tensors.items()
    )


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    path = save_checkpoint(tmp_path, checkpoint(7), {"mapping.safetensors": {"kind": "mapping"}})
    assert path.name == "step_000000007"
    assert (tmp_path / "latest").read_text() == path.name
    assert same(load_checkpoint(tmp_path), checkpoint(7))


def test_none_is_found_in_an_empty_or_missing_folder(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "none") is None


FILES = ("mapping.safetensors", "ema.safetensors", "moments.safetensors", "state.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_newest_falls_back_loudly(tmp_path, caplog, file, damage):
    save_checkpoint(tmp_path, checkpoint(1), {})
    path = save_checkpoint(tmp_path, checkpoint(2, seed=5), {}) / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with caplog.at_level(logging.WARNING):
        found = load_checkpoint(tmp_path)
    assert same(found, checkpoint(1))
    (record,) = caplog.records
    assert "step_000000002 is damaged" in record.message and "\n" not in record.message


def test_a_pointer_to_nothing_falls_back_loudly(tmp_path, caplog):
    save_checkpoint(tmp_path, checkpoint(1), {})
    shutil.rmtree(save_checkpoint(tmp_path, checkpoint(2), {}))
    assert same(load_checkpoint(tmp_path), checkpoint(1))
    assert "names step_000000002, which is not there" in caplog.text


def test_all_damaged_is_an_error(tmp_path):
    (save_checkpoint(tmp_path, checkpoint(1), {}) / "state.json").write_text("{}")
    with pytest.raises(WeightsError, match="All 1 checkpoints"):
        load_checkpoint(tmp_path)


def test_saving_a_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, checkpoint(3), {})
    save_checkpoint(tmp_path, checkpoint(3, seed=9), {})
    assert same(load_checkpoint(tmp_path), checkpoint(3, seed=9))


def test_the_last_and_the_milestones_are_kept(tmp_path):
    for step in (10, 20, 25, 30, 35, 40):
        save_checkpoint(tmp_path, checkpoint(step), {})
    prune(tmp_path, 40, keep_last=2, keep_every=20)
    assert sorted(path.name[-2:] for path in tmp_path.glob("step_*")) == ["20", "35", "40"]
    prune(tmp_path, 40, keep_last=1, keep_every=0)
    assert [path.name[-2:] for path in tmp_path.glob("step_*")] == ["40"]


def test_what_lies_beyond_the_run_goes(tmp_path):
    """A run that fell back behind a damaged checkpoint must not lose its new ones to it."""
    for step in (10, 60, 20):
        save_checkpoint(tmp_path, checkpoint(step), {})
    prune(tmp_path, 20, keep_last=1, keep_every=30)
    assert [path.name[-2:] for path in tmp_path.glob("step_*")] == ["20"]


def test_rests_of_a_killed_process_are_cleaned(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1), {})
    (tmp_path / ".part-x1").mkdir()
    (tmp_path / ".part-x1" / "mapping.safetensors").write_bytes(b"half")
    (tmp_path / ".latest-y.part").write_text("step")
    clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step_000000001"]


@pytest.mark.parametrize("file", [*FILES, "latest"])
def test_a_full_disk_at_any_file_leaves_the_checkpoint_before(tmp_path, monkeypatch, file):
    save_checkpoint(tmp_path, checkpoint(1), {})
    stem = file.partition(".")[0]
    real = open

    import f2d_core.files as files

    def full(path):
        if path.name.startswith(f".{stem}-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        with real(path, "rb+"):
            pass

    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_checkpoint(tmp_path, checkpoint(2), {})
    monkeypatch.undo()
    found = load_checkpoint(tmp_path)
    assert same(found, checkpoint(1))  # with a full disk at `latest` the second is whole, and not pointed to
    assert not list(tmp_path.glob(".*"))
