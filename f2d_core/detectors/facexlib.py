"""RetinaFace of facexlib (ResNet-50 or MobileNet 0.25) on the CPU from one local .pth file.

facexlib's usual entrance, init_detection_model, downloads; here its network class is built bare and gets its
weights from this project's own reader, which loads tensors only.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ..detect import Face
from ..weights import read_tensors
from .common import face_from, fitted, how_to_get, import_package, require_file, wrong_file

_MOST_PIXELS = 1280 * 1280  # its memory and time grow with the picture; faces it knows are at most about 600 px
# A key of the state dict -> facexlib's name of the network that has it.
_NETWORKS = {"body.layer4.2.conv3.weight": "resnet50", "body.stage3.1.3.weight": "mobile0.25"}
_WRAPPER = "module."


def load(file: str | Path | None) -> FaceXLib:
    """Raises MissingPackageError without facexlib, WeightsError for a missing or other file."""
    retinaface = import_package("facexlib.detection.retinaface", FaceXLib.name)
    tensors, _ = read_tensors(require_file(file, FaceXLib.name), how_to_get(FaceXLib.name))
    state = {str(key).removeprefix(_WRAPPER): value for key, value in tensors.items()}
    names = [name for key, name in _NETWORKS.items() if key in state]
    if not names:
        raise wrong_file(file, FaceXLib.name, f"key {next(iter(_NETWORKS))} is missing")
    network = _build(retinaface, names[0])
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError) as error:
        raise wrong_file(file, FaceXLib.name, error) from error
    return FaceXLib(network.eval().requires_grad_(False))


def _build(retinaface: ModuleType, name: str) -> torch.nn.Module:
    # Building it draws random weights, which must not move the user's seed, and uses an old keyword of torchvision,
    # which nobody but facexlib can mend.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        return retinaface.RetinaFace(network_name=name, device=torch.device("cpu"))


class FaceXLib:
    """Fulfils ports.Detector with facexlib's RetinaFace."""

    name = "facexlib"

    def __init__(self, network: Any):
        self._network = network

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        """rgb: (H, W, 3) uint8. Faces with a score above `threshold`."""
        fit = min(1.0, math.sqrt(_MOST_PIXELS / (rgb.shape[0] * rgb.shape[1])))
        picture, scale = fitted(rgb, round(rgb.shape[1] * fit), round(rgb.shape[0] * fit))
        rows = self._network.detect_faces(picture[..., ::-1], conf_threshold=float(threshold))
        return [face_from(row[:4], row[5:15], row[4], scale) for row in rows]
