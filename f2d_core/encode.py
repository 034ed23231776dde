"""From aligned face crops to S*: the one path shared by the node, the command line and the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .align import expression_input, face_input
from .constants import DEFAULT_MARKER, FEATURES_MSID
from .errors import MismatchError, SettingsError
from .msid import require_features
from .ports import Progress, every
from .prompt import require_marker
from .s_star import SStar

if TYPE_CHECKING:
    from .networks import Network

BATCH = 16  # faces through the encoder at once; more gains nothing and costs memory
COMBINE = ("each", "mean")


@dataclass(frozen=True)
class Crop:
    """One aligned face. pixels: (112, 112, 3) uint8 RGB; image_sha256: of the decoded picture it was cut from."""

    pixels: np.ndarray
    image_sha256: str
    detector: str


@dataclass(frozen=True)
class Expression:
    """Reference expressions. v_exp: (n, 64) fp32. strength: 0 is "no expression", 1 the reference, more exaggerates."""

    v_exp: torch.Tensor
    encoder_sha256: str
    strength: float = 1.0


@dataclass(frozen=True)
class Labels:
    """What the user calls the person, and whether the crop is kept as a picture of them."""

    name: str = ""
    marker: str = DEFAULT_MARKER
    thumbnail: bool = True


def encode_faces(
    crops: Sequence[Crop],
    msid: Network,
    mapping: Network,
    expression: Expression | None = None,
    labels: Labels | None = None,
    combine: str = "each",
    progress: Progress | None = None,
) -> list[SStar]:
    """S* of every crop, or one S* from the mean of their identity features (combine = "mean").

    One crop with n expressions gives n S*; n crops go with one expression or with n.
    Raises MismatchError when encoder, mapping and expression do not fit together, SettingsError, PromptError.
    """
    labels = labels or Labels()
    marker = require_marker(labels.marker)
    if combine not in COMBINE:
        raise SettingsError(f'Unknown way to combine faces "{combine}", expected one of {", ".join(COMBINE)}.')
    check_parts(msid, mapping, expression)
    v_id = identity_features([crop.pixels for crop in crops], msid, progress, mapping.facts["features"])
    if combine == "mean":
        v_id, crops = v_id.mean(dim=0, keepdim=True), [_mean_crop(crops)]
    v_id, v_exp, crops = _pair(v_id, effective_expression(expression, mapping), list(crops))
    words = _finite(mapping.run(v_id, v_exp), mapping)
    provenance = _provenance(msid, mapping, expression)
    return [
        SStar(
            vectors=words[i].clone(),
            v_id=v_id[i].clone(),
            v_exp=None if v_exp is None else v_exp[i].clone(),
            thumbnail=torch.from_numpy(crop.pixels.copy()) if labels.thumbnail else None,
            name=labels.name,
            marker=marker,
            image_sha256=crop.image_sha256,
            detector=crop.detector,
            **provenance,
        )
        for i, crop in enumerate(crops)
    ]


def identity_features(
    crops: Sequence[np.ndarray], msid: Network, progress: Progress | None = None, features: str = FEATURES_MSID
) -> torch.Tensor:
    """(B, n) fp32: v_id of (112, 112, 3) uint8 crops, a few at a time. features: one of constants.FEATURES."""
    batches = [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
    return torch.cat([msid.run(face_input(np.stack(batch)), features) for batch in every(batches, progress)])


def expression_features(crops: Sequence[np.ndarray], recon: Network, progress: Progress | None = None) -> torch.Tensor:
    """(B, 64) fp32: v_exp of (224, 224, 3) uint8 crops, a few at a time."""
    batches = [crops[i : i + BATCH] for i in range(0, len(crops), BATCH)]
    part = recon.module.expression_part
    return torch.cat([recon.run(expression_input(np.stack(batch)))[:, part] for batch in every(batches, progress)])


def check_parts(msid: Network, mapping: Network, expression: Expression | None = None) -> None:
    """Raise MismatchError unless encoder, mapping and expression belong together."""
    features = mapping.facts["features"]
    require_features(msid.module.config, features, msid.title)
    made, needed = msid.module.config.width_of(features), mapping.module.config.id_width
    if made != needed:
        raise MismatchError(
            f"{msid.title} gives {made} identity features, {mapping.title} expects {needed}. "
            "Load the encoder that this mapping was trained with."
        )
    trained_with = mapping.facts["msid_sha256"]
    if trained_with and trained_with != msid.sha256:
        raise MismatchError(
            f"{mapping.title} was trained with another encoder (sha256 {trained_with[:12]}…) than {msid.title} "
            f"({msid.sha256[:12]}…). Load the encoder it was trained with."
        )
    width = mapping.module.config.expression_width
    if expression is not None and expression.v_exp.shape[1] != width:
        advice = "Disconnect the expression" if width == 0 else "Use the matching expression encoder"
        raise MismatchError(
            f"The expression has {expression.v_exp.shape[1]} coefficients, {mapping.title} takes {width}. {advice}."
        )


def effective_expression(expression: Expression | None, mapping: Network) -> torch.Tensor | None:
    """(n, 64): null_exp + strength * (v_exp - null_exp), or None for "no expression"."""
    if expression is None:
        return None
    if expression.strength == 1.0:
        return expression.v_exp
    null_exp = mapping.module.null_exp.detach().to("cpu", torch.float32)
    return null_exp + expression.strength * (expression.v_exp - null_exp)


def _pair(v_id: torch.Tensor, v_exp: torch.Tensor | None, crops: list[Crop]):
    """Broadcast one face against many expressions or the other way round."""
    if v_exp is None or len(v_exp) == len(v_id):
        return v_id, v_exp, crops
    if len(v_id) == 1:
        return v_id.expand(len(v_exp), -1), v_exp, crops * len(v_exp)
    if len(v_exp) == 1:
        return v_id, v_exp.expand(len(v_id), -1), crops
    raise MismatchError(
        f"{len(v_id)} faces and {len(v_exp)} expressions do not pair up. Give one of either, or as many of both."
    )


def _mean_crop(crops: Sequence[Crop]) -> Crop:
    """The record of several photos taken as one person: the first picture shows them, all hashes are kept."""
    hashes = " ".join(dict.fromkeys(crop.image_sha256 for crop in crops))
    detectors = ", ".join(dict.fromkeys(crop.detector for crop in crops))
    return Crop(crops[0].pixels, hashes, detectors)


def _provenance(msid: Network, mapping: Network, expression: Expression | None) -> dict[str, str]:
    """What every S* of these networks has in common."""
    facts = {name: mapping.facts[name] for name in ("injection", "encoder_key", "class_word", "features")}
    return {
        **facts,
        "msid_sha256": msid.sha256,
        "mapping_sha256": mapping.sha256,
        "expression_encoder_sha256": "" if expression is None else expression.encoder_sha256,
        "licence": mapping.licence,
    }


def _finite(words: torch.Tensor, mapping: Network) -> torch.Tensor:
    if not torch.isfinite(words).all():
        raise MismatchError(
            f"{mapping.title} gave word vectors that are not numbers. The weight file is probably damaged: get it "
            "again."
        )
    return words
