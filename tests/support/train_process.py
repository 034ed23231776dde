"""Training in other processes: one that can be killed, and several that share a batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch

from f2d_core.train import train
from f2d_core.train.distributed import joined_world
from f2d_core.train.state import TrainState
from f2d_core.train.task import MappingTask
from f2d_core.train.trainer import Trainer

from . import training

# The server process imports torch once and computes nothing; its children start in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

# What a save does to files; a process may be killed before each of them.
_FILE_CALLS = ("fsync", "replace", "rename", "rmdir", "unlink", "mkdir")


def start_run(folder: Path, settings: dict[str, Any], kill_at: int | None = None) -> Any:
    """A process that trains in `folder`; it kills itself before file call number `kill_at`."""
    process = PROCESSES.Process(target=_run, args=(folder, settings, kill_at))
    process.start()
    return process


def _run(folder: Path, settings: dict[str, Any], kill_at: int | None) -> None:
    torch.set_num_threads(1)
    if kill_at is not None:
        _kill_before_call(kill_at)
    train(training.parts(torch.float64), training.MemoryData(), training.config(**settings), folder)


def _kill_before_call(number: int) -> None:
    calls = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in _FILE_CALLS:
        setattr(os, name, counted(getattr(os, name)))


def gradients_of(processes: int, dtype: torch.dtype, settings: dict[str, Any], steps: int, folder: Path) -> None:
    """Train `steps` steps in processes that share each batch; process 0 leaves gradient and parameters in `folder`."""
    port = _free_port()
    started = [
        PROCESSES.Process(target=_share, args=(rank, processes, port, dtype, settings, steps, folder))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    codes = [process.exitcode for process in started]
    if any(codes):
        raise RuntimeError(f"processes ended with {codes}")


def _share(rank: int, size: int, port: int, dtype: torch.dtype, settings: dict, steps: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined_world(torch.device("cpu")) as world:
        gradient, parameters = gradient_and_parameters(dtype, settings, steps, world)
    if rank == 0:
        torch.save({"gradient": gradient, "parameters": parameters}, folder / "found.pt")


def gradient_and_parameters(dtype: torch.dtype, settings: dict, steps: int, world: Any = None) -> tuple:
    """(first gradient (n,), all parameters (n,) after `steps` steps)."""
    config = training.config(**settings)
    task = MappingTask(training.parts(dtype), training.MemoryData(), config)
    state = TrainState(task.groups, task.optimisation)
    trainer = Trainer(task, state, config.batch, config.micro_batch, world)
    gradient = trainer.gradient().clone()
    for _ in range(steps):
        trainer.step(lambda: False)
    return gradient, torch.cat([value.detach().flatten() for value in state.parameters.values()])


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
