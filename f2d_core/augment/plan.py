"""Every picture of a data set, before any is made: its prompt, its seed and its place in the folder.

A picture's seed and place depend on its own name, prompt and number alone, so a longer list changes no picture that is
there already, and processes that share the work make the same ones.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..constants import DEFAULT_MARKER
from ..errors import PromptError, SettingsError
from ..prompt import find_markers, replace_markers
from .settings import AugmentSettings
from .texts import NAME

FACES, EDITED = "faces", "edited"
_MOST_PROMPT = 300  # letters
_SLUG_LETTERS = 40
_WEIGHTS = re.compile(r"[()\\]")


@dataclass(frozen=True)
class FaceJob:
    """A source picture: `name` looking at the camera. path: of its face crop, in the folder."""

    name: str
    slug: str
    number: int
    prompt: str
    seed: int

    @property
    def path(self) -> str:
        return f"{FACES}/{self.slug}.png"


@dataclass(frozen=True)
class EditJob:
    """An edited picture. prompt: with S*, to train on. request: with the name, to make the picture from."""

    face: FaceJob
    prompt_index: int
    number: int
    prompt: str
    request: str
    seed: int

    @property
    def path(self) -> str:
        return f"{EDITED}/{self.face.slug}/{self.prompt_index}_{self.number}.png"


@dataclass(frozen=True)
class Shard:
    """This process's share of the source faces, with all their edits: every `count`-th one."""

    index: int = 0
    count: int = 1

    def __post_init__(self):
        if not 0 <= self.index < self.count:
            raise SettingsError(
                f"The shard is {self.index} of {self.count}: expected a number from 0 to the count less one. Change it."
            )

    def of(self, jobs: Sequence[FaceJob]) -> Sequence[FaceJob]:
        return jobs[self.index :: self.count]


def face_jobs(names: Sequence[str], settings: AugmentSettings) -> list[FaceJob]:
    """Source pictures in the order of the list; the first face of every name, then the second of every name, …"""
    return [_face_job(name, number, settings) for number in range(settings.faces_per_name) for name in names]


def _face_job(name: str, number: int, settings: AugmentSettings) -> FaceJob:
    prompt = settings.face_prompt.replace(NAME, name)
    return FaceJob(name, f"{slug(name)}_{number}", number, prompt, _seed(settings.seed, "face", name, number))


def edit_jobs(face: FaceJob, prompts: Sequence[str], settings: AugmentSettings) -> list[EditJob]:
    """All edits of a source face, prompt by prompt."""
    return [
        EditJob(
            face,
            i,
            number,
            prompt,
            with_subject(prompt, face.name),
            _seed(settings.seed, "edit", face.name, face.number, prompt, number),
        )
        for i, prompt in enumerate(prompts)
        for number in range(settings.edits_per_prompt)
    ]


def with_subject(prompt: str, subject: str) -> str:
    """The prompt with `subject` for every S*."""
    return replace_markers(prompt, find_markers(prompt, [DEFAULT_MARKER]), [subject])


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, each once. Raises PromptError for one that S* cannot be trained with, SettingsError for none."""
    prompts = tuple(dict.fromkeys(" ".join(prompt.split()) for prompt in prompts if prompt.strip()))
    for prompt in prompts:
        if not find_markers(prompt, [DEFAULT_MARKER]) or len(prompt) > _MOST_PROMPT or _WEIGHTS.search(prompt):
            raise PromptError(
                f'The editing prompt "{prompt[:100]}" cannot be used: expected {DEFAULT_MARKER} as a word of its own, '
                f"no parentheses and at most {_MOST_PROMPT} letters, for example {DEFAULT_MARKER} as a chef. Mend it."
            )
    if not prompts:
        raise SettingsError("There is no editing prompt: expected at least one, for example S* as a chef. Add one.")
    return prompts


def slug(name: str) -> str:
    """A file name for a person, the same on every system: small Latin letters, and a hash that tells names apart."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    letters = re.sub(r"[^a-z0-9]+", "-", plain)[:_SLUG_LETTERS].strip("-") or "name"
    return f"{letters}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _seed(*parts: object) -> int:
    """0 to 2**32 - 1."""
    text = "\n".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
