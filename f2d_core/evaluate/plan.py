"""An evaluation as a TOML file: which faces, prompts and methods, how many pictures, how they are sampled.

Plans of the papers are shipped (`SHIPPED`) and named on the command line without a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..constants import DEFAULT_MARKER, DEFAULT_TEMPLATE, SAMPLERS
from ..delayed import class_steps
from ..errors import SettingsError
from ..files import safe_stem
from ..ports import Sampling
from ..prompt import find_markers, near_misses
from ..train.settings import parse_toml

SHIPPED = ("face2diffusion", "dreamidentity")
_PLANS = Path(__file__).with_name("plans")
REFERENCE = "_reference"  # the folder of reference pictures, and the key of their prompt
_MOST_PICTURES = 1024  # of one face and prompt


@dataclass(frozen=True)
class Prompt:
    """key: names its folder. text: with the marker S*. group: "job", "location" …, for scores of a group."""

    key: str
    text: str
    group: str


@dataclass(frozen=True)
class Method:
    """One way to make the pictures, or a folder of pictures that were made otherwise.

    subject_steps: the part of the steps that see the person (delayed subject conditioning; 1: all of them). strength:
    of the person, 0 is the class word. msid, mapping: files other than the plan's. images: a folder of ready pictures,
    face/prompt/n.png; the rest does not matter then.
    """

    name: str
    subject_steps: float = 1.0
    strength: float = 1.0
    msid: str = ""
    mapping: str = ""
    images: str = ""


@dataclass(frozen=True)
class Plan:
    """What is evaluated. folder: what its relative paths begin at. paper: whose numbers stand beside ours, or ""."""

    title: str = "Evaluation"
    paper: str = ""
    faces: str = ""  # a folder of photos, one face each
    model: str = ""  # Stable Diffusion 1.x, for diffusers: a folder or a file
    checkpoint: str = ""  # the same, for ComfyUI: its name there; empty: the only one there is
    msid: str = ""
    mapping: str = ""
    pictures: int = 4  # of each face and prompt
    seed: int = 0  # of picture 0; picture n has seed + n, for every face, prompt and method
    negative: str = ""
    reference: str = DEFAULT_TEMPLATE  # the prompt of the reference pictures (dCLIP)
    sampler: str = Sampling.sampler
    steps: int = Sampling.steps
    cfg: float = Sampling.cfg
    width: int = Sampling.width
    height: int = Sampling.height
    run: tuple[str, ...] = ()  # the methods that are run unless others are asked for; none: all
    prompts: tuple[Prompt, ...] = ()
    methods: tuple[Method, ...] = ()
    folder: Path = field(default=Path(), compare=False)

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.sampler, self.steps, self.cfg, self.width, self.height)

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(prompt.group for prompt in self.prompts))

    def path(self, name: str) -> Path:
        """A path of the plan, seen from where the command runs."""
        return self.folder / Path(name).expanduser()

    def method(self, name: str) -> Method:
        """Raises SettingsError for a name that is none."""
        for method in self.methods:
            if method.name == name:
                return method
        names = ", ".join(method.name for method in self.methods)
        raise SettingsError(f'The plan has no method "{name}"; expected one of: {names}.')


def read_plan(source: str | Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan in a file, or the shipped one of that name, with the top-level `changes` on top.

    Raises SettingsError that names the key and shows its line.
    """
    text, name, folder = _text(source)
    values = parse_plan_toml(text, name) | dict(changes or {})
    try:
        return replace(plan_from(values), folder=folder)
    except _Mistake as error:
        raise SettingsError(f"{name}: {error}{_line_of(error.key, text)}") from error


def plan_from(values: Mapping[str, Any]) -> Plan:
    """A plan from the content of its file. Raises SettingsError that names the key."""
    known = {item.name: item.default for item in fields(Plan) if item.name not in ("prompts", "methods", "folder")}
    for key in values:
        if key not in known and key not in ("prompts", "methods"):
            names = ", ".join([*known, "prompts", "methods"])
            raise _Mistake(key, f'There is no key "{key}"; expected one of: {names}.')
    plain = {key: _typed(key, values[key], default) for key, default in known.items() if key in values}
    prompts = _prompts(values.get("prompts", {}))
    methods = _methods(values.get("methods", {"face2diffusion": {}}))
    return _checked(Plan(**plain, prompts=prompts, methods=methods))


def with_images(plan: Plan, name: str, folder: Path) -> Plan:
    """The plan with one more method: the ready pictures in `folder`. Raises SettingsError."""
    if any(method.name == name for method in plan.methods):
        raise SettingsError(f'The plan has a method "{name}" already; expected another name: --images NAME=DIR.')
    method = Method(_key("method", name), images=str(Path(folder).absolute()))
    return replace(plan, methods=(*plan.methods, method), run=(*plan.run, name) if plan.run else ())


def chosen_methods(plan: Plan, names: Sequence[str] = ()) -> list[Method]:
    """The methods asked for; else those of `run`, else all. Raises SettingsError."""
    return [plan.method(name) for name in dict.fromkeys(names or plan.run or [m.name for m in plan.methods])]


def parse_plan_toml(text: str, name: str) -> dict[str, Any]:
    """The content of a plan; a mistake in the TOML is shown with its line. Raises SettingsError."""
    try:
        return parse_toml(text, name)
    except SettingsError as error:
        number = re.search(r"at line (\d+)", str(error))
        lines = text.splitlines()
        shown = lines[int(number[1]) - 1].strip() if number and int(number[1]) <= len(lines) else ""
        hint = f" The line is: {shown}" if shown else ""
        raise SettingsError(
            f"{str(error).split(' Expected lines')[0]} Expected lines such as steps = 30.{hint}"
        ) from error


def _text(source: str | Path) -> tuple[str, str, Path]:
    """(content, what messages call it, folder of its relative paths)"""
    if str(source) in SHIPPED and not Path(source).is_file():  # a folder of that name is this pack, mostly
        name = f"{source}.toml"
        return (_PLANS / name).read_text(encoding="utf-8"), name, Path()
    path = Path(source)
    try:
        return path.read_text(encoding="utf-8"), path.name, path.parent
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"Cannot read the plan {path}: {reason}. Expected a TOML file, or one of: {', '.join(SHIPPED)}."
        ) from error


class _Mistake(SettingsError):
    """A mistake at a key of the plan, so that its line can be shown."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def _line_of(key: str, text: str) -> str:
    """What a message ends with: " Line 3: steps = 0", where a key or table of that name stands; else nothing."""
    name = re.escape(key)
    found = re.search(rf'^[ \t]*(?:"?{name}"?[ \t]*=|\[[^\]\n]*{name}"?[ \t]*\]).*$', text, re.MULTILINE)
    return "" if found is None else f" Line {text.count(chr(10), 0, found.start()) + 1}: {found[0].strip()}"


def _typed(key: str, value: Any, default: Any) -> Any:
    """`value` if it is of the kind of `default`; a whole number may stand for any number."""
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif type(value) is type(default):
        return value
    elif isinstance(default, float) and type(value) is int:
        return float(value)
    kinds = {str: 'text in "quotes"', int: "a whole number", float: "a number", tuple: "a list of names"}
    raise _Mistake(key, f"{key} is {value!r}; expected {kinds[type(default)]}.")


def _key(what: str, name: str) -> str:
    if not name or safe_stem(name) != name or name.startswith(("_", ".")):
        raise _Mistake(
            name,
            f'The {what} "{name}" names a folder and cannot; expected a plain name, for example '
            f'"{safe_stem(name.strip("_. "), what)}".',
        )
    return name


def _prompts(groups: Any) -> tuple[Prompt, ...]:
    """From `[prompts.group]` with `key = "text"`, or `prompts.group = ["text", …]`, whose keys are made of the text."""
    if not isinstance(groups, Mapping):
        raise _Mistake(
            "prompts", '"prompts" is no table; expected [prompts.GROUP] with lines such as chef = "S* as a chef".'
        )
    prompts = []
    for group, entries in groups.items():
        if isinstance(entries, list):
            entries = {_slug(text): text for text in entries}
        if not isinstance(entries, Mapping) or not entries:
            raise _Mistake(
                group, f'The prompts of "{group}" are no table; expected lines such as chef = "S* as a chef".'
            )
        prompts += [Prompt(_key("prompt", key), _prompt_text(key, text), group) for key, text in entries.items()]
    keys = [prompt.key.casefold() for prompt in prompts]  # not all file systems tell capitals apart
    for key in keys:
        if keys.count(key) > 1:
            raise _Mistake(key, f'Two prompts are called "{key}"; expected a name of its own for each.')
    return tuple(prompts)


def _slug(text: Any) -> str:
    words = re.findall(r"\w+", str(text).replace(DEFAULT_MARKER, " "))
    return safe_stem("_".join(words).lower()[:60], "prompt")


def _prompt_text(key: str, text: Any) -> str:
    if isinstance(text, str) and find_markers(text, [DEFAULT_MARKER]):
        return text
    misses = near_misses(text, [DEFAULT_MARKER]) if isinstance(text, str) else []
    hint = f' "{misses[0]}" is spelled differently.' if misses else ""
    raise _Mistake(key, f'The prompt "{key}" is {text!r}; expected text with the marker {DEFAULT_MARKER}.{hint}')


def _methods(tables: Any) -> tuple[Method, ...]:
    if not isinstance(tables, Mapping) or not tables:
        raise _Mistake(
            "methods", '"methods" is no table; expected [methods.NAME] with lines such as subject_steps = 0.8.'
        )
    known = {item.name: item.default for item in fields(Method) if item.name != "name"}
    methods = []
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise _Mistake(name, f'The method "{name}" is {table!r}; expected a table, [methods.{name}].')
        for key in table:
            if key not in known:
                raise _Mistake(key, f'The method "{name}" has no key "{key}"; expected one of: {", ".join(known)}.')
        methods.append(Method(_key("method", name), **{k: _typed(k, v, known[k]) for k, v in table.items()}))
    return tuple(methods)


def _checked(plan: Plan) -> Plan:
    if not plan.prompts:
        raise _Mistake(
            "prompts", 'There are no prompts; expected [prompts.GROUP] with lines such as chef = "S* as a chef".'
        )
    _prompt_text("reference", plan.reference)
    _require("pictures", plan.pictures, 1 <= plan.pictures <= _MOST_PICTURES, f"1 to {_MOST_PICTURES}")
    _require("seed", plan.seed, 0 <= plan.seed <= 2**32 - 1 - _MOST_PICTURES, "0 or more, below 4294966272")
    _require("sampler", plan.sampler, plan.sampler in SAMPLERS, " or ".join(SAMPLERS))
    _require("steps", plan.steps, 1 <= plan.steps <= 1000, "1 to 1000")
    _require("cfg", plan.cfg, 0 < plan.cfg <= 100, "above 0, at most 100")  # NaN is neither
    for key in ("width", "height"):
        side = getattr(plan, key)
        _require(key, side, 16 <= side <= 4096 and side % 8 == 0, "a multiple of 8, from 16 to 4096")
    for method in plan.methods:
        try:
            class_steps(method.subject_steps, plan.steps)
        except SettingsError as error:
            raise _Mistake("subject_steps", str(error)) from error
        _require("strength", method.strength, 0 <= method.strength <= 2, "0 to 2")
    for name in plan.run:
        if name not in [method.name for method in plan.methods]:
            raise _Mistake("run", f'run names "{name}"; expected names of methods.')
    return plan


def _require(key: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise _Mistake(key, f"{key} is {value}; expected {expected}.")
