"""Encoder training in other processes: a run that can be killed, and several that share classes and batches."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from f2d_core.train import train_msid
from f2d_core.train.arcface import Margin, dense_losses
from f2d_core.train.distributed import joined_world
from f2d_core.train.sharded import sharded_losses

from .identities import MemoryIdentities, config
from .train_process import PROCESSES

WIDTH, SAMPLES = 6, 11
CLASSES = (10, 2)  # with 3 processes: 3, 3 and 4 of them; none, 1 and 1


def together(count: int, target: Callable, *arguments: Any) -> None:
    """Run `target(world, *arguments)` in `count` processes joined by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [PROCESSES.Process(target=_join, args=(rank, count, port, target, arguments)) for rank in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    codes = [process.exitcode for process in started]
    if any(codes):
        raise RuntimeError(f"processes ended with {codes}")


def _join(rank: int, size: int, port: int, target: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined_world(torch.device("cpu")) as world:
        target(world, *arguments)


def problem(classes: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(features (n, d), labels (n,), head (classes, d), what each loss counts (n,))"""
    random = torch.Generator().manual_seed(classes)
    features = torch.randn(SAMPLES, WIDTH, generator=random, dtype=torch.float64)
    weight = torch.randn(classes, WIDTH, generator=random, dtype=torch.float64)
    labels = torch.randint(classes, (SAMPLES,), generator=random)
    weight[labels[0]] = 0.2 * weight[labels[0]] - features[0]  # an angle beyond pi - margin
    counts = torch.rand(SAMPLES, generator=random, dtype=torch.float64)
    return features.to(dtype), labels, weight.to(dtype), counts.to(dtype)


def dense(classes: int, margin: Margin, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Losses and gradients in one process, by the definition."""
    features, labels, weight, counts = problem(classes, dtype)
    features.requires_grad_(), weight.requires_grad_()
    losses = dense_losses(features, labels, weight, margin, 8.0)
    (losses * counts).sum().backward()
    return {"losses": losses.detach(), "features": features.grad, "weight": weight.grad}


def shared(world, margins: list[Margin], dtype: torch.dtype, folder: Path) -> None:
    """The same with classes and samples shared out unevenly; each process leaves its parts in `folder`."""
    found = {}
    starts = [SAMPLES * rank * rank // world.size**2 for rank in range(world.size + 1)]  # uneven: 1, 4, 9 …
    samples = slice(starts[world.rank], starts[world.rank + 1])
    for classes in CLASSES:
        for number, margin in enumerate(margins):
            features, labels, weight, counts = problem(classes, dtype)
            rows = world.share(classes)
            features = features[samples].requires_grad_()
            weight = weight[rows.start : rows.stop].clone().requires_grad_()
            losses, cosine = sharded_losses(features, labels[samples], weight, rows.start, margin, 8.0, world)
            (losses * counts[samples]).sum().backward()
            parts = {"losses": losses.detach(), "features": features.grad, "weight": weight.grad, "cosine": cosine}
            found |= {f"{classes} {number} {name}": value for name, value in parts.items()}
    torch.save(found, folder / f"{world.size}-{world.rank}.pt")


def train_in_world(world, folder: Path, settings: dict[str, Any], stop_after: int | None = None) -> None:
    """A run of all processes; after `stop_after` steps the last of them, and no other, is asked to stop."""
    done = []
    asked = stop_after is not None and world.rank == world.size - 1
    stop = (lambda: len(done) >= stop_after) if asked else None
    train_msid(MemoryIdentities(), config(**settings), folder, progress=done.append, should_stop=stop, world=world)


def start_run(folder: Path, settings: dict[str, Any]) -> Any:
    """A process that trains in `folder`, to be killed."""
    process = PROCESSES.Process(target=_run, args=(folder, settings))
    process.start()
    return process


def _run(folder: Path, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    train_msid(MemoryIdentities(), config(**settings), folder)
