"""Pair sets for verification: InsightFace's `.bin` files (lfw, cfp_fp …), two pictures and "same or not" each.

They are pickles, and a pickle can run anything. This reader knows bytes, numbers, lists, truth values and arrays of
small numbers; every other name in a file is refused before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..constants import FACE_CROP_SIZE_PX
from ..errors import DataError, ImageError
from ..image import image_from_bytes

_ARRAY = "ndarray"
_DTYPES = {"u1": np.uint8, "uint8": np.uint8, "b1": np.bool_, "bool": np.bool_, "?": np.bool_}


@dataclass(frozen=True)
class PairSet:
    """n pairs: pictures 2 i and 2 i + 1 show the same person where same[i]. pictures: encoded. same: (n,) bool."""

    name: str
    pictures: Sequence[bytes]
    same: np.ndarray
    side: int = FACE_CROP_SIZE_PX

    def __len__(self) -> int:
        return len(self.same)

    def decoded(self, indices: Sequence[int], workers: Executor | None = None) -> np.ndarray:
        """(B, side, side, 3) uint8 RGB. Raises DataError."""
        found = (workers.map if workers is not None else map)(self._picture, indices)
        return np.stack(list(found))

    def _picture(self, index: int) -> np.ndarray:
        try:
            rgb = image_from_bytes(self.pictures[index], f"{self.name} picture {index}")
        except ImageError as error:
            raise DataError(str(error)) from error
        if rgb.shape[:2] != (self.side, self.side):
            size = f"{rgb.shape[1]} x {rgb.shape[0]}"
            raise DataError(
                f"{self.name} picture {index} is {size} px, expected {self.side} x {self.side}. Choose a set of "
                "aligned face crops of the encoder's size."
            )
        return rgb


def read_pairs(path: str | Path, side: int = FACE_CROP_SIZE_PX) -> PairSet:
    """The pair set in a `.bin` file; nothing in it is run. Raises DataError."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    try:
        pictures, same = _Reader(io.BytesIO(content)).load()
        return PairSet(path.stem, _all_encoded(pictures, len(content)), _truths(same, len(pictures)), side)
    except _RefusedError as error:
        raise DataError(
            f"{path.name} asks for {error}, expected pictures and truth values alone. It was not run: such a file may "
            "carry code. Get it again from where it is published."
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path.name} ({len(content):,} bytes) is no pair set or damaged ({reason}); expected a .bin file with a "
            "list of encoded pictures, two per pair, and a list of truth values. Copy or download it again."
        ) from error


class _RefusedError(Exception):
    """A pickle names something that a pair set does not need."""


class _Reader(pickle._Unpickler):  # the one in Python, where a number in a file can be kept from reserving memory
    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="bytes")  # text of Python 2 is bytes

    def find_class(self, module: str, name: str) -> object:
        module = module.removeprefix("numpy._core.").removeprefix("numpy.core.")
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise _RefusedError(f"{module}.{name}")

    def get_extension(self, code: int) -> None:
        raise _RefusedError(f"extension {code}")

    def persistent_load(self, _of: object) -> None:
        raise _RefusedError("a persistent object")

    def load_bytearray8(self) -> None:
        """As Python's own, which makes an array of the promised length before it looks for the content."""
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}


class _Maker:
    """What a name in a pickle stands for. Without attributes: a pickle may try to set some."""

    __slots__ = ()


class _Encode(_Maker):
    """_codecs.encode, by which Python 3 writes bytes in old protocols."""

    def __call__(self, text: str, encoding: object = "latin1") -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise _RefusedError(f"the encoding {encoding}")
        return text.encode("latin1")


class _Dtype(_Maker):
    """numpy.dtype, of bytes and truth values alone."""

    def __call__(self, name: str | bytes, *_flags: object) -> np.dtype:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if name.lstrip("|") not in _DTYPES:
            raise _RefusedError(f"arrays of {name}")
        return np.dtype(_DTYPES[name.lstrip("|")])


class _Empty(_Maker):
    """numpy's _reconstruct: an array whose content comes after it."""

    def __call__(self, kind: object, _shape: object, _code: object) -> np.ndarray:
        if kind != _ARRAY:
            raise _RefusedError(f"an array made of {kind}")
        return np.empty(0, np.uint8)


class _FromBuffer(_Maker):
    """numpy's _frombuffer, by which protocol 5 writes arrays."""

    def __call__(self, data: bytes, dtype: np.dtype, _shape: object, _order: object) -> np.ndarray:
        return np.frombuffer(data, dtype)


class _Scalar(_Maker):
    """numpy's scalar: a truth value or a byte."""

    def __call__(self, dtype: np.dtype, data: bytes) -> object:
        return np.frombuffer(data, dtype, 1)[0]


_ALLOWED = {
    ("_codecs", "encode"): _Encode(),
    ("numpy", "dtype"): _Dtype(),
    ("numpy", "ndarray"): _ARRAY,
    ("multiarray", "_reconstruct"): _Empty(),
    ("multiarray", "scalar"): _Scalar(),
    ("numeric", "_frombuffer"): _FromBuffer(),
}


def _all_encoded(pictures: Sequence[object], limit: int) -> list[bytes]:
    """limit: bytes of the file. A pickle may name one picture any number of times: it is kept once. Different pictures
    cannot be larger than the file, unless they are made to fill the memory."""
    found: dict[int, bytes] = {}
    size = 0
    for picture in pictures:
        if id(picture) in found:
            continue
        found[id(picture)] = _encoded(picture)
        size += len(found[id(picture)])
        if size > limit:
            raise ValueError(f"pictures of more than the file's {limit:,} bytes")
    return [found[id(picture)] for picture in pictures]


def _encoded(picture: object) -> bytes:
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        return picture.tobytes()
    if not isinstance(picture, (bytes, bytearray)):
        raise ValueError(f"a {type(picture).__name__} in the place of an encoded picture")
    return bytes(picture)


def _truths(same: object, pictures: int) -> np.ndarray:
    found = np.array([bool(value) for value in same])
    if len(found) == 0 or pictures != 2 * len(found):
        raise ValueError(f"{pictures} pictures for {len(found)} pairs")
    return found
