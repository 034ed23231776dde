"""How many pictures of invented people the renderer draws in a second, on one core.

    python bench/render.py [--repeats 7] [--size 64 128 256] [--batch 256]

The people and situations are drawn beforehand; what is timed is `render`: scene, people, landmarks, masks, captions.
Figures are medians, in processor seconds, so that other work on the machine counts little. The goal is for 64 px.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is read

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script, run without installing anything

from f2d_core.miniature.people import sample_identities  # noqa: E402
from f2d_core.miniature.render import SIZE, render, render_together  # noqa: E402
from f2d_core.miniature.situations import sample_situations, side_by_side  # noqa: E402

GOAL = 500  # pictures of 64 px a second


def main() -> None:
    options = parse()
    people = sample_identities(0, options.batch), sample_identities(1, options.batch)
    situations = sample_situations(0, options.batch), sample_situations(1, options.batch)
    pairs = side_by_side(*situations)
    for size in options.size:
        alone = rate(lambda size=size: render(people[0], situations[0], size), options)
        together = rate(lambda size=size: render_together(people, pairs, size), options)
        verdict = f"  (goal {GOAL}: {'met' if alone >= GOAL else 'missed'})" if size == SIZE else ""
        print(f"{size:4} px  one person {alone:7.0f} pictures/s   two people {together:7.0f} pictures/s{verdict}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="of every measurement (default %(default)s)")
    parser.add_argument("--size", type=int, nargs="+", default=[64, 128, 256], help="px (default %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="pictures per call (default %(default)s)")
    return parser.parse_args()


def rate(call, options: argparse.Namespace) -> float:
    """Pictures per processor second; the first call warms up."""
    times = [seconds(call) for _ in range(options.repeats + 1)][1:]
    return options.batch / statistics.median(times)


def seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
