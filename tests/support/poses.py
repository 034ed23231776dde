"""The standard face (f2d_core/constants.py) turned by known angles and seen by a camera."""

from __future__ import annotations

import numpy as np

from f2d_core.constants import EXPRESSION_POINTS_3D


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(5, 3), x right, y up, z to the camera: turned as f2d_core/evaluate/pose.py counts, one matrix for each turn."""
    a, b, c = np.radians([yaw, -pitch, -roll])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.array(EXPRESSION_POINTS_3D) @ (about_z @ about_x @ about_y).T


def seen(face: np.ndarray, distance: float | None = None, size_px: float = 80.0) -> np.ndarray:
    """(5, 2) px, y down: from far away, or by a pinhole camera at `distance` (the eyes are 0.62 apart)."""
    nearer = 1.0 if distance is None else (distance / (distance - face[:, 2]))[:, None]
    return face[:, :2] * nearer * (size_px, -size_px) + (300, 200)
