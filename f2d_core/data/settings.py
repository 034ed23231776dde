"""What decides how a photo is prepared. A cache is made with one of these throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..constants import MASK_PRESETS
from ..detect import DEFAULT_THRESHOLD
from ..errors import SettingsError

LATENT_REDUCTION = 8  # px per latent


@dataclass(frozen=True)
class PrepareSettings:
    """Raises SettingsError for values out of range.

    size: px of the square picture, a multiple of 8. already_cropped: the photos are FFHQ-style crops, taken whole.
    max_outside: how much of a crop may lie outside the photo, 0..1. max_enlargement: how much a crop may be blown up
    to `size`; more makes blurred pictures, which S* would learn. threshold: how sure the detector must be, 0..1.
    mask: one of constants.MASK_PRESETS; not looked at where ready masks are given. hard_mask: without a soft edge.
    """

    size: int = 512
    already_cropped: bool = False
    max_outside: float = 0.3
    max_enlargement: float = 2.0
    threshold: float = DEFAULT_THRESHOLD
    mask: str = "face"
    hard_mask: bool = False

    def __post_init__(self):
        least = 8 * LATENT_REDUCTION
        _require(
            "size", self.size, self.size >= least and self.size % LATENT_REDUCTION == 0, f"a multiple of 8 from {least}"
        )
        _require("max_outside", self.max_outside, 0 <= self.max_outside < 1, "0 or more and below 1")
        _require("max_enlargement", self.max_enlargement, self.max_enlargement >= 1, "1 or more")
        _require("threshold", self.threshold, 0 < self.threshold <= 1, "more than 0 and at most 1")
        _require("mask", self.mask, self.mask in MASK_PRESETS, f"one of {', '.join(MASK_PRESETS)}")

    @property
    def latent_side(self) -> int:
        return self.size // LATENT_REDUCTION

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of settings or model hashes, as 'mask: face, now head'."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {_shown(before.get(name))}, now {_shown(now.get(name))}" for name in names]


def _shown(value: Any) -> str:
    text = str(value)
    if value in ("", None):
        return "none"
    return f"{text[:12]}…" if len(text) == 64 else text  # a SHA-256


def _require(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise SettingsError(f"{name} is {value}, expected {expected}. Change the setting.")
