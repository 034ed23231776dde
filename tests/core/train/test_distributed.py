"""One process alone, and how work is shared out; several at once are in test_sharded.py and test_msid_run.py."""

import pytest
import torch

from f2d_core.train.distributed import World, joined_world


@pytest.mark.parametrize(("batch", "size"), [(12, 1), (13, 4), (2, 3), (93_431, 8)])
def test_every_slot_falls_to_one_process(batch, size):
    shares = [World(rank, size).share(batch) for rank in range(size)]
    assert [slot for share in shares for slot in share] == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_talks_to_nobody():
    world, rows = World(), torch.arange(6).view(3, 2)
    assert world.writes and world.sizes(3, torch.device("cpu")) == [3]
    assert torch.equal(world.gather(rows, [3]), rows) and torch.equal(world.collect(rows, [3]), rows)
    assert world.any(True, torch.device("cpu")) and not world.any(False, torch.device("cpu"))
    assert torch.equal(world.greatest(rows), rows)
    world.wait()


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world(torch.device("cpu")) as world:
        assert world == World(0, 1)
