"""The whole chain on small networks, with numbers that must come out the same on every machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from ..align import align_face
from ..constants import CHUNK_TOKENS, FACE_TEMPLATE_PX, WORD_WIDTHS
from ..encode import Crop, encode_faces
from ..errors import F2DError
from ..image import rgb_sha256
from ..networks import load_network
from ..prompt import Person, slot_vectors
from ..s_star import SStar, load_s_star, save_s_star
from ..testing import tiny_mapping_state_dict, tiny_msid_state_dict
from ..weights import write_safetensors

# Made with torch 2.11 on an x86 CPU; other machines differ by rounding.
EXPECTED_CROP_MEAN = 111.24341
EXPECTED_VECTOR_NORM = 17.756615
TOLERANCE = 1e-4  # relative


def self_test() -> str | None:
    """None when all is well, else what is wrong, in one line."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _check(Path(folder))
    except F2DError as error:
        return str(error)


def _check(folder: Path) -> str | None:
    picture = synthetic_picture()
    crop = align_face(picture, np.array(FACE_TEMPLATE_PX) * 1.5 + 20)
    s_star = _encoded(crop, picture, folder)
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
