"""How many samples fit through the gradient pass at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

CPU_MICRO_BATCH = 4  # more gains nothing on a CPU
_HEADROOM = 0.9  # of what is free: allocators fragment, and previews come in between


def fitting_micro_batch(share: int, device: torch.device, trial: Callable[[int], None]) -> int:
    """Samples per pass for a share of `share` samples. trial(n): a gradient pass over n samples.

    On a GPU two small trials are measured; elsewhere the answer is a fixed small number.
    """
    if device.type != "cuda":
        return min(share, CPU_MICRO_BATCH)
    try:
        trial(1)  # libraries take their workspaces on first use
        one, two = (_peak_bytes(device, trial, n) for n in (1, min(2, share)))
    except torch.OutOfMemoryError:
        return 1  # where even that is too much, the first step says so
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return evenly(share, largest(one, two - one, int((free + unused) * _HEADROOM)))


def largest(first_bytes: int, more_bytes: int, free_bytes: int) -> int:
    """How many samples fit into `free_bytes` when the first takes `first_bytes` and each further `more_bytes`."""
    return 1 + max(0, free_bytes - first_bytes) // max(1, more_bytes)


def evenly(share: int, most: int) -> int:
    """The smallest number of samples per pass with which `share` takes as few passes as with `most`."""
    passes = -(-share // max(1, min(share, most)))
    return -(-share // passes)


def _peak_bytes(device: torch.device, trial: Callable[[int], None], samples: int) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    trial(samples)
    return torch.cuda.max_memory_allocated(device) - before
