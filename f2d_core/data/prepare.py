"""A folder of photos becomes a cache for the trainer: everything that is the same in every step is computed once.

Per photo: find the main face, cut the square that is trained on, align the crops of the encoders in it, and the same
for its mirror image (mirrored picture and points, aligned again: neither the encoders nor the alignment are symmetric;
Face2Diffusion 4.1 trains with horizontal flips). Then, in batches, latents, v_id, v_exp and the mask.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch

from ..align import align_expression, align_face, mirror_points
from ..constants import DEFAULT_TEMPLATE
from ..detect import Face, choose_face, find_faces
from ..encode import expression_features, identity_features
from ..errors import ImageError, MismatchError, NoFaceError, SettingsError
from ..image import read_image
from ..networks import Network
from ..ports import Detector, LatentCodec, Progress
from ..weights import file_sha256
from .cache import READY_MASKS, REPORT, Cache, Made, Photo, read_manifest
from .crop import FaceCrop, Square, crop_face, cut_mask, ffhq_square, outside, whole_square
from .masks import face_region, to_latent
from .parser import PARSER_SIZE_PX, FaceParser
from .report import write_report
from .settings import PrepareSettings
from .writer import CacheWriter

T, R = TypeVar("T"), TypeVar("R")

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jp2")
CAPTION_SUFFIX = ".txt"
BATCH = 4  # photos through the networks at once, both flips of each
_MOST_WORKERS = 8
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
    folder, out, settings = Path(photos), Path(out), settings or PrepareSettings()
    if batch < 1:
        raise SettingsError(f"The batch is {batch} photos, expected at least 1.")
    ready_masks = models.masks if isinstance(models.masks, Path) else None
    sources = find_sources(folder, ready_masks, out)
    with CacheWriter(out, Made(settings, models.hashes)) as writer:
        live = _still_right(writer.known, sources)
        fresh = [source for name, source in sources.items() if name not in live]
        captions = {name: _caption(source.path, caption) for name, source in sources.items()}
        if fresh or writer.unfinished or live != writer.known or _captions_differ(out, captions):
            writer.start(live)
            _run(writer, fresh, _Preparation(models, settings), batch, workers, progress)
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
        """Changes when a file is written to. Raises OSError."""
        stats = [path.stat() for path in (self.path, self.mask) if path is not None]
        return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)

    @property
    def hashes(self) -> tuple[str, str]:
        """SHA-256 of photo and mask. Raises OSError."""
        return file_sha256(self.path), "" if self.mask is None else file_sha256(self.mask)


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


def _still_right(known: Mapping[str, Photo], sources: Mapping[str, Source]) -> dict[str, Photo]:
    """Those of the known photos whose files are there and unchanged."""
    live = {}
    for name, photo in known.items():
        if name in sources:
            unchanged = _unchanged(photo, sources[name])
            live.update({name: unchanged} if unchanged else {})
    return live


def _unchanged(photo: Photo, source: Source) -> Photo | None:
    try:
        stamp = source.stamp
        if photo.stamp == stamp:
            return photo
        same = (photo.sha256, photo.mask_sha256) == source.hashes
    except OSError:  # looked at again, and rejected with the reason
        return None
    return replace(photo, stamp=stamp) if same else None


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


def _captions_differ(out: Path, captions: Mapping[str, str]) -> bool:
    return any(captions[name] != text for name, text in read_manifest(out).captions.items())


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
    """From a photo to rows of the cache, in two steps: `look` on any thread, `encode` for a batch."""

    def __init__(self, models: Models, settings: PrepareSettings):
        self._models = models
        self._settings = settings
        self._detecting = Lock()  # detectors are not made for several threads

    def look(self, source: Source) -> _Seen:
        photo = Photo(source.name, "")
        try:
            sha256, mask_sha256 = source.hashes
            photo = replace(photo, sha256=sha256, mask_sha256=mask_sha256, stamp=source.stamp)
            return self._look(source, photo)
        except ImageError as error:
            return _Seen(replace(photo, reason=str(error)))
        except OSError as error:
            return _Seen(replace(photo, reason=f"The file cannot be read: {error.strerror or error}."))

    def _look(self, source: Source, photo: Photo) -> _Seen:
        rgb = read_image(source.path)
        face, how = self._main_face(rgb)
        square = whole_square(rgb) if self._settings.already_cropped else ffhq_square(face.points)
        _check_square(rgb, square, self._settings)
        crop = crop_face(rgb, face, square, self._settings.size)
        views = ((crop.pixels, crop.points), _mirrored(crop))
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
        """(photos, arrays of the kept ones in their order), as CacheWriter.add takes them. Raises MismatchError."""
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
        shape = (settings.latent_side, settings.latent_side)
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
        pixels = np.stack([view for item in seen for view in (item.crop.pixels, item.crop.pixels[:, ::-1])])
        mean, logvar = self._models.codec.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
        _check_latents(mean, self._settings)
        values = {"latent_mean": mean, "latent_logvar": logvar}
        values["v_id"] = identity_features([view for item in seen for view in item.faces], self._models.msid)
        if self._models.recon is not None:
            crops = [view for item in seen for view in item.expressions]
            values["v_exp"] = expression_features(crops, self._models.recon)
        return {name: _both_flips(name, tensor, seen) for name, tensor in values.items()}


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


def _mirrored(crop: FaceCrop) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.ascontiguousarray(crop.pixels[:, ::-1])
    return pixels, mirror_points(crop.points, pixels.shape[1])


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


def _check_latents(latents: torch.Tensor, settings: PrepareSettings) -> None:
    """Raise MismatchError where latents and masks would not fit together."""
    side = settings.latent_side
    if latents.shape[2:] != (side, side):
        raise MismatchError(
            f"The autoencoder gives latents of {latents.shape[3]} x {latents.shape[2]} for {settings.size} px, "
            f"expected {side} x {side}. Use that of an SD 1.x or SD 2.x model."
        )


def _both_flips(name: str, tensor: torch.Tensor, seen: Sequence[_Seen]) -> np.ndarray:
    """(2 B, …) -> (B, 2, …) in the type it is kept in. Raises MismatchError for values that are not numbers."""
    kind = np.float16 if name.startswith("latent") else np.float32
    with np.errstate(over="ignore"):  # looked for in the next line
        values = tensor.detach().to("cpu", torch.float32).numpy().astype(kind)
    values = values.reshape(len(seen), 2, *values.shape[1:])
    bad = [item.photo.name for item, value in zip(seen, values, strict=True) if not np.isfinite(value).all()]
    if bad:
        raise MismatchError(
            f"{name} of {bad[0]} has values that are not numbers, or too large: expected finite ones. The weight file "
            "is damaged, or the model needs fp32 (of an autoencoder: use its fp32 or bf16 version)."
        )
    return values


def _run(
    writer: CacheWriter,
    sources: Sequence[Source],
    preparation: _Preparation,
    batch: int,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Prepare and count batch after batch; photos are looked at ahead of the networks."""
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        waiting: list[_Seen] = []
        for done, seen in enumerate(_ahead(pool, preparation.look, sources, 2 * workers + batch), start=1):
            waiting.append(seen)
            if len(waiting) == batch or done == len(sources):
                writer.add(*preparation.encode(waiting))
                waiting = []
                if progress is not None:
                    progress(done, len(sources))
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T], most: int) -> Iterator[R]:
    """`map` in the order of the items, with at most `most` of them begun and not yet taken."""
    begun = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) >= most:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


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
