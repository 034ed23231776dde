"""Pictures of people in prompts, many at a time, and what the judges say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..align import align_expression, align_face, similarity_transform
from ..backends.diffusers import DiffusersTextEncoder, generate_together, load_pipeline
from ..backends.diffusers_training import PRECISIONS
from ..delayed import class_prompt, class_steps
from ..detect import DEFAULT_THRESHOLD
from ..encode import Crop, Expression, Labels, encode_faces, expression_features
from ..errors import ImageError
from ..evaluate.metrics import clip_scores, geometric_mean, harmonic_mean, identity_scores
from ..evaluate.prompts import plain_text
from ..image import rgb_sha256
from ..networks import Network
from ..ports import Progress
from ..prompt import Person
from ..s_star import SStar
from .captions import CHOICE_PROMPTS, PROMPTS, situation_for
from .job import precision
from .judging import Judging
from .people import Identities, sample_identities
from .photos import PhotoSet
from .render import render

STEPS, GUIDANCE = 20, 2.5  # guidance: the best of 1.5, 2.5 and 3.5 on faces and prompts of no table
_TOGETHER = 20  # pictures in a batch
_OTHERS_SEED, CHARACTERS, _VIEWS = 4800, 100, 4  # whom a face is told from, and how many pictures show each


@dataclass(frozen=True)
class Request:
    """One picture. people: with the marker of each in the prompt. subject_steps: see `ports.PictureRequest`."""

    prompt: str
    people: tuple[SStar, ...]
    seed: int
    subject_steps: float = 1.0


def quick_pipeline(model: Path) -> Any:
    """The base model, in what this machine is quick in. Raises F2DError."""
    return load_pipeline(model, dtype=PRECISIONS[precision()])


def draw(pipe: Any, requests: Sequence[Request], progress: Progress | None = None) -> np.ndarray:
    """(n, 64, 64, 3) uint8. Raises F2DError."""
    encoder, pictures = DiffusersTextEncoder(pipe.text_encoder, pipe.tokenizer), []
    for start in range(0, len(requests), _TOGETHER):
        part = requests[start : start + _TOGETHER]
        people = [[Person(s_star) for s_star in request.people] for request in part]
        early = class_steps(part[0].subject_steps, STEPS)
        pictures += generate_together(
            pipe,
            [encoder.encode(request.prompt, who) for request, who in zip(part, people, strict=True)],
            [request.seed for request in part],
            steps=STEPS,
            cfg=GUIDANCE,
            early=[encoder.encode(class_prompt(r.prompt, who)) for r, who in zip(part, people, strict=True)],
            early_steps=early,
        )
        if progress is not None:
            progress(min(start + _TOGETHER, len(requests)), len(requests))
    return np.stack([np.asarray(picture) for picture in pictures])


def encode_photos(photos: PhotoSet, msid: Network, mapping: Network, v_exp: torch.Tensor | None = None) -> list[SStar]:
    """S* of each photo. v_exp: (n, …) an expression for each, or None."""
    drawn = photos.rendered
    expression = None if v_exp is None else Expression(v_exp, "")
    crops = [
        Crop(align_face(rgb, points), rgb_sha256(rgb), "renderer")
        for rgb, points in zip(drawn.pixels, drawn.points, strict=True)
    ]
    return encode_faces(crops, msid, mapping, expression, labels=Labels(thumbnail=False))


def expressions_of(photos: PhotoSet, recon: Network) -> torch.Tensor:
    """(n, …): v_exp of each photo."""
    drawn = photos.rendered
    pairs = zip(drawn.pixels, drawn.points, strict=True)
    return expression_features([align_expression(rgb, points) for rgb, points in pairs], recon)


@dataclass(frozen=True, eq=False)
class Characters:
    """CHARACTERS people, those of a photo set first, as the judge of likeness knows them. features: (n, d); reference:
    of the photos themselves, (faces, d)."""

    features: torch.Tensor
    reference: torch.Tensor


def characters(photos: PhotoSet, judging: Judging) -> Characters:
    """The people of the photos among others, each by the mean over some pictures."""
    others = sample_identities(_OTHERS_SEED, CHARACTERS - photos.count)
    people = Identities(
        np.concatenate([photos.people.traits, others.traits]), np.concatenate([photos.people.styles, others.styles])
    )
    views = PhotoSet(_OTHERS_SEED, CHARACTERS * _VIEWS, calm=True).situations
    drawn = render(people.take(np.repeat(np.arange(CHARACTERS), _VIEWS)), views)
    rows = judging.likeness.features(list(drawn.pixels), list(drawn.points)).reshape(CHARACTERS, _VIEWS, -1)
    own = photos.rendered
    return Characters(
        torch.nn.functional.normalize(rows.mean(dim=1), dim=1),
        judging.likeness.features(list(own.pixels), list(own.points)),
    )


@dataclass(frozen=True, eq=False)
class Judged:
    """Of n pictures. columns: identity, text, hmean, gmean, found, nearest (the right one of CHARACTERS), prompt (the
    right one of those it is told from): (n,) float64. geometry: (n, 14), pose and expression as the judge of geometry
    sees them, NaN without a face."""

    columns: dict[str, np.ndarray]
    geometry: np.ndarray = field(default_factory=lambda: np.empty((0, 14)))


def judge(
    pictures: np.ndarray,
    faces: Sequence[int],
    prompts: Sequence[int],
    known: Characters,
    judging: Judging,
    choices: bool = False,
) -> Judged:
    """What the judges say of pictures of face faces[i] in PROMPTS[prompts[i]] (choices: of CHOICE_PROMPTS)."""
    points = [largest_face(judging, rgb) for rgb in pictures]
    found = np.array([face is not None for face in points])
    at = np.flatnonzero(found)
    features = torch.zeros(len(pictures), known.features.shape[1])
    geometry = np.full((len(pictures), 14), np.nan)
    if len(at):
        seen, places = [pictures[i] for i in at], [points[i] for i in at]
        features[at] = judging.likeness.features(seen, places)
        geometry[at] = judging.geometry.measure(seen, places)
    identity = identity_scores(features, known.reference[list(faces)], found)
    texts = judging.reader.text_features([plain_text(prompt) for prompt in (CHOICE_PROMPTS if choices else PROMPTS)])
    images = judging.reader.image_features(list(pictures))
    text = clip_scores(images, texts[list(prompts)])
    both = np.stack([identity, text], axis=1)
    columns = {
        "identity": identity,
        "text": text,
        "hmean": harmonic_mean(both),
        "gmean": geometric_mean(both),
        "found": found.astype(float),
        "nearest": (found & ((features @ known.features.T).argmax(1).numpy() == np.array(faces))).astype(float),
        "prompt": ((images @ texts.T).argmax(1).numpy() == np.array(prompts)).astype(float),
    }
    return Judged(columns, geometry)


def largest_face(judging: Judging, rgb: np.ndarray) -> np.ndarray | None:
    """(5, 2) px, or None: what the judge of faces finds. Points that cannot be aligned count as no face."""
    found = judging.finder.detect(rgb, DEFAULT_THRESHOLD)
    if not found:
        return None
    points = max(found, key=lambda face: face.box[2] - face.box[0]).points
    try:
        similarity_transform(points)
    except ImageError:
        return None
    return points


def true_pictures(
    photos: PhotoSet, faces: Sequence[int], prompts: Sequence[int], seed: int, choices: bool = False
) -> np.ndarray:
    """(n, 64, 64, 3): what the pictures should look like: renders of the same people in the situations of PROMPTS
    (choices: of CHOICE_PROMPTS)."""
    rows = []
    for i, (face, prompt) in enumerate(zip(faces, prompts, strict=True)):
        rows.append(render(photos.people.take([face]), situation_for(prompt, 1, seed, i, choices)).pixels)
    return np.concatenate(rows)
