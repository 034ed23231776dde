"""All settings of a training run, from and to TOML, and what may change when a run is continued."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..constants import (
    AUTO,
    CGDR,
    CHUNK_TOKENS,
    DEFAULT_CLASS_WORD,
    DEFAULT_MARKER,
    DEFAULT_TEMPLATE,
    INJECTION_TOKEN,
    INJECTIONS,
    MAPPING_DROPOUT,
    MASK_EDGES,
    PRECISIONS,
    VARIANTS,
)
from ..errors import MissingPackageError, SettingsError
from ..prompt import find_markers, replace_markers, require_marker

LICENCE = "not stated by its maker; mappings of the published encoder are non-commercial (CC BY-NC-SA 4.0)"

# What decides nothing about the result of a given step: free to change when a run is continued.
FREE = {
    *("steps", "micro_batch", "gradient_checkpointing", "checkpoint_every", "keep_last", "keep_every"),
    *("preview_every", "preview_faces", "preview_steps", "validate_every", "tensorboard", "licence"),
}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; the defaults are the paper's (sections 3.3, 3.4, 4.1) where it gives them.

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
        _check_types(self)
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


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`values` with "key=value" pairs on top; a value is written as in TOML, text also without quotes."""
    merged = dict(values)
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator or not key.strip():
            raise SettingsError(f'--set {item} is no setting; expected key=value, for example "batch=16".')
        merged[key.strip()] = _value(text.strip())
    return merged


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """The settings named in `values`, the defaults for the rest. SettingsError for a name that is none."""
    known = {field.name for field in fields(TrainConfig)}
    for name in values:
        if name not in known:
            raise SettingsError(f'There is no setting "{name}"; expected one of: {", ".join(sorted(known))}.')
    # 1 stands for 1.0, as people write it.
    floats = {field.name for field in fields(TrainConfig) if isinstance(field.default, float)}
    return TrainConfig(**{name: float(v) if name in floats and type(v) is int else v for name, v in values.items()})


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file. Raises SettingsError, and MissingPackageError on Python 3.10 without tomli."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read {path}: {error}. Expected TOML: check the path.") from error
    return parse_toml(text, path.name)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The content of TOML text; `name` is what a message calls it."""
    toml = _toml_reader()
    try:
        return toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SettingsError(f"{name} is not TOML: {error}. Expected lines such as batch = 32.") from error


def to_toml(values: Mapping[str, Any]) -> str:
    """Text, whole numbers, numbers and truth values as TOML lines."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items())


def as_values(config: TrainConfig) -> dict[str, Any]:
    return asdict(config)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs and may not, as "name: before -> now"."""
    names = [name for name in {**before, **now} if name not in FREE and before.get(name) != now.get(name)]
    return [f"{name}: {_shown(before.get(name))} -> {_shown(now.get(name))}" for name in names]


def with_sizes(config: TrainConfig, words: int, hidden: int, layers: int) -> TrainConfig:
    """`config` with the sizes of a given mapping network."""
    return replace(config, words=words, hidden=hidden, layers=layers)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _value(text: str) -> Any:
    """A number or truth value if it reads as one, else the text itself."""
    try:
        return _toml_reader().loads(f"x = {text}")["x"]
    except ValueError:  # TOMLDecodeError is one
        return text


def _toml_reader() -> Any:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingPackageError(
        "Reading TOML on Python 3.10 needs the package tomli, which is not installed: pip install tomli. "
        "Training inside ComfyUI works without it."
    )


def _check_types(config: TrainConfig) -> None:
    for field in fields(config):
        value, default = getattr(config, field.name), field.default
        if field.name == "micro_batch":
            fits = value == AUTO or type(value) is int
        else:
            fits = type(value) is type(default)
        if not fits:
            expected = "a whole number or auto" if field.name == "micro_batch" else f"something like {default!r}"
            raise SettingsError(f"{field.name} is {value!r}, expected {expected}. Change the setting.")


def _check_ranges(config: TrainConfig) -> None:
    one_of = {"variant": VARIANTS, "injection": INJECTIONS, "mask_edge": MASK_EDGES, "precision": PRECISIONS}
    for name, choices in one_of.items():
        _require(config, name, getattr(config, name) in choices, f"one of {', '.join(choices)}")
    for name in ("hidden", "layers", "batch", "steps", "checkpoint_every", "keep_last"):
        _require(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("validation_images", "validation_timesteps", "preview_faces", "preview_steps"):
        _require(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("seed", "hold_out", "keep_every", "validate_every", "preview_every", "weight_decay"):
        _require(config, name, getattr(config, name) >= 0, "0 or more")
    for name in ("expression_drop", "dropout", "beta1", "beta2", "ema"):
        _require(config, name, 0 <= getattr(config, name) < 1, "0 or more and below 1")
    for name in ("learning_rate", "grad_clip"):
        _require(config, name, getattr(config, name) > 0, "above 0")
    _require(config, "words", 1 <= config.words <= CHUNK_TOKENS - 2, f"1 to {CHUNK_TOKENS - 2}")
    _require(config, "seed", config.seed < 2**63, "below 2^63")
    _require(config, "micro_batch", config.micro_batch == AUTO or config.micro_batch >= 1, "auto or at least 1")


def _require(config: TrainConfig, name: str, fits: bool, expected: str) -> None:
    value = getattr(config, name)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise SettingsError(f"{name} is {value}, expected {expected}. Change the setting.")
