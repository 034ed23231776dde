"""The loop: the same result however the work is cut up; stops, overflows, lack of memory, loss of sense."""

import math
from dataclasses import replace

import pytest
import torch

from f2d_core.errors import TrainingError
from f2d_core.train.losses import denoising_losses
from f2d_core.train.state import TrainState
from f2d_core.train.task import MappingTask
from f2d_core.train.trainer import Trainer
from tests.support import training
from tests.support.train_process import gradient_and_parameters, gradients_of

FP32, FP64 = torch.float32, torch.float64


def trainer_of(dtype=FP32, data=None, half=False, flexible=True, **settings):
    config = training.config(**settings)
    task = MappingTask(training.parts(dtype), data or training.MemoryData(), config)
    state = TrainState(task.groups, replace(task.optimisation, half=half))
    return Trainer(task, state, config.batch, config.micro_batch, flexible=flexible)


def apart(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize(("dtype", "limit"), [(FP64, 1e-6), (FP32, 1e-5)])
def test_any_micro_batch_gives_the_same_gradient(dtype, limit):
    expected, _ = gradient_and_parameters(dtype, {"micro_batch": 32}, 0)
    for size in (8, 1, 5):
        found, _ = gradient_and_parameters(dtype, {"micro_batch": size}, 0)
        assert apart(found, expected) < limit
    assert expected.norm() > 1e-3


def test_any_micro_batch_gives_the_same_parameters_after_20_steps():
    _, expected = gradient_and_parameters(FP64, {"micro_batch": 32}, 20)
    for size in (8, 1):
        _, found = gradient_and_parameters(FP64, {"micro_batch": size}, 20)
        assert apart(found, expected) < 1e-6


@pytest.mark.parametrize(("dtype", "limit", "steps"), [(FP64, 1e-6, 20), (FP32, 1e-5, 0)])
def test_two_processes_give_what_one_gives(tmp_path, dtype, limit, steps):
    gradients_of(2, dtype, {"micro_batch": 3}, steps, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    gradient, parameters = gradient_and_parameters(dtype, {"micro_batch": 32}, steps)
    assert apart(found["gradient"], gradient) < limit
    assert apart(found["parameters"], parameters) < limit


def test_a_step_is_the_method_written_out():
    """One step without micro-batches, counters or buffers, from the equations and torch's own AdamW."""
    trainer = trainer_of(FP64, batch=6, micro_batch=2)
    task, config = trainer.task, trainer.task.config
    batch = task.prepare(0, range(6))
    encoder, denoiser = task.parts.encoder, task.parts.denoiser
    twin = MappingTask(task.parts, task.data, config)
    v_exp = torch.where(batch.keep_expression[:, None].bool(), batch.v_exp, twin.network.null_exp)
    features = torch.cat((batch.v_id, v_exp), dim=1)
    words = []
    for i, head in enumerate(twin.network.heads):
        hidden = features
        for j, block in enumerate(head.layers):
            hidden = torch.nn.functional.leaky_relu(block[0](hidden) * batch.dropout[:, i, j], 0.2)
        words.append(head.fc_out(hidden))
    context = encoder.encode_words("a photo of S*", "S*", torch.stack(words, dim=1), "token")
    eps_c = denoiser.predict_noise(batch.z_t, batch.t, encoder.encode_text("a photo of a person").expand(6, -1, -1))
    eps_pred = denoiser.predict_noise(batch.z_t, batch.t, context)
    loss = denoising_losses(eps_pred, batch.noise, batch.mask, eps_c, "cgdr").total.mean()
    loss.backward()
    values = list(twin.parameters.values())
    norm = torch.nn.utils.clip_grad_norm_(values, 1.0)
    groups = [{"params": [v for v in values if v.ndim > 1], "weight_decay": 1e-2},
              {"params": [v for v in values if v.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
    torch.optim.AdamW(groups, lr=1e-2).step()

    result = trainer.step(lambda: False)

    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-9)
    for name, value in task.parameters.items():
        assert torch.allclose(value, twin.parameters[name], rtol=1e-9, atol=1e-12), name
    moved = 0.9 * twin_start(task)["null_exp"] + 0.1 * task.parameters["null_exp"].detach()
    assert torch.allclose(trainer.state.ema["null_exp"], moved, rtol=1e-12)


def twin_start(task):
    return {name: value.detach() for name, value in MappingTask(task.parts, task.data, task.config).parameters.items()}


def test_no_weight_decay_on_biases_and_null_exp():
    groups = trainer_of().state._optimiser.param_groups
    assert [group["weight_decay"] for group in groups] == [1e-2, 0.0]
    assert {value.ndim for value in groups[0]["params"]} == {2} and {v.ndim for v in groups[1]["params"]} == {1}


def test_frozen_models_get_no_gradient_and_stay_as_they_are():
    trainer = trainer_of()
    denoiser = trainer.task.parts.denoiser
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    trainer.step(lambda: False)
    assert all(value.grad is None for value in denoiser.parameters())
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())


def test_the_class_pass_keeps_nothing_for_backward():
    task = trainer_of().task
    guided = task.guide(task.prepare(0, range(4)))
    assert not guided.eps_c.requires_grad and not guided.z_t.requires_grad


@pytest.mark.parametrize(("variant", "passes"), [("cgdr", 3), ("masked", 2), ("reconstruction", 2)])
def test_the_class_pass_runs_once_per_batch_and_only_where_it_is_needed(monkeypatch, variant, passes):
    trainer = trainer_of(variant=variant, batch=4, micro_batch=2)
    denoiser = trainer.task.parts.denoiser
    sizes, plain = [], denoiser.predict_noise
    monkeypatch.setattr(denoiser, "predict_noise", lambda z, t, c: sizes.append(len(z)) or plain(z, t, c))
    trainer.step(lambda: False)
    assert sizes == ([4, 2, 2] if passes == 3 else [2, 2])


def test_a_stop_forgets_the_step():
    trainer = trainer_of(batch=8, micro_batch=2)
    trainer.step(lambda: False)
    before = {name: value.detach().clone() for name, value in trainer.state.parameters.items()}
    asked = iter([False, False, True])
    assert trainer.step(lambda: next(asked)) is None
    assert trainer.state.step == 1
    assert all(torch.equal(value, before[name]) for name, value in trainer.state.parameters.items())
    other = trainer_of(batch=8, micro_batch=2)
    other.step(lambda: False)
    assert other.step(lambda: False) == trainer.step(lambda: False)


def test_half_precision_scales_the_loss_and_skips_overflows(monkeypatch):
    trainer, plain = trainer_of(half=True, batch=4), trainer_of(batch=4)
    assert trainer.state.scale.value == 2.0**14
    assert trainer.step(lambda: False).gradient_norm == pytest.approx(plain.step(lambda: False).gradient_norm, rel=1e-4)

    losses = trainer.task.losses

    def overflowing(batch):
        found, lengths = losses(batch)
        return found._replace(total=found.total * 1e30), lengths

    monkeypatch.setattr(trainer.task, "losses", overflowing)
    before = trainer.state.parameters["null_exp"].detach().clone()
    assert not math.isfinite(trainer.step(lambda: False).gradient_norm)
    assert trainer.state.scale.value == 2.0**13 and trainer.state.step == 2
    assert torch.equal(trainer.state.parameters["null_exp"], before)


def test_a_loss_that_is_no_number_names_the_photos_and_changes_nothing():
    data = training.MemoryData()
    data.v_id[:, 6] = float("nan")
    trainer = trainer_of(data=data, batch=8, micro_batch=3)
    before = {name: value.detach().clone() for name, value in trainer.state.parameters.items()}
    images = trainer.task.prepare(0, range(8)).images
    assert 6 in images, "the seed of these tests must bring photo 6 into the first batch"
    listed = ", ".join(map(str, images))
    with pytest.raises(TrainingError, match=rf"loss of step 0 is nan \(from photos 6 of the batch photos {listed}\)"):
        trainer.step(lambda: False)
    assert all(torch.equal(value, before[name]) for name, value in trainer.state.parameters.items())


def run_out_of_memory_above(trainer, monkeypatch, limit):
    plain = trainer.task.losses

    def losses(batch):
        if len(batch) > limit:
            raise torch.OutOfMemoryError("pretended")
        return plain(batch)

    monkeypatch.setattr(trainer.task, "losses", losses)


def test_parts_get_smaller_when_memory_runs_out(monkeypatch):
    trainer, plain = (trainer_of(FP64, batch=8, micro_batch=8) for _ in range(2))
    run_out_of_memory_above(trainer, monkeypatch, 3)
    assert trainer.step(lambda: False).loss == pytest.approx(plain.step(lambda: False).loss, rel=1e-12)
    assert trainer.micro_batch == 2


@pytest.mark.parametrize(("flexible", "limit"), [(False, 3), (True, 0)])
def test_memory_that_does_not_do_is_said_in_one_line(monkeypatch, flexible, limit):
    trainer = trainer_of(batch=8, micro_batch=8, flexible=flexible)
    run_out_of_memory_above(trainer, monkeypatch, limit)
    with pytest.raises(TrainingError, match="memory of the device is too small") as caught:
        trainer.step(lambda: False)
    assert "\n" not in str(caught.value)


def test_a_figure_without_a_value_is_left_out(monkeypatch):
    trainer = trainer_of(batch=4)
    measure = trainer.task.measure
    monkeypatch.setattr(
        trainer.task, "measure", lambda batch: {**measure(batch), "word_length": torch.full((len(batch),), math.nan)}
    )
    assert set(trainer.step(lambda: False).figures) == {"foreground", "background"}
