"""What an evaluation consists of: one item for each picture, its place in the results, and what is still to be made.

OUT/pictures/METHOD/FACE/PROMPT/N.png           the pictures, N from 0
OUT/pictures/METHOD/FACE/_reference/N.png       of the reference prompt, for directional CLIP
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.prepare import SUFFIXES
from ..errors import SettingsError
from ..files import safe_stem, write_atomically
from ..ports import PictureRequest
from ..prompt import Person
from ..weights import file_sha256
from .plan import REFERENCE, Method, Plan, Prompt

PICTURES = "pictures"
SOFTWARE = "Face2Diffusion (generated picture)"


@dataclass(frozen=True)
class Photo:
    """A face of the evaluation. key: names its folder. path: of the photo."""

    key: str
    path: Path


@dataclass(frozen=True)
class Item:
    """One picture: of a face, in a prompt, by a method, with the seed of its number."""

    method: str
    face: str
    prompt: str  # a key of the plan, or REFERENCE
    number: int

    @property
    def place(self) -> Path:
        """Where the picture lies, below the folder of all pictures."""
        return Path(self.method, self.face, self.prompt, f"{self.number}.png")


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `count` equal parts of the work."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items of this part: the same ones whatever is done already, so that parts never overlap."""
        return list(items[self.index :: self.count])


def shard_from(text: str) -> Shard:
    """From "2/8": the second of eight. Raises SettingsError."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError(f"--shard is {text}; expected I/N with I from 1 to N, for example 1/4.")
    return Shard(int(found[1]) - 1, int(found[2]))


def find_photos(folder: str | Path) -> list[Photo]:
    """The photos in `folder`, by name; the name without ending is the face's key. Raises SettingsError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; expected one with a photo of each face. Give --faces FOLDER.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise SettingsError(
            f"There is no photo in {folder}; expected one of each face ({', '.join(sorted(SUFFIXES))})."
        )
    photos = {}
    for path in paths:
        key = safe_stem(path.stem, "face").lstrip("_") or "face"
        if key.casefold() in photos:
            other = photos[key.casefold()].path.name
            raise SettingsError(f"{other} and {path.name} have the same name; expected one photo of each face.")
        photos[key.casefold()] = Photo(key, path)
    return list(photos.values())


def all_items(plan: Plan, methods: Sequence[Method], photos: Sequence[Photo]) -> list[Item]:
    """Every picture of the methods, one face after the other, the reference pictures of a face first."""
    keys = [REFERENCE, *(prompt.key for prompt in plan.prompts)]
    return [
        Item(method.name, photo.key, key, number)
        for method in methods
        for photo in photos
        for key in keys
        for number in range(plan.pictures)
    ]


def pending(items: Sequence[Item], folder: Path) -> list[Item]:
    """The items whose pictures are not there; one listing for each folder, not one look for each picture."""
    there: dict[Path, set[str]] = {}
    missing = []
    for item in items:
        place = (folder / item.place).parent
        if place not in there:
            there[place] = {path.name for path in place.iterdir()} if place.is_dir() else set()
        if item.place.name not in there[place]:
            missing.append(item)
    return missing


def prompt_of(plan: Plan, key: str) -> Prompt:
    if key == REFERENCE:
        return Prompt(REFERENCE, plan.reference, "")
    return next(prompt for prompt in plan.prompts if prompt.key == key)


def request_of(plan: Plan, item: Item, people: Sequence[Person]) -> PictureRequest:
    """What a `ports.PictureMaker` is asked for."""
    return PictureRequest(
        prompt=prompt_of(plan, item.prompt).text,
        seed=plan.seed + item.number,
        people=tuple(people),
        negative=plan.negative,
        subject_steps=plan.method(item.method).subject_steps,
    )


def record_of(plan: Plan, item: Item, model: str) -> dict[str, str]:
    """What a picture says of itself."""
    method = plan.method(item.method)
    return {
        "Software": SOFTWARE,
        "prompt": prompt_of(plan, item.prompt).text,
        "negative prompt": plan.negative,
        "seed": str(plan.seed + item.number),
        "steps": f"{plan.steps}, {plan.sampler}",
        "guidance": f"{plan.cfg:g}",
        "model": model,
        "face": item.face,
        "method": item.method,
        "subject steps": f"{method.subject_steps:g}",
        "strength": f"{method.strength:g}",
    }


def save_picture(path: Path, rgb: np.ndarray, record: Mapping[str, str]) -> Path:
    """Write (H, W, 3) uint8 as a PNG with `record` as its texts, whole or not at all. Raises OutputError."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in record.items():
        info.add_itxt(key, value)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return write_atomically(path, lambda temporary: picture.save(temporary, format="PNG", pnginfo=info))


def remove_rests(folder: Path) -> None:
    """Take away what killed runs left half-written. Only when no other process works in the folder."""
    for path in rests(folder):
        path.unlink(missing_ok=True)


def rests(folder: Path) -> Iterator[Path]:
    """Half-written pictures below `folder`."""
    return folder.rglob(".*.part")


def faces_facts(photos: Sequence[Photo]) -> dict[str, str]:
    """Face key -> SHA-256 of its photo file."""
    return {photo.key: file_sha256(photo.path) for photo in photos}
