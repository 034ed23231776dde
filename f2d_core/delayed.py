"""Delayed subject conditioning (FastComposer 4.2; Face2Diffusion 4.3): early steps see the class word, later ones S*.

One rule for the whole project: how many steps, where that is in model time, and which prompt they see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .constants import DEFAULT_CLASS_WORD, NOISE_TIMESTEPS
from .errors import SettingsError
from .prompt import Person, replace_markers, require_markers


def class_steps(subject_steps: float, steps: int) -> int:
    """How many of `steps` steps, from the first, see the class word.

    subject_steps: FastComposer's alpha, 0..1, the part of the steps that see the person. Its code gives the class word
    to step i while i <= (1 - alpha) N, in floating point: 6 of 30 for alpha 0.8, but 26 of 50 for 0.5. For 1 it is
    none here, which is what "not delayed" means; that code would still give one. Raises SettingsError.
    """
    if not 0 <= subject_steps <= 1:
        raise SettingsError(
            f"subject_steps is {subject_steps}; expected 0 to 1, the part of the steps that see the person. 1 is all."
        )
    if subject_steps == 1:
        return 0
    return min(steps, math.floor((1 - subject_steps) * steps) + 1)


def even_timesteps(steps: int) -> list[float]:
    """Model time of each step of the official sampler, linspace(999, 0), which is ComfyUI's scheduler `normal`."""
    last = NOISE_TIMESTEPS - 1
    return [last - last * i / max(steps - 1, 1) for i in range(steps)]


def switch_percent(timesteps: Sequence[float], count: int) -> float:
    """Where in model time the first `count` of the steps end, as a part of 0..1 from the noise to the picture.

    timesteps: of all steps, from 999 downwards. The place lies half-way between two steps, so that rounding moves no
    step over it: the class word holds from 0 to it, the person from it to 1 (ComfyUI's start and end percent). 0 where
    no step is before it, 1 where none is behind.
    """
    if count <= 0:
        return 0.0
    if count >= len(timesteps):
        return 1.0
    return 1 - (timesteps[count - 1] + timesteps[count]) / 2 / (NOISE_TIMESTEPS - 1)


def class_prompt(prompt: str, people: Sequence[Person]) -> str:
    """`prompt` with every person's class word in the place of their marker. Raises PromptError."""
    words = [person.s_star.class_word or DEFAULT_CLASS_WORD for person in people]
    return replace_markers(prompt, require_markers(prompt, people), words)
