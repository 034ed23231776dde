"""OUT/manifest.json: what the pictures there were made with, so that no two kinds of them are ever mixed up.

A plan may grow (more faces, prompts, methods, pictures); what is there already must stay what it is.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files import write_atomically
from .plan import REFERENCE, Method, Plan
from .work import PICTURES

FILE = "manifest.json"
FORMAT, VERSION = "f2d-evaluation", 1
_SHOWN = 8  # differences


def facts_of(
    plan: Plan,
    methods: Sequence[Method],
    faces: Mapping[str, str],
    model: str | None = None,
    networks: Mapping[str, Mapping[str, str]] | None = None,
    detector: str | None = None,
) -> dict[str, Any]:
    """Everything that decides how a picture looks. networks: method -> hashes of its encoder and mapping. detector:
    what finds the face that S* is made of.

    Model, networks and detector are left out where they are not known because nothing is to be made.
    """
    sampling = {
        name: getattr(plan, name) for name in ("sampler", "steps", "cfg", "width", "height", "negative", "seed")
    }
    known = {name: value for name, value in (("model", model), ("detector", detector)) if value is not None}
    return {
        "settings": {**known, **sampling},
        "faces": dict(faces),
        "prompts": {REFERENCE: plan.reference, **{prompt.key: prompt.text for prompt in plan.prompts}},
        "methods": {
            method.name: {
                "subject_steps": method.subject_steps,
                "strength": method.strength,
                **(networks[method.name] if networks is not None else {}),
            }
            for method in methods
            if not method.images
        },
    }


def check(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says, without faces and prompts that have no pictures yet: those may still change.

    Raises SettingsError, with a list of the differences, where pictures were made otherwise.
    """
    before = _with_pictures(_read(Path(folder) / FILE), Path(folder) / PICTURES)
    found = differences(before, facts)
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise SettingsError(
            f"The pictures in {folder} were made with other settings: {'; '.join(found[:_SHOWN])}{more}. "
            "Go on with the old settings, or choose another --out."
        )
    return before


def keep(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest, together with what it said before of other faces, prompts and methods.

    Raises what `check` does, and OutputError.
    """
    path = Path(folder) / FILE
    before = check(folder, facts)
    merged = {part: _merged(before.get(part, {}), facts[part]) for part in facts}
    if merged != {part: before.get(part) for part in facts}:
        content = json.dumps({"format": FORMAT, "version": VERSION, **merged}, ensure_ascii=False, indent=1)
        write_atomically(path, lambda temporary: temporary.write_text(content + "\n", encoding="utf-8"))


def _with_pictures(known: dict[str, Any], pictures: Path) -> dict[str, Any]:
    """A photo in which no face was found is replaced, and a prompt that was refused: nothing was made of them."""
    places = {"faces": "*/{}/*/*.png", "prompts": "*/*/{}/*.png"}
    made = {
        part: {key: value for key, value in known[part].items() if _any(pictures, pattern.format(glob.escape(key)))}
        for part, pattern in places.items()
        if part in known
    }
    return {**known, **made}


def _any(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def _merged(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What is known now on top of what was known before, method by method too."""
    both = {**before}
    for key, value in now.items():
        known = before.get(key)
        both[key] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What both know and say differently, as "face anna: 1 -> 2"."""
    found = []
    for part in now:
        known = before.get(part, {})
        label = "" if part == "settings" else f"{part.removesuffix('s')} "
        for key, value in now[part].items():
            if key in known:
                found += _pairs(f"{label}{key}", known[key], value)
    return found


def _pairs(name: str, before: Any, now: Any) -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [key for key in now if key in before and before[key] != now[key]]
        return [f"{name} {key}: {_shown(before[key])} -> {_shown(now[key])}" for key in keys]
    return [f"{name}: {_shown(before)} -> {_shown(now)}"] if before != now else []


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}); expected what an earlier run wrote. Choose another --out."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise SettingsError(
            f"{path} is not the manifest of an evaluation of this version; expected an empty folder or an "
            "evaluation's. Choose another --out."
        )
    return content
