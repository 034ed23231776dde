"""How many pictures are scored per second, in batches and one at a time, and that nothing is done twice.

    python bench/evaluate.py [--pictures 12] [--rounds 3] [--photo FILE] [--detector-weights FILE]

Judges of the published sizes (AdaFace IR-50, SphereFace-20a, FaceNet, and a ViT for CLIP, which is not at hand here),
with pseudo-random weights, score pictures of 512 x 512 px on the CPU and, where there is one, on the GPU. Contenders
take turns within one process. Pictures per second are those of the fastest round; a ratio is the median of the ratios
within each round, above 1 for faster in batches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script: it runs without anything of ours being installed

from f2d_core.cli.demo import portrait  # noqa: E402
from f2d_core.detect import Face  # noqa: E402
from f2d_core.detectors import build_detector  # noqa: E402
from f2d_core.errors import F2DError  # noqa: E402
from f2d_core.evaluate.extractors import load_identity_extractor  # noqa: E402
from f2d_core.evaluate.extractors.adaface import AdaFace  # noqa: E402
from f2d_core.evaluate.extractors.facenet import FaceNet  # noqa: E402
from f2d_core.evaluate.extractors.sphereface import SphereFace  # noqa: E402
from f2d_core.evaluate.features import FeatureCache  # noqa: E402
from f2d_core.evaluate.judges import Judges  # noqa: E402
from f2d_core.evaluate.plan import plan_from  # noqa: E402
from f2d_core.evaluate.reading import BATCH, Reader  # noqa: E402
from f2d_core.evaluate.scoring import score_method  # noqa: E402
from f2d_core.evaluate.work import find_photos  # noqa: E402
from f2d_core.image import read_image, scaled, write_png  # noqa: E402
from f2d_core.msid import MSIDConfig, MSIDEncoder  # noqa: E402
from f2d_core.state_dict import expected_shapes  # noqa: E402
from f2d_core.testing import filled  # noqa: E402
from f2d_core.weights import write_safetensors  # noqa: E402

IR50 = (
    [(64, 64)] * 3 + [(64, 128)] + [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 13 + [(256, 512)] + [(512, 512)] * 2
)
NETWORKS = {"adaface": lambda: AdaFace(IR50, 512), "sphereface": SphereFace, "facenet": FaceNet}
GOALS = {"cpu": 1.0, "cuda": 3.0}  # in batches, times one at a time
SLACK = 0.05  # of a ratio of times
PROMPTS = {"job": {f"p{i}": f"S* number {i}" for i in range(4)}}


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        world = write_world(Path(folder), options)
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(world.paths)} pictures of 512 x 512 px"
        )
        print(f"faces: {world.detector.name}")
        missed = []
        for device in GOALS if torch.cuda.is_available() else ["cpu"]:
            judges = load(Path(folder), device)
            nothing_twice(world, judges, Path(folder) / f"features {device}")
            missed += speed(world, judges, device, options.rounds)
    if missed:
        sys.exit(f"goals missed: {', '.join(missed)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=12, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--photo", type=Path, help="default: the portrait that scikit-image ships")
    yunet = REPO.parent / "shared" / "assets" / "yunet_n_640_640.onnx"
    parser.add_argument("--detector-weights", type=Path, default=yunet, help="of YuNet")
    return parser.parse_args()


@dataclass(frozen=True)
class World:
    """A plan, its folder, its pictures, and what finds faces in them."""

    folder: Path
    paths: list[Path]
    detector: object


class FixedFace:
    """A face in the middle of every picture, where no detector is at hand."""

    name = "none (fixed points)"

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        points = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]])
        return [Face((0.0, 0.0, *rgb.shape[1::-1]), points * rgb.shape[1::-1], 0.9)]


def write_world(folder: Path, options: argparse.Namespace) -> World:
    """Pictures that show a face, each with noise of its own, as PNG; two networks never see the same one."""
    rgb = scaled(read_image(options.photo or portrait()), 512, 512)
    write_png(folder / "faces" / "one.png", rgb)
    paths = []
    for i in range(options.pictures):
        noise = np.random.RandomState(i).randint(-8, 9, rgb.shape)
        place = folder / "pictures" / "a" / "one" / f"p{i % 4}"
        paths.append(write_png(place / f"{i // 4}.png", np.clip(rgb + noise, 0, 255).astype(np.uint8)))
    for name, network in NETWORKS.items():
        write_safetensors(folder / f"{name}.safetensors", filled(expected_shapes(network), seed=0))
    try:
        detector = build_detector("yunet", options.detector_weights)
    except F2DError:
        detector = FixedFace()
    return World(folder, paths, detector)


class TextJudge:
    """A ViT in the place of CLIP: reading, resizing and batching as for the real one, less arithmetic."""

    kind, name, sha256, logit_scale, logit_bias, batch = "clip_h14", "ViT in the place of CLIP", "0" * 64, 100.0, 0.0, 8

    def __init__(self, device: str):
        self.device, self.texts = device, 0
        self.network = MSIDEncoder(MSIDConfig(112, 8, 384, 12, 12, 1536, (2, 5, 8, 11))).to(device).eval()
        if device != "cpu":
            self.batch = 64

    @torch.inference_mode()
    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        small = np.stack([scaled(rgb, 112, 112) for rgb in pictures])
        pixels = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts = [self.network(pixels[i : i + self.batch].to(self.device)) for i in range(0, len(pixels), self.batch)]
        return torch.nn.functional.normalize(torch.cat(parts), dim=1).cpu()

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts += len(texts)
        rows = [torch.randn(1536, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def load(folder: Path, device: str) -> Judges:
    identity = tuple(load_identity_extractor(folder / f"{name}.safetensors", device) for name in NETWORKS)
    return Judges(identity, (TextJudge(device),))


def nothing_twice(world: World, judges: Judges, features: Path) -> None:
    """Score twice, and once more in a process that only has the files: each picture and text is worked on once."""
    plan = plan_from({"pictures": 999, "methods": {"a": {}}, "prompts": PROMPTS})
    photos = find_photos(world.folder / "faces")
    reader = Reader(FeatureCache(features), judges, world.detector)
    texts = judges.text[0].texts
    for _ in range(2):
        score_method(plan, plan.method("a"), photos, world.folder, reader, judges)
    later = Reader(FeatureCache(features), judges, world.detector)
    score_method(plan, plan.method("a"), photos, world.folder, later, judges)
    expected = len(world.paths) + len(photos)
    counts = dict(reader.counts)
    print(
        f"\n{expected} pictures scored three times: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
    )
    read = judges.text[0].texts - texts
    print(f"  texts read: {read} of {len(plan.prompts) + 1}; the last time: {dict(later.counts) or 'nothing'}")
    once = [counts["decoded"], counts["searched"], *(n for name, n in counts.items() if "text" not in name)]
    if set(once) != {expected} or later.counts or read != len(plan.prompts) + 1:
        sys.exit("something was done twice, or not at all")


def speed(world: World, judges: Judges, device: str, rounds: int) -> list[str]:
    """Pictures per second from the file on, then of the networks alone -> the goals that the networks miss."""
    single = Judges(tuple(replace(judge, batch=1) for judge in judges.identity), judges.text)
    decoded = [read_image(path) for path in world.paths]
    missed = []
    for what, pictures in (("from the file on", None), ("networks alone", decoded)):
        run = {1: contender(world, single, 1, pictures), BATCH: contender(world, judges, BATCH, pictures)}
        times: dict[int, list[float]] = {size: [] for size in run}
        for _ in range(rounds + 1):  # the first round warms up
            for size, work in run.items():
                times[size].append(timed(work))
        one, many = times[1][1:], times[BATCH][1:]
        ratio = statistics.median(a / b for a, b in zip(one, many, strict=True))
        rates = [len(world.paths) / min(seconds) for seconds in (many, one)]  # of the round least disturbed
        print(f"  {device}, {what}: {rates[0]:.1f} pictures/s in batches, {rates[1]:.1f} one at a time: {ratio:.2f}x")
        if pictures is not None and ratio < GOALS[device] - SLACK:
            missed.append(f"{device} {ratio:.2f}x of {GOALS[device]:g}x")
    return missed


def contender(world: World, judges: Judges, size: int, pictures: list[np.ndarray] | None) -> Callable[[], object]:
    """Everything from the file on, or, with decoded pictures, the networks alone; `size` pictures at a time."""
    if pictures is None:
        return lambda: Reader(FeatureCache(None), judges, world.detector, batch=size).pictures(world.paths)
    points = FixedFace().detect(pictures[0], 0.5)[0].points

    def networks() -> None:
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            for judge in judges.identity:
                judge.features(part, [points] * len(part))
            for judge in judges.text:
                judge.image_features(part)

    return networks


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
