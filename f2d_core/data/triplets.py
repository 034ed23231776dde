"""Editing triplets become a cache for the trainer (DreamIdentity 3.3): <identity face, editing prompt, edited image>.

They lie in a folder made by `augment`, or by anybody else:

    kept.jsonl          one JSON object per line: face, image (paths below the folder, with /) and prompt, with S* for
                        the person; points (five of the face, px of its picture) where they are known

Per triplet: v_id of the face picture, aligned in it as at inference; latents of the whole edited picture; the prompt.
Both of them also mirrored, as photos are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from typing import Any

import numpy as np

from ..align import align_face, check_points
from ..constants import DEFAULT_MARKER
from ..detect import choose_face, find_faces
from ..encode import identity_features
from ..errors import F2DError, ImageError, NoFaceError, SettingsError
from ..image import read_image
from ..networks import Network
from ..ports import Detector, LatentCodec, Progress
from ..prompt import find_markers
from ..weights import file_sha256
from .cache import REPORT, Made, Photo, Triplets
from .crop import cut, whole_square
from .report import write_triplet_report
from .settings import TripletSettings
from .work import BATCH, both_flips, bring_up_to_date, encode_latents, looked_at, mirrored, with_features
from .writer import CacheWriter

KEPT = "kept.jsonl"
_FACES_REMEMBERED = 64  # a face belongs to several edited pictures, which follow each other
_AGAIN = "Run `augment` again, or mend the line."


@dataclass(frozen=True)
class TripletModels:
    """What triplets are prepared with. codec_sha256: of the autoencoder's weights. detector: gives the one for faces
    without points; not called where all have some."""

    msid: Network
    codec: LatentCodec
    codec_sha256: str
    detector: Callable[[], Detector]


def prepare_triplets(
    folder: str | Path,
    out: str | Path,
    models: TripletModels,
    settings: TripletSettings | None = None,
    *,
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Triplets:
    """Prepare the triplets of `folder` into the cache `out`, made anew, gone on with or brought up to date.

    One that cannot be used is rejected with a reason. May be stopped at any moment: only whole batches count, and the
    next call goes on after them. progress counts triplets that are not in the cache yet. Ends with a contact sheet,
    report.png. Raises ImageError when there are no triplets or kept.jsonl is damaged, NoFaceError when all are
    rejected, CacheError, OutputError, MismatchError and SettingsError as `prepare` does.
    """
    folder, out = Path(folder), Path(out)
    if batch < 1:
        raise SettingsError(f"The batch is {batch} triplets, expected at least 1.")
    settings = with_features(settings or TripletSettings(), models.msid)
    sources = read_triplets(folder)
    detector = None if all(source.points for source in sources.values()) else models.detector()
    hashes = {
        "msid": models.msid.sha256,
        "autoencoder": models.codec_sha256,
        "detector": "" if detector is None else detector.name,
    }
    prompts = {name: source.prompt for name, source in sources.items()}
    with CacheWriter(out, Made(settings, hashes)) as writer:
        preparation = _Preparation(models, detector, settings)
        if bring_up_to_date(writer, sources, prompts, preparation, batch, workers, progress):
            _finish(writer, folder, prompts)
    cache = Triplets.open(out)
    if not (out / REPORT).exists():
        write_triplet_report(out / REPORT, folder, cache.photos, cache.rejected, prompts)
    return cache


# --- files ---


@dataclass(frozen=True)
class Triplet:
    """A triplet on disk; see work.Source. name, path: of the edited picture. face: name of the face picture, at
    face_path. points: five, (x, y) px of the face picture; empty where they are not known."""

    name: str
    path: Path
    face: str
    face_path: Path
    prompt: str
    points: tuple[tuple[float, float], ...] = ()

    @property
    def stamp(self) -> str:
        stats = [path.stat() for path in (self.path, self.face_path)]
        return " ".join([self.face, self._points_sha256, *(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)])

    @property
    def hashes(self) -> dict[str, str]:
        return {"sha256": file_sha256(self.path), "face_sha256": file_sha256(self.face_path) + self._points_sha256}

    @property
    def _points_sha256(self) -> str:
        """Empty where there are none."""
        return hashlib.sha256(repr(self.points).encode()).hexdigest() if self.points else ""

    def photo(self) -> Photo:
        return Photo(self.name, "", face=self.face)


def read_triplets(folder: str | Path) -> dict[str, Triplet]:
    """Name of the edited picture -> triplet, of all that kept.jsonl lists, in the order of the names.

    Raises ImageError when the file is missing or damaged (an empty one is), or a path in it leads out of the folder.
    """
    folder = Path(folder)
    try:
        lines = (folder / KEPT).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{folder / KEPT} cannot be read ({reason}): expected the list of triplets that `augment` makes when it is "
            "done. Choose such a folder, or let it finish."
        ) from error
    found: dict[str, Triplet] = {}
    for number, line in enumerate(lines, start=1):
        triplet = _triplet(folder, line, f"Line {number} of {folder / KEPT}")
        if triplet.name in found:
            raise ImageError(f"Line {number} of {folder / KEPT} lists {triplet.name} again: expected it once. {_AGAIN}")
        found[triplet.name] = triplet
    return dict(sorted(found.items()))


def _triplet(folder: Path, line: str, where: str) -> Triplet:
    try:
        entry = json.loads(line)
        texts = {name: entry[name] for name in ("face", "image", "prompt")}
        json.dumps(texts, ensure_ascii=False).encode()  # which halves of characters cannot be
        points = _points(entry.get("points") or ())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, F2DError) as error:
        raise ImageError(f"{where} is damaged ({error!r:.100}): expected face, image and prompt. {_AGAIN}") from error
    if not all(isinstance(text, str) for text in texts.values()):
        raise ImageError(f"{where} is damaged: expected face, image and prompt as texts. {_AGAIN}")
    if not find_markers(texts["prompt"], [DEFAULT_MARKER]):
        raise ImageError(
            f'{where} has the prompt "{texts["prompt"]:.80}": expected {DEFAULT_MARKER} for the person. {_AGAIN}'
        )
    face, image = (_inside(folder, texts[name], where) for name in ("face", "image"))
    return Triplet(texts["image"], image, texts["face"], face, texts["prompt"], points)


def _points(values: Any) -> tuple[tuple[float, float], ...]:
    """Raises what is wrong with them."""
    if not values:
        return ()
    return tuple((float(x), float(y)) for x, y in check_points(np.asarray(values, np.float64)))


def _inside(folder: Path, name: str, where: str) -> Path:
    """The file of that name below the folder. Raises ImageError for a path that leads elsewhere, also by a link."""
    posix, path = PurePosixPath(name), folder / name
    plain = name and "\\" not in name and "\0" not in name and ".." not in posix.parts and not posix.is_absolute()
    if not plain or PureWindowsPath(name).drive or not path.resolve().is_relative_to(folder.resolve()):
        raise ImageError(f'{where} names "{name:.100}": expected a path that stays in the folder, with /. {_AGAIN}')
    return path


# --- the work ---


@dataclass(frozen=True, eq=False)
class _Seen:
    """A triplet after the work on the CPU. pixels: (S, S, 3), faces: (2, 112, 112, 3) uint8, as it is and mirrored."""

    photo: Photo
    pixels: np.ndarray | None = None
    faces: np.ndarray | None = None


class _Preparation:
    """See work.Preparation."""

    def __init__(self, models: TripletModels, detector: Detector | None, settings: TripletSettings):
        self._models, self._detector, self._settings = models, detector, settings
        self._detecting = Lock()  # detectors are not made for several threads
        self._faces = lru_cache(_FACES_REMEMBERED)(self._read_faces)

    def look(self, source: Triplet) -> _Seen:
        return looked_at(source, lambda photo: self._look(source, photo), _Seen)

    def _look(self, source: Triplet, photo: Photo) -> _Seen:
        rgb = read_image(source.path)
        square = whole_square(rgb)
        self._require_large(rgb)
        faces, how = self._faces(source.face_path, source.face, source.points)
        photo = replace(photo, square=(*square.centre.tolist(), *square.x.tolist()), how=how)
        return _Seen(photo, cut(rgb, square, self._settings.size), faces)

    def _require_large(self, rgb: np.ndarray) -> None:
        least = self._settings.size / self._settings.max_enlargement
        if rgb.shape[0] < least:
            raise ImageError(
                f"The edited picture is too small: {rgb.shape[1]} px wide, expected at least {least:.0f}. Make it "
                "larger, or raise max_enlargement."
            )

    def _read_faces(self, path: Path, name: str, points: Sequence) -> tuple[np.ndarray, str]:
        """Both crops of a face picture, and how the face was found."""
        try:
            rgb = read_image(path)
            points, how = (np.array(points), "points given") if points else self._find(rgb)
            views = ((rgb, points), mirrored(rgb, points))
            return np.stack([align_face(*view) for view in views]), how
        except ImageError as error:
            raise ImageError(f"Its face picture {name}: {error}") from error

    def _find(self, rgb: np.ndarray) -> tuple[np.ndarray, str]:
        with self._detecting:
            found = find_faces(self._detector, rgb, self._settings.threshold)
        return choose_face(found.faces).points, f"{found.detector}, {found.rung}"

    def encode(self, seen: Sequence[_Seen]) -> tuple[list[Photo], dict[str, np.ndarray]]:
        photos, kept = [item.photo for item in seen], [item for item in seen if item.pixels is not None]
        if not kept:
            return photos, {}
        values = encode_latents(self._models.codec, [item.pixels for item in kept], self._settings.size)
        faces = [view for item in kept for view in item.faces]
        values["v_id"] = identity_features(faces, self._models.msid, features=self._settings.features)
        return photos, {name: both_flips(name, v, [item.photo for item in kept]) for name, v in values.items()}


def _finish(writer: CacheWriter, folder: Path, prompts: Mapping[str, str]) -> None:
    photos = writer.photos
    kept, rejected = [p for p in photos if p.kept], [p for p in photos if not p.kept]
    report = writer.folder / REPORT
    if not kept:
        write_triplet_report(report, folder, kept, rejected, prompts)
        raise NoFaceError(
            f"None of the {len(photos)} triplets in {folder} can be used; the first, {rejected[0].name}: "
            f"{rejected[0].reason} All reasons are shown in {report}."
        )
    report.unlink(missing_ok=True)  # of the triplets before
    writer.finish({photo.name: prompts[photo.name] for photo in kept})
