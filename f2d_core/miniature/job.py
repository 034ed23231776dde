"""What the trainings of the miniature world have in common, as jobs of the ordinary run (f2d_core.train.run)."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch

from ..train.checkpoint import Checkpoint
from ..train.metrics import Row
from ..train.run import Moment
from ..train.schedule import WarmUp
from ..train.state import Group, Optimisation, TrainState
from ..weights import read_tensors, write_safetensors

WEIGHTS, EMA, MOMENTS = "weights.safetensors", "ema.safetensors", "moments.safetensors"

Modules = Mapping[str, torch.nn.Module]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """Of one training. learning_rate: the highest, after a short warm-up; from there straight down to 0. ema: of the
    averaged copy, which is the result; 0 for none."""

    steps: int
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    ema: float = 0.0
    seed: int = 0
    checkpoint_every: int = 500
    keep_last: int = 1
    keep_every: int = 0
    deterministic: bool = False
    tensorboard: bool = False

    @property
    def micro_batch(self) -> int:
        return self.batch


@dataclass(frozen=True)
class Rows:
    """Samples by name, (B, …) each. images: their numbers."""

    images: Sequence[int]
    tensors: Tensors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def on(self, place: torch.device) -> Rows:
        """The same, on that device."""
        return Rows(self.images, {name: value.to(place) for name, value in self.tensors.items()})

    def part(self, start: int, size: int) -> Rows:
        end = start + size
        return Rows(self.images[start:end], {name: value[start:end] for name, value in self.tensors.items()})


class Lesson(Protocol):
    """What is particular to a training: what a step sees, and how wrong the modules are about it.

    figures: the names of what `measure` gives, "loss" first.
    """

    modules: Modules
    figures: Sequence[str]

    def rows(self, step: int, slots: range) -> Rows:
        """The samples of these slots of step `step`, the same in whatever parts they are asked for."""
        ...

    def measure(self, rows: Rows) -> dict[str, torch.Tensor]:
        """The figures of the samples, (B,) each; the loss carries the gradient."""
        ...


class ModuleTask:
    """A `trainer.Task` around a lesson."""

    together = False
    memory_help = "expected about 2 GB free. Close other programs."

    def __init__(self, lesson: Lesson, settings: Settings):
        self.figures = lesson.figures
        self.groups = _groups(lesson.modules, settings.weight_decay)
        self.optimisation = Optimisation(
            WarmUp(settings.learning_rate, warm_up=max(1, settings.steps // 50), end=settings.steps),
            beta1=0.9,
            beta2=0.99,
            grad_clip=1.0,
            ema=settings.ema,
        )
        self._lesson = lesson

    def ready_batch(self, step: int, slots: range, micro_batch: int) -> Rows:
        return self._lesson.rows(step, slots).on(device())

    def measure(self, batch: Rows) -> dict[str, torch.Tensor]:
        return self._lesson.measure(batch)


class ModuleJob:
    """A `run.Job` that trains the modules of a lesson. made_of: what the samples depend on, by name."""

    free = ("checkpoint_every",)
    folders: Sequence[str] = ()

    def __init__(self, lesson: Lesson, settings: Settings, made_of: Mapping[str, Any] | None = None):
        self.config, self._made_of = settings, dict(made_of or {})
        for module in lesson.modules.values():
            module.to(device())
        self.curves = tuple(lesson.figures)
        self.task = ModuleTask(lesson, settings)
        self.state = TrainState(self.task.groups, self.task.optimisation)
        self._modules = lesson.modules

    def values(self) -> dict[str, Any]:
        return {**asdict(self.config), **self._made_of}

    def tensors(self) -> dict[str, Mapping[str, torch.Tensor]]:
        averaged = {EMA: self.state.ema} if self.state.ema else {}  # a file without tensors cannot be read
        return {WEIGHTS: self._whole(), MOMENTS: self.state.moments(), **averaged}

    def metadata(self) -> Mapping[str, Mapping[str, object]]:
        return {}

    def restore(self, checkpoint: Checkpoint) -> None:
        weights, moments = (checkpoint.tensors[name] for name in (WEIGHTS, MOMENTS))
        ema = checkpoint.tensors.get(EMA, {})
        self.state.restore(checkpoint.step, weights, ema, moments, checkpoint.scale)
        put(self._modules, weights)

    def look(self, moment: Moment) -> list[Row]:
        return []

    def write_results(self, folder: Path) -> None:
        write_safetensors(folder / WEIGHTS, {**self._whole(), **self.state.ema}, {"step": self.state.step})

    def _whole(self) -> Tensors:
        """Parameters and buffers, named MODULE.KEY."""
        return {f"{name}.{key}": v for name, module in self._modules.items() for key, v in module.state_dict().items()}


def put(modules: Modules, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give modules the tensors of a result or checkpoint."""
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own)


def load_result(modules: Modules, folder: Path) -> None:
    """Give modules the result of a run, on the CPU. Raises WeightsError."""
    for module in modules.values():
        module.cpu()
    put(modules, read_tensors(folder / WEIGHTS)[0])


def fast() -> AbstractContextManager:
    """Products of matrices in bf16 where that is quick, weights in fp32: half the time of fp32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision() == "bf16")


@cache
def precision() -> str:
    """What this machine is taken to be quick in, as trainers call it: "bf16" on GPUs and CPUs with AVX-512, "fp32" on
    other CPUs (measured with AVX2: products in bf16 take over a hundred times as long). "auto" of the trainers is fp32
    on every CPU."""
    quick = device().type != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    return "bf16" if quick else "fp32"


def device() -> torch.device:
    """What trainings of this world run on: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """For people."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def seeded(make: Callable[[], torch.nn.Module], seed: int) -> Any:
    """What `make` makes, with torch's own first weights from `seed`; the random numbers of others stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _groups(modules: Modules, weight_decay: float) -> Sequence[Group]:
    """Matrices and kernels are decayed, the rest is not."""
    named = {f"{name}.{key}": v for name, module in modules.items() for key, v in module.named_parameters()}
    decayed = {key: value for key, value in named.items() if value.ndim > 1}
    others = {key: value for key, value in named.items() if value.ndim <= 1}
    return Group(decayed, weight_decay), Group(others, 0.0)
