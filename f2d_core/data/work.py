"""What preparing photos and preparing triplets have in common: what is new, the order of the work, checks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from ..align import mirror_points
from ..constants import AUTO
from ..errors import ImageError, MismatchError
from ..msid import require_features
from ..networks import Network
from ..ports import LatentCodec, Progress
from .cache import Photo, read_manifest
from .settings import PrepareSettings, TripletSettings
from .writer import CacheWriter

T, R = TypeVar("T"), TypeVar("R")
AnySettings = TypeVar("AnySettings", PrepareSettings, TripletSettings)

BATCH = 4  # photos through the networks at once, both flips of each
_MOST_WORKERS = 8


class Source(Protocol):
    """A photo or triplet on disk."""

    name: str
    path: Path

    @property
    def stamp(self) -> str:
        """Changes when a file of it is written to. Raises OSError."""
        ...

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of its files, by the field of Photo. Raises OSError."""
        ...

    def photo(self) -> Photo:
        """What is known of it before anything is read."""
        ...


class Seen(Protocol):
    """A photo after the work on the CPU; its other fields are None where it is rejected."""

    photo: Photo


class Preparation(Protocol):
    """From a source to rows of the cache, in two steps: `look` on any thread, `encode` for a batch."""

    def look(self, source: Any) -> Seen: ...

    def encode(self, seen: Sequence[Any]) -> tuple[list[Photo], dict[str, np.ndarray]]:
        """(photos, arrays of the kept ones in their order), as CacheWriter.add takes them. Raises MismatchError."""
        ...


def with_features(settings: AnySettings, msid: Network) -> AnySettings:
    """`settings` with the kind of features decided. Raises MismatchError where the encoder cannot give them."""
    config = msid.module.config
    if settings.features == AUTO:
        return replace(settings, features=config.own_features)
    require_features(config, settings.features, msid.title)
    return settings


def bring_up_to_date(
    writer: CacheWriter,
    sources: Mapping[str, Source],
    captions: Mapping[str, str],
    preparation: Preparation,
    batch: int,
    workers: int | None,
    progress: Progress | None,
) -> bool:
    """Prepare what is new and forget what is gone; False when there was nothing to do, else `finish` is due."""
    live = _still_right(writer.known, sources)
    fresh = [source for name, source in sources.items() if name not in live]
    if not (fresh or writer.unfinished or live != writer.known or _captions_differ(writer.folder, captions)):
        return False
    writer.start(live)
    _run(writer, fresh, preparation, batch, workers, progress)
    return True


def looked_at(source: Source, look: Callable[[Photo], Seen], rejected: Callable[[Photo], Seen]) -> Seen:
    """What `look` makes of a source, or its rejection with the reason."""
    photo = source.photo()
    try:
        photo = replace(photo, **source.hashes, stamp=source.stamp)
        return look(photo)
    except ImageError as error:
        return rejected(replace(photo, reason=str(error)))
    except OSError as error:
        name = "" if error.filename is None else f" {Path(error.filename).name}"
        return rejected(replace(photo, reason=f"The file{name} cannot be read: {error.strerror or error}."))


def mirrored(pixels: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 and the points (5, 2) of its face, mirrored."""
    return np.ascontiguousarray(pixels[:, ::-1]), mirror_points(points, pixels.shape[1])


def encode_latents(codec: LatentCodec, pixels: Sequence[np.ndarray], size: int) -> dict[str, torch.Tensor]:
    """(S, S, 3) uint8 pictures -> their latents and those of their mirror images, one after the other (2 B, …).

    Raises MismatchError where latents and masks would not fit together.
    """
    views = np.stack([view for picture in pixels for view in (picture, picture[:, ::-1])])
    mean, logvar = codec.encode(torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1)
    side = size // codec.reduction
    if mean.shape[2:] != (side, side):
        raise MismatchError(
            f"The autoencoder gives latents of {mean.shape[3]} x {mean.shape[2]} for {size} px, "
            f"expected {side} x {side}. Use that of an SD 1.x or SD 2.x model."
        )
    return {"latent_mean": mean, "latent_logvar": logvar}


def both_flips(name: str, tensor: torch.Tensor, photos: Sequence[Photo]) -> np.ndarray:
    """(2 B, …) -> (B, 2, …) in the type it is kept in. Raises MismatchError for values that are not numbers."""
    kind = np.float16 if name.startswith("latent") else np.float32
    with np.errstate(over="ignore"):  # looked for in the next line
        values = tensor.detach().to("cpu", torch.float32).numpy().astype(kind)
    values = values.reshape(len(photos), 2, *values.shape[1:])
    bad = [photo.name for photo, value in zip(photos, values, strict=True) if not np.isfinite(value).all()]
    if bad:
        raise MismatchError(
            f"{name} of {bad[0]} has values that are not numbers, or too large: expected finite ones. The weight file "
            "is damaged, or the model needs fp32 (of an autoencoder: use its fp32 or bf16 version)."
        )
    return values


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
        same = all(getattr(photo, name) == sha256 for name, sha256 in source.hashes.items())
    except OSError:  # looked at again, and rejected with the reason
        return None
    return replace(photo, stamp=stamp, face=source.photo().face) if same else None


def _captions_differ(out: Path, captions: Mapping[str, str]) -> bool:
    return any(captions[name] != text for name, text in read_manifest(out).captions.items())


def _run(
    writer: CacheWriter,
    sources: Sequence[Source],
    preparation: Preparation,
    batch: int,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Prepare and count batch after batch; photos are looked at ahead of the networks."""
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        waiting: list[Seen] = []
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
