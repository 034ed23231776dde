"""A cache of prepared photos or triplets: one memory-mapped array per quantity, and a manifest of how they were made.

    manifest.json       settings, hashes of the models, the photos with their rows, the rejected ones with reasons
    latent_mean.npy     (rows, 2, 4, h, w) fp16   the autoencoder's posterior; index 0 as it is, 1 mirrored
    latent_logvar.npy   (rows, 2, 4, h, w) fp16
    v_id.npy            (rows, 2, n) fp32
    v_exp.npy           (rows, 2, m) fp32, not there without an expression encoder
    mask.npy            (rows, h, w) uint8; that of the mirrored photo is its mirror image; not there for triplets
    report.png          a contact sheet for people
    journal.jsonl       only while `prepare` is at work, see writer.py

Samples are in the order of the photos' names, whatever rows they lie in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..constants import AUTO
from ..errors import CacheError
from .samples import Samples
from .settings import PrepareSettings, Settings, TripletSettings, differences

VERSION = 1
MANIFEST, JOURNAL, REPORT = "manifest.json", "journal.jsonl", "report.png"
ARRAYS = {"latent_mean": "<f2", "latent_logvar": "<f2", "v_id": "<f4", "v_exp": "<f4", "mask": "|u1"}
READY_MASKS = "ready masks"  # stands in models["parser"] when masks were given
_KINDS = {settings.FORMAT: settings for settings in (PrepareSettings, TripletSettings)}
_OF_TRIPLETS = ("face", "face_sha256")  # fields of Photo
_AGAIN = "Run `prepare` again, into this folder to finish what was begun, or into another one."


@dataclass(frozen=True)
class Photo:
    """What became of one photo, or of the edited picture of one triplet.

    name: its path below the folder, with /. sha256, mask_sha256: of the files; the latter of a ready mask, if any.
    face, face_sha256: of a triplet, the picture of the person, and its hash, followed by that of points given for it.
    stamp: sizes and times of the files, by which an untouched one is known. row: in the arrays; -1: rejected, for
    `reason`. square: centre and half a side (x, y, x, y) of what was cut out, px. outside: how much of it lies
    outside the photo. how: the detector, and how it found the face.
    """

    name: str
    sha256: str
    mask_sha256: str = ""
    stamp: str = ""
    row: int = -1
    reason: str = ""
    square: tuple[float, ...] = ()
    outside: float = 0.0
    how: str = ""
    face: str = ""
    face_sha256: str = ""

    @property
    def kept(self) -> bool:
        return self.row >= 0


@dataclass(frozen=True)
class Made:
    """How a cache is made: the settings, and models by name as hashes (or a detector's name), empty for none."""

    settings: Settings
    models: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {"settings": self.settings.as_dict(), "models": dict(self.models)}


@dataclass(frozen=True)
class Manifest:
    """photos: in the order of the samples. captions: name -> text; of a triplet, its prompt."""

    made: Made
    photos: tuple[Photo, ...]
    rejected: tuple[Photo, ...]
    captions: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that the samples follow from, and their order; not over names, rows and photos' captions."""
        triplets = isinstance(self.made.settings, TripletSettings)
        content = [
            [photo.sha256, photo.face_sha256, photo.square, self.captions[photo.name]]
            if triplets
            else [photo.sha256, photo.mask_sha256, photo.square]
            for photo in self.photos
        ]
        return hashlib.sha256(json.dumps([VERSION, self.made.as_dict(), content], sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        photos = [{**entry_of(photo), "caption": self.captions[photo.name]} for photo in self.photos]
        head = {**head_of(self.made), "fingerprint": self.fingerprint, **self.made.as_dict()}
        return json.dumps({**head, "photos": photos, "rejected": [*map(entry_of, self.rejected)]}, indent=1)


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a cache, None where there is none. Raises CacheError for a damaged one."""
    path = Path(folder, MANIFEST)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        made = made_from(content, path)
        photos = [dict(entry) for entry in content["photos"]]
        captions = {entry["name"]: entry.pop("caption") for entry in photos}
        return Manifest(made, *(tuple(map(photo_from, p)) for p in (photos, content["rejected"])), captions)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} cannot be read ({error!r:.100}): expected a cache's manifest. {_AGAIN}") from error


def made_from(content: Mapping[str, Any], path: Path) -> Made:
    """The head of a manifest or journal. Raises CacheError for another format, KeyError or TypeError for damage."""
    if content["format"] not in _KINDS or content["version"] != VERSION:
        raise CacheError(
            f"{path} is of format {content['format']} {content['version']}, expected {PrepareSettings.FORMAT} "
            f"{VERSION}. Prepare the photos again, into another folder."
        )
    return Made(_KINDS[content["format"]].from_dict(content["settings"]), content["models"])


def head_of(made: Made) -> dict[str, Any]:
    """What a manifest and a journal begin with."""
    return {"format": made.settings.FORMAT, "version": VERSION}


def entry_of(photo: Photo) -> dict[str, Any]:
    """What manifest and journal hold of a photo; without the fields of triplets where it is of none."""
    return {name: value for name, value in asdict(photo).items() if value or name not in _OF_TRIPLETS}


def photo_from(entry: Mapping[str, Any]) -> Photo:
    return Photo(**{**entry, "square": tuple(entry["square"])})


def check_made(folder: Path, before: Made, settings: Settings | None, models: Mapping[str, str] | None) -> None:
    """Raise CacheError that lists what is wanted otherwise than the cache was made; None: anything will do."""
    wanted = before.settings if settings is None else settings
    _require_kind(folder, before, type(wanted))
    if wanted.features == AUTO:
        wanted = replace(wanted, features=before.settings.features)
    lines = differences(asdict(before.settings), asdict(wanted))
    lines += differences(before.models, {**before.models, **(models or {})})
    if lines:
        raise CacheError(
            f"The cache {folder} was made otherwise ({'; '.join(lines)}): expected the same settings and models. "
            "Use those, or prepare into another folder."
        )


def _require_kind(folder: Path, made: Made, wanted: type) -> None:
    if not isinstance(made.settings, wanted):
        raise CacheError(
            f"The cache {folder} holds {made.settings.WHAT}: expected {wanted.WHAT}. Choose another folder."
        )


class Cache:
    """A finished cache of photos, for reading. Fulfils ports.TrainingData."""

    SETTINGS: ClassVar[type] = PrepareSettings
    OPTIONAL: ClassVar[tuple[str, ...]] = ("v_exp",)  # arrays that need not be there

    def __init__(self, folder: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray]):
        self.folder = folder
        self.manifest = manifest
        self.fingerprint = manifest.fingerprint
        self._arrays = arrays
        self._rows = np.array([photo.row for photo in manifest.photos], dtype=np.int64)

    @classmethod
    def open(
        cls, folder: str | Path, settings: PrepareSettings | None = None, models: Mapping[str, str] | None = None
    ) -> Cache:
        """Open a finished cache; nothing is read yet but the manifest.

        settings, models (name -> hash): what it must have been made with. Raises CacheError that lists differences,
        and for a folder without a finished cache or with damaged arrays.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            raise CacheError(f"{folder} {_lacking(folder)}: expected a finished cache of prepared photos. {_AGAIN}")
        _require_kind(folder, manifest.made, cls.SETTINGS)
        check_made(folder, manifest.made, settings, models)
        names = [name for name in ARRAYS if name not in cls.OPTIONAL or (folder / f"{name}.npy").exists()]
        arrays = {name: _opened(folder, name) for name in names}
        least = 1 + max((photo.row for photo in manifest.photos), default=-1)
        short = [name for name, array in arrays.items() if len(array) < least]
        if short or _lacks_expressions(manifest, arrays):
            raise CacheError(f"{folder} lacks rows in {', '.join(short) or 'v_exp'}.npy: expected {least}. {_AGAIN}")
        return cls(folder, manifest, arrays)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        """The samples at `indices` (B,); where flips (B,) is true, of the mirrored photo. IndexError beyond the end."""
        rows, flips = self._rows[np.asarray(indices, np.int64)], np.asarray(flips, bool)
        mask = self._arrays["mask"][rows]
        mask[flips] = mask[flips, :, ::-1]
        return Samples(**self._values(rows, flips), mask=torch.from_numpy(mask)[:, None].float() / 255)

    def _values(self, rows: np.ndarray, flips: np.ndarray) -> dict[str, torch.Tensor]:
        """What is kept of both flips."""
        at = rows, flips.astype(np.int64)
        names = ("latent_mean", "latent_logvar", "v_id", *(["v_exp"] if "v_exp" in self._arrays else []))
        values = {name: torch.from_numpy(self._arrays[name][at]).float() for name in names}
        return {"v_exp": torch.empty(len(rows), 0), **values}

    def mask(self, index: int) -> np.ndarray:
        """(h, w) uint8 of the photo as it is."""
        return self._arrays["mask"][self._rows[index]]

    @property
    def settings(self) -> Settings:
        return self.manifest.made.settings

    @property
    def photos(self) -> tuple[Photo, ...]:
        """In the order of the samples."""
        return self.manifest.photos

    @property
    def rejected(self) -> tuple[Photo, ...]:
        return self.manifest.rejected

    @property
    def id_width(self) -> int:
        """Of v_id."""
        return self._arrays["v_id"].shape[2]

    @property
    def expression_width(self) -> int:
        """Of v_exp, 0 without."""
        return self._arrays["v_exp"].shape[2] if "v_exp" in self._arrays else 0

    @property
    def facts(self) -> Mapping[str, str]:
        """For the mapping file: what its training data was made with."""
        models = self.manifest.made.models
        return {
            "features": self.settings.features,
            "msid_sha256": models["msid"],
            "expression_encoder_sha256": models["expression_encoder"],
            "autoencoder_sha256": models["autoencoder"],
            "mask": READY_MASKS if models["parser"] == READY_MASKS else self.settings.mask,
        }

    def caption(self, index: int) -> str:
        return self.manifest.captions[self.photos[index].name]


class Triplets(Cache):
    """A finished cache of editing triplets (DreamIdentity 3.3), for reading: a photo is an edited picture, and v_id
    that of the face picture it belongs to. Fulfils ports.TrainingData."""

    SETTINGS = TripletSettings
    OPTIONAL = ("v_exp", "mask")

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        """See Cache.batch. All of an edited picture is learnt; its prompt says what it shows."""
        rows, flips = self._rows[np.asarray(indices, np.int64)], np.asarray(flips, bool)
        values = self._values(rows, flips)
        mask = torch.ones(len(rows), 1, *values["latent_mean"].shape[2:])
        return Samples(**values, mask=mask, prompts=tuple(self.caption(index) for index in indices))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The different prompts, in order."""
        return tuple(sorted(set(self.manifest.captions.values())))

    @property
    def facts(self) -> Mapping[str, str]:
        models = self.manifest.made.models
        kind = self.settings.features
        return {"features": kind, "msid_sha256": models["msid"], "autoencoder_sha256": models["autoencoder"]}


def _lacking(folder: Path) -> str:
    if not folder.is_dir():
        return "does not exist"
    return "is not finished" if (folder / JOURNAL).exists() else "is no cache"


def _lacks_expressions(manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> bool:
    return bool(manifest.made.models.get("expression_encoder")) and "v_exp" not in arrays


def _opened(folder: Path, name: str) -> np.ndarray:
    """A read-only view of an array on disk. Raises CacheError."""
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(f"{path} cannot be read ({error!s:.100}): expected an array of the cache. {_AGAIN}") from error
    if array.dtype != np.dtype(ARRAYS[name]):
        raise CacheError(f"{path} holds {array.dtype}, expected {ARRAYS[name]}. {_AGAIN}")
    return np.asarray(array)  # indexing a plain array is quicker than a np.memmap, and reads the same file
