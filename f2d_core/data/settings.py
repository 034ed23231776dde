"""What decides how photos and triplets are prepared. A cache is made with one of these throughout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..constants import AUTO, FEATURES, FEATURES_MSID, MASK_PRESETS
from ..detect import DEFAULT_THRESHOLD
from ..errors import SettingsError

SIZE_STEP = 8  # px: sizes are multiples of the reduction of SD's autoencoder
_LEAST_SIZE = 8 * SIZE_STEP


@dataclass(frozen=True)
class PrepareSettings:
    """Raises SettingsError for values out of range.

    size: px of the square picture, a multiple of 8. already_cropped: the photos are FFHQ-style crops, taken whole.
    max_outside: how much of a crop may lie outside the photo, 0..1. max_enlargement: how much a crop may be blown up
    to `size`; more makes blurred pictures, which S* would learn. threshold: how sure the detector must be, 0..1.
    mask: one of constants.MASK_PRESETS; not looked at where ready masks are given. hard_mask: without a soft edge.
    features: the kind of v_id, one of constants.FEATURES, or auto: what the encoder was made for.
    """

    FORMAT: ClassVar[str] = "f2d-cache"
    WHAT: ClassVar[str] = "prepared photos"

    size: int = 512
    already_cropped: bool = False
    max_outside: float = 0.3
    max_enlargement: float = 2.0
    threshold: float = DEFAULT_THRESHOLD
    mask: str = "face"
    hard_mask: bool = False
    features: str = AUTO

    def __post_init__(self):
        _require_common(self)
        _require("max_outside", self.max_outside, 0 <= self.max_outside < 1, "0 or more and below 1")
        _require("mask", self.mask, self.mask in MASK_PRESETS, f"one of {', '.join(MASK_PRESETS)}")

    def as_dict(self) -> dict[str, Any]:
        """As a manifest holds it, with the kind of features where it is not the one that there used to be alone."""
        values = asdict(self)
        if self.features in (AUTO, FEATURES_MSID):
            del values["features"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PrepareSettings:
        """What `as_dict` gave, in older versions too. Raises TypeError for damage."""
        return cls(**{"features": FEATURES_MSID, **values})


@dataclass(frozen=True)
class TripletSettings:
    """Of editing triplets: the edited picture is taken whole. Raises SettingsError for values out of range.

    The fields mean what those of PrepareSettings do; threshold is for the face picture.
    """

    FORMAT: ClassVar[str] = "f2d-triplets"
    WHAT: ClassVar[str] = "editing triplets"

    size: int = 512
    max_enlargement: float = 2.0
    threshold: float = DEFAULT_THRESHOLD
    features: str = AUTO

    def __post_init__(self):
        _require_common(self)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TripletSettings:
        return cls(**values)


Settings = PrepareSettings | TripletSettings


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of settings or model hashes, as 'mask: face, now head'."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {_shown(before.get(name))}, now {_shown(now.get(name))}" for name in names]


def _shown(value: Any) -> str:
    text = str(value)
    if value in ("", None):
        return "none"
    return f"{text[:12]}…" if len(text) == 64 else text  # a SHA-256


def _require_common(settings: Settings) -> None:
    size, kinds = settings.size, (AUTO, *FEATURES)
    _require("size", size, size >= _LEAST_SIZE and size % SIZE_STEP == 0, f"a multiple of 8 from {_LEAST_SIZE}")
    _require("max_enlargement", settings.max_enlargement, settings.max_enlargement >= 1, "1 or more")
    _require("threshold", settings.threshold, 0 < settings.threshold <= 1, "more than 0 and at most 1")
    _require("features", settings.features, settings.features in kinds, f"one of {', '.join(kinds)}")


def _require(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise SettingsError(f"{name} is {value}, expected {expected}. Change the setting.")
