"""Servers that come and go: nothing is lost, nothing is made twice, and what cannot be mended is said once."""

import threading
import time
from collections import Counter

import numpy as np
import pytest

from f2d_core.errors import OutputError, SettingsError
from f2d_core.evaluate import servers
from f2d_core.evaluate.servers import Crew, Interrupted, MemoryFull, Unreachable

ITEMS = list(range(60))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(servers, "POLL_S", 0.001)
    monkeypatch.setattr(servers, "FIRST_RETRY_S", 0.005)
    monkeypatch.setattr(servers, "MOST_RETRY_S", 0.01)


class FakeServer:
    """Finishes one item with every question; `down` while it does not answer."""

    def __init__(self, address, troubles=()):
        self.address = address
        self.troubles = dict(troubles)  # item -> exceptions that its results raise, one after the other
        self.down = False
        self.queue, self.worked, self.cancelled, self.most = {}, [], [], 0
        self.connects = self.freed = self.number = 0

    def _answer(self):
        if self.down:
            raise Unreachable(f"{self.address} does not answer")

    def connect(self):
        self._answer()
        self.connects += 1
        self.queue.clear()

    def submit(self, item):
        self._answer()
        self.number += 1
        self.queue[str(self.number)] = item
        self.most = max(self.most, len(self.queue))
        return str(self.number)

    def result(self, ticket):
        self._answer()
        time.sleep(0.001)
        item = self.queue.pop(ticket)
        if self.troubles.get(item):
            raise self.troubles[item].pop(0)
        self.worked.append(item)
        return np.full((1, 1, 3), item, np.uint8)

    def free_memory(self):
        self.freed += 1

    def cancel(self, tickets):
        self._answer()
        self.cancelled += tickets


class Saved:
    def __init__(self):
        self.items, self.notes = [], []

    def __call__(self, item, picture):
        assert picture[0, 0, 0] == item
        self.items.append(item)


def crew(*fakes, **options):
    saved = Saved()
    return Crew(fakes, saved, saved.notes.append, **options), saved


def test_every_server_takes_part_and_everything_is_made_once():
    fakes = [FakeServer(name) for name in "abc"]
    working, saved = crew(*fakes)
    told = []
    working.run(ITEMS, lambda done, total: told.append((done, total)))
    assert sorted(saved.items) == ITEMS
    assert sum(working.made.values()) == len(ITEMS) and all(working.made[fake.address] for fake in fakes)
    assert told[-1] == (60, 60) and told == sorted(told)
    assert all(fake.most == 2 for fake in fakes), "one item waits while another is worked on"
    assert saved.notes == []


def test_a_crew_can_be_used_again():
    working, saved = crew(FakeServer("a"), FakeServer("b"))
    working.run(ITEMS[:5])
    working.run(ITEMS[5:])
    assert sorted(saved.items) == ITEMS


def test_nothing_to_do_needs_no_server():
    working, saved = crew(FakeServer("a"))
    working.run([])
    assert saved.items == []


def test_a_server_dies_and_its_work_goes_to_the_other():
    dying, other = FakeServer("a"), FakeServer("b")
    working, saved = crew(dying, other)

    def die(done, total):
        dying.down = dying.down or done >= 10

    working.run(ITEMS, die)
    assert Counter(saved.items) == Counter(ITEMS)
    assert len(saved.notes) == 1 and "a does not answer; its work goes to others" in saved.notes[0]


def test_a_server_that_returns_is_used_again():
    returning, other = FakeServer("a"), FakeServer("b")
    working, saved = crew(returning, other)
    dead_at = []

    def leave_and_return(done, total):
        if done >= 10 and not dead_at:
            dead_at.append(len(returning.worked))
            returning.down = True
            threading.Timer(0.02, setattr, (returning, "down", False)).start()

    working.run(list(range(250)), leave_and_return)
    assert Counter(saved.items) == Counter(range(250))
    assert returning.connects >= 2 and len(returning.worked) > dead_at[0]
    assert saved.notes[-1] == "a is back"


def test_no_server_at_the_beginning_is_an_error_at_once():
    fake = FakeServer("a")
    fake.down = True
    working, saved = crew(fake)
    with pytest.raises(SettingsError, match=r"No server answers: a does not answer\. Start ComfyUI"):
        working.run(ITEMS)
    assert saved.items == []


def test_one_absent_server_does_not_stop_the_other():
    absent, other = FakeServer("a"), FakeServer("b")
    absent.down = True
    working, saved = crew(absent, other)
    working.run(ITEMS)
    assert sorted(saved.items) == ITEMS


def test_all_servers_gone_later_is_an_error_after_a_while():
    fake = FakeServer("a")
    working, saved = crew(fake, give_up_s=0.05)
    with pytest.raises(SettingsError, match="No server answers"):
        working.run(ITEMS, lambda done, total: setattr(fake, "down", True))
    assert 0 < len(saved.items) < len(ITEMS)
    assert len(set(saved.items)) == len(saved.items)


def test_memory_is_freed_and_the_item_tried_again():
    fake = FakeServer("a", {5: [MemoryFull("full")]})
    working, saved = crew(fake)
    working.run(ITEMS)
    assert sorted(saved.items) == ITEMS and fake.freed == 1
    assert "too little memory" in saved.notes[0]


def test_memory_that_stays_too_small_is_said():
    fake = FakeServer("a", {5: [MemoryFull("full")] * 9})
    working, saved = crew(fake)
    with pytest.raises(SettingsError, match="a has too little memory for a picture"):
        working.run(ITEMS)
    assert 5 not in saved.items and fake.freed == 2


def test_an_interrupted_item_is_made_again():
    fake = FakeServer("a", {7: [Interrupted("stopped")] * 2})
    working, saved = crew(fake)
    working.run(ITEMS)
    assert sorted(saved.items) == ITEMS


def test_an_item_that_is_always_interrupted_ends_the_work():
    working, _ = crew(FakeServer("a", {7: [Interrupted("stopped")] * 9}))
    with pytest.raises(SettingsError, match="a stopped a picture 5 times"):
        working.run(ITEMS)


def test_an_error_stops_everybody_and_takes_the_work_back():
    failing, other = FakeServer("a"), FakeServer("b")
    other.result = lambda ticket: None  # never done

    def fail(ticket):
        if other.most == 2:
            raise SettingsError("no face")

    failing.result = fail
    working, _ = crew(failing, other)
    with pytest.raises(SettingsError, match="no face"):
        working.run(ITEMS)
    assert len(other.cancelled) == 2


def test_a_full_disk_stops_the_work():
    def full(item, picture):
        raise OutputError("Cannot write: no space left")

    fake = FakeServer("a")
    with pytest.raises(OutputError, match="no space"):
        Crew([fake], full).run(ITEMS)
    assert fake.cancelled


def test_ctrl_c_takes_the_work_back():
    fake = FakeServer("a")

    def stop(done, total):
        raise KeyboardInterrupt

    working, saved = crew(fake)
    with pytest.raises(KeyboardInterrupt):
        working.run(ITEMS, stop)
    assert len(saved.items) < len(ITEMS)
    assert not fake.queue or fake.cancelled
