"""`inspect`: what a file is, its sizes, what it says of itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from ..catalogue import PUBLISHED
from ..constants import FEATURES_DREAMIDENTITY, FEATURES_MSID, IDENTITY_FORMAT
from ..errors import WeightsError
from ..msid import MSIDConfig
from ..networks import Network, load_network
from ..s_star import SStar, load_s_star
from ..weights import Weights, describe, file_sha256, read_tensors, read_weights
from .progress import announce

Facts = dict[str, Any]

_MOST_TENSORS = 12  # listed of a file that is not ours
_FOREIGN_NAMES = ("tensors", "metadata", "of_a_newer_program")  # groups whose keys are shown as they are
_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")
_WORTH_SAYING_BYTES = 200_000_000  # reading more than this takes a moment


def run(arguments: argparse.Namespace) -> None:
    facts = inspect_file(arguments.file)
    print(json.dumps(facts, indent=2, ensure_ascii=False) if arguments.json else "\n".join(lines(facts)))


def inspect_file(path: Path) -> Facts:
    """What is in an identity, embedding, weight file or checkpoint, as plain values. Raises WeightsError."""
    if path.is_file() and path.stat().st_size > _WORTH_SAYING_BYTES:
        announce(f"Reading {path.name}")
    try:
        inside = _network(read_weights(path))
    except WeightsError:
        inside = _other(path, *read_tensors(path))  # which raises for a file that cannot be read at all
    return {"file": str(path), "bytes": path.stat().st_size, "file_sha256": file_sha256(path), **inside}


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """`facts` for people: a line for each value, groups indented, nothing for what is empty."""
    for key, value in facts.items():
        label = f"{indent}{key.replace('_', ' ')}:"
        if key in _FOREIGN_NAMES and isinstance(value, Mapping):
            yield from ([label] if value else [])
            yield from (f"{indent}  {name}: {text}" for name, text in value.items())
        elif isinstance(value, Mapping) and value:
            yield label
            yield from lines(value, indent + "  ")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{label} {value:,}"
        elif value not in ("", None, {}):
            yield f"{label} {value}"


def _network(weights: Weights) -> Facts:
    network = load_network(weights.path, weights.kind)
    return {
        "what": _title(weights.kind, network),
        "kind": weights.kind,
        "sizes": asdict(network.module.config),
        "parameters": sum(v.numel() for k, v in weights.state_dict.items() if not k.endswith(_NOT_TRAINED)),
        "tensors": len(weights.state_dict),
        "tensors_sha256": weights.sha256,
        "licence": network.licence,
        "metadata": weights.metadata,
        **({"taken_as": _conventions(network.facts)} if weights.kind == "mapping" else {}),
        **({"gives": _gives(network.module.config)} if weights.kind == "msid" else {}),
    }


def _title(kind: str, network: Network) -> str:
    if kind == "msid" and network.module.config.plain:
        return "plain ArcFace encoder"
    if kind == "mapping" and network.facts["features"] == FEATURES_DREAMIDENTITY:
        return "mapping network (DreamIdentity's features)"
    return PUBLISHED[kind].title


def _gives(config: MSIDConfig) -> Facts:
    """The kinds of features that mappings can take from this encoder, and how many each has."""
    return {kind: config.width_of(kind) for kind in dict.fromkeys((config.own_features, FEATURES_MSID))}


def _conventions(facts: Mapping[str, str]) -> Facts:
    """What a mapping file means, where it says nothing: the published defaults."""
    return {name: facts[name] for name in ("features", "injection", "encoder_key", "class_word", "template")}


def _other(path: Path, content: Mapping, metadata: Mapping[str, str]) -> Facts:
    if metadata.get("format") == IDENTITY_FORMAT:
        return _identity(load_s_star(path), metadata)
    shapes = {str(k): f"{tuple(v.shape)} {_dtype(v)}" for k, v in content.items() if isinstance(v, torch.Tensor)}
    shown = dict(list(shapes.items())[:_MOST_TENSORS])
    more = {"…": f"{len(shapes) - len(shown)} more"} if len(shapes) > len(shown) else {}
    return {"what": describe(content), "kind": "other", "entries": len(content), "tensors": {**shown, **more},
            "metadata": dict(metadata)}  # fmt: skip


def _identity(s_star: SStar, metadata: Mapping[str, str]) -> Facts:
    texts = {f.name: getattr(s_star, f.name) for f in fields(s_star) if isinstance(getattr(s_star, f.name), str)}
    return {
        "what": f"a saved identity (S*) of {s_star.title}",
        "kind": "identity",
        "format_version": metadata["format_version"],
        "words": s_star.words,
        "width": s_star.width,
        "identity_features": _width(s_star.v_id),
        "expression_features": _width(s_star.v_exp),
        "thumbnail": s_star.thumbnail is not None,
        **texts,
        "of_a_newer_program": {**s_star.unknown_metadata, **{k: _dtype(v) for k, v in s_star.unknown_tensors.items()}},
    }


def _width(features: torch.Tensor | None) -> int | None:
    return None if features is None else features.shape[-1]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
