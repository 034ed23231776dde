"""SCRFD and RetinaFace of InsightFace, run by onnxruntime on the CPU from one local .onnx file.

InsightFace's usual entrances (FaceAnalysis, model packs) download; here its network class gets a session that was
made from the given bytes and never learns of a path. InsightFace's own weights are for non-commercial research only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..detect import Face
from .common import face_from, fitted, import_package, read_file, wrong_file

_DEFAULT_SIDE_PX = 640  # of the square given to a network that takes any size, as in InsightFace
_OUTPUTS = (9, 15)  # scores, boxes and points at 3 or 5 strides; 6 and 10 are networks without points


def load(file: str | Path | None) -> InsightFace:
    """Raises MissingPackageError without insightface or onnxruntime, WeightsError for a missing or other file."""
    scrfd = import_package("insightface.model_zoo.scrfd", InsightFace.name)  # first: it turns onnxruntime's reports off
    onnxruntime = import_package("onnxruntime", InsightFace.name)
    data = read_file(file, InsightFace.name)
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each of its status codes, without a base
        raise wrong_file(file, InsightFace.name, error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    if len(outputs) not in _OUTPUTS or len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
        reason = f"input {shape}, {len(outputs)} outputs; expected a picture and 9 or 15 outputs"
        raise wrong_file(file, InsightFace.name, reason)
    return InsightFace(scrfd.SCRFD(session=session), _input_size(shape))


def _input_size(shape: list) -> tuple[int, int]:
    """(width, height) px that the network wants; where it takes any, a square."""
    height, width = (side if isinstance(side, int) else _DEFAULT_SIDE_PX for side in shape[2:])
    return width, height


class InsightFace:
    """Fulfils ports.Detector with a network class of InsightFace."""

    name = "insightface"

    def __init__(self, network: Any, size: tuple[int, int]):
        self._network = network
        self._size = size

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        """rgb: (H, W, 3) uint8. Faces with a score of at least `threshold`."""
        width, height = self._size
        picture, scale = fitted(rgb, width, height)
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture[..., ::-1]  # BGR, black to the right and below
        self._network.det_thresh = float(threshold)
        rows, points = self._network.detect(canvas, input_size=self._size)
        return [face_from(row[:4], five.ravel(), row[4], scale) for row, five in zip(rows, points, strict=True)]
