"""All settings of a run that trains a mapping network, and which may change when it is continued."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..constants import (
    AUTO,
    CGDR,
    CHUNK_TOKENS,
    DEFAULT_CLASS_WORD,
    DEFAULT_MARKER,
    DEFAULT_TEMPLATE,
    ERRORS,
    INJECTION_TOKEN,
    INJECTIONS,
    L2_KINDS,
    L2_NORM,
    MAPPING_DROPOUT,
    MASK_EDGES,
    OF_NOISE,
    PRECISIONS,
    VARIANTS,
)
from ..errors import SettingsError
from ..prompt import find_markers, replace_markers, require_marker
from .settings import check_types, require, settings_from

LICENCE = "not stated by its maker; mappings of the published encoder are non-commercial (CC BY-NC-SA 4.0)"

# What decides nothing about the result of a given step: free to change when a run is continued.
FREE = {
    *("steps", "micro_batch", "gradient_checkpointing", "checkpoint_every", "keep_last", "keep_every"),
    *("preview_every", "preview_faces", "preview_steps", "validate_every", "tensorboard", "licence"),
}

# Settings that older runs do not name: not written down where they are at their defaults, so that those go on.
_LATER = ("aug_ratio", "l2", "l2_kind", "error")


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; the defaults are Face2Diffusion's (sections 3.3, 3.4, 4.1) where the paper gives them.

    words and hidden sizes are those of `start_from` when a mapping is trained further. Raises SettingsError.
    """

    variant: str = CGDR
    expression: bool = True  # False: a mapping of the identity alone
    expression_drop: float = 0.2  # how often null_exp takes the place of v_exp
    words: int = 2
    hidden: int = 1536
    layers: int = 2
    injection: str = INJECTION_TOKEN
    template: str = DEFAULT_TEMPLATE
    marker: str = DEFAULT_MARKER  # of S* in the template
    class_word: str = DEFAULT_CLASS_WORD
    mask_edge: str = "soft"  # "hard": the mask is 1 from one half upwards, else 0
    start_from: str = ""  # a mapping file to train further
    aug_ratio: float = 0.0  # share of editing triplets among the samples; 0: with the photos as one set
    l2: float = 0.0  # weight of the penalty on word vectors (DreamIdentity, Eq. 5: 1e-4)
    l2_kind: str = L2_NORM
    error: str = OF_NOISE  # or "velocity", for models that predict it: the same error, over the share of the picture
    learning_rate: float = 1e-5
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-2  # none on null_exp and biases
    grad_clip: float = 1.0
    dropout: float = MAPPING_DROPOUT
    ema: float = 0.9999  # of the copy beside the weights
    batch: int = 32
    steps: int = 100_000
    seed: int = 0
    flip: bool = True
    hold_out: int = 0  # images at the end of the data set that are only validated on
    precision: str = AUTO  # of the denoiser
    micro_batch: int | str = AUTO  # samples per gradient pass
    gradient_checkpointing: bool = False
    deterministic: bool = False  # bit-identical repeats where the device can
    checkpoint_every: int = 1000
    keep_last: int = 3
    keep_every: int = 10_000  # 0: none besides the last
    validate_every: int = 1000  # 0: never
    validation_images: int = 8
    validation_timesteps: int = 4
    preview_every: int = 2000  # 0: never
    preview_faces: int = 4
    preview_steps: int = 20
    tensorboard: bool = False
    licence: str = LICENCE  # of the mapping file

    def __post_init__(self):
        check_types(self)
        _check_ranges(self)
        require_marker(self.marker)
        if not find_markers(self.template, [self.marker]):
            raise SettingsError(
                f'The template "{self.template}" has no "{self.marker}", the place of S*; expected it as a word.'
            )

    @property
    def class_prompt(self) -> str:
        """The template with the class word in the place of S*."""
        return replace_markers(self.template, find_markers(self.template, [self.marker]), [self.class_word])


def config_from(values: Mapping[str, Any], others: Collection[str] = ()) -> TrainConfig:
    """The settings named in `values`, the defaults for the rest. SettingsError for a name that is none; see
    `settings_from` for others."""
    return settings_from(TrainConfig, values, others)


def recorded(config: TrainConfig) -> dict[str, Any]:
    """The settings as a run keeps them."""
    defaults = {field.name: field.default for field in fields(config)}
    return {k: value for k, value in asdict(config).items() if k not in _LATER or value != defaults[k]}


def with_sizes(config: TrainConfig, words: int, hidden: int, layers: int) -> TrainConfig:
    """`config` with the sizes of a given mapping network."""
    return replace(config, words=words, hidden=hidden, layers=layers)


def _check_ranges(config: TrainConfig) -> None:
    one_of = {"variant": VARIANTS, "injection": INJECTIONS, "mask_edge": MASK_EDGES, "precision": PRECISIONS}
    one_of |= {"l2_kind": L2_KINDS, "error": ERRORS}
    for name, choices in one_of.items():
        require(config, name, getattr(config, name) in choices, f"one of {', '.join(choices)}")
    for name in ("hidden", "layers", "batch", "steps", "checkpoint_every", "keep_last"):
        require(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("validation_images", "validation_timesteps", "preview_faces", "preview_steps"):
        require(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("seed", "hold_out", "keep_every", "validate_every", "preview_every", "weight_decay", "l2"):
        require(config, name, getattr(config, name) >= 0, "0 or more")
    for name in ("expression_drop", "dropout", "beta1", "beta2", "ema"):
        require(config, name, 0 <= getattr(config, name) < 1, "0 or more and below 1")
    require(config, "aug_ratio", 0 <= config.aug_ratio <= 1, "0 to 1")
    for name in ("learning_rate", "grad_clip"):
        require(config, name, getattr(config, name) > 0, "above 0")
    require(config, "words", 1 <= config.words <= CHUNK_TOKENS - 2, f"1 to {CHUNK_TOKENS - 2}")
    require(config, "seed", config.seed < 2**63, "below 2^63")
    require(config, "micro_batch", config.micro_batch == AUTO or config.micro_batch >= 1, "auto or at least 1")
