"""ArcFace of InsightFace's model packs (w600k_r50.onnx in buffalo_l), run by onnxruntime.

Input as in insightface's arcface_onnx.py: the 112 px crop of the official template, RGB, (level - 127.5) / 127.5.
The file is judged by its inputs and outputs. InsightFace's weights are for non-commercial research only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...align import align_face
from ...catalogue import PUBLISHED
from ...constants import FACE_CROP_SIZE_PX
from ...errors import MissingPackageError, WeightsError
from ...weights import file_sha256
from .files import FOLDER
from .identity import TITLES, FaceJudge

KIND = "arcface"
_CPU, _GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


def arcface_from(path: Path, device: str | torch.device, batch: int) -> FaceJudge:
    """Raises MissingPackageError without onnxruntime, WeightsError for a file that is missing or something else."""
    onnxruntime = _onnxruntime()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}. {_how_to_get()}") from error
    try:
        session = onnxruntime.InferenceSession(data, providers=_providers(onnxruntime, device))
    except Exception as error:  # onnxruntime has an exception class for each of its status codes, without a base
        raise _wrong(path, " ".join(str(error).split())[:160]) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape, given = inputs[0].shape, outputs[0].shape
    side = FACE_CROP_SIZE_PX
    if len(inputs) != 1 or len(outputs) != 1 or list(shape[1:]) != [3, side, side] or len(given) != 2:
        raise _wrong(path, f"input {shape}, outputs {[output.shape for output in outputs]}")
    fixed = shape[0] if isinstance(shape[0], int) else 0
    run = _runner(session, inputs[0].name)
    return FaceJudge(KIND, TITLES[KIND], file_sha256(path), align_face, _levels, False, fixed or batch or 16, run)


def _levels(levels: np.ndarray) -> np.ndarray:
    return (levels - 127.5) / 127.5


def _providers(onnxruntime: Any, device: str | torch.device) -> list[str]:
    wants_gpu = torch.device(device).type == "cuda" and _GPU in onnxruntime.get_available_providers()
    return [_GPU, _CPU] if wants_gpu else [_CPU]


def _runner(session: Any, name: str):
    def run(faces: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: faces.numpy()})[0])

    return run


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except Exception as error:  # a broken installation raises anything
        raise MissingPackageError(
            f"ArcFace needs the package onnxruntime, which cannot be used here ({type(error).__name__}): "
            "pip install onnxruntime. The other judges of identity work without it."
        ) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def _wrong(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path.name} cannot be used as {PUBLISHED[KIND].title}, it is damaged or another model ({reason}). "
        f"{_how_to_get()}"
    )


def _how_to_get() -> str:
    return PUBLISHED[KIND].how_to_get(FOLDER)
