"""Pictures in and out: any file or array becomes (H, W, 3) uint8 RGB, upright.

Decided once, for files and arrays alike: transparency is laid over white, 16-bit values are rounded to 8 bits,
the first picture of an animation is used, colour profiles are not applied.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from .constants import MAX_IMAGE_PIXELS, MIN_IMAGE_SIDE_PX
from .errors import ImageError
from .files import write_atomically

# What photos come in. Others are left out on purpose: some of Pillow's readers start other programs (EPS, WMF).
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
_READABLE = "a JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF picture"

# EXIF orientation (tag 0x0112; EXIF 2.3, 4.6.4 A) -> how to turn the stored picture upright.
_EXIF_ORIENTATION = 0x0112
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}

# Pillow's plug-ins raise all of these for damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError),
    *(RuntimeError, OverflowError, struct.error),
)

_BAND_PIXELS = 1 << 22  # pictures are converted in bands of rows of about this size, which bounds the memory
_FLOAT_SLACK = 0.5  # resampling overshoots [0, 1] a little; more than this is another range


def read_image(path: str | Path) -> np.ndarray:
    """The picture in a file as (H, W, 3) uint8 RGB, with its EXIF rotation applied and transparency laid over white.

    Raises ImageError for anything that is no readable picture, too large (found before decoding) or too small.
    """
    path = Path(path)
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "does not exist"
            raise ImageError(f"{path} {found}: expected {_READABLE}. Check the path.")
        with open(path, "rb") as stream:
            return _decode(stream, path.name)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"Cannot read {str(path)!r}: {reason}. Expected {_READABLE}.") from error


def image_from_bytes(data: bytes, name: str) -> np.ndarray:
    """Like `read_image`, from the content of a file; `name` is what messages call it."""
    return _decode(io.BytesIO(data), name)


def _decode(stream: BinaryIO, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():  # about odd metadata, which the pixels do not depend on
            warnings.simplefilter("ignore")
            picture = _open(stream)
            if picture is None:
                raise ImageError(
                    f"{name} is not a picture, or its beginning is damaged: expected {_READABLE}. Choose another file."
                )
            check_size(*picture.size, name)
            picture.load()
            rgb, turn = _pixels(picture, name), _UPRIGHT.get(_orientation(picture))
            picture.close()
    except Image.DecompressionBombError as error:  # some readers of Pillow ask its guard themselves
        raise ImageError(f"{name} has too many pixels ({_one_line(error)}). Scale it down first.") from error
    except _DAMAGE as error:
        raise ImageError(
            f"{name} is damaged or incomplete ({_one_line(error)}): expected a whole picture. Copy or save it again."
        ) from error
    return rgb if turn is None else np.ascontiguousarray(turn(rgb))


def _open(stream: BinaryIO) -> Image.Image | None:
    """Read the header only; None if no reader knows the file.

    Image.open would do, were it not for its pixel guard: a global setting that belongs to the host, and that speaks
    up before the size is known here.
    """
    Image.init()
    head = stream.read(16)
    for name in _FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        try:
            if accepts is not None and accepts(head) is True:
                stream.seek(0)
                return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error):  # "not mine", say the readers
            continue
    return None


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 (as it stands) where there is none. Unreadable metadata says nothing about it either."""
    try:
        return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except _DAMAGE:
        return 1


def check_size(width: int, height: int, name: str = "The picture") -> None:
    """ImageError unless the picture is between MIN_IMAGE_SIDE_PX and MAX_IMAGE_PIXELS."""
    if width * height > MAX_IMAGE_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} px ({width * height / 1e6:.0f} megapixels): expected at most "
            f"{MAX_IMAGE_PIXELS / 1e6:.0f} megapixels. Scale it down or crop it first."
        )
    if min(width, height) < MIN_IMAGE_SIDE_PX:
        raise ImageError(
            f"{name} is {width} x {height} px: expected at least {MIN_IMAGE_SIDE_PX} px on each side. "
            "Choose a larger picture."
        )


def _pixels(picture: Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded picture of any mode, converted band by band."""
    if picture.mode == "F" or (picture.mode == "I" and not _fits_16_bits(picture)):
        raise ImageError(
            f"{name} has 32-bit values of unknown range: expected 8 or 16 bits. Save it with 8 or 16 bits."
        )
    width, height = picture.size
    rgb = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        rgb[top:bottom] = _band(picture.crop((0, top, width, bottom)))
    return rgb


def _fits_16_bits(picture: Image.Image) -> bool:
    """Older Pillow gives 16-bit grey PNGs as 32-bit integers."""
    low, high = picture.getextrema()
    return low >= 0 and high <= 65535


def _band(band: Image.Image) -> np.ndarray:
    if band.mode.startswith("I"):
        return _to_rgb(np.asarray(band).astype(np.uint16)[..., None])
    if "transparency" in band.info or band.mode in ("RGBA", "LA", "PA", "RGBa"):
        return _to_rgb(np.asarray(band.convert("RGBA")))
    return np.asarray(band.convert("RGB"))


def to_rgb_u8(array: np.ndarray) -> np.ndarray:
    """The same from memory: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4, last one alpha) -> (H, W, 3) uint8 RGB.

    uint8, uint16 or float in [0, 1]; floats are rounded to the nearest level, slight overshoot is cut off.
    Raises ImageError for other shapes, types, ranges, for values that are not finite, and for sizes out of bounds.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"The picture array has shape {array.shape}: expected (height, width) with 1, 3 or 4 channels last."
        )
    if not (array.dtype in (np.uint8, np.uint16) or np.issubdtype(array.dtype, np.floating)):
        raise ImageError(
            f"The picture array has values of type {array.dtype}: expected uint8, uint16 or floats in 0..1."
        )
    check_size(array.shape[1], array.shape[0])
    rgb = np.empty((*array.shape[:2], 3), np.uint8)
    step = max(1, _BAND_PIXELS // array.shape[1])
    for top in range(0, array.shape[0], step):
        rgb[top : top + step] = _to_rgb(array[top : top + step])
    return rgb


def _to_rgb(array: np.ndarray) -> np.ndarray:
    """(h, W, 1 | 3 | 4) of an accepted type -> (h, W, 3) uint8 (a broadcast view for grey)."""
    levels = _to_levels(array)
    if levels.shape[2] == 4:
        levels = _over_white(levels)
    return np.broadcast_to(levels, (*levels.shape[:2], 3))


def _to_levels(array: np.ndarray) -> np.ndarray:
    """Any accepted type -> uint8, rounded to the nearest level."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # min and max pass NaN on
        raise ImageError("The picture contains NaN or infinite values: expected values in 0..1. Check the node before.")
    if low < -_FLOAT_SLACK or high > 1 + _FLOAT_SLACK:
        raise ImageError(f"The picture has values from {low:.4g} to {high:.4g}: expected 0 to 1. Rescale it first.")
    return (np.clip(array.astype(np.float32), 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """(h, W, 4) uint8 with straight alpha -> (h, W, 3) uint8 as on white paper, rounded to the nearest level."""
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def scaled(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, smoothed when reduced; for detectors, not for encoders."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def rgb_sha256(rgb: np.ndarray) -> str:
    """SHA-256 of the decoded bytes of an (H, W, 3) uint8 picture, rows from the top."""
    return hashlib.sha256(np.ascontiguousarray(rgb)).hexdigest()


def write_png(path: str | Path, rgb: np.ndarray) -> Path:
    """Write an (H, W, 3) uint8 picture as PNG, whole or not at all. Raises OutputError."""
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return write_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
