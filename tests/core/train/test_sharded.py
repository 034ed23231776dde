"""Classes shared out among processes give the losses and gradients of one process that has them all."""

import pytest
import torch

from f2d_core.train.arcface import Margin
from f2d_core.train.distributed import World
from f2d_core.train.sharded import sharded_losses
from tests.support.msid_process import CLASSES, dense, problem, shared, together

MARGINS = [Margin("arcface", 0.5), Margin("arcface", 0.5, exact=True), Margin("cosface", 0.4)]


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("processes", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.float32),
                                                  (3, torch.float64)])  # fmt: skip
def test_sharded_equals_dense(tmp_path, processes, dtype):
    together(processes, shared, MARGINS, dtype, tmp_path)
    parts = [torch.load(tmp_path / f"{processes}-{rank}.pt", weights_only=True) for rank in range(processes)]
    limit = 1e-5 if dtype == torch.float32 else 1e-12
    for classes in CLASSES:
        for number, margin in enumerate(MARGINS):
            expected = dense(classes, margin, dtype)
            for name, value in expected.items():
                found = torch.cat([part[f"{classes} {number} {name}"] for part in parts])
                assert found.shape == value.shape
                assert apart(found, value) < limit, (classes, margin, name)
            assert len({len(part[f"{classes} {number} losses"]) for part in parts}) == processes  # uneven indeed


def test_the_cosine_is_that_without_margin():
    features, labels, weight, _ = problem(10, torch.float64)
    _, cosine = sharded_losses(features, labels, weight, 0, Margin(), 8.0, World())
    assert torch.allclose(cosine, torch.nn.functional.cosine_similarity(features, weight[labels]))
    assert not cosine.requires_grad


def test_large_logits_do_not_overflow():
    features, labels, weight, _ = problem(10, torch.float32)
    losses, _ = sharded_losses(features.requires_grad_(), labels, weight, 0, Margin(), 1e4, World())
    losses.sum().backward()
    assert losses.isfinite().all() and features.grad.isfinite().all()
