"""Small weight files, a photo and identities for the commands."""

import json
import warnings

import numpy as np
import pytest
import torch

from f2d_core.cli import main
from f2d_core.image import write_png
from f2d_core.s_star import SStar, save_s_star
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from f2d_core.weights import write_safetensors

POINTS = [[80.0, 90.0], [140.0, 88.0], [111.0, 125.0], [85.0, 160.0], [138.0, 158.0]]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder with msid.safetensors, mapping.safetensors and recon.safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    write_safetensors(folder / "msid.safetensors", tiny_msid_state_dict(), {"licence": "test only"})
    write_safetensors(folder / "mapping.safetensors", tiny_mapping_state_dict(), {"licence": "test only"})
    write_safetensors(folder / "recon.safetensors", tiny_recon_state_dict())
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a small Stable Diffusion in diffusers layout."""
    pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
    from f2d_core.backends.stand_in import write_stand_in

    with warnings.catch_warnings():  # diffusers 0.42 under numpy 2, at every scheduler
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        return write_stand_in(tmp_path_factory.mktemp("model"))


@pytest.fixture
def photo(tmp_path):
    """photo(name, seed) -> a picture file of 240 x 220 px without a face."""

    def make(name="anna.png", seed=0, size=(240, 220)):
        rgb = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
        return write_png(tmp_path / name, rgb)

    return make


@pytest.fixture
def landmarks():
    """The five points of as many photos as asked for, as JSON text."""
    return lambda count=1: json.dumps(POINTS if count == 1 else [POINTS] * count)


@pytest.fixture
def identity(tmp_path):
    """identity(name, …) -> a saved S*."""

    def make(name="anna", seed=0, **fields):
        vectors = torch.randn(2, 768, generator=torch.Generator().manual_seed(seed))
        return save_s_star(SStar(vectors, name=name, **fields), tmp_path / "ids" / f"{name}.safetensors")

    return make


@pytest.fixture
def f2d(capsys):
    """f2d("encode", …) -> (exit code, stdout, stderr), as the program would end."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(f2d):
    """refused("encode", …) -> the message of a mistake: exit code 2, one line on stderr and no other."""

    def run(*arguments):
        code, _, err = f2d(*arguments)
        errors = [line for line in err.splitlines() if line.startswith("f2d: ")]
        assert code == 2, err
        assert len(errors) == 1 and errors[0] == err.splitlines()[-1] and "Traceback" not in err
        return errors[0]

    return run
