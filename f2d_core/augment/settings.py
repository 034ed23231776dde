"""What decides which pictures are made, and which of them are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..constants import DDIM, DEFAULT_CLASS_WORD, SAMPLERS
from ..detect import DEFAULT_THRESHOLD
from ..errors import SettingsError
from ..ports import Sampling
from .texts import FACE_PROMPT, NAME

FFHQ, BOX = "ffhq", "box"
CROPS = (FFHQ, BOX)
_MOST_SEED = 2**63 - 1
# What no picture depends on: these may change between two runs in one folder.
_FREE = ("faces_per_name", "edits_per_prompt", "keep", "subject", "held_out_similarity")


@dataclass(frozen=True)
class AugmentSettings:
    """Raises SettingsError for values out of range.

    faces_per_name: source pictures of each name, from different seeds. edits_per_prompt: of each source face.
    face_prompt: of the source pictures, with {name}. sampler, steps, cfg, size (px, square), negative: of all pictures;
    the defaults are DreamIdentity's (4.1). crop: of the source face, "ffhq" (turned upright) or "box" (the detector's).
    min_face_px: the short side of a source face's box must be larger (3.3, step 2). threshold: of the detector.
    keep: the part of each prompt's pictures that is kept (3.3, step 4). subject: what stands for S* in the text that
    pictures are compared with; {name} is the person's name. held_out_similarity: a source face as like a held-out face
    as this, by the cosine of their features, is left out.
    """

    faces_per_name: int = 4
    edits_per_prompt: int = 1
    face_prompt: str = FACE_PROMPT
    negative: str = ""
    sampler: str = DDIM
    steps: int = 30
    cfg: float = 7.5
    size: int = 512
    seed: int = 0
    crop: str = FFHQ
    min_face_px: int = 128
    threshold: float = DEFAULT_THRESHOLD
    keep: float = 0.25
    subject: str = DEFAULT_CLASS_WORD
    held_out_similarity: float = 0.4

    def __post_init__(self):
        for name in ("faces_per_name", "edits_per_prompt", "steps"):
            _require(name, getattr(self, name), 1 <= getattr(self, name) <= 1000, "1 to 1000")
        _require("face_prompt", self.face_prompt, NAME in self.face_prompt, f"a prompt with {NAME}")
        _require("sampler", self.sampler, self.sampler in SAMPLERS, f"one of {', '.join(SAMPLERS)}")
        _require("cfg", self.cfg, math.isfinite(self.cfg) and self.cfg >= 0, "0 or more")
        _require("size", self.size, 64 <= self.size <= 4096 and self.size % 8 == 0, "a multiple of 8 from 64 to 4096")
        _require("seed", self.seed, 0 <= self.seed <= _MOST_SEED, f"0 to {_MOST_SEED}")
        _require("crop", self.crop, self.crop in CROPS, f"one of {', '.join(CROPS)}")
        _require("min_face_px", self.min_face_px, 0 <= self.min_face_px < self.size, "0 or more and below the size")
        _require("threshold", self.threshold, 0 < self.threshold <= 1, "more than 0 and at most 1")
        _require("keep", self.keep, 0 < self.keep <= 1, "more than 0 and at most 1")
        _require("subject", self.subject, self.subject.strip(), f"a class word such as {DEFAULT_CLASS_WORD}, or {NAME}")
        similar = self.held_out_similarity
        _require("held_out_similarity", similar, -1 < similar <= 1, "more than -1 and at most 1")

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampler, self.steps, self.cfg, self.size, self.size)

    def of_pictures(self) -> dict[str, Any]:
        """What a picture depends on: one folder holds pictures of one kind."""
        return {name: value for name, value in vars(self).items() if name not in _FREE}

    def of_choice(self) -> dict[str, Any]:
        """What may change: how many pictures there are, and how the best are chosen."""
        return {name: value for name, value in vars(self).items() if name in _FREE}


def _require(name: str, value: Any, fits: Any, expected: str) -> None:
    if not fits:
        raise SettingsError(f"{name} is {value}, expected {expected}. Change the setting.")
