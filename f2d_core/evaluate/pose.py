"""Which way a head is turned, from five points: how a standard face must be turned for its points to lie there.

The standard face is that of the expression crop (constants.EXPRESSION_POINTS_3D), seen by a camera far away (scaled
orthographic projection). Nobody is the standard face: roll is good to a few degrees, yaw to about ten. Pitch is the
least certain, about fifteen: a broad smile lifts the corners of the mouth as looking down does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..align import check_points
from ..constants import EXPRESSION_POINTS_3D

_STEPS = 50
_SMALL_ENOUGH = 1e-10  # a step of this size, in radians and relative scale, is the last

_POINTS_3D = np.array(EXPRESSION_POINTS_3D) - np.mean(EXPRESSION_POINTS_3D, axis=0)


@dataclass(frozen=True)
class Pose:
    """Degrees; 0, 0, 0 looks straight into the camera.

    yaw: positive when the face is turned to image right. pitch: positive when it looks up. roll: positive when the
    head is tilted clockwise as seen, towards the shoulder at image right. The head is turned by yaw about its own
    axis first, then by pitch, then by roll in the plane of the picture.
    """

    yaw: float
    pitch: float
    roll: float


def head_pose(points_px: np.ndarray) -> Pose:
    """The pose that fits (5, 2) points in px best, in least squares. Raises ImageError for unusable points."""
    points = check_points(points_px)
    seen = (points - points.mean(axis=0)) * (1, -1)  # y up, as in the standard face
    return _angles(_fit(seen))


def _fit(seen: np.ndarray) -> np.ndarray:
    """(5, 2) -> (3, 3) rotation: the affine camera made orthogonal, then refined by Gauss-Newton."""
    camera = np.linalg.lstsq(_POINTS_3D, seen, rcond=None)[0].T
    left, stretch, right = np.linalg.svd(camera, full_matrices=False)
    rotation, scale = _completed(left @ right), stretch.mean()
    for _ in range(_STEPS):
        turned = _POINTS_3D @ rotation.T
        step = _step(seen - scale * turned[:, :2], turned, scale)
        rotation, scale = _rotation(step[:3]) @ rotation, scale * (1 + step[3])
        if np.abs(step).max() < _SMALL_ENOUGH:
            break
    return rotation


def _step(residual: np.ndarray, turned: np.ndarray, scale: float) -> np.ndarray:
    """(4,): the turn (a rotation vector) and the relative change of scale that reduce the residual (5, 2) most."""
    x, y, z = turned.T
    zero = np.zeros(len(turned))
    by_x = np.stack([zero, z, -y, x], axis=1)
    by_y = np.stack([-z, zero, x, y], axis=1)
    system = scale * np.stack([by_x, by_y], axis=1).reshape(-1, 4)
    return np.linalg.lstsq(system, residual.reshape(-1), rcond=None)[0]


def _completed(rows: np.ndarray) -> np.ndarray:
    """Two orthonormal rows -> the rotation that they begin."""
    return np.vstack([rows, np.cross(*rows)])


def _rotation(vector: np.ndarray) -> np.ndarray:
    """A rotation vector -> its matrix (Rodrigues)."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _angles(rotation: np.ndarray) -> Pose:
    """A rotation (y up, z towards the camera) taken apart into yaw, then pitch, then roll."""
    pitch = -np.arcsin(np.clip(rotation[2, 1], -1, 1))
    yaw = np.arctan2(-rotation[2, 0], rotation[2, 2])
    roll = np.arctan2(rotation[0, 1], rotation[1, 1])
    return Pose(*(float(value) for value in np.degrees([yaw, pitch, roll])))
