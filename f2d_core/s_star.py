"""S*: a person as word vectors, with everything needed to trust and reuse them; the identity file; the export.

S* is the output of the mapping network (Face2Diffusion, Eq. 2 and 4): k word vectors, usually two.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from .constants import (
    CHUNK_TOKENS,
    DEFAULT_CLASS_WORD,
    DEFAULT_MARKER,
    FACE_CROP_SIZE_PX,
    FEATURES_MSID,
    IDENTITY_FORMAT,
    IDENTITY_FORMAT_VERSION,
    INJECTION_SUM,
    INJECTIONS,
)
from .errors import MismatchError, SettingsError, WeightsError
from .weights import describe, read_tensors, write_safetensors

log = logging.getLogger("face2diffusion")

_THUMBNAIL_SHAPE = (FACE_CROP_SIZE_PX, FACE_CROP_SIZE_PX, 3)
_TENSORS = ("vectors", "v_id", "v_exp", "thumbnail")
_TENSOR_KEYS = {"vectors": "s_star"}  # field -> key in the file, where they differ


@dataclass(frozen=True, eq=False)
class SStar:
    """One person as k words.

    vectors: (k, width) fp32 on the CPU. injection: "sum" when they replace token + position embedding, "token" when
    they replace the token embedding only. encoder_key: the text encoder they were made for ("l": SD 1.x, "h": SD 2.x).
    v_id, v_exp: the features they came from, (n,) fp32, or None; v_exp None means the learned "no expression".
    The hashes are those of f2d_core.weights (tensors) and f2d_core.image (decoded pixels). thumbnail: (112, 112, 3)
    uint8 or None. Fields beginning with `unknown_` hold what a newer program wrote, so that it survives a re-save.
    """

    vectors: torch.Tensor
    name: str = ""
    marker: str = DEFAULT_MARKER
    injection: str = INJECTION_SUM
    encoder_key: str = "l"
    class_word: str = DEFAULT_CLASS_WORD
    features: str = FEATURES_MSID
    v_id: torch.Tensor | None = None
    v_exp: torch.Tensor | None = None
    thumbnail: torch.Tensor | None = None
    msid_sha256: str = ""
    mapping_sha256: str = ""
    expression_encoder_sha256: str = ""
    image_sha256: str = ""
    detector: str = ""
    licence: str = ""
    unknown_tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    unknown_metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> int:
        return self.vectors.shape[0]

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    @property
    def title(self) -> str:
        """How messages call this person: the name, or the marker where there is none."""
        return self.name or self.marker

    def without_thumbnail(self) -> SStar:
        return replace(self, thumbnail=None)


_TEXTS = tuple(f.name for f in fields(SStar) if f.name not in _TENSORS and not f.name.startswith("unknown_"))


def save_s_star(s_star: SStar, path: str | Path) -> Path:
    """Write an identity file (safetensors). Reloading gives the same bits. Raises OutputError."""
    tensors = {_TENSOR_KEYS.get(name, name): getattr(s_star, name) for name in _TENSORS}
    tensors = {**s_star.unknown_tensors, **{key: value for key, value in tensors.items() if value is not None}}
    metadata = {**s_star.unknown_metadata, **{name: getattr(s_star, name) for name in _TEXTS}}
    metadata |= {"format": IDENTITY_FORMAT, "format_version": str(IDENTITY_FORMAT_VERSION)}
    return write_safetensors(path, tensors, metadata)


def load_s_star(path: str | Path) -> SStar:
    """Read an identity file. Raises WeightsError for a file that is missing, damaged, newer or something else.

    A thumbnail that is none of ours is left out, with a warning in the log.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != IDENTITY_FORMAT or "s_star" not in tensors:
        raise WeightsError(
            f'{path.name} is {describe(tensors)}, expected an identity file made by "Save S*" or '
            "`encode`. Choose such a file."
        )
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > IDENTITY_FORMAT_VERSION:
        raise WeightsError(
            f"{path.name} has identity format {version or 'unknown'}, this version reads up to "
            f"{IDENTITY_FORMAT_VERSION}. "
            "Update Face2Diffusion to use it."
        )
    named = {name: tensors.pop(_TENSOR_KEYS.get(name, name), None) for name in _TENSORS}
    texts = {name: metadata.pop(name) for name in _TEXTS if name in metadata}
    known = ("format", "format_version")
    unknown = {key: value for key, value in metadata.items() if key not in known}
    return _checked(SStar(**named, **texts, unknown_tensors=tensors, unknown_metadata=unknown), path)


def _checked(s_star: SStar, path: Path) -> SStar:
    vectors = s_star.vectors
    if vectors.ndim != 2 or not vectors.is_floating_point() or not 1 <= len(vectors) <= CHUNK_TOKENS - 2:
        raise WeightsError(
            f"{path.name}: s_star is {vectors.dtype} of shape {tuple(vectors.shape)}, expected (words, width) floats. "
            "Make the identity again from the photo."
        )
    if not torch.isfinite(vectors).all():
        raise WeightsError(
            f"{path.name}: s_star holds values that are not numbers. Make the identity again from the photo."
        )
    if s_star.injection not in INJECTIONS:
        raise WeightsError(
            f'{path.name}: unknown injection "{s_star.injection}", expected one of {", ".join(INJECTIONS)}. '
            "Update Face2Diffusion to use it."
        )
    _check_features(s_star, path)
    return replace(s_star, vectors=vectors.to(torch.float32), thumbnail=_usable(s_star.thumbnail, path))


def _check_features(s_star: SStar, path: Path) -> None:
    for name in ("v_id", "v_exp"):
        found = getattr(s_star, name)
        if found is not None and not (found.ndim == 1 and found.is_floating_point() and torch.isfinite(found).all()):
            raise WeightsError(
                f"{path.name}: {name} is {found.dtype} of shape {tuple(found.shape)}, expected a row of finite floats. "
                "Make the identity again from the photo."
            )


def _usable(thumbnail: torch.Tensor | None, path: Path) -> torch.Tensor | None:
    """Another picture is left out: it is only shown, and the person can be used without."""
    if thumbnail is None or is_thumbnail(thumbnail):
        return thumbnail
    log.warning(
        "%s: its thumbnail is %s of shape %s, expected uint8 of shape %s. It is left out; make the identity again from "
        "the photo to have one.",
        *(path.name, thumbnail.dtype, tuple(thumbnail.shape), _THUMBNAIL_SHAPE),
    )
    return None


def is_thumbnail(picture: torch.Tensor | None) -> bool:
    """Is it what SStar.thumbnail should be, and not None?"""
    return picture is not None and picture.dtype == torch.uint8 and tuple(picture.shape) == _THUMBNAIL_SHAPE


def embedding_vectors(
    s_star: SStar, position_embedding: torch.Tensor | None = None, position: int | None = None
) -> torch.Tensor:
    """(k, width) fp32: S* as plain token embeddings, what any textual-inversion loader puts in.

    A "token" S* needs no more. A "sum" S* already contains the position of its slot, so `position_embedding`
    (77, width) and the `position` of the first word (1 = right after the start token) are needed; the result is
    exact there and off by the difference of the two position embeddings elsewhere. Raises SettingsError.
    """
    if s_star.injection != INJECTION_SUM:
        return s_star.vectors
    last = CHUNK_TOKENS - 1 - s_star.words
    if position_embedding is None or position is None:
        raise SettingsError(
            f'{s_star.title}: an S* of the "sum" convention is exact at one position only. Give the position of its '
            f"first word in the prompt (1 to {last}) and the text encoder it will be used with."
        )
    if not 1 <= position <= last:
        raise SettingsError(
            f"Position {position} is outside the prompt: {s_star.title} has {s_star.words} words, choose 1 to {last}."
        )
    return s_star.vectors - position_embedding[position : position + s_star.words]


def export_deviation(s_star: SStar, position_embedding: torch.Tensor, position: int) -> torch.Tensor:
    """How far an exported "sum" S* is from the exact one at each possible first position, as a share of its length.

    Returns (76 - k,) fp32 for positions 1, 2, …: |difference| / |word vectors| (Euclidean); 0 at `position`.
    """
    exact = torch.stack(
        [embedding_vectors(s_star, position_embedding, p) for p in range(1, CHUNK_TOKENS - s_star.words)]
    )
    exported = embedding_vectors(s_star, position_embedding, position)
    return (exported - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def export_embedding(
    s_star: SStar, path: str | Path, position_embedding: torch.Tensor | None = None, position: int | None = None
) -> Path:
    """Write S* as a plain textual-inversion embedding (key `clip_l` or `clip_h`, fp32), which other programs can load.

    Raises SettingsError (see embedding_vectors) and OutputError.
    """
    vectors = embedding_vectors(s_star, position_embedding, position)
    metadata = {"name": s_star.name, "injection": s_star.injection, "licence": s_star.licence}
    if s_star.injection == INJECTION_SUM:
        metadata["position"] = str(position)
    return write_safetensors(path, {f"clip_{s_star.encoder_key}": vectors}, metadata)


def embedding_file_name(stem: str) -> str:
    """`stem` as a name that "embedding:name" can hold in a prompt: no blanks, commas or brackets, not a number."""
    stem = re.sub(r"[\s,()\[\]<>:]+", "_", stem).strip("_") or "person"
    return stem if re.match(r"[^\W\d]", stem) and stem.lower() not in ("nan", "inf", "infinity") else f"person_{stem}"


def pair_up(batches: Sequence[Sequence[SStar]]) -> list[tuple[SStar, ...]]:
    """Batches of S* side by side: one row per picture; a batch of one goes with every row. Raises MismatchError."""
    count = max(len(batch) for batch in batches)
    if any(len(batch) not in (1, count) for batch in batches):
        sizes = ", ".join(str(len(batch)) for batch in batches)
        raise MismatchError(f"Batches of {sizes} S* do not pair up. Give each one S*, or the same number of them.")
    return [tuple(batch[i if len(batch) > 1 else 0] for batch in batches) for i in range(count)]
