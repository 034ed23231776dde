"""Downloads in the background, from a server on this machine."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from f2d_core.catalogue import PUBLISHED
from f2d_core.errors import DownloadError, SettingsError
from f2d_core.fetch import Fetched
from f2d_core.fetches import DONE, FAILED, RUNNING, STOPPED, STOPPING, Fetches
from f2d_core.testing import tiny_mapping_state_dict
from f2d_core.weights import file_sha256
from tests.support.mirror import serving, write_mirror


@pytest.fixture
def mirror(tmp_path):
    with serving(write_mirror(tmp_path / "mirror")) as address:
        yield address


def finished(fetches, kind):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = next(state for state in fetches.states() if state.kind == kind)
        if state.state not in (RUNNING, STOPPING):
            return state
        time.sleep(0.01)
    raise AssertionError(state)


def test_a_file_is_fetched_and_says_what_it_became(mirror, tmp_path):
    fetches = Fetches()

    assert fetches.states() == []
    assert fetches.start("msid", tmp_path / "models", mirror).state == RUNNING
    state = finished(fetches, "msid")

    file = tmp_path / "models" / "msid.pt"
    assert (state.state, state.file, state.error) == (DONE, "msid.pt", "")
    assert state.done == state.total == file.stat().st_size
    assert (state.sha256, state.published) == (file_sha256(file), False)
    assert state.as_dict()["state"] == "done"


def test_a_wrong_file_fails_and_leaves_nothing_and_can_be_tried_again(mirror, tmp_path):
    fetches = Fetches()
    fetches.start("mapping", tmp_path / "models", mirror)

    state = finished(fetches, "mapping")
    assert state.state == FAILED and "an MSID encoder, expected a mapping network" in state.error
    assert list((tmp_path / "models").iterdir()) == []

    torch.save(tiny_mapping_state_dict(), tmp_path / "mirror" / "mapping.pt")
    fetches.start("mapping", tmp_path / "models", mirror)
    assert finished(fetches, "mapping").state == DONE


class Slow:
    """In place of `fetch`: gives bytes when it is told to."""

    def __init__(self):
        self.calls, self.go = 0, threading.Semaphore(0)

    def __call__(self, entry, folder, check, *, mirror, progress):
        self.calls += 1
        for done in range(1, 4):
            assert self.go.acquire(timeout=10)
            progress(done, 3)
        return Fetched(folder / entry.file, "ab", True)


def test_one_at_a_time_of_each_file(tmp_path, monkeypatch):
    namesake = replace(PUBLISHED["siglip_b16"], download="https://example.org/siglip.safetensors")
    monkeypatch.setitem(PUBLISHED, "siglip_b16", namesake)
    slow = Slow()
    fetches = Fetches(slow)
    fetches.start("clip_h14", tmp_path)
    assert fetches.start("clip_h14", tmp_path).state == RUNNING
    with pytest.raises(DownloadError, match="Another open_clip_model.safetensors"):
        fetches.start("siglip_b16", tmp_path)

    slow.go.release(3)
    assert finished(fetches, "clip_h14").published is True
    assert slow.calls == 1


def test_stopping_is_at_the_next_block(tmp_path):
    slow = Slow()
    fetches = Fetches(slow)
    fetches.start("msid", tmp_path)

    assert fetches.stop("msid").state == STOPPING
    slow.go.release()
    state = finished(fetches, "msid")

    assert (state.state, state.done, state.total) == (STOPPED, 1, 3)
    assert fetches.stop("msid").state == STOPPED and fetches.stop("mapping") is None


def test_an_unexpected_failure_is_told_too(tmp_path, caplog):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("no")

    fetches = Fetches(broken)
    fetches.start("msid", tmp_path)

    state = finished(fetches, "msid")
    assert (state.state, state.error) == (FAILED, "ZeroDivisionError. The log says more.")


@pytest.mark.parametrize("kind", ["nothing", "", "../msid"])
def test_only_what_the_catalogue_has(tmp_path, kind):
    with pytest.raises(SettingsError, match="no published file"):
        Fetches().start(kind, tmp_path)


@pytest.mark.parametrize(
    "mirror", ["file:///etc", "ftp://example.org", "example.org", "http://", "http://[", "https://x/" * 200]
)
def test_only_web_addresses_are_mirrors(tmp_path, mirror):
    with pytest.raises(SettingsError, match="no web address"):
        Fetches().start("msid", tmp_path, mirror)


def test_what_has_no_address_is_not_begun(tmp_path):
    fetches = Fetches()
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetches.start("recon", tmp_path)
    with pytest.raises(DownloadError, match="cannot be fetched from a mirror"):
        fetches.start("siglip_b16", tmp_path, "https://example.org")
    assert fetches.states() == []
