"""Fixtures for all rings: where the golden data is, and the stand-in weights its rule regenerates."""

import importlib.util
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data; tests that need it are skipped where it is absent."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("golden data not present (a folder `shared/golden` beside the repository)")
    return folder


@pytest.fixture(scope="session")
def yunet_file() -> Path:
    """The small real face detector used by tests; skipped where it is absent."""
    file = SHARED / "assets" / "yunet_n_640_640.onnx"
    if not file.is_file():
        pytest.skip("detector file not present (`shared/assets/yunet_n_640_640.onnx` beside the repository)")
    return file


@pytest.fixture(scope="session")
def golden_weights(golden, tmp_path_factory):
    """golden_weights("msid" | "mapping" | "recon" | "clip-text") -> state dict of the stand-in weights, seed `dev`."""
    spec = importlib.util.spec_from_file_location("fill_weights", golden / "fill_weights.py")
    fill_weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill_weights)
    made = {}

    def make(name: str) -> dict:
        if name not in made:
            made[name] = fill_weights.torch_state_dict(str(golden / f"keys-{name}.json"), "dev")
        return made[name]

    return make
