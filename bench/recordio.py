"""How fast face crops come out of a RecordIO file, on one core.

    python bench/recordio.py [--pictures 20000]

A synthetic set in InsightFace's form (112 px JPEGs of noise, about as large as real crops) is written to a temporary
folder and read in random order: raw records, then decoded pictures. The file stays in the machine's cache, so this is
the cost of the reader and the decoder, not of a disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script, run without installing anything

from f2d_core.data.identities import Identities, open_identities  # noqa: E402
from f2d_core.data.recordio import RecordSource  # noqa: E402
from tests.support.identities import encoded, faces, insightface_set, write_records  # noqa: E402

PER_PERSON, SIDE, REPEATS = 50, 112, 5
RAW_GOAL, DECODED_GOAL = 50_000, 2_000
DECODED = 2_000  # pictures per repeat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000, help="in the file (default %(default)s)")
    pictures = parser.parse_args().pictures // PER_PERSON * PER_PERSON
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(write(Path(folder), pictures), pictures)


def write(folder: Path, pictures: int) -> Path:
    """A file of `pictures`, of which 200 differ."""
    different = [encoded(picture, "JPEG") for picture in faces(4, PER_PERSON, side=SIDE)]
    repeated = (different * (pictures // len(different) + 1))[:pictures]
    return write_records(folder / "train.rec", insightface_set(repeated, PER_PERSON))


def measure(path: Path, pictures: int) -> None:
    start = time.perf_counter()
    source = RecordSource(path)
    opened = time.perf_counter() - start
    size = path.stat().st_size / pictures
    print(f"{pictures} pictures of {size:.0f} bytes, opened in {opened:.2f} s; medians of {REPEATS}, one core")
    order = np.random.RandomState(0).permutation(pictures)
    data: Identities = open_identities(path)
    raw = rate(lambda: [source.encoded(index) for index in order], pictures)
    decoded = rate(lambda: data.pictures(order[:DECODED]), min(DECODED, pictures))
    verdict("raw records per second", raw, RAW_GOAL)
    verdict("decoded pictures per second", decoded, DECODED_GOAL)


def rate(work: Callable[[], object], count: int) -> float:
    """Pieces per processor second, which other work on the machine does not change much."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return count / statistics.median(seconds[1:])


def verdict(what: str, value: float, goal: float) -> None:
    print(f"{'ok     ' if value >= goal else 'MISSED '} {what}: {value:,.0f} (goal {goal:,})")


if __name__ == "__main__":
    main()
