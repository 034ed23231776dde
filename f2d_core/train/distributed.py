"""One process or many: torchrun's processes share a batch and add up their gradients once per step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

# How long a process waits for the others: one of them may be verifying an encoder, or reading a set's file names.
_PATIENCE = timedelta(hours=6)


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

    def greatest(self, tensor: torch.Tensor) -> torch.Tensor:
        """The greatest over all processes, element by element; `tensor` may be overwritten."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def sizes(self, own: int, device: torch.device) -> list[int]:
        """The number `own` of every process."""
        if self.size == 1:
            return [own]
        found = torch.zeros(self.size, dtype=torch.int64, device=device)
        found[self.rank] = own
        self.add_up(found)
        return found.tolist()

    def gather(self, rows: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """(sum of sizes, …): the rows of all processes, in their order. sizes: how many each has."""
        if self.size == 1:
            return rows
        most = max(sizes)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        found = rows.new_empty(self.size * most, *rows.shape[1:])
        dist.all_gather_into_tensor(found, padded)
        return torch.cat([part[:size] for part, size in zip(found.split(most), sizes, strict=True)])

    def collect(self, rows: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor | None:
        """What `gather` gives, on the CPU of process 0 alone; never more than one process' rows at once on a device."""
        if self.size == 1:
            return rows.cpu()
        if not self.writes:
            dist.send(rows.contiguous(), 0)
            return None
        parts = [rows.cpu()]
        for rank in range(1, self.size):
            part = rows.new_empty(sizes[rank], *rows.shape[1:])
            dist.recv(part, rank)
            parts.append(part.cpu())
        return torch.cat(parts)

    def any(self, answer: bool, device: torch.device) -> bool:
        """Whether it is yes in any process."""
        votes = torch.tensor([float(answer)], device=device)
        self.add_up(votes)
        return bool(votes)

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
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """The number of this process on its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
