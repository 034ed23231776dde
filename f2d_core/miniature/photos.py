"""Photos of invented people as a user has them: files in a folder. To train on, and to test with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..detect import Face
from ..image import rgb_sha256, write_png
from .people import Identities, sample_identities
from .render import Rendered, render
from .situations import Situations, sample_situations

PHOTOS, MASKS = "photos", "masks"
_HAIR_COLOURS = (0.0, 0.6)  # black, blond


@dataclass(frozen=True)
class PhotoSet:
    """n photos of n people, wherever they are, as a collection of portraits has them: steady, some in costume, with
    nothing in their hands. calm: of the face alone, from anywhere, as people have a photo of themselves."""

    seed: int
    count: int
    calm: bool = False

    @cached_property
    def people(self) -> Identities:
        return sample_identities(self.seed, self.count)

    @cached_property
    def situations(self) -> Situations:
        drawn = sample_situations(self.seed, self.count).photographed
        return replace(drawn, role=np.zeros_like(drawn.role)) if self.calm else drawn.steady

    @cached_property
    def rendered(self) -> Rendered:
        return render(self.people, self.situations)

    @cached_property
    def heads(self) -> np.ndarray:
        """(n, 64, 64) fp32 in [0, 1]: face or hair, as the mask preset face_hair. Hair is what changes with its
        colour."""
        dark, light = (render(self.people.changed(hair_colour=c), self.situations).pixels for c in _HAIR_COLOURS)
        hair = np.any(dark != light, axis=-1)
        return np.maximum(self.rendered.mask, hair.astype(np.float32))

    def name(self, i: int) -> str:
        return f"{i:05}"


class KnownFaces:
    """A `ports.Detector` that knows where the faces of a photo set are, for their renderer does."""

    def __init__(self, photos: PhotoSet):
        self.name = f"points of the renderer, set {photos.seed}"
        drawn = photos.rendered
        self._points = {rgb_sha256(rgb): points for rgb, points in zip(drawn.pixels, drawn.points, strict=True)}

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        points = self._points.get(rgb_sha256(rgb))
        if points is None:
            return []
        low, high = points.min(axis=0), points.max(axis=0)
        reach = 0.8 * (high - low).max()
        middle = (low + high) / 2
        return [Face((*(middle - reach).tolist(), *(middle + reach).tolist()), points, 1.0)]


def write_photos(photos: PhotoSet, folder: Path) -> Path:
    """folder/photos/N.png and folder/masks/N.png, white where the head is. Raises OutputError."""
    last = folder / MASKS / f"{photos.name(photos.count - 1)}.png"
    if not last.is_file():
        pixels, heads = photos.rendered.pixels, photos.heads
        for i in range(photos.count):
            write_png(folder / PHOTOS / f"{photos.name(i)}.png", pixels[i])
            mask = np.rint(255 * heads[i]).astype(np.uint8)
            write_png(folder / MASKS / f"{photos.name(i)}.png", np.repeat(mask[..., None], 3, axis=2))
    return folder
