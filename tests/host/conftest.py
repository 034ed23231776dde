"""The host ring: nodes run inside a real ComfyUI, in this process, on the CPU.

Without a checkout every test of this ring is skipped with one line that says how to get it.
"""

from pathlib import Path

import pytest
import torch

from tests.support import base_directory, checkouts, in_process, small_checkpoint, text_encoders

HERE = Path(__file__).parent
# Warnings of the host and its libraries are shown, not fatal; those of our own modules stay errors.
WARNINGS = ("default", f"error:::.*{base_directory.PACK}.*")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)
            for rule in WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(rule))


def pytest_runtest_setup(item):
    checkouts.comfyui()


@pytest.fixture(scope="session")
def host(tmp_path_factory) -> in_process.Host:
    """The running ComfyUI with our pack: `host.run("F2DInject", clip=…)` runs a node as the server would."""
    base = base_directory.make(tmp_path_factory.mktemp("comfy") / "base")
    return in_process.start(checkouts.comfyui(), base)


@pytest.fixture
def run_node(host):
    """run_node("F2DInject", clip=…, text=…) -> tuple of outputs (`.ui` beside), in real conditions."""
    return host.run


@pytest.fixture(scope="session")
def clip(host):
    """clip() -> a small CLIP-L (3 layers, fp32). clip(torch.float16) and so on hold it in that type.

    clip(tensors=…) fills any SD 1.x text encoder from a state dict with `text_model.…` keys, and
    clip(foreign="sdxl" | "sd2") is an encoder S* was not made for. The same request gives the same
    object, so a test that found it changed has found a bug.
    """
    made = {}

    def make(dtype=torch.float32, *, tensors=None, foreign=None):
        if tensors is not None:
            return text_encoders.clip_l(host, tensors, dtype)
        if (dtype, foreign) not in made:
            made[dtype, foreign] = text_encoders.foreign(host, foreign) if foreign else text_encoders.tiny(host, dtype)
        return made[dtype, foreign]

    return make


@pytest.fixture(scope="session")
def golden_clip(clip, golden_weights):
    """The golden text encoder (12 layers, fp32) as a CLIP; skipped where the golden data is absent."""
    return clip(tensors=golden_weights("clip-text"))


@pytest.fixture(scope="session")
def small_models(host):
    """(MODEL, CLIP, VAE) of the small checkpoint, by ComfyUI's own loader."""
    return host.run("CheckpointLoaderSimple", ckpt_name=base_directory.CHECKPOINT)


@pytest.fixture(scope="session")
def stand_ins(host, golden_weights) -> Path:
    """models/face2diffusion of the running host, filled with msid.pt, mapping.pt and epoch_20.pth (golden)."""
    return base_directory.write_stand_ins(host.base / "models" / "face2diffusion", golden_weights)


@pytest.fixture(scope="session")
def small_text_encoder():
    """small_text_encoder(layers) -> state dict of a small CLIP-L, for tests that fill their own."""
    return small_checkpoint.text_encoder
