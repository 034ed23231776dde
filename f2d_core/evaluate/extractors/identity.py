"""Face recognition networks as judges (ports.IdentityExtractor): AdaFace, SphereFace, FaceNet; ArcFace in arcface.py.

Each entry of _JUDGES owns its crop, channel order and levels. Sources: mk-minchul/AdaFace (README: BGR, mean and
deviation 0.5), clcarwin/sphereface_pytorch (lfw_eval.py: BGR, (level - 127.5) / 128), timesler/facenet-pytorch
(fixed_image_standardization: RGB, (level - 127.5) / 128).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import ImageError, WeightsError
from . import adaface, facenet, sphereface
from .crops import adaface_crop, facenet_crop, sphereface_crop
from .files import Place, StateFile, batch_for, fill, in_batches, placed

Crop = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _half(levels: np.ndarray) -> np.ndarray:
    return (levels / 255 - 0.5) / 0.5


def _standardised(levels: np.ndarray) -> np.ndarray:
    return (levels - 127.5) / 128


@dataclass(frozen=True)
class _Judge:
    """How one kind of network is found in a file and fed."""

    sign: str  # a key that only it has
    what: str
    kind: Callable[[Mapping[str, torch.Tensor]], str]
    network: Callable[[Mapping[str, torch.Tensor]], nn.Module]
    unread: tuple[str, ...]  # prefixes of keys that serve training only
    crop: Crop
    levels: Callable[[np.ndarray], np.ndarray]
    bgr: bool


_JUDGES = (
    _Judge(
        adaface.SIGN,
        adaface.WHAT,
        adaface.adaface_kind,
        adaface.adaface_network,
        (),
        adaface_crop,
        _half,
        bgr=True,
    ),
    _Judge(
        sphereface.SIGN,
        sphereface.WHAT,
        lambda _: "sphereface",
        lambda _: sphereface.SphereFace(),
        ("fc6.",),
        sphereface_crop,
        _standardised,
        bgr=True,
    ),
    _Judge(
        facenet.SIGN,
        facenet.WHAT,
        lambda _: "facenet",
        lambda _: facenet.FaceNet(),
        ("logits.",),
        facenet_crop,
        _standardised,
        bgr=False,
    ),
)
TITLES = {
    "adaface_ir18": "AdaFace IR-18",
    "adaface_ir34": "AdaFace IR-34",
    "adaface_ir50": "AdaFace IR-50",
    "adaface_ir101": "AdaFace IR-101",
    "sphereface": "SphereFace-20a",
    "facenet": "FaceNet",
    "arcface": "ArcFace",
}


def identity_kind(file: StateFile) -> str:
    """An entry of the catalogue, "" if no judge is in the file. Raises WeightsError for a depth that is not known."""
    for judge in _JUDGES:
        state = file.part(judge.sign)
        if state is not None:
            return judge.kind(state)
    return ""


def identity_from(file: StateFile, device: str | torch.device, batch: int, place: Place | None) -> FaceJudge | None:
    """The judge in a file of tensors, or None if it holds none. Raises WeightsError for a damaged one."""
    for judge in _JUDGES:
        state = file.part(judge.sign)
        if state is not None:
            try:
                return _load(judge, state, device, batch, place)
            except WeightsError as error:
                raise WeightsError(f"{file.path.name}: {error}") from error
    return None


def _load(
    judge: _Judge, state: dict[str, torch.Tensor], device: str | torch.device, batch: int, place: Place | None
) -> FaceJudge:
    kind = judge.kind(state)
    network, sha256 = fill(lambda: judge.network(state), state, judge.unread, judge.what)
    run = placed(network, device, place)
    return FaceJudge(
        kind, TITLES[kind], sha256, judge.crop, judge.levels, judge.bgr, batch_for(device, batch, 8, 128), run
    )


@dataclass(frozen=True)
class FaceJudge:
    """Fulfils ports.IdentityExtractor. kind: an entry of the catalogue. run: (B, 3, h, w) -> (B, n) on the CPU."""

    kind: str
    name: str
    sha256: str
    crop: Crop
    levels: Callable[[np.ndarray], np.ndarray]
    bgr: bool
    batch: int
    run: Callable[[torch.Tensor], torch.Tensor]

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, n) fp32 on the CPU, of length 1. pictures: (H, W, 3) uint8 RGB, any sizes. points: (5, 2) px.

        Raises ImageError for unusable points or no picture at all.
        """
        crops = [self.crop(picture, five) for picture, five in zip(pictures, points, strict=True)]
        if not crops:
            raise ImageError(f"{self.name} was given no picture: expected at least one.")
        return F.normalize(in_batches(self.run, self.inputs(np.stack(crops)), self.batch), dim=1)

    def inputs(self, crops: np.ndarray) -> torch.Tensor:
        """(B, h, w, 3) uint8 RGB -> (B, 3, h, w) fp32, in the network's channel order and range."""
        table = self.levels(np.arange(256, dtype=np.float64)).astype(np.float32)
        channels = crops[..., ::-1] if self.bgr else crops
        return torch.from_numpy(np.ascontiguousarray(table[channels].transpose(0, 3, 1, 2)))
