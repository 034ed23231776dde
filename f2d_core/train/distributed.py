"""One process or many: torchrun's processes share a batch and add up their gradients once per step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process among `size` of them; process 0 writes all files."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> range:
        """The slots of a batch that fall to this process; together they are all slots, each once."""
        return range(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` by its sum over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started, or this one alone where none did."""
    if "WORLD_SIZE" not in os.environ:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """The number of this process on its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
