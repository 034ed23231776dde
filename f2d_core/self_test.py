"""The whole chain on small networks, with numbers that must come out the same on every machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .align import align_face
from .constants import CHUNK_TOKENS, FACE_TEMPLATE_PX, WORD_WIDTHS
from .encode import Crop, encode_faces
from .errors import F2DError
from .image import rgb_sha256
from .networks import load_network
from .prompt import Person, slot_vectors
from .s_star import SStar, load_s_star, save_s_star
from .testing import tiny_mapping_state_dict, tiny_msid_state_dict
from .weights import write_safetensors

# Made with torch 2.11 on an x86 CPU; other machines differ by rounding.
EXPECTED_CROP_MEAN = 111.24341
EXPECTED_VECTOR_NORM = 17.756615
TOLERANCE = 1e-4  # relative
_GAP_PX = 8  # between the parts of the picture


@dataclass(frozen=True)
class SelfTest:
    """problem: None when all is well, else what is wrong, in one line. picture: (H, W, 3) uint8, of what was done."""

    problem: str | None
    picture: np.ndarray


def self_test() -> SelfTest:
    picture = synthetic_picture()
    points = np.array(FACE_TEMPLATE_PX) * 1.5 + 20
    crop = align_face(picture, points)
    try:
        with tempfile.TemporaryDirectory() as folder:
            s_star = _encoded(crop, picture, Path(folder))
            problem = _problem(crop, s_star, Path(folder))
    except F2DError as error:
        return SelfTest(str(error), _drawn(picture, points, crop, None))
    return SelfTest(problem, _drawn(picture, points, crop, s_star))


def _problem(crop: np.ndarray, s_star: SStar, folder: Path) -> str | None:
    reloaded = load_s_star(save_s_star(s_star, folder / "person.safetensors"))
    if not torch.equal(reloaded.vectors, s_star.vectors):
        return "a saved identity does not reload as it was"
    norm = slot_vectors(Person(reloaded), (3, 4), _Positions()).norm().item()
    for name, found, expected in (
        ("crop", crop.mean(), EXPECTED_CROP_MEAN),
        ("S*", norm, EXPECTED_VECTOR_NORM),
    ):
        if abs(found / expected - 1) > TOLERANCE:
            return f"the {name} gives {found:.6f}, expected {expected:.6f}; this installation computes something else"
    return None


def _drawn(picture: np.ndarray, points: np.ndarray, crop: np.ndarray, s_star: SStar | None) -> np.ndarray:
    """Side by side: the picture with its five points, the crop made of them, and the words as stripes."""
    marked = picture.copy()
    for x, y in points.round().astype(int):
        marked[y - 4 : y + 5, x - 4 : x + 5] = 255
        marked[y - 2 : y + 3, x - 2 : x + 3] = 0
    stripes = np.full_like(picture, 96) if s_star is None else _stripes(s_star, picture.shape[:2])
    gap = np.full((len(picture), _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([marked, gap, crop.repeat(2, axis=0).repeat(2, axis=1), gap, stripes], axis=1)


def _stripes(s_star: SStar, size: tuple[int, int]) -> np.ndarray:
    """One band for each word, a stripe for each of its first numbers: blue below zero, red above."""
    height, width = size
    values = (s_star.vectors[:, :width] / s_star.vectors.abs().max()).numpy()
    band = np.stack([255 * (1 + values.clip(-1, 0)), 255 * (1 - abs(values)), 255 * (1 - values.clip(0, 1))], axis=-1)
    return band.astype(np.uint8).repeat(-(-height // len(band)), axis=0)[:height]


def synthetic_picture() -> np.ndarray:
    """(224, 224, 3) uint8 with structure at several scales; no face."""
    y, x = np.mgrid[:224, :224]
    return np.stack([(x * y // 97) % 256, (x * 3 + y) % 256, (x * x + y * y) // 211 % 256], axis=-1).astype(np.uint8)


def _encoded(crop: np.ndarray, picture: np.ndarray, folder: Path) -> SStar:
    msid = write_safetensors(folder / "msid.safetensors", tiny_msid_state_dict())
    mapping = write_safetensors(folder / "mapping.safetensors", tiny_mapping_state_dict())
    networks = load_network(msid, "msid"), load_network(mapping, "mapping")
    return encode_faces([Crop(crop, rgb_sha256(picture), "self-test")], *networks)[0]


class _Positions:
    """`ports.TextEncoder` with a simple position table."""

    key, width = "l", WORD_WIDTHS["l"]

    def position_embedding(self) -> torch.Tensor:
        return torch.linspace(-0.2, 0.2, CHUNK_TOKENS)[:, None].expand(-1, self.width)

    def word_embeddings(self, text: str) -> torch.Tensor:
        return torch.zeros(len(text.split()), self.width)
