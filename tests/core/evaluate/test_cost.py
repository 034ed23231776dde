"""What is trained, and how long a face takes: f_id and f_map alone."""

import itertools

import pytest
import torch

from f2d_core.errors import SettingsError
from f2d_core.evaluate.cost import encode_cost, trained_parameters
from f2d_core.mapping import MappingConfig, MappingNetwork
from f2d_core.networks import load_network
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict


@pytest.fixture
def networks(tmp_path):
    torch.save(tiny_msid_state_dict(), tmp_path / "msid.pt")
    torch.save(tiny_mapping_state_dict(), tmp_path / "mapping.pt")
    return load_network(tmp_path / "msid.pt", "msid"), load_network(tmp_path / "mapping.pt", "mapping")


def test_the_paper_trains_twelve_million_parameters():
    """Table 2 gives 1.20e7."""
    with torch.device("meta"):
        mapping = MappingNetwork(MappingConfig(1536, 64, 1536, 2, 768, 2))

    assert trained_parameters(mapping) == 12_000_832


def test_the_median_is_taken_after_a_warm_up(networks):
    ticks = itertools.accumulate(
        itertools.chain.from_iterable((0.5, duration) for duration in (100, 100, 100, 1, 9, 2, 3, 8))
    )

    cost = encode_cost(*networks, repeats=5, clock=lambda: next(ticks))

    assert (cost.seconds, cost.repeats, cost.device) == (3, 5, "cpu")
    assert cost.parameters == trained_parameters(networks[1].module)


def test_the_real_clock(networks):
    assert 0 < encode_cost(*networks, repeats=2).seconds < 5


def test_no_repeats(networks):
    with pytest.raises(SettingsError, match="0 repeats"):
        encode_cost(*networks, repeats=0)
