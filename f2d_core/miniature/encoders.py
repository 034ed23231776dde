"""The encoders of the miniature world, by the ordinary trainer: MSID, plain ArcFace, and one that learns no faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..data.identities import open_identities
from ..evaluate.verification import verify_levels
from ..networks import load_network
from ..train import MSIDTrainConfig, train_msid
from ..train.msid_config import CONCAT, DEEPEST
from .identity_set import DoingSet, IdentitySet, write_identity_set
from .job import precision
from .render import SIZE
from .watching import Tell, watching

MSID, PLAIN, GENERAL = "msid", "plain", "general"
SIDE_PX = 112
_SETTINGS = MSIDTrainConfig(
    image_size=SIDE_PX,
    patch=16,
    width=96,
    depth=4,
    scale=32.0,
    margin=0.3,
    batch=64,
    micro_batch=64,
    steps=3000,
    verify_every=0,
    workers=1,
    checkpoint_every=200,
    keep_last=1,
    licence="free: made of invented people",
)
_PEOPLE = IdentitySet(seed=4300, people=1500, pictures=16, side=SIDE_PX, drawn_px=SIZE, photographed=True)
_DOING = DoingSet(seed=4301, pictures=40, side=SIDE_PX, drawn_px=SIZE)
_HELD_OUT = IdentitySet(seed=4302, people=200, pictures=8, side=SIDE_PX, drawn_px=SIZE)


def make_encoder(kind: str, seed: int, work: Path, tell: Tell) -> Path:
    """Train an encoder of that kind in `work` as far as it is not done. The file. Raises F2DError."""
    wanted = _DOING if kind == GENERAL else _PEOPLE
    pictures = write_identity_set(wanted, work / ("doing" if kind == GENERAL else "people"), tell("crops"))
    config = settings(kind, seed)
    told = watching(tell(f"encoder {kind} {seed}")).progress
    return train_msid(open_identities(pictures, SIDE_PX), config, work / f"{kind}-{seed}", progress=told).encoder


def settings(kind: str, seed: int) -> MSIDTrainConfig:
    """What that encoder is trained with on this machine."""
    return replace(_SETTINGS, loss=CONCAT if kind == MSID else DEEPEST, seed=seed, precision=precision())


def level_auc(encoder: Path, work: Path, tell: Tell) -> dict[int, float]:
    """Layer, counted from 1 -> pair AUC in percent on people the encoders have not seen (Face2Diffusion, Fig. 4)."""
    pictures = write_identity_set(_HELD_OUT, work / "held-out", tell("crops"))
    levels = verify_levels(load_network(encoder, "msid").module, open_identities(pictures, SIDE_PX))
    return {layer: 100 * value for layer, value in levels.auc.items()}
