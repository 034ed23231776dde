"""How many samples fit: arithmetic, and no trial where nothing can be measured."""

import pytest
import torch

from f2d_core.train.memory import evenly, fitting_micro_batch, largest

GB = 10**9


@pytest.mark.parametrize(
    ("first", "more", "free", "expected"),
    [(2 * GB, GB, 6 * GB, 5), (2 * GB, GB, 1 * GB, 1), (2 * GB, GB, 2 * GB, 1), (2 * GB, 0, 3 * GB, 1 + GB)],
)
def test_the_first_sample_brings_what_all_share(first, more, free, expected):
    assert largest(first, more, free) == expected


@pytest.mark.parametrize(
    ("share", "most", "expected"), [(32, 32, 32), (32, 100, 32), (32, 20, 16), (32, 12, 11), (5, 4, 3), (4, 0, 1)]
)
def test_passes_are_of_even_size(share, most, expected):
    assert evenly(share, most) == expected


def test_a_cpu_takes_a_fixed_number_without_a_trial():
    def trial(_samples):
        raise AssertionError("nothing to measure on a CPU")

    assert fitting_micro_batch(32, torch.device("cpu"), trial) == 4
    assert fitting_micro_batch(2, torch.device("cpu"), trial) == 2


def test_a_gpu_is_measured_with_two_small_trials(monkeypatch):
    """1.5 GB for one sample, 0.75 GB for each further one, 10 GB free of which 9 are taken: 11 samples."""
    trials = []
    peak = {1: 1.5 * GB, 2: 2.25 * GB}
    fake = {
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 3 * GB,
        "memory_reserved": lambda device: 4 * GB,
        "max_memory_allocated": lambda device: 3 * GB + int(peak[trials[-1]]),
        "mem_get_info": lambda device: (9 * GB, 24 * GB),
    }
    for name, function in fake.items():
        monkeypatch.setattr(torch.cuda, name, function)
    assert fitting_micro_batch(33, torch.device("cuda"), trials.append) == 11
    assert trials == [1, 1, 2]


def test_a_gpu_without_room_for_two_takes_one(monkeypatch):
    def trial(samples):
        if samples > 1:
            raise torch.OutOfMemoryError("pretended")

    for name in ("reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    assert fitting_micro_batch(32, torch.device("cuda"), trial) == 1
