"""A folder of photos becomes a cache for the trainer: everything that is the same in every step is computed once.

Per photo: find the main face, cut the square that is trained on, align the crops of the encoders in it, and the same
for its mirror image (mirrored picture and points, aligned again: neither the encoders nor the alignment are symmetric;
Face2Diffusion 4.1 trains with horizontal flips). Then, in batches, latents, v_id, v_exp and the mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np

from ..align import align_expression, align_face
from ..constants import DEFAULT_TEMPLATE
from ..detect import Face, choose_face, find_faces
from ..encode import expression_features, identity_features
from ..errors import ImageError, NoFaceError, SettingsError
from ..image import read_image
from ..networks import Network
from ..ports import Detector, LatentCodec, Progress
from ..weights import file_sha256
from .cache import READY_MASKS, REPORT, Cache, Made, Photo
from .crop import FaceCrop, Square, crop_face, cut_mask, ffhq_square, outside, whole_square
from .masks import face_region, to_latent
from .parser import PARSER_SIZE_PX, FaceParser
from .report import write_report
from .settings import PrepareSettings
from .work import BATCH, both_flips, bring_up_to_date, encode_latents, looked_at, mirrored, with_features
from .writer import CacheWriter

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jp2")
CAPTION_SUFFIX = ".txt"
_NO_FACE = "Use photos that show a face, or another detector."


@dataclass(frozen=True)
class Models:
    """What photos are prepared with.

    recon: None prepares no expressions. codec_sha256: of the autoencoder's weights. masks: a face parser, or the
    folder of ready masks: pictures as large as the photos and named alike, white where the face is.
    """

    msid: Network
    recon: Network | None
    codec: LatentCodec
    codec_sha256: str
    detector: Detector
    masks: FaceParser | Path

    @property
    def hashes(self) -> dict[str, str]:
        return {
            "msid": self.msid.sha256,
            "expression_encoder": "" if self.recon is None else self.recon.sha256,
            "autoencoder": self.codec_sha256,
            "detector": self.detector.name,
            "parser": self.masks.sha256 if isinstance(self.masks, FaceParser) else READY_MASKS,
        }


def prepare(
    photos: str | Path,
    out: str | Path,
    models: Models,
    settings: PrepareSettings | None = None,
    *,
    caption: str = DEFAULT_TEMPLATE,
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Cache:
    """Prepare all photos below the folder `photos` into the cache `out`, made anew, gone on with or brought up to date.

    A photo that cannot be used is rejected with a reason; one that is gone from the folder goes from the cache too.
    May be stopped at any moment: only whole batches count, and the next call goes on after them. caption: of photos
    without a .txt beside them. progress counts photos that are not in the cache yet. Ends with a contact sheet,
    report.png.
    Raises ImageError when there is no photo, NoFaceError when all are rejected, CacheError when `out` holds something
    else or was made with other settings or models, OutputError when writing fails, MismatchError for values that are
    not numbers, SettingsError.
    """
    folder, out = Path(photos), Path(out)
    settings = with_features(settings or PrepareSettings(), models.msid)
    if batch < 1:
        raise SettingsError(f"The batch is {batch} photos, expected at least 1.")
    ready_masks = models.masks if isinstance(models.masks, Path) else None
    sources = find_sources(folder, ready_masks, out)
    with CacheWriter(out, Made(settings, models.hashes)) as writer:
        captions = {name: _caption(source.path, caption) for name, source in sources.items()}
        preparation = _Preparation(models, settings)
        if bring_up_to_date(writer, sources, captions, preparation, batch, workers, progress):
            _finish(writer, folder, captions, settings)
    cache = Cache.open(out)
    if not (out / REPORT).exists():
        write_report(
            out / REPORT, folder, cache.photos, cache.rejected, [*map(cache.mask, range(len(cache)))], settings
        )
    return cache


# --- files ---


@dataclass(frozen=True)
class Source:
    """A photo on disk, and its ready mask if there is one."""

    name: str
    path: Path
    mask: Path | None

    @property
    def stamp(self) -> str:
        """See work.Source."""
        stats = [path.stat() for path in (self.path, self.mask) if path is not None]
        return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)

    @property
    def hashes(self) -> dict[str, str]:
        """See work.Source."""
        return {
            "sha256": file_sha256(self.path),
            "mask_sha256": "" if self.mask is None else file_sha256(self.mask),
        }

    def photo(self) -> Photo:
        return Photo(self.name, "")


def find_sources(folder: Path, masks: Path | None, out: Path) -> dict[str, Source]:
    """Name -> photo, of all below the folder in the order of the names; hidden ones, masks and cache left out.

    Raises ImageError when there is none or the folder cannot be read.
    """
    for place in (folder, *([masks] if masks else [])):
        if not place.is_dir():
            raise ImageError(f"{place} is no folder: expected one with pictures. Check the path.")
    found = _pictures(folder, leave_out=[path.resolve() for path in (out, masks) if path is not None])
    if not found:
        raise ImageError(f"{folder} has no photos: expected files that end in {', '.join(SUFFIXES)}. Check the path.")
    ready = {path.relative_to(masks).with_suffix(""): path for path in _pictures(masks, [])} if masks else {}
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {
        name: Source(name, path, ready.get(path.relative_to(folder).with_suffix("")))
        for name, path in sorted(names.items())
    }


def _pictures(folder: Path, leave_out: Sequence[Path]) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and Path(place, f).resolve() not in leave_out]
        found += [Path(place, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    return found


def _caption(path: Path, default: str) -> str:
    """The text beside the photo, or `default`."""
    try:
        return path.with_suffix(CAPTION_SUFFIX).read_text(encoding="utf-8").strip() or default
    except FileNotFoundError:
        return default
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(
            f"The caption {path.with_suffix(CAPTION_SUFFIX)} cannot be read ({error}): expected text in UTF-8. "
            "Save it again, or delete it."
        ) from error


# --- the work ---


@dataclass(frozen=True, eq=False)
class _Seen:
    """A photo after the work on the CPU. crop, faces, expressions, region are None where it is rejected.

    faces: (2, 112, 112, 3), expressions: (2, 224, 224, 3) uint8, as it is and mirrored. region: (S, S) 0..1, of a
    ready mask.
    """

    photo: Photo
    crop: FaceCrop | None = None
    faces: np.ndarray | None = None
    expressions: np.ndarray | None = None
    region: np.ndarray | None = None


class _Preparation:
    """See work.Preparation."""

    def __init__(self, models: Models, settings: PrepareSettings):
        self._models = models
        self._settings = settings
        self._detecting = Lock()  # detectors are not made for several threads

    def look(self, source: Source) -> _Seen:
        return looked_at(source, lambda photo: self._look(source, photo), _Seen)

    def _look(self, source: Source, photo: Photo) -> _Seen:
        rgb = read_image(source.path)
        face, how = self._main_face(rgb)
        square = whole_square(rgb) if self._settings.already_cropped else ffhq_square(face.points)
        _check_square(rgb, square, self._settings)
        crop = crop_face(rgb, face, square, self._settings.size)
        views = ((crop.pixels, crop.points), mirrored(crop.pixels, crop.points))
        photo = replace(
            photo, square=(*square.centre.tolist(), *square.x.tolist()), outside=round(crop.outside, 4), how=how
        )
        return _Seen(
            photo,
            crop,
            np.stack([align_face(pixels, points) for pixels, points in views]),
            None if self._models.recon is None else np.stack([align_expression(*view) for view in views]),
            None if isinstance(self._models.masks, FaceParser) else _ready_region(source, rgb, square, self._settings),
        )

    def _main_face(self, rgb: np.ndarray) -> tuple[Face, str]:
        with self._detecting:
            found = find_faces(self._models.detector, rgb, self._settings.threshold)
        return choose_face(found.faces), f"{found.detector}, {found.rung}"

    def encode(self, seen: Sequence[_Seen]) -> tuple[list[Photo], dict[str, np.ndarray]]:
        masks = dict(self._masks([item for item in seen if item.crop is not None]))
        photos = [_with_reason(item.photo, masks.get(item.photo.name)) for item in seen]
        kept = [item for item in seen if isinstance(masks.get(item.photo.name), np.ndarray)]
        if not kept:
            return photos, {}
        arrays = {"mask": np.stack([masks[item.photo.name] for item in kept]), **self._features(kept)}
        return photos, arrays

    def _masks(self, seen: Sequence[_Seen]) -> Iterator[tuple[str, np.ndarray | ImageError]]:
        """(name, (h, w) uint8 or why there is none)."""
        parser, settings = self._models.masks, self._settings
        labels = (
            parser.labels(np.stack([s.crop.pixels for s in seen])) if isinstance(parser, FaceParser) and seen else []
        )
        shape = (settings.size // self._models.codec.reduction,) * 2
        for i, item in enumerate(seen):
            try:
                region = item.region
                if region is None:
                    region = face_region(labels[i], settings.mask, _in_label_map(item.crop.box, settings.size))
                yield item.photo.name, to_latent(region, shape, settings.hard_mask)
            except ImageError as error:
                yield item.photo.name, error

    def _features(self, seen: Sequence[_Seen]) -> dict[str, np.ndarray]:
        """Latents, v_id and v_exp of both flips, (photos, 2, …)."""
        values = encode_latents(self._models.codec, [item.crop.pixels for item in seen], self._settings.size)
        faces = [view for item in seen for view in item.faces]
        values["v_id"] = identity_features(faces, self._models.msid, features=self._settings.features)
        if self._models.recon is not None:
            crops = [view for item in seen for view in item.expressions]
            values["v_exp"] = expression_features(crops, self._models.recon)
        return {name: both_flips(name, tensor, [item.photo for item in seen]) for name, tensor in values.items()}


def _check_square(rgb: np.ndarray, square: Square, settings: PrepareSettings) -> None:
    """Raise ImageError for a face that is too small, or too near the edge, to be trained on."""
    if settings.size > settings.max_enlargement * square.side_px:
        raise ImageError(
            f"The face is too small: its square is {square.side_px:.0f} px, expected at least "
            f"{settings.size / settings.max_enlargement:.0f}. Use a larger photo, or raise max_enlargement."
        )
    beyond = outside(rgb, square)
    if beyond > settings.max_outside:
        raise ImageError(
            f"The face is too near the edge: {beyond:.0%} of its square lies outside the photo, expected at most "
            f"{settings.max_outside:.0%}. Use a photo with more around the face, or raise max_outside."
        )


def _ready_region(source: Source, rgb: np.ndarray, square: Square, settings: PrepareSettings) -> np.ndarray:
    """(S, S) float32 in 0..1: the ready mask, cut as the photo is. Raises ImageError."""
    if source.mask is None:
        raise ImageError("There is no ready mask of this photo: expected one of the same name. Make one.")
    mask = read_image(source.mask)
    if mask.shape != rgb.shape:
        raise ImageError(
            f"The mask is {mask.shape[1]} x {mask.shape[0]} px, expected {rgb.shape[1]} x {rgb.shape[0]} as the photo. "
            "Make it again."
        )
    return cut_mask(mask[..., 1], square, settings.size)  # grey: any channel


def _with_reason(photo: Photo, mask: np.ndarray | ImageError | None) -> Photo:
    return replace(photo, reason=str(mask)) if isinstance(mask, ImageError) else photo


def _in_label_map(box: Sequence[float], size: int) -> tuple[float, ...]:
    """A box in px of the crop -> px of the parser's label map."""
    return tuple((value + 0.5) * (PARSER_SIZE_PX / size) - 0.5 for value in box)


def _finish(writer: CacheWriter, folder: Path, captions: Mapping[str, str], settings: PrepareSettings) -> None:
    photos = writer.photos
    kept, rejected = [p for p in photos if p.kept], [p for p in photos if not p.kept]
    report = writer.folder / REPORT
    if not kept:
        write_report(report, folder, kept, rejected, [], settings)
        raise NoFaceError(
            f"None of the {len(photos)} photos in {folder} can be used; the first, {rejected[0].name}: "
            f"{rejected[0].reason} All reasons are shown in {report}. {_NO_FACE}"
        )
    report.unlink(missing_ok=True)  # of the photos before
    writer.finish({photo.name: captions[photo.name] for photo in kept})
