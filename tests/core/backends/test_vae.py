"""The autoencoder of a model, loaded without the rest."""

import shutil
import warnings

import pytest
import torch

from f2d_core.errors import MismatchError, WeightsError

pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")

from f2d_core.backends.stand_in import write_stand_in
from f2d_core.backends.vae import load_vae


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with warnings.catch_warnings():  # diffusers 0.42 under numpy 2, at every scheduler
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        return write_stand_in(tmp_path_factory.mktemp("model"))


def test_same_autoencoder_from_the_model_and_from_its_own_folder(model):
    whole, alone = load_vae(model), load_vae(model / "vae")

    for key, value in whole.state_dict().items():
        assert torch.equal(value, alone.state_dict()[key])
    assert whole.dtype == torch.float32 and not whole.training
    assert not any(parameter.requires_grad for parameter in whole.parameters())


def test_other_places_are_refused(model, tmp_path):
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        load_vae(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        load_vae(tmp_path / "a.safetensors")
    shutil.copytree(model / "vae", tmp_path / "vae")
    for file in (tmp_path / "vae").glob("*.safetensors"):
        file.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="vae cannot be loaded"):
        load_vae(tmp_path)


def test_autoencoders_of_other_latents_are_refused(model, tmp_path):
    from diffusers import AutoencoderKL

    wide = AutoencoderKL(latent_channels=16, block_out_channels=[32], norm_num_groups=32)
    wide.save_pretrained(str(tmp_path / "vae"))
    with pytest.raises(MismatchError, match="16 latent channels, expected 4"):
        load_vae(tmp_path)
