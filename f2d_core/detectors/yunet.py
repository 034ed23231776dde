"""YuNet through OpenCV: small, fast on the CPU, Apache-2.0; the default.

The network is trained for faces of about 10 to 300 px (opencv_zoo, face_detection_yunet). On larger ones it does not
just fail: from about 450 px it reports parts of a face as faces, with scores above 0.8. So a picture is looked at in
several sizes, each one trusted for faces of a size that suits the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..detect import Face, overlap
from ..errors import MissingPackageError
from .common import face_from, fitted, import_package, missing_package, read_file, wrong_file

_LEAST_VERSION = (4, 8)  # older OpenCV reads other output layers of another model file
_BYTES_VERSION = (4, 9)  # from here on it takes the bytes of a file
_NMS = 0.3
_MOST_CANDIDATES = 5000
_LARGEST_FACE_PX = 400.0  # trusted in one size of the picture: up to here boxes are right, parts of faces are larger
_SMALLEST_AGAIN_PX = 150.0  # in a smaller size: what was surely found before need not be found again
_SMALL_ENOUGH_PX = 300  # short side of a picture in which no face can be too large
_PROBE_PX = 64


def load(file: str | Path | None) -> YuNet:
    """Raises MissingPackageError without OpenCV 4.8 or later, WeightsError for a missing or other file."""
    cv2 = import_package("cv2", YuNet.name)
    version = _checked_version(cv2.__version__)
    data = np.frombuffer(read_file(file, YuNet.name), np.uint8)
    # Bytes, because OpenCV cannot open every path on Windows; 4.8 takes a path only.
    source = ("onnx", data, np.empty(0, np.uint8)) if version >= _BYTES_VERSION else (str(file), "")
    try:
        network = cv2.FaceDetectorYN.create(*source, (_PROBE_PX, _PROBE_PX), 0.5, _NMS, _MOST_CANDIDATES)
        # OpenCV reads any network here; only running it shows whether it has YuNet's outputs.
        network.detect(np.zeros((_PROBE_PX, _PROBE_PX, 3), np.uint8))
    except cv2.error as error:
        raise wrong_file(file, YuNet.name, f"OpenCV {cv2.__version__}: {error.err or error}") from error
    return YuNet(network)


def _checked_version(version: str) -> tuple[int, ...]:
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < _LEAST_VERSION:
        reason = f"{version} is older than {'.'.join(map(str, _LEAST_VERSION))}"
        raise MissingPackageError(missing_package("opencv-python-headless", YuNet.name, reason))
    return numbers


class YuNet:
    """Fulfils ports.Detector with a cv2.FaceDetectorYN."""

    name = "yunet"

    def __init__(self, network: Any):
        self._network = network

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        """rgb: (H, W, 3) uint8. Faces with a score of at least `threshold`, finest size of the picture first."""
        kept: list[Face] = []
        for level, (picture, scale) in enumerate(_sizes(rgb)):
            for row in self._rows(picture, threshold):
                size = max(row[2:4])
                if size > _LARGEST_FACE_PX or (level > 0 and size < _SMALLEST_AGAIN_PX):
                    continue
                corners = np.concatenate([row[:2], row[:2] + row[2:4]])
                face = face_from(corners, row[4:14], row[14], scale)
                if all(overlap(face.box, other.box) < _NMS for other in kept):
                    kept.append(face)
        return kept

    def _rows(self, rgb: np.ndarray, threshold: float) -> np.ndarray:
        """(n, 15) float64: box x, y, w, h, five points, score."""
        height, width = rgb.shape[:2]
        self._network.setInputSize((width, height))
        self._network.setScoreThreshold(float(threshold))
        rows = self._network.detect(np.ascontiguousarray(rgb[..., ::-1]))[1]
        return np.empty((0, 15)) if rows is None else rows.astype(np.float64)


def _sizes(rgb: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[float, float]]]:
    """The picture, and its halves down to where the largest possible face suits the network, with their scales."""
    yield rgb, (1.0, 1.0)
    height, width, part = *rgb.shape[:2], 1
    while min(height, width) / part > _SMALL_ENOUGH_PX:
        part *= 2
        yield fitted(rgb, round(width / part), round(height / part))
