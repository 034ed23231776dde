"""Parameters that all processes share and those that each has for itself; rates as functions of the step."""

import pytest
import torch
from torch import nn

from f2d_core.train.schedule import Constant, WarmUp
from f2d_core.train.state import Group, Optimisation, TrainState


def parameter(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def state_of(rule=None):
    own, shared = {"head": parameter(3.0, 4.0)}, {"a": parameter(1.0), "b": parameter(2.0, 5.0)}
    rule = rule or Optimisation(Constant(0.1), 0.9, 0.999, 1.0)
    return TrainState([Group(own, 0.0, own=True), Group(shared, 0.5)], rule)


def test_shared_gradients_lie_in_front():
    state = state_of()
    assert list(state.parameters) == ["a", "b", "head"]
    for i, value in enumerate(state.parameters.values()):
        value.grad.fill_(i + 1.0)
    assert state.gradient.tolist() == [1, 2, 2, 3, 3] and state.shared_gradient.tolist() == [1, 2, 2]
    assert state.own_squares().tolist() == [18]


def test_the_norm_is_that_of_all_processes():
    """Two processes with the same shared gradient and 18 and 9 of their own: sqrt(9 + 27)."""
    state = state_of()
    state.gradient.copy_(torch.tensor([1.0, 2, 2, 3, 3]))
    assert state.update(torch.tensor([27.0], dtype=torch.float64)) == pytest.approx(6)
    assert state.gradient.tolist() == pytest.approx([value / 6 for value in (1, 2, 2, 3, 3)])


def test_the_rate_is_that_of_the_step():
    """AdamW's first step is the rate, whatever the gradient."""
    moved = []
    for step in (0, 3):
        state = state_of(Optimisation(WarmUp(0.4, 3), 0.9, 0.999, 1e9))
        state.step = step
        state.gradient.fill_(1.0)
        state.update()
        moved.append(3.0 - float(state.parameters["head"][0].detach()))
    assert moved == pytest.approx([0.1, 0.4], rel=1e-6)


def test_each_group_has_its_decay():
    state = state_of(Optimisation(Constant(0.1), 0.9, 0.999, 1e9))
    state.update()  # no gradient: only decay moves
    assert state.parameters["b"].tolist() == pytest.approx([2 * 0.95, 5 * 0.95])
    assert state.parameters["head"].tolist() == [3, 4]


def test_no_averaged_copy_where_none_is_wanted():
    assert state_of().ema == {}
    state = state_of(Optimisation(Constant(0.1), 0.9, 0.999, 1.0, ema=0.9))
    assert list(state.ema) == ["a", "b", "head"]


def test_what_is_restored_goes_on_alike():
    first, second = state_of(), state_of()
    for _ in range(3):
        first.gradient.fill_(0.5)
        first.update()
    weights = {name: value.clone() for name, value in first.weights().items()}
    moments = {name: value.clone() for name, value in first.moments().items()}
    second.restore(3, weights, {}, moments, first.scale)
    for state in (first, second):
        state.gradient.fill_(0.25)
        state.update()
    assert all(torch.equal(value, second.weights()[name]) for name, value in first.weights().items())
