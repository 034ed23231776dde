"""`augment`: a list of names becomes DreamIdentity's editing data, on one device or shared by many.

    python -m f2d_core augment --example-names > names.txt
    python -m f2d_core augment names.txt --plan
    python -m f2d_core augment names.txt --out AUG --model MODEL --identity FILE --clip FILE
    torchrun --nproc-per-node 8 -m f2d_core augment names.txt …

Stopped by whatever, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import fields
from pathlib import Path

import torch

from ..augment.names import Merged, NameList, entries, read_lines, read_names
from ..augment.plan import Shard, check_prompts
from ..augment.run import Augmented, Models, augment
from ..augment.settings import AugmentSettings
from ..augment.store import REPORT
from ..augment.texts import EXAMPLE_NAMES
from ..backends.diffusers import load_pipeline
from ..backends.pictures import DiffusersPictures
from ..errors import SettingsError, WeightsError
from ..evaluate.extractors import load_identity_extractor, load_image_text_extractor
from ..evaluate.judges import EncoderJudge
from ..evaluate.prompts import DREAMIDENTITY_PROMPTS
from ..networks import load_network
from ..ports import IdentityExtractor
from ..train.distributed import local_rank
from ..weights import read_weights
from .device import placed_on, usable_device
from .faces import chosen_detector
from .folders import shared_tokenizer
from .progress import Bar, announce, note

_LINES_SHOWN = 10
_NEEDED = ("out", "model", "identity", "clip")


def run(arguments: argparse.Namespace) -> None:
    if arguments.example_names:
        print("\n".join(("# Long dead, and far too few to train on: only to see how a list looks.", *EXAMPLE_NAMES)))
        return
    settings, shard = _settings(arguments), _shard(arguments.shard)
    names, prompts = _names(arguments), _prompts(arguments)
    if arguments.plan:
        _tell_plan(names, prompts, settings)
        return
    _require_all(arguments)
    models = _models(arguments, shard)
    first = shard.index == 0  # the others would draw their bars over each other
    done = augment(
        names,
        prompts,
        arguments.out,
        models,
        settings,
        held_out_faces=arguments.held_out_faces,
        shard=shard,
        making=Bar("Pictures") if first else None,
        scoring=Bar("Scores") if first else None,
    )
    _tell(done, shard)


def _settings(arguments: argparse.Namespace) -> AugmentSettings:
    given = vars(arguments)
    return AugmentSettings(**{f.name: given[f.name] for f in fields(AugmentSettings) if f.name in given})


def _shard(text: str | None) -> Shard:
    """--shard, or this process's place among those that torchrun started. Raises SettingsError."""
    if text is None:
        return Shard(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise SettingsError(f"--shard is {text}: expected two numbers such as 0/8, the first of eight. Change it.")
    return Shard(int(index), int(count))


def _names(arguments: argparse.Namespace) -> NameList:
    if arguments.names is None:
        raise SettingsError(
            "The list of names is missing: expected a text file, one name a line. `augment --example-names` prints one."
        )
    held_out = entries(read_lines(arguments.held_out, "held-out names")) if arguments.held_out else []
    return read_names(arguments.names, held_out, near=not arguments.keep_near_duplicates)


def _prompts(arguments: argparse.Namespace) -> tuple[str, ...]:
    own = entries(read_lines(arguments.prompts, "editing prompts")) if arguments.prompts else []
    return check_prompts([*(() if arguments.only_my_prompts else DREAMIDENTITY_PROMPTS), *own])


def _require_all(arguments: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in _NEEDED if getattr(arguments, name) is None]
    if missing:
        raise SettingsError(f"Missing: {', '.join(missing)}, expected with a list of names. See augment --help.")


def _models(arguments: argparse.Namespace, shard: Shard) -> Models:
    """Everything is loaded before hours of work, the small networks first. Raises WeightsError and the like."""
    detector = chosen_detector(arguments.detector, arguments.detector_weights)
    device = _device(arguments.device)
    announce(f"Loading {arguments.model}")
    identity = _identity(arguments.identity, device)
    text = load_image_text_extractor(arguments.clip, device, model=arguments.clip_model)
    single_file = Path(arguments.model).is_file()  # which has no tokenizer of its own
    tokenizer = arguments.tokenizer or (shared_tokenizer() if single_file else None)
    pipe = load_pipeline(arguments.model, tokenizer=tokenizer, device=device)
    return Models(DiffusersPictures(pipe), detector, identity, text)


def _device(name: str | None) -> torch.device:
    if name:
        return usable_device(name)
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def _identity(path: Path, device: torch.device) -> IdentityExtractor:
    """A face recognition network of any kind, an encoder of this project's included. Raises WeightsError."""
    if _is_encoder(path):
        return EncoderJudge(load_network(path, "msid", place=placed_on(device)))
    return load_identity_extractor(path, device)


def _is_encoder(path: Path) -> bool:
    try:
        return read_weights(path).kind == "msid"
    except WeightsError:  # of another kind, or damaged, which the loader of the others says
        return False


def _tell_plan(names: NameList, prompts: tuple[str, ...], settings: AugmentSettings) -> None:
    _tell_names(names, len(names.merged) + len(names.held_out))
    faces = len(names.names) * settings.faces_per_name
    edits = faces * settings.edits_per_prompt * len(prompts)
    print(f"{len(prompts)} editing prompts:")
    for prompt in prompts:
        print(f"  {prompt}")
    print(
        f"{faces:,} source pictures and up to {edits:,} edited ones of {settings.size} x {settings.size} px, "
        f"{settings.steps} steps each; {settings.keep:.0%} of the edited ones are kept"
    )


def _tell_names(names: NameList, most: int) -> None:
    print(f"{len(names.names):,} names; {len(names.merged)} merged, {len(names.held_out)} held out")
    entries = [*(("held out, as", entry) for entry in names.held_out), *(("merged into", e) for e in names.merged)]
    for what, entry in entries[:most]:
        print(f"  {_line(what, entry)}")
    if len(entries) > most:
        print(f"  … and {len(entries) - most} more: add --plan to see all")


def _line(what: str, entry: Merged) -> str:
    return f"line {entry.line}, {entry.text}: {what} {entry.into} ({entry.rule})"


def _tell(done: Augmented, shard: Shard) -> None:
    if done.outstanding:
        note(
            f"Share {shard.index} of {shard.count} is done; {done.outstanding:,} pictures and scores of other "
            "processes are not there. The last one to finish chooses the best; if none is running, run the same again."
        )
        return
    print(f"{done.folder}: {done.kept:,} of {done.edited:,} edited pictures kept, of {done.faces:,} source faces")
    if done.without_face:
        print(f"  {done.without_face:,} edited pictures show no face")
    reasons = Counter(reason for _, reason in done.rejected).most_common()
    for reason, count in reasons[:_LINES_SHOWN]:
        print(f"  {count:,} source faces left out: {reason}")
    if len(reasons) > _LINES_SHOWN:
        print(f"  … and {len(reasons) - _LINES_SHOWN} other reasons, see {done.folder / 'pictures.jsonl'}")
    if done.others:
        print(f"  {done.others:,} pictures in the folder are not in the list any more; they are not used")
    print(f"Look at {done.folder / REPORT} before you train on it.")
