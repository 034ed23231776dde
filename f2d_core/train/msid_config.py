"""All settings of a run that trains an identity encoder, and which may change when it is continued."""

from __future__ import annotations

from dataclasses import dataclass

from ..constants import AUTO, FACE_CROP_SIZE_PX, MSID_HEAD_WIDTH
from ..msid import MSIDConfig
from .arcface import MARGINS
from .settings import check_types, require

CONCAT, SUM, DEEPEST = "concat", "sum", "deepest"
LOSSES = (CONCAT, SUM, DEEPEST)
PRECISIONS = (AUTO, "fp32", "bf16")
LICENCE = "not stated by its maker; most face data sets allow research only"

FREE = {
    *("checkpoint_every", "keep_last", "keep_every", "tensorboard", "licence", "workers", "verify_every"),
    "stuck_loss",
}


@dataclass(frozen=True)
class MSIDTrainConfig:
    """The settings of a run; the defaults are Face2Diffusion's (3.2, 4.1) where it gives them, else those of
    InsightFace's recipes for vision transformers. Raises SettingsError.

    micro_batch is the batch of the batch norms too, so it decides about the result: 64 or more is good.
    """

    loss: str = CONCAT  # one head on all levels (Eq. 3); "sum": a head for each; "deepest": plain ArcFace
    margin_kind: str = "arcface"  # or "cosface"
    margin: float = 0.0  # 0: 0.5 (radians) for arcface, 0.4 for cosface
    margin_exact: bool = False  # the true derivative of the margin, instead of InsightFace's
    scale: float = 64.0
    class_rate: float = 1.0  # the part of all classes that a step's softmax is over
    image_size: int = FACE_CROP_SIZE_PX  # px
    patch: int = 8  # px
    width: int = 384  # a multiple of 32, the width of a head
    depth: int = 12
    mlp: int = 4  # times the width
    levels: int = 4  # evenly over the depth: after blocks 3, 6, 9 and 12
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.1  # none on norms, biases, class token and positions
    grad_clip: float = 5.0
    warm_up: float = 0.1  # of all steps: learning rate and margin grow
    batch: int = 1024
    micro_batch: int = 256  # samples per pass and process
    epochs: int = 30
    steps: int = 0  # 0: as many as `epochs` take
    seed: int = 0
    flip: bool = True
    resize: bool = False  # square pictures of another size are scaled, instead of refused
    precision: str = AUTO  # of the blocks: bf16 on a GPU, else fp32; level norms and loss are always fp32
    deterministic: bool = False  # bit-identical repeats where the device can
    stuck_loss: float = 18.0  # above it one epoch after the warm-up, the run stops; 0: never
    verify_every: int = 1  # epochs; 0: never
    workers: int = 4  # threads that decode pictures
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_every: int = 0  # 0: none besides the last
    tensorboard: bool = False
    licence: str = LICENCE  # of the encoder file

    def __post_init__(self):
        check_types(self)
        _check_ranges(self)

    @property
    def network(self) -> MSIDConfig:
        heads = self.width // MSID_HEAD_WIDTH
        ends = tuple(self.depth * (i + 1) // self.levels - 1 for i in range(self.levels))
        levels = ends[-1:] if self.loss == DEEPEST else ends
        return MSIDConfig(self.image_size, self.patch, self.width, self.depth, heads, self.mlp * self.width, levels)

    @property
    def margin_size(self) -> float:
        return self.margin or MARGINS[self.margin_kind]

    @property
    def warm_up_steps(self) -> int:
        return round(self.steps * self.warm_up)


def _check_ranges(config: MSIDTrainConfig) -> None:
    one_of = {"loss": LOSSES, "margin_kind": tuple(MARGINS), "precision": PRECISIONS}
    for name, choices in one_of.items():
        require(config, name, getattr(config, name) in choices, f"one of {', '.join(choices)}")
    for name in ("patch", "mlp", "levels", "batch", "epochs", "checkpoint_every", "keep_last", "workers"):
        require(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("steps", "keep_every", "verify_every", "seed", "weight_decay", "margin", "stuck_loss"):
        require(config, name, getattr(config, name) >= 0, "0 or more")
    for name in ("learning_rate", "grad_clip", "scale"):
        require(config, name, getattr(config, name) > 0, "above 0")
    for name in ("beta1", "beta2", "warm_up"):
        require(config, name, 0 <= getattr(config, name) < 1, "0 or more and below 1")
    require(config, "class_rate", 0 < config.class_rate <= 1, "above 0 and at most 1")
    require(config, "seed", config.seed < 2**63, "below 2^63")
    require(config, "micro_batch", config.micro_batch >= 2, "at least 2, for the batch norms")
    require(config, "width", config.width >= 32 and config.width % MSID_HEAD_WIDTH == 0, "a multiple of 32")
    require(config, "levels", config.levels <= config.depth, f"at most depth, {config.depth}")
    fits = config.image_size >= config.patch and config.image_size % config.patch == 0
    require(config, "image_size", fits, f"a multiple of patch, {config.patch}")
