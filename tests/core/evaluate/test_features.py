"""Features are kept: nothing twice, in any order, by several processes, after a kill, with damaged files."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from f2d_core.errors import CacheError, OutputError
from f2d_core.evaluate.features import FeatureCache, cache_name, identity_key, text_key
from tests.support.base_directory import REPO
from tests.support.extractors import FakeIdentity, FakeImageText


class Work:
    """compute() for keys that are numbers; remembers what it was asked for."""

    def __init__(self, keys, width=3):
        self.keys, self.width, self.asked = keys, width, []

    def __call__(self, indices):
        self.asked.append([self.keys[i] for i in indices])
        return torch.tensor([[float(self.keys[i])] * self.width for i in indices])


def first_column(rows):
    return rows[:, 0].tolist()


@pytest.fixture(params=["memory", "folder"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "ünï features"


def test_each_key_is_computed_once_and_given_in_order(place):
    cache, work = FeatureCache(place), Work(["5", "3", "5", "9", "3"])

    rows = cache.rows("net", work.keys, work, batch=2)

    assert first_column(rows) == [5, 3, 5, 9, 3] and rows.dtype == torch.float32 and rows.shape == (5, 3)
    assert work.asked == [["5", "3"], ["9"]]
    again = Work(["9", "4", "3"])
    assert first_column(cache.rows("net", again.keys, again)) == [9, 4, 3] and again.asked == [["4"]]


def test_names_are_kept_apart(place):
    cache = FeatureCache(place)
    cache.rows("net a", ["1"], Work(["1"]))

    for name in ("net b", "net:a", "net_a"):
        work = Work(["1"])
        cache.rows(name, ["1"], work)
        assert work.asked == [["1"]]


def test_another_process_finds_what_was_kept(tmp_path):
    keys = [str(i) for i in range(10)]
    FeatureCache(tmp_path).rows("net", keys, Work(keys), batch=4)
    work = Work(["3", "11"])

    assert first_column(FeatureCache(tmp_path).rows("net", ["3", "11"], work)) == [3, 11]
    assert work.asked == [["11"]]


def test_what_others_keep_meanwhile_is_found(tmp_path):
    one, other = FeatureCache(tmp_path), FeatureCache(tmp_path)
    one.rows("net", ["1"], Work(["1"]))
    other.rows("net", ["2"], Work(["2"]))
    work = Work(["1", "2", "3"])

    assert first_column(one.rows("net", work.keys, work)) == [1, 2, 3] and work.asked == [["3"]]


def test_only_the_last_batch_is_lost_when_the_work_breaks_off(tmp_path):
    keys = [str(i) for i in range(6)]
    work = Work(keys)

    def breaks(indices):
        if 4 in indices:
            raise KeyboardInterrupt
        return work(indices)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path).rows("net", keys, breaks, batch=2)
    rest = Work(keys)
    assert first_column(FeatureCache(tmp_path).rows("net", keys, rest)) == list(range(6))
    assert rest.asked == [["4", "5"]]


def test_a_process_that_is_killed_leaves_whole_batches(tmp_path):
    code = (
        "import os, sys, torch\n"
        "from f2d_core.evaluate.features import FeatureCache\n"
        "def compute(indices):\n"
        "    if 6 in indices: os.kill(os.getpid(), 9)\n"
        "    return torch.tensor([[float(i)] for i in indices])\n"
        "FeatureCache(sys.argv[1]).rows('net', [str(i) for i in range(8)], compute, batch=2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=REPO, capture_output=True)
    assert done.returncode == -9
    keys = [str(i) for i in range(8)]
    rest = Work(keys, width=1)

    assert first_column(FeatureCache(tmp_path).rows("net", keys, rest)) == list(range(8))
    assert rest.asked == [["6", "7"]]


def test_damaged_and_foreign_files_are_computed_again(tmp_path):
    FeatureCache(tmp_path).rows("net", ["1"], Work(["1"]))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    (file.parent / "foreign.safetensors").write_bytes(b"x")
    work = Work(["1"])

    assert first_column(FeatureCache(tmp_path).rows("net", ["1"], work)) == [1] and work.asked == [["1"]]
    assert first_column(FeatureCache(tmp_path).rows("net", ["1"], Work([]))) == [1]


def test_progress_counts_keys(place):
    cache, told = FeatureCache(place), []
    cache.rows("net", ["1", "2"], Work(["1", "2"]))

    keys = ["1", "2", "3", "4", "5"]
    cache.rows("net", keys, Work(keys), batch=2, progress=lambda done, total: told.append((done, total)))

    assert told == [(4, 5), (5, 5)]


def test_no_keys(place):
    assert FeatureCache(place).rows("net", [], Work([])).shape[0] == 0


@pytest.mark.parametrize("rows", [torch.zeros(1, 3), torch.zeros(2), torch.zeros(2, 4)])
def test_rows_that_do_not_fit(place, rows):
    cache = FeatureCache(place)
    cache.rows("net", ["0"], Work(["0"]))

    with pytest.raises(CacheError, match="expected one row each"):
        cache.rows("net", ["1", "2"], lambda _: rows)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="Cannot write"):
        FeatureCache(tmp_path / "file").rows("net", ["1"], Work(["1"]))


def test_keys():
    points = np.arange(10.0).reshape(5, 2)

    assert identity_key("a", points) == identity_key("a", points.copy()) != identity_key("a", points + 1e-9)
    assert identity_key("a", points) != identity_key("b", points)
    assert text_key("café") != text_key("cafe")
    assert cache_name(FakeIdentity()) != cache_name(FakeImageText())
    assert cache_name(FakeIdentity(sha256="f" * 64)) != cache_name(FakeIdentity())
