"""How fast a face becomes S*, next to the same networks written plainly (bench/plain.py).

    python bench/encode.py [--repeats 60] [--photo FILE] [--detector-weights FOLDER ...]

1. crop -> S* in our core, on the CPU and, where there is one, on the GPU; 2. crop -> S* through ComfyUI's model
patchers, where there is a ComfyUI (COMFYUI_PATH or ~/comfy/ComfyUI); 3. photo -> S* with every detector that is
installed and has its weights. Contenders take turns within one process, with the same weights (pseudo-random, of the
published sizes), inputs and number of threads, in fp32 and in inference mode. Times are medians; a ratio is the median
of the ratios within each round, above 1 for faster than plain; "apart" is the largest difference to plain's S*.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from plain import PlainEncoder, PlainMapping, PlainMSID

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script: it runs without anything of ours being installed

from f2d_core.align import align_face, face_input  # noqa: E402
from f2d_core.cli.demo import portrait  # noqa: E402
from f2d_core.detect import choose_face, find_faces  # noqa: E402
from f2d_core.detectors import DETECTORS, build_detector, find_detector_weights  # noqa: E402
from f2d_core.errors import MissingPackageError  # noqa: E402
from f2d_core.image import read_image  # noqa: E402
from f2d_core.mapping import build_mapping  # noqa: E402
from f2d_core.msid import build_msid  # noqa: E402
from f2d_core.packed import can_pack, pack_for_cpu  # noqa: E402
from f2d_core.testing import filled  # noqa: E402

Encode = Callable[[torch.Tensor], torch.Tensor]  # (B, 3, 112, 112) -> (B, 2, 768)
StateDict = dict[str, torch.Tensor]

BATCHES = (1, 16)
APART = 5e-5
CORE_GOAL = 1.25  # times plain, on the CPU at batch 1


def main() -> None:
    options = parse()
    packed = "packed by oneDNN" if can_pack() else "not packed: this torch has no oneDNN"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; the core's CPU weights are {packed}")
    msid, mapping = (state_dict(network) for network in (PlainMSID(), PlainMapping()))
    with torch.inference_mode():
        for device in devices():
            print(f"\ncrop -> S*, core, {device} (goal at batch 1 on the CPU: {CORE_GOAL}x)")
            compare({"plain": PlainEncoder(msid, mapping).to(device), "core": core(msid, mapping, device)}, options)
        print("\nphoto -> S*, core, cpu")
        photo_to_s_star(core(msid, mapping, "cpu"), options)
        print("\ncrop -> S*, through ComfyUI's model patchers, cpu (goal: no slower than plain)")
        through_comfyui(msid, mapping, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60, help="of what takes one face (default %(default)s)")
    parser.add_argument("--photo", type=Path, help="default: the portrait that scikit-image ships")
    places = [REPO / "models", REPO.parent / "shared" / "assets"]
    parser.add_argument("--detector-weights", type=Path, nargs="+", default=places, help="folders to look in")
    return parser.parse_args()


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def state_dict(network: torch.nn.Module) -> StateDict:
    return filled({key: tuple(value.shape) for key, value in network.state_dict().items()}, seed=0)


# --- crop -> S* ---


def core(msid: StateDict, mapping: StateDict, device: str) -> Encode:
    """As the command line runs it: packed on the CPU, the networks as they are elsewhere."""
    encoder, mapper = (pack_for_cpu(network.to(device)) for network in (build_msid(msid), build_mapping(mapping)))
    return lambda faces: mapper(encoder(faces))


def through_comfyui(msid: StateDict, mapping: StateDict, options: argparse.Namespace) -> None:
    """The pack as ComfyUI loads it, its networks behind ComfyUI's patchers and casting layers."""
    root = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").resolve()
    if not (root / "nodes.py").is_file():
        print(f"  skipped: no ComfyUI at {root} (set COMFYUI_PATH to a checkout of Comfy-Org/ComfyUI)")
        return
    from tests.support import base_directory, in_process

    with tempfile.TemporaryDirectory() as folder:
        models, packs = Path(folder, "models", "face2diffusion"), Path(folder, "custom_nodes")
        for made in (models, packs):
            made.mkdir(parents=True)
        torch.save(msid, models / "msid.pt")
        torch.save(mapping, models / "mapping.pt")
        base_directory.link(REPO, packs / base_directory.PACK)
        load = in_process.start(root, Path(folder)).pack_module("nodes.host").load
        encoder, mapper = load("msid.pt", "msid"), load("mapping.pt", "mapping")
        patched = {"plain": PlainEncoder(msid, mapping), "patchers": lambda faces: mapper.run(encoder.run(faces))}
        compare(patched, options)


def compare(contenders: dict[str, Encode], options: argparse.Namespace) -> None:
    """Print time, ratio to plain and distance from plain of every contender at every batch size."""
    device = next(contenders["plain"].parameters()).device
    for batch in BATCHES:
        faces = torch.rand(batch, 3, 112, 112, generator=torch.Generator().manual_seed(batch)).mul(2).sub(1).to(device)
        s_star = {name: encode(faces) for name, encode in contenders.items()}
        calls = {name: partial(encode, faces) for name, encode in contenders.items()}
        times = interleaved(calls, max(5, options.repeats // batch))
        for name, own in times.items():
            apart = (s_star[name] - s_star["plain"]).abs().max().item()
            remark = "" if apart <= APART else f"  MORE THAN {APART:g}"
            ratio = statistics.median(plain / mine for plain, mine in zip(times["plain"], own, strict=True))
            figures = f"{statistics.median(own):9.2f} ms  {ratio:5.2f}x  apart {apart:.1e}"
            print(f"  batch {batch:<3} {name:<12}{figures}{remark}")


def interleaved(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call, round by round. They take turns: what slows the machine down slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):  # the first round warms up
        for name, call in calls.items():
            times[name].append(milliseconds(call))
    return {name: values[1:] for name, values in times.items()}


def milliseconds(call: Callable[[], object]) -> float:
    synchronise()
    start = time.perf_counter()
    call()
    synchronise()
    return (time.perf_counter() - start) * 1e3


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# --- photo -> S* ---


def photo_to_s_star(encode: Encode, options: argparse.Namespace) -> None:
    """Print what finding the face, and all of it, takes; reading the file is not counted."""
    try:
        rgb = read_image(options.photo or portrait())
    except MissingPackageError as error:
        print(f"  skipped: {error}")
        return
    print(f"  {rgb.shape[1]} x {rgb.shape[0]} pixels")
    for name, detector in detectors(options.detector_weights):

        def crop(detector=detector) -> torch.Tensor:
            face = choose_face(find_faces(detector, rgb).faces)
            return face_input(align_face(rgb, face.points)[None])

        calls = {"photo -> crop": crop, "photo -> S*": lambda crop=crop: encode(crop())}
        times = interleaved(calls, max(5, options.repeats // 4))
        print(f"  {name:<12}" + "   ".join(f"{what} {statistics.median(own):8.2f} ms" for what, own in times.items()))


def detectors(folders: list[Path]) -> Iterator[tuple[str, object]]:
    """Every detector that can be used here, by name; a line for every other."""
    weights = find_detector_weights(folders)
    for name in DETECTORS:
        if name not in weights:
            print(f"  {name:<12}skipped: no weights in {', '.join(map(str, folders))} (--detector-weights)")
            continue
        try:
            yield name, build_detector(name, weights[name])
        except MissingPackageError as error:
            print(f"  {name:<12}skipped: {error}")


if __name__ == "__main__":
    main()
