"""The methods that have a name: what each takes from where, as settings that differ from Face2Diffusion's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..constants import CGDR, FEATURES_DREAMIDENTITY, FEATURES_MSID, RECONSTRUCTION
from ..errors import MismatchError, SettingsError

FACE2DIFFUSION, DREAMIDENTITY, DREAMIDENTITY_CGDR = "face2diffusion", "dreamidentity", "dreamidentity+cgdr"


@dataclass(frozen=True)
class Preset:
    """variant, features: of the loss on photos, and of v_id. triplets: whether editing triplets are trained on too.
    settings: of TrainConfig, besides the variant, where they are not the defaults."""

    variant: str
    features: str
    triplets: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    FACE2DIFFUSION: Preset(CGDR, FEATURES_MSID, triplets=False),
    # DreamIdentity 3.2, 3.4 and 4.1. It knows no expression.
    DREAMIDENTITY: Preset(
        RECONSTRUCTION,
        FEATURES_DREAMIDENTITY,
        triplets=True,
        settings={"expression": False, "l2": 1e-4, "learning_rate": 5e-5, "batch": 64, "steps": 60_000},
    ),
    # Both papers at once: Face2Diffusion's encoder and regularised photos, and DreamIdentity's triplets.
    DREAMIDENTITY_CGDR: Preset(CGDR, FEATURES_MSID, triplets=True),
}


def with_preset(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` on top of the settings of the preset of that name; empty: none. Raises SettingsError."""
    if not name:
        return dict(values)
    if name not in PRESETS:
        raise SettingsError(f'There is no preset "{name}"; expected one of: {", ".join(PRESETS)}.')
    return {"variant": PRESETS[name].variant, **PRESETS[name].settings, **values}


def require_data(name: str, features: str, triplets: bool) -> None:
    """Raise MismatchError where data with these features, with or without triplets, is not what the preset needs."""
    preset = PRESETS.get(name)
    if preset is None:
        return
    if preset.features != features:
        raise MismatchError(
            f"The preset {name} takes {preset.features} features, and the photos were prepared with {features} "
            "features. Prepare them with the other kind of encoder, or choose another preset."
        )
    if preset.triplets != triplets:
        found, expected = ("are", "none") if triplets else ("are no", "some")
        raise MismatchError(
            f"There {found} editing triplets; expected {expected} for the preset {name}. Give `triplets`, or leave it "
            "out, or choose another preset."
        )


def method_of(variant: str, features: str, triplets: bool) -> str:
    """What a mapping file says it was made by: a preset's name, or else the variant, and whether with triplets."""
    features = features or FEATURES_MSID
    for name, preset in PRESETS.items():
        if (preset.variant, preset.features, preset.triplets) == (variant, features, triplets):
            return name
    return f"{variant}, {features} features{', with triplets' if triplets else ''}"
