"""Making the judges from nothing, and the two helpers of the method that do a judge's work while it is trained.

A judge and its helper have other channels, other first weights and other pictures: what judges is used in no training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..align import align_face
from ..train.randomness import CHOICES, generator
from ..train.run import carry_out
from ..weights import file_sha256, read_tensors, write_safetensors
from .convnet import Pooled
from .degrade import degraded
from .finder import Finder, FinderLesson, FinderNet
from .job import Lesson, ModuleJob, Settings, load_result, seeded
from .judges import (
    CROP_PX,
    Geometry,
    GeometryLesson,
    Likeness,
    LikenessLesson,
    LikenessNet,
    Reader,
    ReaderLesson,
    ReaderNet,
    upright_square,
)
from .people import sample_identities
from .pictures import PictureSet
from .render import Rendered, render, render_scenes
from .situations import EXPRESSION, sample_situations
from .watching import Tell, watching

PEOPLE = 800  # that the judge of likeness learns to tell apart
NOBODY = 0.2  # how many of a finder's pictures show no face
_SEARCHED_PX = 0.6  # how far a point that was searched for is off, along a side (of the judge of faces: 0.3 to 1.1)
_BLOCK_PX = 16  # of pictures whose parts are in disorder
SCALES = np.array([15.0, 8.0, 8.0, *[0.5] * len(EXPRESSION)])  # of yaw, pitch, roll, and the coefficients
_JUDGE_CHANNELS, _HELPER_CHANNELS = (32, 64, 96, 128), (24, 48, 80, 112)
_GEOMETRY_CHANNELS = (24, 48, 64, 96)

FINDER, LIKENESS, READER, GEOMETRY = "finder", "likeness", "reader", "geometry"
HELPER_FINDER, HELPER_READER = "helper-finder", "helper-reader"
SETTINGS = {
    FINDER: Settings(steps=700, batch=32, learning_rate=2e-3, seed=31, checkpoint_every=200),
    LIKENESS: Settings(steps=2400, batch=48, learning_rate=2e-3, seed=32, checkpoint_every=200),
    READER: Settings(steps=1600, batch=64, learning_rate=1.5e-3, seed=33, checkpoint_every=200),
    GEOMETRY: Settings(steps=700, batch=32, learning_rate=2e-3, seed=34, checkpoint_every=200),
    HELPER_FINDER: Settings(steps=500, batch=32, learning_rate=2e-3, seed=35, checkpoint_every=200),
    HELPER_READER: Settings(steps=500, batch=64, learning_rate=1.5e-3, seed=36, checkpoint_every=200),
}
JUDGES, HELPERS = (FINDER, GEOMETRY, READER, LIKENESS), (HELPER_FINDER, HELPER_READER)  # the quickest first
PEOPLE_KEY = "people"  # of the judge of likeness: whom it was taught with, which is not kept


@dataclass(frozen=True)
class Judging:
    """The judges."""

    finder: Finder
    likeness: Likeness
    reader: Reader
    geometry: Geometry


@dataclass(frozen=True)
class Helpers:
    """What finds faces and reads texts while editing data is made."""

    finder: Finder
    reader: Reader


def make_judge(name: str, work: Path, out: Path, tokenizer: Any, tell: Tell) -> Path:
    """Train one of JUDGES or HELPERS in `work` as far as it is not done, and write its file, in fp16, to `out`."""
    settings, (net, lesson) = SETTINGS[name], _built(name, tokenizer)
    carry_out(lambda: ModuleJob(lesson, settings), work / name, watcher=watching(tell(name)))
    load_result(lesson.modules, work / name)
    kept = {key: value for key, value in net.state_dict().items() if key != PEOPLE_KEY}
    halves = {key: value.half() for key, value in kept.items()}
    return write_safetensors(out / f"{name}.safetensors", halves, {"judge": name, "steps": settings.steps})


def load_judges(folder: Path, tokenizer: Any) -> Judging:
    """The four judges that `make_judge` wrote. Raises WeightsError."""
    return Judging(
        Finder(_loaded(FINDER, folder, tokenizer)),
        Likeness(_loaded(LIKENESS, folder, tokenizer), _sha(folder, LIKENESS)),
        Reader(_loaded(READER, folder, tokenizer), tokenizer, _sha(folder, READER)),
        Geometry(_loaded(GEOMETRY, folder, tokenizer), SCALES),
    )


def load_helpers(folder: Path, tokenizer: Any) -> Helpers:
    """The two helpers that `make_judge` wrote. Raises WeightsError."""
    reader = _loaded(HELPER_READER, folder, tokenizer)
    return Helpers(
        Finder(_loaded(HELPER_FINDER, folder, tokenizer), "miniature helper finder"),
        Reader(reader, tokenizer, _sha(folder, HELPER_READER), "miniature helper reader"),
    )


def _sha(folder: Path, name: str) -> str:
    return file_sha256(folder / f"{name}.safetensors")


def _loaded(name: str, folder: Path, tokenizer: Any) -> torch.nn.Module:
    net = _net(name, tokenizer)
    values = {key: value.float() for key, value in read_tensors(folder / f"{name}.safetensors")[0].items()}
    net.load_state_dict({**{key: value for key, value in net.state_dict().items() if key == PEOPLE_KEY}, **values})
    return net.requires_grad_(False).eval()


def _net(name: str, tokenizer: Any) -> torch.nn.Module:
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        FINDER: lambda: FinderNet(_JUDGE_CHANNELS),
        HELPER_FINDER: lambda: FinderNet(_HELPER_CHANNELS),
        LIKENESS: lambda: LikenessNet(PEOPLE),
        READER: lambda: ReaderNet(len(tokenizer), tokenizer.eos_token_id, _JUDGE_CHANNELS),
        HELPER_READER: lambda: ReaderNet(len(tokenizer), tokenizer.eos_token_id, _HELPER_CHANNELS),
        GEOMETRY: lambda: Pooled(_GEOMETRY_CHANNELS, CROP_PX, len(SCALES)),
    }
    return seeded(makers[name], SETTINGS[name].seed)


def _built(name: str, tokenizer: Any) -> tuple[torch.nn.Module, Lesson]:
    net, settings = _net(name, tokenizer), SETTINGS[name]
    seed, batch = settings.seed, settings.batch
    lessons: dict[str, Callable[[], Lesson]] = {
        LIKENESS: lambda: LikenessLesson(net, partial(_faces_of_people, seed), batch),
        GEOMETRY: lambda: GeometryLesson(net, partial(_measured_faces, seed), SCALES, batch),
    }
    for kind in (FINDER, HELPER_FINDER):
        lessons[kind] = lambda: FinderLesson(net, partial(_marked, seed), batch)
    for kind in (READER, HELPER_READER):
        lessons[kind] = lambda: ReaderLesson(net, partial(_captioned, seed), tokenizer, batch)
    return net, lessons[name]()


# --- what they are shown: pictures well drawn or not, as a model draws them, and faces that had to be searched for ---


def _faces_of_people(seed: int, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Every picture of its own situation, of one of PEOPLE people."""
    randoms = [generator(seed, CHOICES, n) for n in numbers]
    labels = np.array([int(random.integers(PEOPLE)) for random in randoms])
    drawn = render(sample_identities(seed, PEOPLE).take(labels), _situations(seed, numbers))
    return np.stack([align_face(rgb, face, CROP_PX) for rgb, face in _searched(drawn, randoms)]), labels


def _measured_faces(seed: int, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    drawn = render(sample_identities(seed, len(numbers), numbers[0]), _situations(seed, numbers))
    randoms = [_quality(seed, n) for n in numbers]
    crops = [upright_square(rgb, face) for rgb, face in _searched(drawn, randoms)]
    return np.stack(crops), np.concatenate([drawn.pose[:, :3], drawn.expression], axis=1)


def _searched(drawn: Rendered, randoms: Sequence[np.random.Generator]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(picture, points) each, the picture degraded and the points not quite exact."""
    for rgb, points, random in zip(drawn.pixels, drawn.points, randoms, strict=True):
        yield degraded(rgb, random), points + random.normal(0, _SEARCHED_PX, points.shape)


def _quality(seed: int, number: int) -> np.random.Generator:
    return generator(seed, CHOICES, number, 8)


def _situations(seed: int, numbers: Sequence[int]) -> Any:
    return sample_situations(seed, len(numbers), numbers[0])


def _captioned(seed: int, numbers: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    pictures = PictureSet(seed, famous=False, looks=False)
    return pictures.pictures(_range(numbers)), pictures.captions(_range(numbers))


def _marked(seed: int, numbers: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pictures with one face or two; some with none: empty scenes, and pictures whose blocks are in disorder."""
    drawn = PictureSet(seed, famous=False).render(_range(numbers))
    pixels = drawn.pixels.copy()
    points = [face[~np.isnan(face[:, 0, 0])] for face in drawn.points]
    empty = render_scenes(sample_identities(seed, len(numbers), numbers[0]), _situations(seed, numbers))
    for i, number in enumerate(numbers):
        random = generator(seed, CHOICES, number, 9)
        if random.random() < NOBODY:
            points[i] = np.empty((0, 5, 2))
            pixels[i] = empty[i] if random.random() < 0.5 else _in_disorder(pixels[i], random)
        pixels[i] = degraded(pixels[i], _quality(seed, number))
    return pixels, points


def _in_disorder(rgb: np.ndarray, random: np.random.Generator) -> np.ndarray:
    cells = rgb.shape[0] // _BLOCK_PX
    blocks = rgb.reshape(cells, _BLOCK_PX, cells, _BLOCK_PX, 3).swapaxes(1, 2).reshape(-1, _BLOCK_PX, _BLOCK_PX, 3)
    mixed = blocks[random.permutation(len(blocks))].reshape(cells, cells, _BLOCK_PX, _BLOCK_PX, 3)
    return mixed.swapaxes(1, 2).reshape(rgb.shape)


def _range(numbers: Sequence[int]) -> range:
    return range(numbers[0], numbers[-1] + 1)
