"""`evaluate`: the pictures of a plan are made, by diffusers or by running ComfyUI servers, then scored and reported.

    python -m f2d_core evaluate face2diffusion --out results --faces photos --model sd14 --msid m.pt --mapping f.pt
    torchrun --nproc-per-node 8 -m f2d_core evaluate face2diffusion …
    python -m f2d_core evaluate face2diffusion --out results --faces photos --server 127.0.0.1:8188 --server pc2:8188

Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import F2DError, SettingsError
from ..evaluate import manifest
from ..evaluate.cost import EncodeCost, encode_cost
from ..evaluate.distance import distances, real_pictures
from ..evaluate.extractors import INCEPTION_KIND, Extractors, InceptionExtractor, find_extractors, usable_extractors
from ..evaluate.features import FeatureCache
from ..evaluate.judges import Judges
from ..evaluate.layout import describe_layout
from ..evaluate.local import LocalMaker, Networks, make_here
from ..evaluate.metrics import METRICS
from ..evaluate.plan import Method, Plan, chosen_methods, read_plan, with_images
from ..evaluate.reading import Reader
from ..evaluate.report import write_report
from ..evaluate.results import collect
from ..evaluate.scoring import NETWORKS, score_method
from ..evaluate.servers import Crew
from ..evaluate.work import (
    PICTURES,
    Item,
    Photo,
    Shard,
    all_items,
    faces_facts,
    find_photos,
    pending,
    record_of,
    remove_rests,
    request_of,
    save_picture,
    shard_from,
)
from ..networks import load_network
from ..ports import Detector
from ..train.settings import with_overrides
from .device import Placer, placed_on
from .faces import chosen_detector
from .folders import model_folders, shared_tokenizer
from .progress import Bar, announce, note

FEATURES, REPORT = "features", "report"
_LOOK_EVERY_S = 2.0  # at the work of other processes
_DIFFUSERS = "diffusers"  # what `DiffusersPictures.key` begins with
_NETWORKS = ("msid", "mapping")
_Hashes = Mapping[str, Mapping[str, str]]  # method -> "msid", "mapping" -> SHA-256, or name on a server
_PATHS = ("faces", "model", "msid", "mapping")  # what an option says of these is seen from here, not from the plan


@dataclass(frozen=True)
class _Work:
    """What this process does. made: the methods whose pictures are made, not brought along."""

    arguments: argparse.Namespace
    plan: Plan
    methods: list[Method]
    photos: list[Photo]
    shard: Shard

    @property
    def made(self) -> list[Method]:
        return [method for method in self.methods if not method.images]

    @property
    def out(self) -> Path:
        return self.arguments.out

    @property
    def pictures(self) -> Path:
        return self.out / PICTURES

    def check(self, networks: _Hashes | None = None) -> Mapping[str, Any]:
        """What the manifest says. Raises SettingsError where pictures were made otherwise."""
        return manifest.check(self.out, self._facts(None, networks))

    def keep(self, model: str, networks: _Hashes, detector: str | None = None) -> None:
        """Write the manifest. Raises SettingsError where pictures were made otherwise."""
        manifest.keep(self.out, self._facts(model, networks, detector))

    def _facts(self, model: str | None, networks: _Hashes | None, detector: str | None = None) -> dict[str, Any]:
        return manifest.facts_of(self.plan, self.made, faces_facts(self.photos), model, networks, detector)


def run(arguments: argparse.Namespace) -> None:
    plan = _plan(arguments)
    photos = find_photos(plan.path(_required(plan.faces, "faces", "a folder with one photo of each face")))
    if arguments.list:
        print(describe_layout(plan, photos))
        return
    work = _Work(arguments, plan, chosen_methods(plan, arguments.methods), photos, _shard(arguments))
    _make(work)
    if arguments.shard is not None:
        note("This part is done. When all parts are, the same command without --shard makes the report.")
    elif work.shard.index == 0 and not arguments.make_only:
        _report(work)


# --- the plan ---


def _plan(arguments: argparse.Namespace) -> Plan:
    changes = with_overrides({}, arguments.set)
    for key in (*_PATHS, "checkpoint"):
        value = getattr(arguments, key)
        if value is not None:
            keep = key == "checkpoint" or (arguments.server and key in ("msid", "mapping"))  # names on the server
            changes[key] = str(value) if keep else _seen_from_here(key, str(value))
    plan = read_plan(arguments.plan, changes)
    for text in arguments.images:
        name, _, folder = text.rpartition("=") if not Path(text).exists() else ("", "", text)
        plan = with_images(plan, name or Path(folder).absolute().name, Path(folder))
    return plan


def _seen_from_here(key: str, path: str) -> str:
    """Absolute; but a model that is no file or folder is the ID of one."""
    place = Path(path).expanduser()
    return path if key == "model" and not place.exists() else str(place.absolute())


def _required(value: str, key: str, what: str) -> str:
    if not value:
        raise SettingsError(f'There is no {key}; expected {what}. Give --{key}, or write {key} = "…" in the plan.')
    return value


def _shard(arguments: argparse.Namespace) -> Shard:
    """This process's part: of --shard, or of torchrun's processes, or all of the work."""
    if arguments.shard is not None:
        return shard_from(arguments.shard)
    return Shard(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


# --- pictures ---


def _make(work: _Work) -> None:
    """Make what is missing of this part; the first of several processes waits for the others."""
    items = all_items(work.plan, work.made, work.photos)
    todo = pending(work.shard.of(items), work.pictures)
    if items:
        _check(work, finished=not todo)
    if todo:
        _say_how_much(items, todo, work)
        (_with_servers if work.arguments.server else _here)(work, todo)
    if work.shard.index == 0 and work.arguments.shard is None:
        _wait_for_others(items, work.pictures)
        remove_rests(work.pictures)


def _check(work: _Work, finished: bool) -> None:
    """Before a model is loaded in vain; and where nothing is to be made, that it was made with these networks."""
    known = work.check().get("settings", {})
    if finished and str(known.get("model", "")).startswith(_DIFFUSERS) and _files_at_hand(work):
        work.check(_hashes(_networks(work.plan, work.made)))


def _hashes(networks: Mapping[str, Networks]) -> _Hashes:
    return {name: {"msid": msid.sha256, "mapping": mapping.sha256} for name, (msid, mapping) in networks.items()}


def _files_at_hand(work: _Work) -> bool:
    """Whether the networks of all methods are files here."""
    plan = work.plan
    files = [getattr(method, kind) or getattr(plan, kind) for method in work.made for kind in _NETWORKS]
    return not work.arguments.server and bool(files) and all(name and plan.path(name).is_file() for name in files)


def _say_how_much(items: Sequence[Item], todo: Sequence[Item], work: _Work) -> None:
    part = f"part {work.shard.index + 1} of {work.shard.count}: " if work.shard.count > 1 else ""
    there = len(items) - len(pending(items, work.pictures))
    note(f"{part}{len(todo):,} pictures to make, {there:,} of {len(items):,} are there")


def _here(work: _Work, todo: Sequence[Item]) -> None:
    from ..backends.diffusers import load_pipeline
    from ..backends.pictures import DiffusersPictures

    arguments, plan = work.arguments, work.plan
    if not plan.model:
        raise SettingsError(
            f"There are {len(todo):,} pictures to make; expected --model (diffusers) or --server (ComfyUI) to make "
            "them with, or --methods with those that have pictures."
        )
    networks = _networks(plan, work.made)
    detector = chosen_detector(arguments.detector, arguments.detector_weights)
    place = plan.path(plan.model)
    announce(f"Loading {place if place.exists() else plan.model}")
    pipe = load_pipeline(
        place if place.exists() else plan.model,
        tokenizer=arguments.tokenizer or (shared_tokenizer() if place.is_file() else None),
        device=_device(arguments),
    )
    maker = DiffusersPictures(pipe, place.name)
    local = LocalMaker(plan, work.photos, maker, networks, detector)
    local.require_faces(todo)
    work.keep(maker.key, _hashes(networks), detector.name)  # only now, for until then every setting may still change
    make_here(todo, work.pictures, plan, local, place.name, Bar("Pictures"))


def _device(arguments: argparse.Namespace) -> str | None:
    if arguments.device is None and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return arguments.device


def _networks(plan: Plan, methods: Sequence[Method], place: Placer | None = None) -> dict[str, Networks]:
    """Method -> encoder and mapping, each file loaded once. place: see `load_network`."""
    load = functools.cache(functools.partial(load_network, place=place))
    files = {
        method.name: [
            plan.path(_required(getattr(method, kind) or getattr(plan, kind), kind, f"the {kind} file"))
            for kind in _NETWORKS
        ]
        for method in methods
    }
    return {name: (load(msid, "msid"), load(mapping, "mapping")) for name, (msid, mapping) in files.items()}


def _with_servers(work: _Work, todo: Sequence[Item]) -> None:
    from ..backends.comfyui_server import ComfyUIServer, Files, Job, files_there, require_address

    plan = work.plan
    wanted = {
        method.name: Files(plan.checkpoint, *(Path(getattr(method, k) or getattr(plan, k)).name for k in _NETWORKS))
        for method in work.made
    }
    photos = {photo.key: photo.path for photo in work.photos}

    def job_of(item: Item) -> Job:
        strength = plan.method(item.method).strength
        return Job(photos[item.face], request_of(plan, item, ()), plan.sampling, files[item.method], strength)

    def save(item: Item, picture: np.ndarray) -> None:
        save_picture(work.pictures / item.place, picture, record_of(plan, item, files[item.method].checkpoint))

    client = f"f2d-{hashlib.sha256(f'{work.out.resolve()} {work.shard}'.encode()).hexdigest()[:16]}"
    addresses = dict.fromkeys(map(require_address, work.arguments.server))  # one server, however it is written
    servers = [ComfyUIServer(address, job_of, client) for address in addresses]
    files = files_there(servers, wanted)
    checkpoints = ", ".join(dict.fromkeys(names.checkpoint for names in files.values()))
    work.keep(f"ComfyUI, {checkpoints}", {n: {"msid": f.msid, "mapping": f.mapping} for n, f in files.items()})
    crew = Crew(servers, save, note)
    crew.run(todo, Bar("Pictures"))
    note("; ".join(f"{one.address} made {crew.made[one.address]:,}" for one in servers))


def _wait_for_others(items: Sequence[Item], folder: Path) -> None:
    bar = Bar("Pictures of all processes")
    while left := len(pending(items, folder)):
        bar(len(items) - left, len(items))
        time.sleep(_LOOK_EVERY_S)


# --- scores ---


def _report(work: _Work) -> None:
    arguments, plan = work.arguments, work.plan
    real = real_pictures(arguments.real) if arguments.real else []
    judges, inception, detector = _judges(arguments)
    reader = Reader(FeatureCache(work.out / FEATURES), judges, detector, inception if real else None)
    scores = [
        score_method(plan, method, work.photos, work.out, reader, judges, Bar(f"Scores of {method.name}"))
        for method in work.methods
    ]
    far = distances(real, scores, reader, Bar) if real and inception is not None else ()
    announce("Writing the report")
    results = collect(plan, scores, judges, detector.name if detector is not None else "", far, len(real))
    print(write_report(work.out / REPORT, plan, work.photos, scores, results, _costs(work)))


def _costs(work: _Work) -> dict[str, EncodeCost]:
    """What the networks of each method cost on this machine, where their files are at hand."""
    if not _files_at_hand(work):
        return {}
    device = torch.device(_judge_device(work.arguments))
    networks = _networks(work.plan, work.made, placed_on(device) if device.type != "cpu" else None)
    return {name: encode_cost(msid, mapping, device=device) for name, (msid, mapping) in networks.items()}


def _judges(arguments: argparse.Namespace) -> tuple[Judges, InceptionExtractor | None, Detector | None]:
    """What can be measured here; what cannot is said once, and the rest goes on without it. Raises SettingsError."""
    folders = arguments.extractors or model_folders()
    announce(f"Loading the judging networks in {', '.join(map(str, folders)) or 'no folder'}")
    found = usable_extractors(folders, _judge_device(arguments))
    problems = _problems(found, folders, bool(arguments.real))
    identity, detector = tuple(found.identity.values()), None
    if identity:
        try:
            detector = chosen_detector(arguments.detector, arguments.detector_weights)
        except F2DError as error:
            problems.append(f"Identity cannot be judged without a face detector. {error}")
            identity = ()
    for problem in problems:
        note(problem)
    judges = Judges(identity, tuple(found.image_text.values()), tuple(problems))
    if not judges.identity and not judges.text:
        where = ", ".join(map(str, folders)) or "any folder"
        raise SettingsError(
            f"The pictures are there, but no network to judge them is in {where}. Put some of the files named above "
            "there, or name their folder with --extractors, and run this again."
        )
    return judges, found.inception, detector


def _problems(found: Extractors, folders: Sequence[Path], distances_wanted: bool) -> list[str]:
    """Of files that are there and cannot be used, and for every metric that has no file, what it needs."""
    there = find_extractors(folders)
    usable = {*found.identity, *found.image_text, *([INCEPTION_KIND] if found.inception is not None else [])}
    wanted = {metric: kinds for metric, kinds in NETWORKS.items() if metric in METRICS}
    wanted |= {"fid": (INCEPTION_KIND,)} if distances_wanted else {}
    lacking = [kinds[0] for kinds in wanted.values() if not usable & set(kinds)]
    return [found.problems[kind] for kind in dict.fromkeys([*there, *lacking]) if kind in found.problems]


def _judge_device(arguments: argparse.Namespace) -> str:
    return _device(arguments) or ("cuda" if torch.cuda.is_available() else "cpu")
