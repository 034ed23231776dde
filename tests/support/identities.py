"""Small sets of people: pictures in memory, and writers of the files that sets come in."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from f2d_core.data.identities import Identities
from f2d_core.data.recordio import MAGIC
from f2d_core.train import MSIDTrainConfig

SIDE = 16
# Of the small encoder: the batch norm of the last level takes this bias out again, so its gradient is rounding alone,
# which AdamW makes as large as any other.
WITHOUT_GRADIENT = "blocks.3.mlp.fc2.bias"
_MAGIC = struct.pack("<I", MAGIC)


def faces(people: int, each: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """(people * each, side, side, 3) uint8: a pattern of colours per person, with other light and noise each time."""
    random = np.random.RandomState(seed)
    patterns = np.kron(random.uniform(0, 255, (people, 1, 4, 4, 3)), np.ones((1, 1, side // 4, side // 4, 1)))
    light = random.uniform(0.7, 1.2, (people, each, 1, 1, 1))
    noise = random.normal(0, 12, (people, each, side, side, 3))
    return (patterns * light + noise).clip(0, 255).astype(np.uint8).reshape(-1, side, side, 3)


class MemoryIdentities(Identities):
    """Pictures as they stand."""

    def __init__(self, people: int = 5, each: int = 8, seed: int = 0, side: int = SIDE):
        self._faces = faces(people, each, seed, side)
        self.labels = np.repeat(np.arange(people), each)
        self.people, self.side = people, side
        self.fingerprint, self.title = f"memory {people} {each} {seed}", "memory"

    def picture(self, index: int) -> np.ndarray:
        return self._faces[index]


def config(**changes) -> MSIDTrainConfig:
    """A very small encoder, a few steps."""
    small = {
        **{"image_size": SIDE, "patch": 8, "width": 32, "depth": 4, "mlp": 2, "batch": 12, "micro_batch": 4},
        **{"steps": 10, "scale": 16.0, "margin": 0.2, "seed": 3, "workers": 1, "learning_rate": 3e-3},
    }
    return MSIDTrainConfig(**{**small, **changes})


def encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, quality=95)
    return stream.getvalue()


def write_folders(root: Path, people: int = 3, each: int = 4, side: int = SIDE) -> np.ndarray:
    """One folder per person; the pictures (n, side, side, 3) in order."""
    pictures = faces(people, each, side=side)
    for i, picture in enumerate(pictures):
        folder = root / f"person {i // each:02} ü"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i % each}.png").write_bytes(encoded(picture))
    return pictures


def record(payload: bytes) -> bytes:
    """One record, split at the magic numbers that its payload has at multiples of 4 bytes."""
    cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at : at + 4] == _MAGIC]
    starts, ends = [0, *(at + 4 for at in cuts)], [*cuts, len(payload)]
    parts = [payload[start:end] for start, end in zip(starts, ends, strict=True)]
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    words = [struct.pack("<II", MAGIC, flag << 29 | len(part)) for flag, part in zip(flags, parts, strict=True)]
    return b"".join(word + part + b"\0" * (-len(part) % 4) for word, part in zip(words, parts, strict=True))


def labelled(data: bytes, *labels: float) -> bytes:
    """A payload: header, labels, picture."""
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], 0, 0) + data
    return struct.pack("<IfQQ", len(labels), 0, 0, 0) + struct.pack(f"<{len(labels)}f", *labels) + data


def write_records(path: Path, payloads: list[bytes], index: bool = True) -> Path:
    """A .rec file of these payloads under the keys 0, 1, …, and its .idx."""
    records = [record(payload) for payload in payloads]
    offsets = [0, *itertools.accumulate(len(content) for content in records)]
    path.write_bytes(b"".join(records))
    lines = [f"{key}\t{offset}\n" for key, offset in enumerate(offsets[:-1])]
    if index:
        path.with_suffix(".idx").write_text("".join(lines))
    return path


def insightface_set(pictures: list[bytes], each: int) -> list[bytes]:
    """Payloads as InsightFace arranges them: a header, the pictures from key 1, the people."""
    people = len(pictures) // each
    first = len(pictures) + 1
    found = [labelled(b"", first, first + people)]
    found += [labelled(picture, i // each) for i, picture in enumerate(pictures)]
    return found + [labelled(b"", 1 + i * each, 1 + (i + 1) * each) for i in range(people)]
