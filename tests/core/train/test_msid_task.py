"""Encoder training: what is drawn, one step against the method written out, sizes that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from f2d_core.errors import SettingsError
from f2d_core.train.arcface import Margin, dense_losses
from f2d_core.train.distributed import World
from f2d_core.train.msid_task import MSIDTask, initial_rows, level_shares
from f2d_core.train.state import TrainState
from f2d_core.train.trainer import Trainer
from tests.support.identities import SIDE, WITHOUT_GRADIENT, MemoryIdentities, config

CPU = torch.device("cpu")


def task_of(data=None, world=None, **changes):
    return MSIDTask(data or MemoryIdentities(), config(**changes), CPU, world or World())


def test_every_epoch_is_a_permutation_and_no_slot_depends_on_another():
    task = task_of(batch=12)
    drawn = np.concatenate([task.images(step, range(12)) for step in range(10)])
    assert sorted(drawn[:40]) == list(range(40)) == sorted(drawn[40:80])
    assert list(drawn[:40]) != list(drawn[40:80])
    assert list(task.images(7, range(5, 9))) == list(task.images(7, range(12))[5:9])


def test_half_of_the_faces_are_mirrored_or_none():
    task = task_of(batch=12)
    flips = torch.cat([task.ready_batch(step, range(12), 4).flips for step in range(20)])
    assert 90 < int(flips.sum()) < 150
    assert torch.equal(task.ready_batch(3, range(4, 8), 4).flips, flips[36 + 4 : 36 + 8])
    assert not task_of(flip=False).ready_batch(0, range(12), 4).flips.any()


def test_a_batch_is_pictures_and_their_people():
    data, task = MemoryIdentities(), task_of()
    for step in (0, 1, 5):  # the second was decoded ahead, the third not
        batch = task.ready_batch(step, range(12), 4)
        assert np.array_equal(batch.faces.permute(0, 2, 3, 1).numpy(), data._faces[batch.images])
        assert batch.labels.tolist() == data.labels[batch.images].tolist()
    part = batch.part(4, 3)
    assert len(part) == 3 and torch.equal(part.faces, batch.faces[4:7])


def test_mirrored_pictures_are_mirrored():
    task = task_of(loss="deepest")
    batch = task.ready_batch(0, range(4), 4)
    plain, mirrored = (replace(batch, flips=torch.full((4,), flip)) for flip in (False, True))
    turned = replace(plain, faces=plain.faces.flip(3))
    assert torch.equal(task.level_features(mirrored)[0], task.level_features(turned)[0])


def test_the_head_starts_alike_however_classes_are_shared_out():
    whole = initial_rows(3, 0, range(2500), 4)
    parts = [initial_rows(3, 0, World(rank, 3).share(2500), 4) for rank in range(3)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.std() == pytest.approx(0.01, rel=0.05)
    assert not np.array_equal(whole, initial_rows(3, 1, range(2500), 4))


def test_the_network_starts_from_the_seed_alone():
    torch.manual_seed(0)
    first = task_of().network.state_dict()
    torch.manual_seed(1)
    again, other = task_of().network.state_dict(), task_of(seed=4).network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["pos_embed"], other["pos_embed"])
    assert float(first["blocks.0.attn.qkv.weight"].abs().max()) <= 0.04
    assert not first["blocks.0.attn.qkv.bias"].any() and (first["norms.layer_0.1.weight"] == 1).all()


def test_no_weight_decay_on_norms_biases_class_token_and_positions():
    decayed, others, heads = task_of().groups
    assert (decayed.weight_decay, others.weight_decay, heads.weight_decay) == (0.1, 0.0, 0.1)
    assert "patch_embed.proj.weight" in decayed.parameters and {v.ndim for v in decayed.parameters.values()} == {2, 4}
    assert {"cls_token", "pos_embed", "norms.layer_0.0.weight", "blocks.1.norm1.weight"} <= set(others.parameters)
    assert heads.own and list(heads.parameters) == ["head.0"]


def test_the_unused_norm_is_in_the_file_and_not_in_the_optimiser():
    task = task_of()
    learnt = {name for group in task.groups for name in group.parameters}
    assert "norm.weight" not in learnt and "norm.weight" in task.network.state_dict()


@pytest.mark.parametrize("loss", ["concat", "sum", "deepest"])
def test_a_step_is_the_method_written_out(loss):
    """Against torch's own AdamW, clipping and running batch norms, part by part."""
    changes = {"loss": loss, "steps": 20, "warm_up": 0.5, "margin_exact": True, "grad_clip": 0.5}
    task, twin = task_of(**changes), task_of(**changes)
    settings = task.config
    trainer = Trainer(task, TrainState(task.groups, task.optimisation), 12, 4)
    decayed, others, heads = (list(group.parameters.values()) for group in twin.groups)
    optimiser = torch.optim.AdamW(
        [{"params": [*decayed, *heads], "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1.0
    )
    for step in range(2):
        optimiser.zero_grad()
        batch = twin.ready_batch(step, range(12), 4)
        margin = Margin("arcface", 0.2 * (step + 1) / 11, True)
        total = 0.0
        for start in (0, 4, 8):
            faces = torch.where(batch.flips[:, None, None, None], batch.faces.flip(3), batch.faces)[start : start + 4]
            features = twin.network(faces / 127.5 - 1)
            inputs = features.split(32, dim=1) if loss == "sum" else [features]
            labels = batch.labels[start : start + 4]
            parts = [dense_losses(x, labels, head, margin, 16.0) for x, head in zip(inputs, twin.heads, strict=True)]
            (torch.stack(parts).sum() / 12).backward()
            total += float(torch.stack(parts).detach().sum()) / 12
        norm = torch.nn.utils.clip_grad_norm_([*decayed, *others, *heads], 0.5)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (step + 1) / 11
        optimiser.step()
        result = trainer.step(lambda: False)
        assert result.loss == pytest.approx(total, rel=1e-5)
        assert result.gradient_norm == pytest.approx(float(norm), rel=1e-4)
    assert settings.loss == loss and float(norm) > 0.5
    for name, value in twin.network.state_dict().items():
        if name == WITHOUT_GRADIENT or "running_mean" in name:  # the mean has that bias in it
            continue
        assert torch.allclose(task.network.state_dict()[name], value, rtol=1e-3, atol=1e-5), name
    for found, expected in zip(task.heads, twin.heads, strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_shares_are_parts_of_the_squared_length():
    levels = [torch.full((2, 4), 1.0), torch.full((2, 4), 3.0)]
    assert torch.allclose(level_shares(levels), torch.tensor([[0.1, 0.1], [0.9, 0.9]]))
    task = task_of()
    figures = task.measure(task.ready_batch(0, range(12), 4))
    assert list(task.shares) == ["share_1", "share_2", "share_3", "share_4"]
    assert float(sum(figures[name] for name in task.shares).mean()) == pytest.approx(1)
    assert not task_of(loss="sum").shares and not task_of(loss="deepest").shares


def test_drawn_classes_are_those_of_the_batch_and_others_at_random():
    data = MemoryIdentities(people=40, each=2)
    task = task_of(data, class_rate=0.5)
    batch = task.ready_batch(0, range(12), 4)
    assert len(batch.classes) == 20 and set(batch.labels.tolist()) <= set(batch.classes.tolist())
    assert not torch.equal(batch.classes, task.ready_batch(1, range(12), 4).classes)
    shared = task_of(data, World(1, 3), class_rate=0.5).ready_batch(0, range(4, 8), 4)
    assert torch.equal(shared.classes, batch.classes)


def test_a_softmax_over_drawn_classes_is_that_of_a_smaller_head():
    data = MemoryIdentities(people=40, each=2)
    task = task_of(data, class_rate=0.5, warm_up=0.0)
    batch = task.ready_batch(0, range(12), 4)
    loss = task.measure(batch)["loss"]
    labels = torch.searchsorted(batch.classes, batch.labels)
    features = torch.cat(task.level_features(batch), dim=1)
    expected = dense_losses(features, labels, task.heads[0][batch.classes], Margin("arcface", 0.2), 16.0)
    assert torch.allclose(loss, expected, rtol=1e-4)
    loss.sum().backward()
    moved = task.heads[0].grad.abs().sum(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == batch.classes.tolist()


def test_bf16_is_near_fp32_and_leaves_the_loss_in_fp32():
    batch = task_of().ready_batch(0, range(12), 12)
    exact, half = (task_of(precision=precision) for precision in ("fp32", "bf16"))
    found, expected = half.level_features(batch), exact.level_features(batch)
    assert all(value.dtype == torch.float32 for value in found)
    assert all(F.cosine_similarity(a, b).min() > 0.99 for a, b in zip(found, expected, strict=True))
    half.measure(batch)["loss"].sum().backward()
    assert half.network.cls_token.grad.dtype == torch.float32 and half.network.cls_token.grad.norm() > 0
    assert half.network.norms["layer_0"][0].running_mean.dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match=f"The pictures have {2 * SIDE} px and image_size is {SIDE}"):
        task_of(MemoryIdentities(side=2 * SIDE))
    with pytest.raises(SettingsError, match="batch is 12 in 4 processes and micro_batch 2; expected at least two"):
        task_of(world=World(0, 4), micro_batch=2)
