"""Eq. 1, 7 and 8 of Face2Diffusion, and Eq. 4 of DreamIdentity, against plain float64 sums."""

import numpy as np
import pytest
import torch

from f2d_core.train.losses import denoising_losses, weighted_mean, word_penalty

SHAPE = (3, 4, 5, 6)


def tensors(seed=0):
    random = np.random.default_rng(seed)
    eps_pred, noise, eps_c = (random.normal(size=SHAPE) for _ in range(3))
    mask = random.uniform(size=(SHAPE[0], 1, *SHAPE[2:]))
    mask[0, 0, :2] = 1.0  # also the ends of the range
    mask[0, 0, 2:4] = 0.0
    return eps_pred, noise, mask, eps_c


def plain(eps_pred, noise, mask, eps_c, variant):
    """The equations, element by element."""
    batch, channels, height, width = SHAPE
    losses = np.zeros(batch)
    for b, c, y, x in np.ndindex(*SHAPE):
        p, n, m, k = eps_pred[b, c, y, x], noise[b, c, y, x], mask[b, 0, y, x], eps_c[b, c, y, x]
        if variant == "reconstruction":
            losses[b] += (n - p) ** 2
        elif variant == "masked":
            losses[b] += (n * m - p * m) ** 2
        else:
            losses[b] += (n * m + k * (1 - m) - p) ** 2
    return losses / (channels * height * width)


@pytest.mark.parametrize("variant", ["reconstruction", "masked", "cgdr"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_losses_are_the_equations(variant, dtype, tolerance):
    arrays = tensors()
    found = denoising_losses(*(torch.tensor(a, dtype=dtype) for a in arrays), variant)
    assert found.total.numpy() == pytest.approx(plain(*arrays, variant), rel=tolerance)


def test_parts_are_means_over_face_and_rest():
    eps_pred, noise, mask, eps_c = tensors()
    found = denoising_losses(*(torch.tensor(a) for a in (eps_pred, noise, mask, eps_c)), "cgdr")
    weight = np.broadcast_to(mask, SHAPE)
    face = ((eps_pred - noise) ** 2 * weight).sum(axis=(1, 2, 3)) / weight.sum(axis=(1, 2, 3))
    rest = ((eps_pred - eps_c) ** 2 * (1 - weight)).sum(axis=(1, 2, 3)) / (1 - weight).sum(axis=(1, 2, 3))
    assert found.foreground.numpy() == pytest.approx(face, rel=1e-12)
    assert found.background.numpy() == pytest.approx(rest, rel=1e-12)


def test_the_background_is_measured_against_the_noise_without_a_class_pass():
    eps_pred, noise, mask, _ = (torch.tensor(a) for a in tensors())
    found = denoising_losses(eps_pred, noise, mask, None, "masked")
    assert torch.equal(found.background, weighted_mean((eps_pred - noise) ** 2, 1 - mask))


def test_only_the_total_carries_a_gradient_and_the_target_gets_none():
    eps_pred, noise, mask, eps_c = (torch.tensor(a) for a in tensors())
    found = denoising_losses(eps_pred.requires_grad_(), noise, mask, eps_c, "cgdr")
    assert found.total.requires_grad and not found.foreground.requires_grad and not found.background.requires_grad
    found.total.sum().backward()
    target = noise * mask + eps_c * (1 - mask)
    assert torch.allclose(eps_pred.grad, 2 * (eps_pred - target).detach() / (4 * 5 * 6))


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_a_picture_without_face_or_without_rest_has_finite_parts(edge):
    eps_pred, noise, mask, eps_c = (torch.tensor(a) for a in tensors())
    found = denoising_losses(eps_pred, noise, torch.full_like(mask, edge), eps_c, "cgdr")
    assert all(torch.isfinite(part).all() for part in found)
    assert (found.foreground if edge == 0 else found.background).eq(0).all()


@pytest.mark.parametrize("kind", ["norm", "squared"])
def test_the_penalty_on_words_and_its_gradient_in_closed_form(kind):
    """DreamIdentity, Eq. 4: the gradient of |s| is s / |s|, that of |s|^2 is 2 s."""
    words = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 3, 8))).requires_grad_()
    lengths = words.detach().square().sum(dim=-1).sqrt()

    found = word_penalty(words, kind)

    assert found.shape == (5,)
    assert torch.allclose(found, (lengths if kind == "norm" else lengths**2).sum(dim=1), rtol=1e-14)
    found.mean().backward()
    expected = words.detach() / lengths[..., None] if kind == "norm" else 2 * words.detach()
    assert torch.allclose(words.grad, expected / 5, rtol=1e-12)


def test_the_penalty_on_a_word_of_length_zero_has_no_gradient():
    for kind in ("norm", "squared"):
        words = torch.zeros(1, 2, 4, requires_grad=True)
        word_penalty(words, kind).sum().backward()
        assert words.grad.eq(0).all()
