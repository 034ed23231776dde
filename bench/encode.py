"""How fast a face becomes S*, next to the same networks written plainly (bench/plain.py).

    python bench/encode.py

Everything that is compared runs in turn within one process, with the same weights (pseudo-random, of the published
sizes), inputs and number of threads, in fp32 and in inference mode; the figures are medians. A ratio above 1 means
faster than plain.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainEncoder, PlainMapping, PlainMSID

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script, run without installing anything

from f2d_core.mapping import build_mapping  # noqa: E402
from f2d_core.msid import build_msid  # noqa: E402
from f2d_core.packed import pack_for_cpu  # noqa: E402
from f2d_core.testing import filled  # noqa: E402

Encode = Callable[[torch.Tensor], torch.Tensor]
TOLERANCE = 5e-5


def main() -> None:
    options = parse()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; crop -> S*, milliseconds, medians")
    weights = [state_dict(network, options.seed) for network in (PlainMSID(), PlainMapping())]
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with torch.inference_mode():
        for device in devices:
            contenders = {"plain": PlainEncoder(*weights).to(device), "core": core(*weights, device)}
            for batch, repeats in ((1, options.repeats), (16, max(3, options.repeats // 6))):
                faces = torch.rand(batch, 3, 112, 112, generator=torch.Generator().manual_seed(options.seed)) * 2 - 1
                compare(f"{device}, batch {batch}", contenders, faces.to(device), repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60, help="of every measurement at batch 1 (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the faces")
    return parser.parse_args()


def state_dict(network: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    return filled({key: tuple(value.shape) for key, value in network.state_dict().items()}, seed)


def core(msid: dict[str, torch.Tensor], mapping: dict[str, torch.Tensor], device: str) -> Encode:
    """Crop -> S* as the command line runs it: packed on the CPU, the modules as they are elsewhere."""
    encoder, mapper = (pack_for_cpu(network.to(device)) for network in (build_msid(msid), build_mapping(mapping)))
    return lambda faces: mapper(encoder(faces))


def compare(title: str, contenders: dict[str, Encode], faces: torch.Tensor, repeats: int) -> None:
    """Print the times of all contenders and, of each after the first, the ratio and the difference to the first."""
    reference = next(iter(contenders.values()))(faces)
    differences = {name: (encode(faces) - reference).abs().max().item() for name, encode in contenders.items()}
    times = interleaved(contenders, faces, repeats)
    first = next(iter(times.values()))
    print(f"\n{title} ({repeats} repeats)")
    for name, median in times.items():
        verdict = "" if differences[name] <= TOLERANCE else f"  MORE THAN {TOLERANCE:g} APART"
        print(f"  {name:<28}{median:9.2f} ms   {first / median:5.2f}x   apart {differences[name]:.1e}{verdict}")


def interleaved(contenders: dict[str, Encode], faces: torch.Tensor, repeats: int) -> dict[str, float]:
    """Median milliseconds of each contender; all take turns, so that what slows the machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, encode in contenders.items():
            synchronise(faces)
            start = time.perf_counter()
            encode(faces)
            synchronise(faces)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def synchronise(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
