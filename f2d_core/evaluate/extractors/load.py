"""From a weight file to a judge: identity, pictures and texts, FID."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...errors import ImageError, WeightsError
from ...ports import IdentityExtractor, ImageTextExtractor
from . import inception
from .arcface import arcface_from
from .files import Place, batch_for, fill, placed, read_state, unknown
from .identity import identity_from
from .image_text import image_text_from

_IDENTITY = "a face recognition network (AdaFace, SphereFace-20a, FaceNet, or ArcFace as .onnx)"
_ONNX = ".onnx"


def load_identity_extractor(
    path: str | Path, device: str | torch.device = "cpu", batch: int = 0, place: Place | None = None
) -> IdentityExtractor:
    """The judge of identity in a local file: AdaFace, SphereFace-20a, FaceNet (.pt, .pth, .ckpt, .safetensors), or
    ArcFace (.onnx).

    batch: pictures at a time, 0 is what suits the device. place: turns the network into what runs it, on a device of
    the host's; `device` does not matter then. Raises WeightsError, MissingPackageError.
    """
    path = Path(path)
    if path.suffix.lower() == _ONNX:
        return arcface_from(path, device, batch)
    file = read_state(path, "adaface_ir50")
    judge = identity_from(file, device, batch, place)
    if judge is None:
        raise unknown(file, _IDENTITY)
    return judge


def load_image_text_extractor(
    path: str | Path,
    device: str | torch.device = "cpu",
    model: str = "",
    batch: int = 0,
    place: Place | None = None,
) -> ImageTextExtractor:
    """CLIP or SigLIP in a local file, or in a folder of a published model, in open_clip's or transformers' layout.

    model: open_clip's name of the network (image_text.MODELS) where the file should not decide. place: asked once
    for each tower. Raises WeightsError, MissingPackageError without open_clip, SettingsError.
    """
    return image_text_from(Path(path), device, model, batch, place)


@dataclass(frozen=True)
class InceptionExtractor:
    """Features of FID and KID. run: (B, 3, 299, 299) -> (B, 2048) on the CPU."""

    sha256: str
    batch: int
    run: Callable[[torch.Tensor], torch.Tensor]
    kind: str = "inception_fid"
    name: str = "Inception of FID"

    def features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, 2048) fp32 on the CPU. pictures: (H, W, 3) uint8 RGB, any sizes. Raises ImageError for none."""
        if not len(pictures):
            raise ImageError(f"{self.name} was given no picture: expected at least one.")
        parts = [pictures[i : i + self.batch] for i in range(0, len(pictures), self.batch)]
        return torch.cat([self.run(inception.inception_input(part)) for part in parts])


def load_inception(
    path: str | Path, device: str | torch.device = "cpu", batch: int = 0, place: Place | None = None
) -> InceptionExtractor:
    """The Inception of FID in a local file (pt_inception-2015-12-05-6726825d.pth). Raises WeightsError."""
    file = read_state(path, "inception_fid")
    state = file.part(inception.SIGN)
    if state is None:
        raise unknown(file, "the Inception of FID (pt_inception-2015-12-05-6726825d.pth)")
    try:
        network, sha256 = fill(inception.Inception, state, ("fc.", "AuxLogits."), inception.WHAT)
    except WeightsError as error:
        raise WeightsError(f"{file.path.name}: {error}") from error
    return InceptionExtractor(sha256, batch_for(device, batch, 8, 64), placed(network, device, place))
