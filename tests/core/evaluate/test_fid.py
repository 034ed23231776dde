"""FID and KID against torchmetrics and torch-fidelity's recorded numbers, against theory, and at the edges."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from f2d_core.errors import SettingsError
from f2d_core.evaluate.fid import frechet_distance, kernel_distance, mean_discrepancy, moments

GOLDEN = json.loads((Path(__file__).parent / "extractors" / "golden.json").read_text(encoding="utf-8"))["distances"]


def two_sets():
    """The features of golden.json."""
    random = np.random.RandomState(3)
    mix = random.standard_normal((16, 16)) / 4
    return random.standard_normal((300, 16)) @ mix, random.standard_normal((240, 16)) * 1.1 @ mix + 0.3


def fid(a, b):
    return frechet_distance(moments(a), moments(b))


def test_the_numbers_of_torch_fidelity():
    a, b = two_sets()

    assert fid(a, b) == pytest.approx(GOLDEN["frechet_inception_distance"], rel=1e-9)
    kid = kernel_distance(a, b, subsets=20, size=100)
    assert kid.mean == pytest.approx(GOLDEN["kernel_inception_distance_mean"], rel=1e-9)
    assert kid.deviation == pytest.approx(GOLDEN["kernel_inception_distance_std"], rel=1e-9)


class Given(torch.nn.Module):
    """A feature network that is given features."""

    num_features = 16

    def forward(self, features):
        return features


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_torchmetrics_on_the_same_features():
    fid_module = pytest.importorskip("torchmetrics.image.fid", reason="requirements-dev.txt has it")
    kid_module = pytest.importorskip("torchmetrics.image.kid")
    a, b = two_sets()
    first = fid_module.FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    second = kid_module.KernelInceptionDistance(feature=Given(), subsets=1, subset_size=240)
    for metric in (first, second):
        metric.update(torch.from_numpy(a[:240]), real=True)
        metric.update(torch.from_numpy(b), real=False)

    assert fid(a[:240], b) == pytest.approx(first.compute().item(), rel=1e-6)
    assert mean_discrepancy(a[:240], b) == pytest.approx(second.compute()[0].item(), rel=1e-6)


def test_fid_of_normal_distributions_that_commute():
    """With diagonal covariances it is the sum of (mean difference)^2 + (difference of deviations)^2."""
    random = np.random.RandomState(0)
    base = random.standard_normal((500, 4))
    base = (base - base.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base, rowvar=False))).T
    a = base * (1, 2, 3, 4) + (0, 0, 1, 0)
    b = base * (1, 1, 5, 4) + (2, 0, 0, 0)

    assert fid(a, b) == pytest.approx(4 + 1 + (1 + 4) + 0)


def test_equal_sets_are_no_distance_apart():
    a, _ = two_sets()

    assert fid(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    assert fid(a, a) >= 0


def test_fewer_pictures_than_features():
    """Covariances without full rank need no epsilon."""
    random = np.random.RandomState(1)
    a, b = random.standard_normal((8, 40)), random.standard_normal((9, 40)) + 1
    covariances = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(covariances).astype(complex)).real.sum()
    traces = np.cov(a, rowvar=False).trace() + np.cov(b, rowvar=False).trace()
    plain = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + traces - 2 * root

    assert fid(a, b) == pytest.approx(plain, rel=1e-6)


def test_kid_against_plain_loops():
    random = np.random.RandomState(2)
    a, b = random.standard_normal((5, 3)), random.standard_normal((4, 3))

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 3 + 1) ** 3

    among_a = [kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j]
    among_b = [kernel(b[i], b[j]) for i in range(4) for j in range(4) if i != j]
    between = [kernel(x, y) for x in a for y in b]
    plain = np.mean(among_a) + np.mean(among_b) - 2 * np.mean(between)

    assert mean_discrepancy(a, b) == pytest.approx(plain, rel=1e-12)


def test_kid_of_one_distribution_is_near_zero_on_the_average():
    random = np.random.RandomState(3)
    values = [mean_discrepancy(random.standard_normal((30, 4)), random.standard_normal((30, 4))) for _ in range(200)]

    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)


def test_subsets_are_no_larger_than_the_sets_and_the_seed_decides():
    a, b = two_sets()

    assert kernel_distance(a, b, subsets=3) == kernel_distance(a, b, subsets=3, size=240)
    assert kernel_distance(a, b, 3, 50, seed=1) == kernel_distance(a, b, 3, 50, seed=1)
    assert kernel_distance(a, b, 3, 50, seed=1) != kernel_distance(a, b, 3, 50, seed=2)


def test_one_feature():
    a = np.random.RandomState(4).standard_normal((50, 1))

    assert fid(a, a + 3) == pytest.approx(9)


@pytest.mark.parametrize("features", [np.zeros((1, 4)), np.zeros(4), np.full((3, 4), np.nan)])
def test_features_that_cannot_be_compared(features):
    with pytest.raises(SettingsError, match="Features"):
        moments(features)
    with pytest.raises(SettingsError, match="Features"):
        kernel_distance(features, np.zeros((3, 4)))


def test_features_of_different_networks():
    a, b = np.random.RandomState(0).standard_normal((2, 5, 4)), np.random.RandomState(0).standard_normal((5, 3))

    with pytest.raises(SettingsError, match="the same network"):
        fid(a[0], b)
    with pytest.raises(SettingsError, match="the same network"):
        kernel_distance(a[0], b)
    with pytest.raises(SettingsError, match="at least 2"):
        kernel_distance(a[0], a[1], size=1)
