"""Triplets and DreamIdentity's penalty, from a slot of a step to its figures; the rest of the task is seen through the
trainer."""

import pytest
import torch

from f2d_core.errors import MismatchError, PromptError, SettingsError
from f2d_core.train.losses import word_penalty
from f2d_core.train.state import TrainState
from f2d_core.train.task import MappingTask
from f2d_core.train.trainer import Trainer
from tests.support import training
from tests.support.training import MemoryData, MemoryTriplets

FP64 = torch.float64


def task_of(triplets=None, dtype=FP64, **settings):
    return MappingTask(training.parts(dtype), MemoryData(), training.config(**settings), None, triplets)


def trainer_of(task, micro_batch=8):
    state = TrainState(task.groups, task.optimisation)
    return Trainer(task, state, task.config.batch, micro_batch)


def gradient(micro_batch=8, **settings):
    trainer = trainer_of(task_of(MemoryTriplets(), **settings), micro_batch)
    return trainer.gradient().clone()


def apart(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("variant", ["cgdr", "masked", "reconstruction"])
def test_a_triplet_is_learnt_whole_with_its_own_prompt_and_without_expression(variant):
    """Whatever is done to photos: Eq. 1 on the edited picture, "no expression", no class pass."""
    task = task_of(MemoryTriplets(), variant=variant, aug_ratio=0.5, batch=8, dropout=0.0)
    batch = task.ready_batch(0, range(8), 8)
    edited = [i for i, prompt in enumerate(batch.prompts) if prompt]
    assert len(edited) == 4
    encoder, denoiser = task.parts.encoder, task.parts.denoiser
    found = task.measure(batch)
    for i in edited:
        null_exp = task.network.null_exp[None]
        words = task.network(batch.v_id[i, None], null_exp)
        context = encoder.encode_words(batch.prompts[i], "S*", words, "token")
        eps_pred = denoiser.predict_noise(batch.z_t[i, None], batch.t[i, None], context)
        error = (eps_pred - batch.noise[i, None]).square().mean()
        assert torch.isclose(found["loss"][i], error, rtol=1e-12)
        assert torch.isclose(found["edited"][i], error.detach() * 8 / 4, rtol=1e-12)
        assert found["foreground"][i] == found["background"][i] == 0
        assert batch.keep_expression[i] == 0 and batch.mask[i].eq(1).all()


def test_photos_among_triplets_are_learnt_as_without_them():
    """The i-th photo of a mixture, in the slot where a run without triplets has it too."""
    alone, mixed = task_of(batch=8), task_of(MemoryTriplets(), aug_ratio=0.5, batch=8)
    batch, other = mixed.ready_batch(0, range(8), 8), alone.ready_batch(0, range(8), 8)
    assert [name for name in batch.images if isinstance(name, int)] == list(other.images[:4])
    first = batch.images.index(other.images[0])
    assert first == 0  # slot 0: the same photo, flip, t, noise and dropout
    assert torch.equal(batch.eps_c[0], mixed.guide(batch.at([0])).eps_c[0])
    for name in ("v_id", "v_exp", "z_t", "mask"):
        assert torch.equal(getattr(batch, name)[0], getattr(other, name)[0]), name
    assert torch.allclose(mixed.losses(batch)[0].total[0], alone.losses(other)[0].total[0], rtol=1e-12)


def test_the_class_pass_is_for_photos_alone(monkeypatch):
    task = task_of(MemoryTriplets(), aug_ratio=0.25, batch=16)
    denoiser, sizes = task.parts.denoiser, []
    plain = denoiser.predict_noise
    monkeypatch.setattr(denoiser, "predict_noise", lambda z, t, c: sizes.append(len(z)) or plain(z, t, c))
    batch = task.ready_batch(0, range(16), 2)
    assert sizes == [8, 4]  # twelve photos, four times the micro-batch at once
    photos = torch.tensor([not prompt for prompt in batch.prompts])
    assert batch.eps_c[photos].abs().flatten(1).sum(dim=1).gt(0).all() and batch.eps_c[~photos].eq(0).all()
    sizes.clear()
    task_of(MemoryTriplets(), aug_ratio=1.0, batch=4).ready_batch(0, range(4), 4)
    assert sizes == []


@pytest.mark.parametrize("settings", [{}, {"aug_ratio": 0.3}], ids=["one set", "a share"])
def test_any_micro_batch_gives_the_same_gradient(settings):
    expected = gradient(32, l2=1e-3, **settings)
    assert expected.norm() > 1e-3
    for size in (1, 5):
        assert apart(gradient(size, l2=1e-3, **settings), expected) < 1e-6


@pytest.mark.parametrize("settings", [{}, {"aug_ratio": 0.3}], ids=["one set", "a share"])
def test_a_process_that_has_a_part_of_the_slots_sees_what_one_with_all_sees(settings):
    task = task_of(MemoryTriplets(), batch=16, **settings)
    whole, share = task.ready_batch(2, range(16), 8), task.ready_batch(2, range(5, 13), 3)
    assert share.images == whole.images[5:13] and share.prompts == whole.prompts[5:13]
    for name in ("v_id", "v_exp", "keep_expression", "z_t", "t", "noise", "mask", "dropout", "weights"):
        assert torch.equal(getattr(share, name), getattr(whole, name)[5:13]), name
    assert torch.allclose(share.eps_c, whole.eps_c[5:13], rtol=1e-12)


def test_figures_are_means_over_their_own_kind():
    task = task_of(MemoryTriplets(), aug_ratio=0.25, batch=16, dropout=0.0)
    batch = task.ready_batch(3, range(16), 4)
    photos = torch.tensor([not prompt for prompt in batch.prompts])
    losses, _ = task.losses(batch)
    result_of = {name: value.mean().item() for name, value in task.measure(batch).items()}
    assert photos.sum() == 12
    assert result_of["foreground"] == pytest.approx(losses.foreground[photos].mean().item(), rel=1e-12)
    assert result_of["background"] == pytest.approx(losses.background[photos].mean().item(), rel=1e-12)
    assert result_of["edited"] == pytest.approx(losses.foreground[~photos].mean().item(), rel=1e-12)
    assert task_of().figures == ("loss", "foreground", "background", "word_length")


def test_a_figure_of_a_kind_that_a_step_has_none_of_is_left_out():
    """Of a batch of 4 with a tenth of triplets, most steps have none."""
    trainer = trainer_of(task_of(MemoryTriplets(), aug_ratio=0.1, batch=4), 2)
    told = [trainer.step(lambda: False).figures for _ in range(5)]
    assert ["edited" in figures for figures in told] == [False, False, True, False, True]
    assert all(figures["foreground"] > 0 for figures in told)
    alone = trainer_of(task_of(MemoryTriplets(), aug_ratio=1.0, batch=4), 2).step(lambda: False).figures
    assert alone["edited"] > 0 and not {"foreground", "background"} & set(alone)


def test_a_step_over_both_kinds():
    trainer = trainer_of(task_of(MemoryTriplets(), aug_ratio=0.5, batch=8), 3)
    result = trainer.step(lambda: False)
    assert result.figures["edited"] > 0 and result.figures["foreground"] > 0


@pytest.mark.parametrize("kind", ["norm", "squared"])
def test_the_penalty_is_added_to_the_loss_with_its_weight(kind):
    plain, task = task_of(batch=4), task_of(batch=4, l2=0.01, l2_kind=kind)
    batch = plain.ready_batch(0, range(4), 4)
    without, penalised = plain.losses(batch)[0], task.losses(batch)[0]
    expected = without.total + 0.01 * word_penalty(task.words(batch), kind)
    assert torch.allclose(penalised.total, expected, rtol=1e-12)
    assert torch.equal(penalised.foreground, without.foreground)
    trainers = [trainer_of(t, 4) for t in (plain, task)]
    before, after = (trainer.gradient().clone() for trainer in trainers)
    learnt = list(trainers[1].state.parameters.values())  # in the order of the gradient
    own = torch.autograd.grad(0.01 * word_penalty(task.words(batch), kind).mean(), learnt)
    assert torch.allclose(after - before, torch.cat([value.flatten() for value in own]), atol=1e-12)


def test_the_error_of_the_velocity_is_that_of_the_noise_over_the_share_of_the_picture():
    """v = signal * eps - spread * z_0 and z_t = signal * z_0 + spread * eps: for the same z_t, dv = d eps / signal."""
    plain, task = task_of(batch=4), task_of(batch=4, error="velocity")
    batch = plain.ready_batch(0, range(4), 4)
    zeros, one = torch.zeros(4, 1, 1, 1).double(), torch.ones(4, 1, 1, 1).double()
    share = plain.parts.denoiser.add_noise(one, zeros, batch.t).flatten().square()
    without, weighed = plain.losses(batch)[0], task.losses(batch)[0]

    assert torch.allclose(weighed.total, without.total / share, rtol=1e-9) and share.max() < 1
    assert torch.equal(weighed.foreground, without.foreground)


def test_another_marker_stands_in_the_prompts_too():
    task = task_of(MemoryTriplets(), template="a photo of anna", marker="anna")
    assert task._prompts["S* as a chef"] == "anna as a chef"
    trainer_of(task).step(lambda: False)


def test_prompts_that_cannot_be_encoded_are_told_before_the_first_step(monkeypatch):
    triplets = MemoryTriplets()
    triplets.prompts = [f"{i} S*" for i in range(40)]
    asked = []
    plain = training.TinyEncoder.encode_words

    def picky(self, template, marker, words, injection):
        if not isinstance(template, str):
            asked.extend(template)
            if "39 S*" in template:
                raise PromptError("too long")
        return plain(self, template, marker, words, injection)

    monkeypatch.setattr(training.TinyEncoder, "encode_words", picky)
    with pytest.raises(PromptError, match="too long"):
        task_of(triplets)
    assert set(triplets.prompts) <= set(asked)


def test_what_the_mapping_says_of_it():
    facts = task_of(MemoryTriplets(), aug_ratio=0.3, l2=1e-4).facts(5)
    assert (facts["method"], facts["aug_ratio"], facts["triplets_fingerprint"]) == ("dreamidentity+cgdr", "0.3", "t")
    assert (facts["l2"], facts["l2_kind"]) == ("0.0001", "norm")
    assert task_of(MemoryTriplets()).facts(5)["aug_ratio"] == "as many as there are"
    plain = task_of().facts(5)
    assert plain["method"] == "face2diffusion" and not {"l2", "aug_ratio", "triplets_fingerprint"} & set(plain)


def test_a_share_without_triplets_and_triplets_of_another_encoder_are_refused():
    with pytest.raises(SettingsError, match="aug_ratio is 0.3 and there are no editing triplets"):
        task_of(aug_ratio=0.3)
    other = MemoryTriplets()
    other.facts = {"msid_sha256": "n" * 64}
    with pytest.raises(MismatchError, match="another encoder"):
        task_of(other)
