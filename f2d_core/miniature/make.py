"""The weights of the miniature world, made from nothing: base model, judges, encoders, and a mapping for them.

    python -m f2d_core.miniature.make --work runs/miniature [--out f2d_core/miniature/weights]

May be stopped at any moment; the same command goes on. Small things are made two at a time, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from ..backends.diffusers import load_tokenizer
from ..cli import INTERRUPTED, USER_ERROR
from ..cli.progress import announce, note
from ..errors import F2DError
from ..files import write_atomically
from ..ports import Progress
from ..weights import read_tensors, write_safetensors
from .captions import WORDS
from .encoders import MSID, make_encoder
from .encoders import settings as encoder_settings
from .job import device_name
from .judging import JUDGES, make_judge
from .judging import SETTINGS as JUDGE_SETTINGS
from .mappings import FACE2DIFFUSION, SHIPPED_STEPS, Place, make_mapping
from .recon import SETTINGS as RECON_SETTINGS
from .recon import make_recon
from .stable_diffusion import (
    AUTOENCODER,
    DECODER,
    DENOISER,
    READING,
    make_decoder,
    make_latents,
    make_stable_diffusion,
)
from .tokenizer import write_word_tokenizer
from .watching import Lines

WEIGHTS = Path(__file__).with_name("weights")
MODEL, RECON_FILE, MSID_FILE, MAPPING_FILE = "model", "recon.safetensors", "msid.safetensors", "mapping.safetensors"
RECORD_FILE = "made.json"
_BESIDE_LATENTS = 2  # of the judges, the quick ones
SEED = 0  # of the shipped encoder and mapping
_KEPT = ": what is done already is kept; Ctrl+C stops, the same command goes on"


def make(work: Path, out: Path) -> None:
    """All of it, or what is left. Raises F2DError."""
    tell, model = Lines(), out / MODEL
    side_by_side([partial(_unless_there, make_latents, work, model), *_judges(JUDGES[:_BESIDE_LATENTS], work, out)])
    others = (_make_encoder, _make_recon, _make_decoder)
    side_by_side([*_judges(JUDGES[_BESIDE_LATENTS:], work, out), *(partial(other, work, out) for other in others)])
    _unless_there(make_stable_diffusion, work, model)  # by far the longest: it has all cores for itself
    mapping(work, out, tell)
    write_record(out)


def side_by_side(lanes: Sequence[Callable[[], object]]) -> list[object]:
    """Call each in a process of one thread, two at a time; their results in order. Raises what they raise.

    Ctrl+C reaches the processes too: what runs is saved, and nothing more is begun.
    """
    results: dict[int, object] = {}
    running: dict[Future, int] = {}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=one_thread) as pool:
        for number, lane in enumerate(lanes):
            if len(running) == 2:
                _collect(running, results)
            running[pool.submit(lane)] = number
        while running:
            _collect(running, results)
    return [results[number] for number in range(len(lanes))]


def _collect(running: dict[Future, int], results: dict[int, object]) -> None:
    """Wait for the next ones that end, and take them out of `running`."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        results[running.pop(future)] = future.result()


def one_thread() -> None:
    """For this process."""
    torch.set_num_threads(1)


def place_of(work: Path, out: Path) -> Place:
    """With the weights in `out`."""
    return Place(work, out / MODEL, out / RECON_FILE)


def mapping(work: Path, out: Path, tell: Callable[[str], Progress]) -> Path:
    """The shipped mapping: Face2Diffusion's method on the shipped encoders."""
    file = out / MAPPING_FILE
    if not file.is_file():
        place = place_of(work, out)
        trained = make_mapping(FACE2DIFFUSION, SEED, out / MSID_FILE, place, None, tell, SHIPPED_STEPS)
        halved(trained, file)
    return file


def encoder(kind: str, seed: int, work: Path, out: Path, tell: Callable[[str], Progress]) -> Path:
    """An encoder's file in fp16, made if it is not there: the shipped one in `out`, others in `work`."""
    shipped = kind == MSID and seed == SEED
    file = out / MSID_FILE if shipped else work / "weights" / f"{kind}-{seed}.safetensors"
    if not file.is_file():
        halved(make_encoder(kind, seed, work / "encoders", tell), file)
    return file


def halved(file: Path, out: Path) -> Path:
    """Write the tensors of a weight file in fp16, with what it says of itself. Raises WeightsError, OutputError."""
    tensors, facts = read_tensors(file)
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    return write_safetensors(out, halves, facts)


def judge_files(names: Sequence[str], work: Path, out: Path, tell: Callable[[str], Progress]) -> None:
    """Make the judges or helpers of these names in `out`, as far as they are not there."""
    tokenizer = load_tokenizer(write_word_tokenizer(work / "tokenizer", WORDS))
    for name in names:
        if not (out / f"{name}.safetensors").is_file():
            make_judge(name, work / "judges", out, tokenizer, tell)


def write_record(out: Path) -> Path:
    """made.json: seeds, settings and versions of the weights in `out`, and the commit whose code made them."""
    settings = {
        "autoencoder": AUTOENCODER,
        "decoder": DECODER,
        "reading": READING,
        "denoiser": DENOISER,
        "recon": RECON_SETTINGS,
        "encoder": encoder_settings(MSID, SEED),
        "mapping": FACE2DIFFUSION.config(SEED, SHIPPED_STEPS),
        **JUDGE_SETTINGS,
    }
    facts = {
        "commit": _commit(),
        "torch": torch.__version__,
        "device": device_name(),
        "settings": {name: asdict(own) for name, own in settings.items()},
    }
    text = json.dumps(facts, indent=1)
    return write_atomically(out / RECORD_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown: no git here"
    return found.stdout.strip() or "unknown: not a git checkout"


def _unless_there(make_it: Callable[[Path, Path, Lines], object], work: Path, model: Path) -> None:
    if not (model / "model_index.json").is_file():
        make_it(work, model, Lines())


def _judges(names: Sequence[str], work: Path, out: Path) -> list[Callable[[], None]]:
    return [partial(judge_files, [name], work, out / "judges", Lines()) for name in names]


def _make_encoder(work: Path, out: Path) -> None:
    encoder(MSID, SEED, work, out, Lines())


def _make_recon(work: Path, out: Path) -> None:
    if not (out / RECON_FILE).is_file():
        halved(make_recon(work / "recon", work / "weights" / RECON_FILE, Lines()), out / RECON_FILE)


def _make_decoder(work: Path, out: Path) -> None:
    make_decoder(work, out / MODEL, Lines())


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, as the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where trainings are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="DIR", help="where the weights go")
    options = parser.parse_args(argv)
    return carried_out("make", partial(make, options.work, options.out), kept=True)


def carried_out(name: str, work: Callable[[], object], kept: bool = False) -> int:
    """The exit code of a command that does `work`. kept: whether it goes on where it was stopped."""
    announce(f"{name} on {device_name()}{_KEPT if kept else ''}")
    try:
        work()
    except F2DError as error:
        note(f"{name}: {error}")
        return USER_ERROR
    except KeyboardInterrupt:
        note("Stopped; the same command goes on." if kept else "Stopped; the same command begins anew.")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
