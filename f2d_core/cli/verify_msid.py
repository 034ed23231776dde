"""`verify-msid`: how well an identity encoder tells people apart, on pair sets and on folders of people."""

from __future__ import annotations

import argparse
import json

from ..data.identities import open_identities
from ..data.pairs import read_pairs
from ..errors import SettingsError
from ..evaluate.verification import LevelResult, PairResult
from ..evaluate.verification_report import Verification, paper_auc, unique_names, verify
from ..msid import MSIDConfig, build_msid
from ..weights import read_weights
from .progress import Bar, note
from .training import chosen_device


def run(arguments: argparse.Namespace) -> int:
    if not arguments.pairs and not arguments.folder:
        raise SettingsError("There is nothing to verify on; expected --pairs FILE.bin or --folder DIR, or several.")
    if arguments.draws < 1 or arguments.batch < 1:
        raise SettingsError("--draws and --batch are numbers from 1 upwards.")
    encoder = build_msid(read_weights(arguments.msid, expect="msid").state_dict).to(chosen_device(arguments.device))
    side = encoder.config.image_size
    names = unique_names([*arguments.pairs, *arguments.folder])
    pairs = {names[path]: read_pairs(path, side) for path in arguments.pairs}
    people = {names[path]: open_identities(path, side, arguments.resize) for path in arguments.folder}
    found = verify(encoder, pairs, people, arguments.draws, arguments.batch, Bar("Features"))
    if arguments.out is not None:
        found.write(arguments.out)
        note(f"Histograms and figures: {arguments.out}")
    print(json.dumps(found.figures()) if arguments.json else shown(found, encoder.config))
    return 0


def shown(found: Verification, config: MSIDConfig) -> str:
    """The figures as lines of text, the paper's beside them."""
    kind = "plain ArcFace encoder" if config.plain else "multi-scale encoder"
    levels = ", ".join(str(level + 1) for level in config.levels)
    lines = [f"{kind}, {config.depth} blocks, normalised after {levels}"]
    for name, result in found.pairs.items():
        lines += [f"{name}: {_accuracy(result)}", *_aucs(result, config, False)]
    for name, result in found.levels.items():
        lines += [f"{name}: {result.people} triplets", *_aucs(result, config, True)]
    return "\n".join(lines)


def _accuracy(result: PairResult) -> str:
    return (
        f"accuracy {100 * result.accuracy:.2f} +- {100 * result.deviation:.2f} % on {result.pairs} pairs "
        f"(threshold {result.threshold:.2f})"
    )


def _aucs(result: PairResult | LevelResult, config: MSIDConfig, with_paper: bool) -> list[str]:
    lines = []
    for layer, value in result.auc.items():
        kind = "normalised" if layer - 1 in config.levels else "raw class token"
        paper = paper_auc(config, layer) if with_paper else None
        beside = f"   (Face2Diffusion, VGGFace2: {paper:.2f})" if paper is not None else ""
        lines.append(f"  layer {layer:>2}: AUC {100 * value:6.2f}   {kind}{beside}")
    return lines
