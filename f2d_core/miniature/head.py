"""From the head's own space to the picture: yaw, pitch and roll move each point by its depth.

Head space: x to the right of the picture, y down, z towards the viewer; the middle of the head is 0, its half height
about 1. The camera is far away (no perspective), surfaces are those of ellipsoids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Frame, Value
from .people import Identities

DEPTH = 0.86  # of the face's ellipsoid, in half heights
_FLATTER = 1.18  # the features lie on an ellipsoid somewhat larger than the head, or its rim would swallow them


@dataclass(frozen=True)
class Head:
    """n heads in their poses. width, length: half of each; yaw, pitch, roll in rad; scale: half height. (n,) each.

    centre: (n, 2), the middle of the head in the picture.
    """

    width: np.ndarray
    length: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray

    def turned(self, x: Value, y: Value, z: Value) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A vector of head space after yaw and pitch, before roll and scale."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x, z = x * cos + z * sin, z * cos - x * sin
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        return x, y * cos - z * sin, z * cos + y * sin

    def seen(self, x: Value, y: Value, z: Value) -> np.ndarray:
        """(n, 2): a vector of head space in the picture."""
        x, y, _ = self.turned(x, y, z)
        return self._rolled(x, y)

    def _rolled(self, x: Value, y: Value) -> np.ndarray:
        cos, sin = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        return np.stack((x * cos - y * sin, x * sin + y * cos), axis=1)

    def point(self, x: Value, y: Value, z: Value) -> np.ndarray:
        """(n, 2): a point of head space in the picture."""
        return self.centre + self.seen(x, y, z)

    def upright(self, x: Value, y: Value, z: Value) -> Frame:
        """Parallel to the picture at a point of head space: rolled and scaled only."""
        one, zero = np.ones_like(self.scale), np.zeros_like(self.scale)
        return Frame(self.point(x, y, z), self._rolled(one, zero), self._rolled(zero, one))

    def surface(self, x: Value, y: Value, lift: Value = 0.0) -> Frame:
        """The tangent to the face in (x, y), `lift` in front of it; u and v run along x and y."""
        width, length = self.width * _FLATTER, self.length * _FLATTER
        z = DEPTH * np.sqrt(np.maximum(1 - (x / width) ** 2 - (y / length) ** 2, 0.1))
        slope_x, slope_y = -(DEPTH**2) * x / (width**2 * z), -(DEPTH**2) * y / (length**2 * z)
        return Frame(self.point(x, y, z + lift), self.seen(1, 0, slope_x), self.seen(0, 1, slope_y))


def heads(identities: Identities, pose: np.ndarray) -> Head:
    """pose: (n, 6), as in situations.POSE."""
    yaw, pitch, roll, scale, shift_x, shift_y = pose.T
    return Head(
        width=identities.trait("face_width", 0.70, 0.85),
        length=identities.trait("face_length", 0.93, 1.07),
        centre=np.stack((0.5 + shift_x, 0.49 + shift_y), axis=1),
        scale=scale,
        yaw=np.radians(yaw),
        pitch=np.radians(pitch),
        roll=np.radians(roll),
    )
