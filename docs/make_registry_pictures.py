"""Draw the pictures that the ComfyUI registry shows: docs/icon.png (square) and docs/banner.png (21:9).

    python docs/make_registry_pictures.py [--out docs]

The person is invented, drawn by f2d_core/miniature: nobody's face, no borrowed art. Needs Pillow.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from make_picture import AMBER, AMBER_DARK, CARD, QUIET, REPO, Canvas

from f2d_core.miniature.people import sample_identities
from f2d_core.miniature.render import render
from f2d_core.miniature.situations import sample_situations

ICON, BANNER = (400, 400), (1260, 540)
PERSON, SITUATION = 9, 11  # seeds
FRAMING = (4, 0, 0, 0.3, 0, 0.06)  # as in situations.POSE
LIGHT = (-0.4, 0.6, 0.4, 0.1, 1.05)  # as in situations.LIGHT
CARDS = (("chef", "studio", "smiling"), ("astronaut", "desert", "neutral"), ("pirate", "beach", "smiling"))


def portrait(role: str, scene: str, mood: str, size: int) -> np.ndarray:
    """The one person, (size, size, 3) uint8."""
    situation = sample_situations(SITUATION, 1).named(role=role, scene=scene, mood=mood, prop="none")
    situation = replace(situation, pose=np.array([FRAMING]), light=np.array([LIGHT]))
    return render(sample_identities(PERSON, 1), situation, size).pixels[0]


def badge(canvas: Canvas, box: tuple[float, float, float, float], size: float) -> None:
    canvas.panel(box, AMBER, AMBER_DARK, radius=(box[3] - box[1]) / 3, width=3)
    canvas.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), "S*", size, AMBER_DARK)


def icon() -> Canvas:
    canvas = Canvas(ICON)
    canvas.panel((0, 0, 400, 400), CARD, radius=64)
    canvas.paste(portrait("none", "studio", "smiling", 736), (16, 16, 384, 384), radius=52)
    badge(canvas, (252, 286, 376, 376), 62)
    return canvas


def banner() -> Canvas:
    canvas = Canvas(BANNER)
    canvas.picture.paste((*CARD, 255), (0, 0, *canvas.picture.size))
    canvas.text((630, 68), "Face2Diffusion", 60)
    canvas.text((630, 126), "a person as a word in the prompt", 28, QUIET)
    for place, (role, scene, mood) in enumerate(CARDS):
        left = 120 + 360 * place
        canvas.paste(portrait(role, scene, mood, 600), (left, 164, left + 300, 464))
        canvas.text((left + 150, 500), f"S* as {'an' if role[0] in 'aeiou' else 'a'} {role}", 28, AMBER)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPO / "docs", metavar="FOLDER")
    folder = parser.parse_args().out
    for name, canvas in (("icon.png", icon()), ("banner.png", banner())):
        canvas.finished().save(folder / name, optimize=True)


if __name__ == "__main__":
    main()
