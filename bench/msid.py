"""What a training step of the identity encoder costs, next to the same step written plainly.

    python bench/msid.py [--repeats 7]
    python bench/msid.py --full          on a GPU: full size, 93,431 classes, bf16, batch 1024

Everything that is compared runs in turn within one process with the same sizes and number of threads, in fp32 on the
CPU; the figures are medians.

  ours    Trainer.step of f2d_core.train: draws, pictures (ready in memory), forward, backward, update
  plain   the loop one would write: the network of bench/plain.py, which computes all tokens of every block, ArcFace as
          InsightFace's code has it, F.cross_entropy, clip_grad_norm_, torch's AdamW; pictures are a ready tensor

The heads are compared alone as well: the class-sharded softmax in one process against the dense one, and the head's
part of a whole step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script, run without installing anything
sys.path.insert(0, str(REPO / "bench"))

from plain import PlainMSID  # noqa: E402

from f2d_core.data.identities import Identities  # noqa: E402
from f2d_core.train import MSIDTrainConfig  # noqa: E402
from f2d_core.train.arcface import Margin  # noqa: E402
from f2d_core.train.distributed import World  # noqa: E402
from f2d_core.train.msid_task import MSIDTask  # noqa: E402
from f2d_core.train.sharded import sharded_losses  # noqa: E402
from f2d_core.train.state import TrainState  # noqa: E402
from f2d_core.train.trainer import Trainer  # noqa: E402

PEOPLE = 1000
SMALL = MSIDTrainConfig(width=192, batch=16, micro_batch=16, steps=10_000, warm_up=0.0)
FULL = MSIDTrainConfig(steps=10_000, warm_up=0.0)
FULL_PEOPLE, FULL_GOAL, FULL_MICRO_BATCHES = 93_431, 7_000, (128, 256, 512, 1024)
HEAD_BATCH, HEAD_WIDTH, HEAD_CLASSES = 32, 1536, 20_000
STEPS_AHEAD = 4  # of a GPU, timed together

Step = Callable[[], object]


class Ready(Identities):
    """Random pictures in memory, one for each person."""

    def __init__(self, people: int, side: int):
        self._picture = np.random.RandomState(0).randint(0, 256, (64, side, side, 3)).astype(np.uint8)
        self.labels = np.arange(people)
        self.people, self.side, self.fingerprint, self.title = people, side, "", "random"

    def pictures(self, indices, workers=None) -> np.ndarray:
        return self._picture[np.asarray(indices) % len(self._picture)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="of every measurement (default %(default)s)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread, and processor seconds instead of the clock's: for a machine that is busy with other work",
    )
    parser.add_argument("--full", action="store_true", help="full size on a GPU instead of the comparison on the CPU")
    options = parser.parse_args()
    if options.full:
        full_size()
    else:
        small(options.repeats, options.cpu_time)


def small(repeats: int, cpu_time: bool) -> None:
    clock = time.process_time if cpu_time else time.perf_counter
    if cpu_time:
        torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, width {SMALL.width}, {SMALL.depth} blocks, "
        f"batch {SMALL.batch}, {PEOPLE} classes, fp32; medians of {repeats}{', processor seconds' if cpu_time else ''}"
    )
    cpu = torch.device("cpu")
    trainer, plain = ours(SMALL, PEOPLE, cpu), Plain(SMALL, PEOPLE)
    seconds = interleaved({"ours": lambda: trainer.step(lambda: False), "plain": plain.step}, repeats, clock)
    for name, value in seconds.items():
        print(f"  {name:<10}{value:8.3f} s   {SMALL.batch / value:6.1f} images/s")
    heads = Heads(HEAD_BATCH, HEAD_WIDTH, HEAD_CLASSES)
    head_seconds = interleaved({"sharded": heads.sharded, "dense": heads.dense}, repeats, clock)
    print(f"heads alone, batch {HEAD_BATCH}, width {HEAD_WIDTH}, {HEAD_CLASSES} classes:")
    for name, value in head_seconds.items():
        print(f"  {name:<10}{value:8.3f} s")
    verdict("images/s, ours / plain", seconds["plain"] / seconds["ours"], ">=", 1.0)
    verdict("head, sharded / dense", head_seconds["sharded"] / head_seconds["dense"], "<=", 1.1)


def ours(config: MSIDTrainConfig, people: int, device: torch.device) -> Trainer:
    task = MSIDTask(Ready(people, config.image_size), config, device, World())
    state = TrainState(task.groups, task.optimisation)
    return Trainer(task, state, config.batch, config.micro_batch, flexible=False)


class Plain:
    """The loop one would write."""

    def __init__(self, config: MSIDTrainConfig, people: int):
        self.config = config
        self.network = PlainMSID(config.width, config.width // 32, config.depth, config.patch)
        self.network.norm.requires_grad_(False)
        self.weight = nn.Parameter(0.01 * torch.randn(people, 4 * config.width))
        self.parameters = [v for v in self.network.parameters() if v.requires_grad] + [self.weight]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.1)
        self.faces = torch.rand(config.batch, 3, 112, 112) * 2 - 1
        self.labels = torch.arange(config.batch)

    def step(self) -> None:
        loss = dense_loss(self.network(self.faces), self.labels, self.weight)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimiser.step()


class Heads:
    """Forward and backward of a head alone."""

    def __init__(self, batch: int, width: int, classes: int):
        self.features = torch.randn(batch, width, requires_grad=True)
        self.weight = torch.randn(classes, width, requires_grad=True)
        self.labels = torch.randint(classes, (batch,))

    def sharded(self) -> None:
        losses, _ = sharded_losses(self.features, self.labels, self.weight, 0, Margin(), 64.0, World())
        losses.mean().backward()
        self.features.grad = self.weight.grad = None

    def dense(self) -> None:
        dense_loss(self.features, self.labels, self.weight).backward()
        self.features.grad = self.weight.grad = None


def dense_loss(features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """ArcFace as InsightFace's code has it: the margin is put in without gradient."""
    logits = F.linear(F.normalize(features), F.normalize(weight)).clamp(-1, 1)
    rows = torch.arange(len(labels), device=labels.device)
    with torch.no_grad():
        target = (logits[rows, labels].arccos() + 0.5).cos()
        logits[rows, labels] = target
    return F.cross_entropy(logits * 64.0, labels)


def interleaved(steps: dict[str, Step], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each; all take turns, so that what slows the machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def full_size() -> None:
    """Images/s and peak memory at full size with 93,431 classes, for several micro-batches."""
    if not torch.cuda.is_available():
        raise SystemExit("--full needs a GPU; there is none here.")
    torch.set_float32_matmul_precision("high")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, bf16, batch {FULL.batch}, {FULL_PEOPLE} classes")
    best = 0.0
    for micro_batch in FULL_MICRO_BATCHES:
        trainer = ours(replace(FULL, micro_batch=micro_batch), FULL_PEOPLE, torch.device("cuda"))
        trainer.step(lambda: False)
        torch.cuda.reset_peak_memory_stats()
        seconds = statistics.median(timed_on_gpu(trainer) for _ in range(5))
        best = max(best, FULL.batch / seconds)
        peak = torch.cuda.max_memory_allocated() / 1e9
        print(f"  micro-batch {micro_batch:>5}: {FULL.batch / seconds:8.0f} images/s, {peak:5.1f} GB")
        del trainer
    verdict("images/s at full size (H200)", best, ">=", FULL_GOAL)


def timed_on_gpu(trainer: Trainer) -> float:
    """Seconds of a step."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS_AHEAD):
        trainer.step(lambda: False)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS_AHEAD


def verdict(what: str, value: float, sign: str, goal: float) -> None:
    reached = value >= goal if sign == ">=" else value <= goal
    print(f"{'ok     ' if reached else 'MISSED '} {what}: {value:.2f} (goal {sign} {goal:g})")


if __name__ == "__main__":
    main()
