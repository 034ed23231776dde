"""Margin losses against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from f2d_core.train.arcface import Margin, dense_losses


def cosines(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_arcface_adds_to_the_angle():
    found = Margin("arcface", 0.5).applied(cosines(1.0, 0.5, 0.0, -0.5))
    expected = [math.cos(math.acos(value) + 0.5) for value in (1.0, 0.5, 0.0, -0.5)]
    assert found.tolist() == pytest.approx(expected)


def test_cosface_subtracts_from_the_cosine():
    margin = Margin("cosface", 0.4)
    assert margin.applied(cosines(0.9, -0.2)).tolist() == pytest.approx([0.5, -0.6])
    assert margin.slope(cosines(0.9)).tolist() == [1.0]


def test_rounding_beyond_one_is_no_angle_of_nan():
    assert torch.isfinite(Margin().applied(torch.tensor([1.0000001, -1.0000001]))).all()
    assert torch.isfinite(Margin(exact=True).slope(torch.tensor([1.0, -1.0]))).all()


def test_the_exact_slope_is_that_of_autograd():
    at = cosines(0.8, 0.1, -0.7, -0.95)
    (expected,) = torch.autograd.grad((at.acos() + 0.5).cos().sum(), at)
    assert Margin(exact=True).slope(at.detach()).tolist() == pytest.approx(expected.tolist())
    assert expected[3] < 0  # beyond pi - margin it turns
    assert Margin().slope(at.detach()).tolist() == [1.0] * 4


@pytest.mark.parametrize("exact", [False, True])
def test_the_loss_is_a_cross_entropy_over_shifted_cosines(exact):
    random = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, generator=random, dtype=torch.float64)
    labels = torch.tensor([1, 4, 1])
    losses = dense_losses(features, labels, weight, Margin("arcface", 0.3, exact), 10.0)
    for i, label in enumerate(labels.tolist()):
        logits = [10 * float(F.cosine_similarity(features[i].detach(), row, dim=0)) for row in weight]
        logits[label] = 10 * math.cos(math.acos(logits[label] / 10) + 0.3)
        expected = -logits[label] + math.log(sum(math.exp(value) for value in logits))
        assert float(losses[i].detach()) == pytest.approx(expected)
    losses.sum().backward()
    assert features.grad.norm() > 0.1
