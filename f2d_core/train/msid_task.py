"""What is trained: face crops -> f_id -> ArcFace over all identities (Face2Diffusion 3.2, Eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from ..constants import AUTO
from ..data.identities import Identities
from ..errors import SettingsError
from ..msid import MSIDEncoder
from .arcface import Margin
from .distributed import World
from .msid_config import CONCAT, SUM, MSIDTrainConfig
from .randomness import CHOICES, ORDER, generator
from .schedule import WarmUp
from .sharded import sharded_losses
from .state import Group, Optimisation

HEAD, CLASSES = 100, 101  # purposes of random numbers, beside those of f2d_core.train.randomness
_HEAD_SPREAD = 0.01  # of the first rows of a head
_WEIGHT_SPREAD, _WEIGHT_LIMIT = 0.02, 0.04  # of the first weights of the encoder
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class FaceBatch:
    """B samples. images, labels: (B,) int64 on the CPU and on the device. faces: (B, 3, S, S) uint8. flips: (B,) bool.
    classes: those that this step's softmax is over, sorted, None for all."""

    images: Sequence[int]
    labels: torch.Tensor
    faces: torch.Tensor
    flips: torch.Tensor
    step: int
    classes: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, size: int) -> FaceBatch:
        """The samples start .. start + size - 1, as views."""
        cut = {name: getattr(self, name)[start : start + size] for name in ("images", "labels", "faces", "flips")}
        return replace(self, **cut)


class MSIDTask:
    """An identity encoder in training, and its heads, of which this process has the rows of its share of the classes.

    The first weights depend on the seed alone. Raises SettingsError for pictures of another size than the network's,
    and for a batch that leaves a batch norm with a single sample.
    """

    together = True
    memory_help = "expected about 40 MB free for each at full size. Close other programs or lower micro_batch."

    def __init__(self, data: Identities, config: MSIDTrainConfig, device: torch.device, world: World):
        _check(data, config, world)
        self.data, self.config, self.device, self.world = data, config, device, world
        self.classes = world.share(data.people)
        self.network = initial_encoder(config).to(device)
        self.network.norm.requires_grad_(False)  # never called; it stays in the file for other programs
        self.heads = [self._head(i) for i in range(self.head_count)]
        precision = config.precision
        self._bf16 = precision == "bf16" or (precision == AUTO and device.type == "cuda")
        self._trunk = _Trunk(self.network)
        self._margin = WarmUp(config.margin_size, config.warm_up_steps)
        # share_N: the part of level N (counted from 1, as in the paper) in the cosine of the concatenation.
        self.shares = [f"share_{level + 1}" for level in config.network.levels] if config.loss == CONCAT else []
        self.figures = ("loss", "cosine", *self.shares)
        self._workers = ThreadPoolExecutor(config.workers, thread_name_prefix="faces")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="faces-ahead")
        self._ahead: tuple[tuple[int, range], Future] | None = None

    @property
    def head_count(self) -> int:
        return self.config.levels if self.config.loss == SUM else 1

    @property
    def groups(self) -> list[Group]:
        """No weight decay on norms, biases, class token and positions."""
        values = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        decayed = {name: value for name, value in values.items() if _decays(value)}
        others = {name: value for name, value in values.items() if name not in decayed}
        decay = self.config.weight_decay
        return [Group(decayed, decay), Group(others, 0.0), Group(self.head_parameters, decay, own=True)]

    @property
    def head_parameters(self) -> dict[str, nn.Parameter]:
        return {f"head.{i}": head for i, head in enumerate(self.heads)}

    @property
    def optimisation(self) -> Optimisation:
        config = self.config
        rate = WarmUp(config.learning_rate, config.warm_up_steps, config.steps)
        return Optimisation(rate, config.beta1, config.beta2, config.grad_clip)

    def ready_batch(self, step: int, slots: range, micro_batch: int) -> FaceBatch:
        """These slots of the batch of step `step`. The pictures of the next step are decoded meanwhile."""
        images, faces = self._faces(step, slots)
        if step + 1 < self.config.steps:
            self._ahead = (step + 1, slots), self._reader.submit(self._read, step + 1, slots)
        flips = generator(self.config.seed, CHOICES, step).random(self.config.batch)[slots.start : slots.stop] < 0.5
        return FaceBatch(
            images=images,
            labels=torch.from_numpy(self.data.labels[images]).to(self.device),
            faces=torch.from_numpy(faces).to(self.device).permute(0, 3, 1, 2),
            flips=torch.from_numpy(flips & self.config.flip).to(self.device),
            step=step,
            classes=self._drawn_classes(step),
        )

    def measure(self, batch: FaceBatch) -> dict[str, torch.Tensor]:
        """The figures of the samples, (B,) each; the loss carries the gradient."""
        levels = self.level_features(batch)
        inputs = [torch.cat(levels, dim=1)] if self.head_count == 1 else levels
        found = [self._head_losses(i, features, batch) for i, features in enumerate(inputs)]
        losses, cosines = (torch.stack(values) for values in zip(*found, strict=True))
        figures = {"loss": losses.sum(dim=0), "cosine": cosines.mean(dim=0)}
        return figures | dict(zip(self.shares, level_shares(levels), strict=False))

    def level_features(self, batch: FaceBatch) -> list[torch.Tensor]:
        """The normalised class token of each level, (B, width) fp32 each. The blocks compute in bf16 where set."""
        levels = self.network.config.levels
        dtype = torch.bfloat16 if self._bf16 else torch.float32
        faces = _pixels(batch.faces, batch.flips, dtype)
        if self._bf16:
            cast = {name: value.to(dtype) for name, value in self._trunk.named_parameters()}
            tokens = torch.func.functional_call(self._trunk, cast, (faces, levels))
        else:
            tokens = self._trunk(faces, levels)
        norms = self.network.norms
        return [norms[f"layer_{level}"](token.float()) for level, token in zip(levels, tokens, strict=True)]

    def images(self, step: int, slots: range) -> np.ndarray:
        """(B,): which pictures these slots are; every epoch is a permutation of its own."""
        count = len(self.data)
        samples = step * self.config.batch + np.arange(slots.start, slots.stop)
        epochs, positions = np.divmod(samples, count)
        found = np.empty(len(samples), np.int64)
        for epoch in np.unique(epochs):
            at = epochs == epoch
            found[at] = _permutation(self.config.seed, int(epoch), count)[positions[at]]
        return found

    def class_shares(self) -> torch.Tensor:
        """(levels,): the parts of the levels in the squared length of all rows of the head, over all processes."""
        width = self.config.width
        energy = self.heads[0].detach().square().sum(dim=0).view(-1, width).sum(dim=1)
        self.world.add_up(energy)
        return energy / energy.sum()

    def _head_losses(self, number: int, features: torch.Tensor, batch: FaceBatch):
        margin = Margin(self.config.margin_kind, self._margin(batch.step), self.config.margin_exact)
        weight, labels, first = self.heads[number], batch.labels, self.classes.start
        if batch.classes is not None:
            ours = torch.tensor((self.classes.start, self.classes.stop), device=self.device)
            first, last = torch.searchsorted(batch.classes, ours).tolist()
            weight = weight[batch.classes[first:last] - self.classes.start]
            labels = torch.searchsorted(batch.classes, labels)
        return sharded_losses(features, labels, weight, first, margin, self.config.scale, self.world)

    def _drawn_classes(self, step: int) -> torch.Tensor | None:
        """The classes of this step in all processes: those of its pictures, and others at random."""
        count = round(self.config.class_rate * self.data.people)
        if count >= self.data.people:
            return None
        order = generator(self.config.seed, CLASSES, step).random(self.data.people)
        order[self.data.labels[self.images(step, range(self.config.batch))]] = -1
        needed = max(count, int((order < 0).sum()))
        drawn = np.sort(np.argpartition(order, needed - 1)[:needed])
        return torch.from_numpy(drawn).to(self.device)

    def _faces(self, step: int, slots: range) -> tuple[np.ndarray, np.ndarray]:
        expected, self._ahead = self._ahead, None
        if expected is not None and expected[0] == (step, slots):
            return expected[1].result()
        return self._read(step, slots)

    def _read(self, step: int, slots: range) -> tuple[np.ndarray, np.ndarray]:
        images = self.images(step, slots)
        return images, self.data.pictures(images, self._workers)

    def _head(self, number: int) -> nn.Parameter:
        width = self.network.config.features // self.head_count
        rows = initial_rows(self.config.seed, number, self.classes, width)
        return nn.Parameter(torch.from_numpy(rows).to(self.device))


class _Trunk(nn.Module):
    """The blocks of an encoder, without the norms of its levels."""

    def __init__(self, encoder: MSIDEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, faces: torch.Tensor, levels: tuple[int, ...]) -> list[torch.Tensor]:
        return self.encoder.class_tokens(faces, levels)


def initial_encoder(config: MSIDTrainConfig) -> MSIDEncoder:
    """An encoder in training mode: weights from a normal cut off at two deviations, biases 0, norms 1."""
    encoder = MSIDEncoder(config.network)
    random = torch.Generator().manual_seed(config.seed)
    for name, value in encoder.named_parameters():
        if _decays(value) or value.ndim == 3:
            nn.init.trunc_normal_(value, std=_WEIGHT_SPREAD, a=-_WEIGHT_LIMIT, b=_WEIGHT_LIMIT, generator=random)
        elif name.endswith("bias"):
            nn.init.zeros_(value)
    return encoder.train()


def initial_rows(seed: int, number: int, classes: range, width: int) -> np.ndarray:
    """(c, width) fp32: the first rows of these classes in head `number`, however classes are shared out."""
    rows = np.empty((len(classes), width), np.float32)
    for block in range(classes.start // _ROWS_AT_ONCE, -(-classes.stop // _ROWS_AT_ONCE)):
        begin = block * _ROWS_AT_ONCE
        drawn = generator(seed, HEAD, number, block).standard_normal((_ROWS_AT_ONCE, width), np.float32)
        low, high = max(begin, classes.start), min(begin + _ROWS_AT_ONCE, classes.stop)
        rows[low - classes.start : high - classes.start] = drawn[low - begin : high - begin] * _HEAD_SPREAD
    return rows


def level_shares(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """(levels, B): a_i^2, the parts of the levels in the squared length of their concatenation."""
    squares = torch.stack([level.detach().square().sum(dim=1) for level in levels])
    return squares / squares.sum(dim=0)


def _decays(value: torch.Tensor) -> bool:
    """Matrices and the patch filters; not class token and positions, which have three dimensions."""
    return value.ndim in (2, 4)


def _pixels(faces: torch.Tensor, flips: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 -> [-1, 1], some of them mirrored."""
    mirrored = torch.where(flips[:, None, None, None], faces.flip(3), faces)
    return (mirrored.to(torch.float32) / 127.5 - 1).to(dtype)


@lru_cache(maxsize=2)  # a batch may reach over the end of an epoch
def _permutation(seed: int, epoch: int, images: int) -> np.ndarray:
    return generator(seed, ORDER, epoch).permutation(images)


def _check(data: Identities, config: MSIDTrainConfig, world: World) -> None:
    if data.side != config.image_size:
        raise SettingsError(
            f"The pictures have {data.side} px and image_size is {config.image_size}; expected the same."
        )
    least, most = config.batch // world.size, -(-config.batch // world.size)
    if least // -(-most // config.micro_batch) < 2:
        raise SettingsError(
            f"batch is {config.batch} in {world.size} processes and micro_batch {config.micro_batch}; expected at "
            "least two samples in each part, for the batch norms. Raise batch or micro_batch."
        )
