"""The stand-in networks: the same everywhere, built by the real builders, and telling faces apart."""

import pytest
import torch

from f2d_core.expression import build_expression
from f2d_core.mapping import build_mapping
from f2d_core.msid import build_msid
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict


def test_values_are_the_same_on_every_machine():
    state_dict = tiny_msid_state_dict()

    expected = torch.tensor([0.0211369, 0.0931797, 0.0444978, 0.0194350])  # legacy numpy, seed 0
    assert torch.allclose(state_dict["cls_token"][0, 0, :4], expected, atol=1e-7)
    assert not torch.equal(tiny_msid_state_dict(seed=1)["cls_token"], state_dict["cls_token"])


def test_crop_to_s_star_fits_together_and_tells_faces_apart():
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        s_star = build_mapping(tiny_mapping_state_dict())(build_msid(tiny_msid_state_dict())(faces))

    assert s_star.shape == (2, 2, 768)
    assert 0.2 < s_star.std() < 1
    assert (s_star[0] - s_star[1]).abs().mean() > 0.1


@pytest.mark.parametrize("make", [tiny_msid_state_dict, tiny_mapping_state_dict, tiny_recon_state_dict])
def test_stand_ins_are_small(make):
    assert sum(tensor.numel() for tensor in make().values()) < 1_000_000


def test_the_expression_stand_in_gives_64_of_257():
    with torch.inference_mode():
        encoder = build_expression(tiny_recon_state_dict())
        assert encoder(torch.rand(1, 3, 224, 224)).shape == (1, 257)
        assert encoder.expression(torch.rand(1, 3, 224, 224)).shape == (1, 64)
