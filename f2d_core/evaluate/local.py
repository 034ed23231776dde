"""Pictures made in this process: a face becomes S* once, then a `ports.PictureMaker` makes picture after picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..align import align_face
from ..constants import DEFAULT_MARKER
from ..detect import DEFAULT_THRESHOLD, find_faces
from ..encode import Crop, Labels, encode_faces
from ..errors import NoFaceError
from ..image import read_image, rgb_sha256
from ..locate import locate
from ..networks import Network
from ..ports import Detector, PictureMaker, Progress
from ..prompt import Person
from ..s_star import SStar
from .plan import Plan
from .work import Item, Photo, record_of, request_of, save_picture

Networks = tuple[Network, Network]  # encoder and mapping


class LocalMaker:
    """Makes the pictures of a plan with one diffusion model. networks: method -> its encoder and mapping."""

    def __init__(
        self,
        plan: Plan,
        photos: Sequence[Photo],
        maker: PictureMaker,
        networks: Mapping[str, Networks],
        detector: Detector,
    ):
        self._plan, self._maker, self._networks, self._detector = plan, maker, networks, detector
        self._photos = {photo.key: photo for photo in photos}
        self._crops: dict[str, Crop] = {}
        self._people: dict[tuple[str, str, str], SStar] = {}

    def make(self, item: Item) -> np.ndarray:
        """(H, W, 3) uint8. Raises ImageError, NoFaceError, and what the maker raises."""
        person = Person(self._s_star(item), self._plan.method(item.method).strength)
        return self._maker.make(request_of(self._plan, item, [person]), self._plan.sampling)

    def require_faces(self, items: Sequence[Item]) -> None:
        """Look for the faces of all items, before hours are spent on some. Raises ImageError, and NoFaceError."""
        without = []
        for face in dict.fromkeys(item.face for item in items):
            try:
                self._crop(face)
            except NoFaceError as error:
                without.append(str(error))
        if without:
            more = f" The same holds for {len(without) - 1} more of the photos." if len(without) > 1 else ""
            raise NoFaceError(f"{without[0]}{more}")

    def _s_star(self, item: Item) -> SStar:
        msid, mapping = self._networks[item.method]
        key = (item.face, msid.sha256, mapping.sha256)
        if key not in self._people:
            (s_star,) = encode_faces([self._crop(item.face)], msid, mapping, labels=Labels(thumbnail=False))
            self._people[key] = replace(s_star, marker=DEFAULT_MARKER)
        return self._people[key]

    def _crop(self, face: str) -> Crop:
        if face not in self._crops:
            self._crops[face] = face_crop(self._photos[face].path, self._detector)
        return self._crops[face]


def face_crop(path: Path, detector: Detector) -> Crop:
    """The aligned largest face of a photo. Raises ImageError, and NoFaceError that names the file."""
    rgb = read_image(path)
    (found,) = locate([find_faces(detector, rgb, DEFAULT_THRESHOLD)], "largest", 0)
    if isinstance(found, NoFaceError):
        raise NoFaceError(f"{path.name}: {found}") from found
    return Crop(align_face(rgb, found.face.points), rgb_sha256(rgb), found.how)


def make_here(
    items: Sequence[Item], folder: Path, plan: Plan, maker: LocalMaker, model: str, progress: Progress | None = None
) -> None:
    """Make and save the items one after the other. Raises what `LocalMaker.make` does, and OutputError."""
    for done, item in enumerate(items, start=1):
        save_picture(folder / item.place, maker.make(item), record_of(plan, item, model))
        if progress is not None:
            progress(done, len(items))
