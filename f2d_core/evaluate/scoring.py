"""The scores of every picture: identity against the photo of the face, text against the prompt.

Face2Diffusion 4.1 and appendix E: identity by three face networks, text by CLIP, directional CLIP and SigLIP, and per
picture the harmonic and the geometric mean of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.prepare import SUFFIXES
from ..errors import NoFaceError, SettingsError
from ..ports import ImageTextExtractor, Progress
from .judges import Judges
from .metrics import (
    METRICS,
    clip_scores,
    directional_scores,
    face_similarity,
    geometric_mean,
    harmonic_mean,
    identity_scores,
    siglip_scores,
    text_alignment,
)
from .paper_tables import DREAMIDENTITY, GMEAN, HMEAN
from .plan import REFERENCE, Method, Plan
from .prompts import plain_text
from .reading import Features, Reader
from .work import PICTURES, Photo

IDENTITY_METRICS, TEXT_METRICS = METRICS[:3], METRICS[3:]
# Which networks a metric of the paper is measured with, the first that is there; others get columns of their own.
NETWORKS = {
    "adaface": ("adaface_ir50", "adaface_ir101"),
    "sphereface": ("sphereface",),
    "facenet": ("facenet",),
    "clip": ("clip_h14", "clip_l14"),
    "dclip": ("clip_h14", "clip_l14"),
    "siglip": ("siglip_so400m", "siglip_b16"),
    "text_alignment": ("clip_h14", "clip_l14"),
    "face_similarity": ("arcface",),
}
DREAMIDENTITY_METRICS = ("text_alignment", "face_similarity")  # its 4.1: cosines as they are


@dataclass(frozen=True, eq=False)
class Scores:
    """Of the pictures of one method. paths: (n,) of the pictures; columns: metric -> (n,) float64; found: (n,) bool.

    missing: pictures that should be there and are not.
    """

    method: str
    faces: list[str]
    prompts: list[str]
    groups: list[str]
    numbers: list[int]
    paths: list[Path]
    found: np.ndarray
    columns: dict[str, np.ndarray]
    missing: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def keys(self) -> list[tuple[str, str, int]]:
        """What pictures of different methods are paired by."""
        return list(zip(self.faces, self.prompts, self.numbers, strict=True))

    @property
    def scenes(self) -> list[tuple[str, str]]:
        """(face, prompt) of each picture: what the best of N is chosen within."""
        return list(zip(self.faces, self.prompts, strict=True))


@dataclass(frozen=True)
class Column:
    """A column of scores and the network it is measured with."""

    metric: str
    judge: str  # its name


@dataclass(frozen=True, eq=False)
class _Found:
    """A picture that is there. number: from 0, which seed it has."""

    face: str
    prompt: str
    number: int
    path: Path


def columns_of(judges: Judges, paper: str = "") -> list[Column]:
    """The columns that can be scored: the paper's metrics in its order, then further networks by their kind."""
    there = {judge.kind: judge.name for judge in (*judges.identity, *judges.text)}
    columns, used = [], set()
    for metric in (*(DREAMIDENTITY_METRICS if paper == DREAMIDENTITY else ()), *METRICS):
        kind = next((kind for kind in NETWORKS[metric] if kind in there), None)
        if kind is not None:
            columns.append(Column(metric, there[kind]))
            used.add(kind)
    return [*columns, *(Column(kind, name) for kind, name in there.items() if kind not in used)]


def averaged(columns: Sequence[Column]) -> list[str]:
    """The metrics that hMean and gMean are over: those of the paper's six that are there, of both kinds; else none."""
    names = [column.metric for column in columns if column.metric in METRICS]
    both = any(name in IDENTITY_METRICS for name in names) and any(name in TEXT_METRICS for name in names)
    return names if both else []


def score_method(
    plan: Plan,
    method: Method,
    photos: Sequence[Photo],
    out: Path,
    reader: Reader,
    judges: Judges,
    progress: Progress | None = None,
) -> Scores:
    """The scores of a method's pictures. Raises SettingsError where there are none, ImageError, NoFaceError."""
    found = find_pictures(plan, method, photos, out)
    scored = [item for item in found if item.prompt != REFERENCE]
    if not scored:
        raise SettingsError(
            f'The method "{method.name}" has no pictures in {pictures_folder(plan, method, out)}; expected '
            "FACE/PROMPT/N.png with the names that --list shows."
        )
    features = reader.pictures([item.path for item in found], progress)
    own = {photo.key: i for i, photo in enumerate(photos)}
    photo_features = reader.pictures([photo.path for photo in photos], doubtful=True)
    _require_faces(photos, photo_features, judges)
    at = [i for i, item in enumerate(found) if item.prompt != REFERENCE]
    pictures = features.rows(at)
    of_photo = photo_features.rows([own[item.face] for item in scored])
    columns = _columns(plan, found, scored, features, pictures, of_photo, reader, judges)
    group = {prompt.key: prompt.group for prompt in plan.prompts}
    return Scores(
        method.name,
        [item.face for item in scored],
        [item.prompt for item in scored],
        [group[item.prompt] for item in scored],
        [item.number for item in scored],
        [item.path for item in scored],
        pictures.found,
        columns,
        missing=len(photos) * len(plan.prompts) * plan.pictures - len(scored),
    )


def pictures_folder(plan: Plan, method: Method, out: Path) -> Path:
    return plan.path(method.images) if method.images else out / PICTURES / method.name


def find_pictures(plan: Plan, method: Method, photos: Sequence[Photo], out: Path) -> list[_Found]:
    """The pictures of a method that the plan asks for and that are there, reference pictures included."""
    folder = pictures_folder(plan, method, out)
    if not folder.is_dir():
        raise SettingsError(f'{folder}, the pictures of "{method.name}", is no folder. Check the path.')
    keys = (REFERENCE, *(prompt.key for prompt in plan.prompts))
    files = {(photo.key, key): _numbered(folder / photo.key / key) for photo in photos for key in keys}
    # Other people count from 0 or from 1. One picture that is lacking must not give the others the numbers of their
    # neighbours: the number says which reference picture belongs to a picture.
    first = min((number for own in files.values() for number in own), default=0) if method.images else 0
    return [
        _Found(face, key, number - first, path)
        for (face, key), own in files.items()
        for number, path in own.items()
        if number - first < plan.pictures
    ]


def _numbered(folder: Path) -> dict[int, Path]:
    """Number -> the picture of that name, in the order of the numbers; of 0.jpg and 0.png the first by name."""
    if not folder.is_dir():
        return {}
    files = [p for p in folder.iterdir() if p.stem.isdecimal() and p.suffix.lower() in SUFFIXES]
    numbered: dict[int, Path] = {}
    for path in sorted(files, key=lambda path: (int(path.stem), path.name)):
        numbered.setdefault(int(path.stem), path)
    return numbered


def _require_faces(photos: Sequence[Photo], features: Features, judges: Judges) -> None:
    if judges.identity and not features.found.all():
        names = [photo.path.name for photo, found in zip(photos, features.found, strict=True) if not found]
        raise NoFaceError(
            f"No face was found in {', '.join(names[:5])}: identity cannot be judged. Take other photos for these "
            "faces, or remove them."
        )


def _columns(
    plan: Plan,
    found: Sequence[_Found],
    scored: Sequence[_Found],
    features: Features,
    pictures: Features,
    photos: Features,
    reader: Reader,
    judges: Judges,
) -> dict[str, np.ndarray]:
    texts = _texts(plan, reader, scored)
    kinds = {judge.name: judge for judge in judges.text}
    columns = {}
    for column in columns_of(judges, plan.paper):
        name = column.judge
        if name not in kinds:
            columns[column.metric] = _identity(column, pictures, photos)
        elif column.metric == "dclip":
            columns[column.metric] = _directional(name, found, scored, features, pictures, texts)
        elif column.metric == "text_alignment":
            columns[column.metric] = text_alignment(pictures.text[name], texts[name][0])
        else:
            columns[column.metric] = _text_scores(kinds[name], pictures.text[name], texts[name][0])
    return columns | _means(columns, averaged(columns_of(judges, plan.paper)))


def _identity(column: Column, pictures: Features, photos: Features) -> np.ndarray:
    if not pictures.found.any():  # then it is not even known how wide features are
        return np.zeros(len(pictures.found))
    compare = face_similarity if column.metric == "face_similarity" else identity_scores
    return compare(pictures.identity[column.judge], photos.identity[column.judge], pictures.found)


def _means(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """hMean and gMean of each picture over the named metrics; not a number where one of them is not."""
    if not names:
        return {}
    table = np.stack([columns[name] for name in names], axis=1)
    whole = ~np.isnan(table).any(axis=1)
    means = {HMEAN: np.full(len(table), np.nan), GMEAN: np.full(len(table), np.nan)}
    if whole.any():
        means[HMEAN][whole], means[GMEAN][whole] = harmonic_mean(table[whole]), geometric_mean(table[whole])
    return means


def _texts(plan: Plan, reader: Reader, scored: Sequence[_Found]) -> Mapping[str, tuple[torch.Tensor, torch.Tensor]]:
    """Network -> (features of each picture's prompt (n, d), of the reference text (1, d))."""
    at = {prompt.key: i for i, prompt in enumerate(plan.prompts)}
    rows = reader.texts([*(plain_text(prompt.text) for prompt in plan.prompts), plain_text(plan.reference)])
    which = torch.tensor([at[item.prompt] for item in scored])
    return {name: (table[which], table[-1:]) for name, table in rows.items()}


def _text_scores(judge: ImageTextExtractor, pictures: torch.Tensor, texts: torch.Tensor) -> np.ndarray:
    if judge.logit_bias:
        return siglip_scores(pictures, texts, judge.logit_scale, judge.logit_bias)
    return clip_scores(pictures, texts)


def _directional(
    name: str,
    found: Sequence[_Found],
    scored: Sequence[_Found],
    features: Features,
    pictures: Features,
    texts: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
) -> np.ndarray:
    """dCLIP with the reference picture of the same face and number; not a number where there is none."""
    references = {(item.face, item.number): i for i, item in enumerate(found) if item.prompt == REFERENCE}
    has = np.array([(item.face, item.number) in references for item in scored])
    scores = np.full(len(scored), np.nan)
    if has.any():
        at = torch.as_tensor(np.flatnonzero(has))
        rows = [references[item.face, item.number] for item, there in zip(scored, has, strict=True) if there]
        text, reference = texts[name]
        reference_pictures = features.text[name][torch.tensor(rows)]
        scores[has] = directional_scores(
            pictures.text[name][at], reference_pictures, text[at], reference.expand(len(rows), -1)
        )
    return scores
