"""The softmax over all identities with the classes shared out among processes (as InsightFace's partial FC does).

Every process holds the rows of its own classes and sees the features of all processes; what goes over the wire is
features, a few numbers per sample, and in the backward pass the gradient of the features. The result and the gradients
are those of f2d_core.train.arcface.dense_losses over the whole batch and all classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from .arcface import Margin
from .distributed import World

_LEAST_LENGTH = 1e-12  # of a row of the head


class HeadLosses(NamedTuple):
    """Of the B samples of this process, (B,) each. losses: with gradient. cosine: to the own class, without margin."""

    losses: torch.Tensor
    cosine: torch.Tensor


def sharded_losses(
    features: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor,
    first_class: int,
    margin: Margin,
    scale: float,
    world: World,
) -> HeadLosses:
    """features: (B, d), labels: (B,) int64 of all classes; B may differ between processes, which all call this at the
    same time. weight: (c, d), rows of the classes first_class .. first_class + c - 1. The gradient that reaches
    `features` and `weight` is that of the losses of all processes."""
    sizes = world.sizes(len(features), features.device)
    mine = slice(sum(sizes[: world.rank]), sum(sizes[: world.rank + 1]))
    everyone = _Gathered.apply(F.normalize(features), sizes, world)
    local = world.gather(labels, sizes) - first_class
    return HeadLosses(*_MarginSoftmax.apply(everyone, weight, local, margin, scale, mine, world))


class _Gathered(torch.autograd.Function):
    """The rows of all processes, in their order; backward, each process gets the sum of what all found for its own."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor, sizes: list[int], world: World) -> torch.Tensor:
        ctx.sizes, ctx.world = sizes, world
        return world.gather(rows, sizes)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        gradient = gradient.contiguous()
        ctx.world.add_up(gradient)
        return gradient.split(ctx.sizes)[ctx.world.rank], None, None


class _MarginSoftmax(torch.autograd.Function):
    """everyone (N, d) of length 1, weight (c, d) -> (losses, cosine to the own class) of the samples `mine`.

    The cosines become logits, probabilities and their gradient in one and the same (N, c) matrix, and the rows of the
    head are divided by their lengths in it, instead of in a copy of the head.
    """

    @staticmethod
    def forward(ctx, everyone, weight, local, margin: Margin, scale: float, mine: slice, world: World):
        lengths = weight.norm(dim=1).clamp_(min=_LEAST_LENGTH)
        logits = (everyone @ weight.T).div_(lengths)
        here = (local >= 0) & (local < len(weight))  # whether the class of a sample is here
        place = local.clamp(0, max(0, len(weight) - 1))[:, None]
        own = _taken(logits, place)
        _put(logits, place, here, margin.applied(own))
        logits.mul_(scale)
        greatest = world.greatest(_row_max(logits))
        told = logits.new_zeros(3, len(logits))  # sum of exponentials, own logit, own cosine
        told[1], told[2] = _taken(logits, place) * here, own * here
        told[0] = logits.sub_(greatest[:, None]).exp_().sum(dim=1)
        world.add_up(told)
        ctx.probabilities = logits.div_(told[0][:, None])
        ctx.save_for_backward(everyone, weight, lengths, place, here, margin.slope(own))
        ctx.scale, ctx.mine, ctx.world = scale, mine, world
        losses, cosines = (told[0].log() + greatest - told[1])[mine], told[2][mine]
        ctx.mark_non_differentiable(cosines)
        return losses, cosines

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, _of_cosine):
        everyone, weight, lengths, place, here, slope = ctx.saved_tensors
        of_all = gradient.new_zeros(len(everyone))
        of_all[ctx.mine] = gradient * ctx.scale
        ctx.world.add_up(of_all)
        found, ctx.probabilities = ctx.probabilities, None  # from here on the gradient of the cosines
        found.mul_(of_all[:, None])
        _put(found, place, here, (_taken(found, place) - of_all) * slope)
        found.div_(lengths)
        of_weight = found.T @ everyone
        # Along a row itself nothing changes: its length is divided out.
        radial = torch.linalg.vecdot(of_weight, weight) / lengths**2
        return found @ weight, of_weight.addcmul_(weight, radial[:, None], value=-1), None, None, None, None, None


def _taken(matrix: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """(N,): one entry of each row of (N, c); zeros where there are no columns."""
    return matrix.gather(1, place)[:, 0] if matrix.shape[1] else matrix.new_zeros(len(matrix))


def _put(matrix: torch.Tensor, place: torch.Tensor, here: torch.Tensor, values: torch.Tensor) -> None:
    """Put one entry into the rows that are `here`; without asking the device how many those are."""
    if matrix.shape[1]:
        matrix.scatter_(1, place, torch.where(here, values, _taken(matrix, place))[:, None])


def _row_max(logits: torch.Tensor) -> torch.Tensor:
    """(N,); the least number there is where a process has no classes at all."""
    if logits.shape[1] == 0:
        return logits.new_full((len(logits),), torch.finfo(logits.dtype).min)
    return logits.max(dim=1).values
