"""The face: in which order it is drawn, and its five points."""

from __future__ import annotations

import numpy as np

from .beard import draw_beard, draw_moustache
from .eyes import draw_brows, draw_eye, draw_tears, eye_frame
from .figure import Figure
from .glasses import draw_glasses
from .mouth import draw_mouth, mouth_frame, mouth_line
from .nose import draw_nose, nose_tip
from .skin import draw_ear, draw_freckles, draw_light, draw_mark, draw_skin


def draw_head(figure: Figure) -> None:
    """Ears, head and all that is on it but hair."""
    for side in (-1, 1):
        draw_ear(figure, side)
    draw_skin(figure)
    for side in (-1, 1):  # once more the ear that is turned to the viewer
        near = figure.take(-side * figure.head.yaw > 0.12)
        if len(near):
            draw_ear(near, side)
    draw_freckles(figure)
    draw_mark(figure)
    draw_beard(figure)
    draw_nose(figure)
    draw_mouth(figure)
    draw_moustache(figure)
    for side in (-1, 1):
        draw_eye(figure, side)
    draw_tears(figure)
    draw_brows(figure)
    draw_light(figure)
    draw_glasses(figure)


def points(figure: Figure) -> np.ndarray:
    """(n, 5, 2) in sides of the picture: both eyes, tip of the nose, both corners of the mouth, image left first."""
    y, lift = nose_tip(figure)
    mouth, one = mouth_frame(figure), np.ones((len(figure), 1))
    corners = [mouth.point(side, mouth_line(figure, one * side)[:, 0]) for side in (-1.0, 1.0)]
    eyes = [eye_frame(figure, side).origin for side in (-1, 1)]
    return np.stack((*eyes, figure.head.surface(0, y, lift).origin, *corners), axis=1)
