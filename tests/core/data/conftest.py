"""Photos, a detector, an autoencoder and a parser that are small, quick and predictable."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from f2d_core.data.parser import FaceParser
from f2d_core.data.prepare import Models
from f2d_core.data.settings import PrepareSettings
from f2d_core.detect import Face
from f2d_core.networks import load_network
from f2d_core.testing import tiny_msid_state_dict, tiny_recon_state_dict
from f2d_core.weights import write_safetensors

SIZE = 64  # px of a prepared picture
# Where the fake detector sees a face, in parts of the picture; not symmetric.
POINTS = np.array([(0.40, 0.42), (0.60, 0.40), (0.52, 0.52), (0.42, 0.62), (0.58, 0.61)])
BOX = np.array([(0.3, 0.25), (0.7, 0.72)])


class FakeDetector:
    """Sees one face at a fixed place in every picture that is not dark; knows a mirrored one by its corners."""

    name = "fake"

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        if rgb.max() < 30:
            return []
        size = np.array([rgb.shape[1], rgb.shape[0]])
        points, box = POINTS * size, BOX * size
        if rgb[0, 0].sum() > rgb[0, -1].sum():
            points[:, 0], box[:, 0] = size[0] - 1 - points[[1, 0, 2, 4, 3], 0], size[0] - 1 - box[::-1, 0]
            points[:, 1] = points[[1, 0, 2, 4, 3], 1]
        return [Face(tuple(box.ravel().tolist()), points, 0.9)]


class FakeCodec:
    """Latents are means over 8 px, with a slope from left to right, so that a mirrored picture is another matter."""

    reduction = 8

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rgb = F.avg_pool2d(pixels, 8)
        mean = torch.cat([rgb, rgb.mean(dim=1, keepdim=True)], dim=1) + torch.linspace(0, 1, rgb.shape[3])
        return mean, mean - 10

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return F.interpolate(latents[:, :3], scale_factor=8)


def oval_scores(pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, 512, 512) -> (B, 19, 512, 512): skin in an oval in the middle, hair above it."""
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    scores = torch.zeros(len(pixels), 19, 512, 512)
    scores[:, 0] = 0.5
    scores[:, 17, :140] = 0.8
    scores[:, 1] = (((x - 255.5) / 120) ** 2 + ((y - 280) / 150) ** 2 < 1).float()
    return scores


def write_photo(path: Path, seed: int, width: int = 160, height: int = 160) -> Path:
    """A soft picture of colours; dark in its upper left corner, bright in the upper right one."""
    random = np.random.RandomState(seed)
    picture = Image.fromarray(random.randint(40, 216, (9, 9, 3)).astype(np.uint8)).resize((width, height), 3)
    pixels = np.array(picture)
    pixels[:4, :4], pixels[:4, -4:] = 20, 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """(msid, recon), tiny."""
    folder = tmp_path_factory.mktemp("networks")
    states = {"msid": tiny_msid_state_dict(), "recon": tiny_recon_state_dict()}
    return [load_network(write_safetensors(folder / f"{k}.safetensors", s), k) for k, s in states.items()]


@pytest.fixture
def models(networks) -> Models:
    parser = FaceParser(oval_scores, "ab" * 32, "oval")
    return Models(*networks, FakeCodec(), "cd" * 32, FakeDetector(), parser)


@pytest.fixture
def settings() -> PrepareSettings:
    return PrepareSettings(size=SIZE)


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of five photos, one of them deeper down, and one that shows nobody."""
    folder = tmp_path / "photos"
    for seed in range(4):
        write_photo(folder / f"{seed}.png", seed)
    write_photo(folder / "more" / "5.jpg", 5, width=200, height=180)
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(folder / "nobody.png")
    return folder
