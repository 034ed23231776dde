"""Settings of any kind of run: frozen dataclasses, from and to TOML, checked, compared."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from ..constants import AUTO
from ..errors import MissingPackageError, SettingsError

Settings = TypeVar("Settings")


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """`values` with "key=value" pairs on top; a value is written as in TOML, text also without quotes."""
    merged = dict(values)
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator or not key.strip():
            raise SettingsError(f'--set {item} is no setting; expected key=value, for example "batch=16".')
        merged[key.strip()] = _value(text.strip())
    return merged


def settings_from(kind: type[Settings], values: Mapping[str, Any], others: Collection[str] = ()) -> Settings:
    """The settings named in `values`, the defaults for the rest. SettingsError for a name that is none.

    others: what the same file may name besides; the message lists them too.
    """
    known = {field.name for field in fields(kind)}
    for name in values:
        if name not in known:
            listed = ", ".join(sorted({*known, *others}))
            raise SettingsError(f'There is no setting "{name}"; expected one of: {listed}.')
    # 1 stands for 1.0, as people write it.
    floats = {field.name for field in fields(kind) if isinstance(field.default, float)}
    return kind(**{name: float(v) if name in floats and type(v) is int else v for name, v in values.items()})


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file. Raises SettingsError, and MissingPackageError on Python 3.10 without tomli."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"Cannot read {path}: {reason}. Expected TOML: check the path.") from error
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


def as_values(config: Any) -> dict[str, Any]:
    return asdict(config)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str]) -> list[str]:
    """What differs and is not free to, as "name: before -> now"."""
    names = [name for name in {**before, **now} if name not in free and before.get(name) != now.get(name)]
    return [f"{name}: {_shown(before.get(name))} -> {_shown(now.get(name))}" for name in names]


def check_types(config: Any) -> None:
    """SettingsError for a value of another type than the default's; a micro_batch that is "auto" may be a number."""
    for field in fields(config):
        value, default = getattr(config, field.name), field.default
        automatic = field.name == "micro_batch" and default == AUTO
        fits = value == AUTO or type(value) is int if automatic else type(value) is type(default)
        if not fits:
            expected = "a whole number or auto" if automatic else f"something like {default!r}"
            raise SettingsError(f"{field.name} is {value!r}, expected {expected}. Change the setting.")


def require(config: Any, name: str, fits: bool, expected: str) -> None:
    """SettingsError unless the setting `name` `fits` and is finite."""
    value = getattr(config, name)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise SettingsError(f"{name} is {value}, expected {expected}. Change the setting.")


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
