"""All commands and their options. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..constants import DEFAULT_MARKER, DEFAULT_TEMPLATE

_DESCRIPTION = "Face2Diffusion: a face photo becomes S*, a word for the prompts of any Stable Diffusion 1.x model."
_EPILOG = (
    "Use photos of people who agreed to it, and label the pictures as generated. "
    "The published weights are non-commercial (CC BY-NC-SA 4.0)."
)


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"f2d: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of one command, its name in `.command`. Exits with 2 and one line for a mistake."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="f2d", description=_DESCRIPTION, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add) in _COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))
    return parser


def _encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="photos; each gives one identity file")
    _networks(parser, required=True)
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR_OR_FILE",
        help="a folder, or a file name that ends in .safetensors",
    )
    parser.add_argument("--name", default="", help="of the person; also names the files (default: the photo's name)")
    parser.add_argument("--marker", default=DEFAULT_MARKER, help=f"the word for prompts (default: {DEFAULT_MARKER})")
    parser.add_argument("--mean", action="store_true", help="all photos show one person: one file, of their mean")
    parser.add_argument("--no-thumbnail", action="store_true", help="do not keep the face crop in the file")
    parser.add_argument("--force", action="store_true", help="overwrite the file named by --out")
    _faces(parser)
    _expression(parser)


def _networks(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--msid", required=required, type=Path, metavar="FILE", help="MSID encoder, e.g. msid.pt")
    parser.add_argument(
        "--mapping", required=required, type=Path, metavar="FILE", help="mapping network, e.g. mapping.pt"
    )


def _faces(parser: argparse.ArgumentParser) -> None:
    faces = parser.add_argument_group("which face")
    source = faces.add_mutually_exclusive_group()
    source.add_argument("--aligned", action="store_true", help="the images are ready 112x112 face crops")
    source.add_argument(
        "--landmarks",
        metavar="JSON",
        help="a file or text: five [x, y] px (eyes, nose tip, mouth corners, image left first), "
        "or a list of such lists for several images",
    )
    source.add_argument(
        "--detector",
        default="auto",
        metavar="NAME",
        help="yunet, insightface, facexlib or auto (default; yunet with --detector-weights)",
    )
    faces.add_argument(
        "--detector-weights", type=Path, metavar="FILE", help="the detector's file, e.g. yunet_n_640_640.onnx"
    )
    faces.add_argument(
        "--order",
        default="largest",
        help="how faces are counted: largest (default), left-right, top-bottom, large-small, score",
    )
    faces.add_argument(
        "--index", type=int, default=0, metavar="N", help="which face in that order, from 0 (default: 0)"
    )
    faces.add_argument("--threshold", type=float, metavar="0..1", help="how sure the detector must be (default: 0.6)")
    faces.add_argument(
        "--on-missing",
        choices=("error", "skip"),
        default="error",
        help="when a photo has no face: stop (default) or leave it out",
    )


def _expression(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("expression")
    group.add_argument("--expression", type=Path, metavar="IMAGE", help="a face whose expression is taken over")
    group.add_argument("--expression-encoder", type=Path, metavar="FILE", help="e.g. epoch_20.pth of Deep3DFaceRecon")
    group.add_argument("--expression-landmarks", metavar="JSON", help="its five points, instead of a detector")
    group.add_argument(
        "--expression-strength",
        type=float,
        default=1.0,
        metavar="X",
        help="0 none, 1 as in the picture (default), above 1 exaggerated",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("s_star", type=Path, metavar="S_STAR", help="an identity file")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the embedding, .safetensors")
    parser.add_argument(
        "--position",
        type=int,
        metavar="N",
        help="which token of the prompt S* begins at, from 1 (`a photo of S*`: 4); needed by the published weights",
    )
    parser.add_argument(
        "--text-encoder",
        type=Path,
        metavar="FILE",
        help="an SD 1.x checkpoint, a CLIP file or a diffusers folder; needed with --position",
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="an identity, embedding, weight file or checkpoint")
    parser.add_argument("--json", action="store_true", help="for programs")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="msid.pt, mapping.pt or epoch_20.pth")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="overwrite --out")


def _generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--s-star", required=True, nargs="+", type=Path, metavar="FILE", help="identity files")
    parser.add_argument(
        "--prompt", required=True, help="with the marker of every person; weights such as (S*:1.2) work"
    )
    parser.add_argument("--negative", default="", help="what the picture should not show")
    parser.add_argument(
        "--strength",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="X",
        help="of each person: 0 the class word, 1 the person (default)",
    )
    parser.add_argument(
        "--marker", nargs="+", metavar="WORD", help="other markers than the files', one for each person"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the pictures go")
    _model(parser, required=True)
    _sampling(parser)


def _model(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--model",
        required=required,
        metavar="DIR|FILE|ID",
        help="Stable Diffusion 1.x: a diffusers folder, a single file, or a hub ID",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="CLIP tokenizer for a single file (default: ComfyUI's, found by COMFYUI_PATH)",
    )
    parser.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-download", action="store_true", help="fetch the hub ID if it is not in the local cache"
    )
    parser.add_argument("-n", type=int, default=1, metavar="N", help="number of pictures (default: 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first picture (default: 0)")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="default: 30, Euler ancestral")
    parser.add_argument("--cfg", type=float, default=7.0, metavar="X", help="guidance scale (default: 7.0)")
    parser.add_argument("--size", type=_size, metavar="WxH", help="default: the model's own, 512x512 for SD 1.x")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected width x height in px, such as 512x768")
    return int(width), int(height)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        action="append",
        type=Path,
        metavar="DIR",
        help="where weights are, may be given several times (default: models/face2diffusion of the "
        "ComfyUI at COMFYUI_PATH, and ./models)",
    )


def _fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="msid, mapping, yunet …; without one: a list of all")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="default: models/face2diffusion of the ComfyUI at COMFYUI_PATH, or here"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="an address below which the files lie under their names (default: F2D_MIRROR)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask: the licence shown is agreed to")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photo", type=Path, metavar="FILE", help="default: scikit-image's public-domain portrait")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")
    parser.add_argument("--prompt", default="a photo of S* as a chef", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--landmarks", metavar="JSON", help="five points of --photo, see `encode --help`")
    parser.add_argument("--detector", default="auto", metavar="NAME", help="see `encode --help`")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE", help="see `encode --help`")
    _networks(parser, required=False)
    _model(parser, required=False)


def _train_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a TOML file with settings")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, on top of the file; repeatable"
    )
    parser.add_argument("--defaults", action="store_true", help="print a file with every setting, and stop")


def _train_msid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a TOML file; see --defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, on top of the file; repeatable"
    )
    parser.add_argument("--defaults", action="store_true", help="print a file with every setting, and stop")


def _verify_msid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--msid", required=True, type=Path, metavar="FILE", help="any MSID encoder, e.g. msid.pt")
    parser.add_argument(
        "--pairs", action="append", default=[], type=Path, metavar="FILE", help="a .bin pair set, e.g. lfw.bin"
    )
    parser.add_argument(
        "--folder", action="append", default=[], type=Path, metavar="DIR", help="face crops, one folder per person"
    )
    parser.add_argument(
        "--draws", type=int, default=10, metavar="N", help="triplets per person of a folder (default: 10)"
    )
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="pictures at once (default: 64)")
    parser.add_argument("--resize", action="store_true", help="scale square pictures of another size")
    parser.add_argument("--device", help="cpu, cuda … (default: the best there is)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where histograms and verification.json go")
    parser.add_argument("--json", action="store_true", help="for programs")


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="photos of faces, in sub-folders too; or triplets, see --triplets"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="CACHE", help="a folder: a new one, or one to go on with"
    )
    parser.add_argument("--msid", required=True, type=Path, metavar="FILE", help="MSID encoder, e.g. msid.pt")
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR|FILE",
        help="the Stable Diffusion 1.x to be trained on: a diffusers folder or a single file",
    )
    parser.add_argument("--expression-encoder", type=Path, metavar="FILE", help="e.g. epoch_20.pth of Deep3DFaceRecon")
    _setting(parser, "--caption", help=f"of photos without a .txt beside them (default: {DEFAULT_TEMPLATE})")
    _setting(
        parser,
        "--features",
        metavar="KIND",
        help="msid, dreamidentity, or auto (default): dreamidentity for a plain ArcFace encoder, else msid",
    )
    parser.add_argument("--device", help="cpu, cuda … (default: cuda if there is one)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="photos at once (default: 4)")
    _masks(parser)
    _crops(parser)


def _masks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which part of a picture is the person")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--parser", type=Path, metavar="FILE", help="face parser, e.g. parsing_bisenet.pth")
    source.add_argument(
        "--masks", type=Path, metavar="DIR", help="ready masks: as large as the photos, named alike, face white"
    )
    source.add_argument(
        "--triplets", action="store_true", help="FOLDER holds editing triplets, as `augment` makes them: no masks"
    )
    _setting(group, "--mask", help="face (default), face_no_glasses, face_hair, head")
    _setting(group, "--hard-mask", action="store_true", help="without a soft edge")


def _crops(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how photos are cropped")
    _setting(group, "--size", type=int, metavar="PX", help="of the square pictures (default: 512)")
    _setting(group, "--already-cropped", action="store_true", help="the photos are FFHQ-style crops, taken whole")
    _setting(group, "--max-outside", type=float, metavar="0..1", help="of a crop that may be missing (default: 0.3)")
    _setting(group, "--max-enlargement", type=float, metavar="X", help="smaller faces are left out (default: 2)")
    group.add_argument("--detector", default="auto", metavar="NAME", help="see `encode --help`")
    group.add_argument("--detector-weights", type=Path, metavar="FILE", help="see `encode --help`")
    _setting(group, "--threshold", type=float, metavar="0..1", help="how sure the detector must be (default: 0.6)")


def _augment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="?", type=Path, metavar="NAMES", help="a text file, one name a line")
    parser.add_argument("--out", type=Path, metavar="AUG", help="a folder: a new one, or one to go on with")
    _model(parser, required=False)
    parser.add_argument(
        "--identity", type=Path, metavar="FILE", help="face recognition to clean with: msid.pt, ArcFace, AdaFace, …"
    )
    parser.add_argument("--clip", type=Path, metavar="FILE|DIR", help="CLIP to clean with: ViT-L/14 of OpenAI")
    parser.add_argument("--clip-model", default="", metavar="NAME", help="its name in open_clip, if the file needs it")
    parser.add_argument("--shard", metavar="I/N", help="do share I, from 0, of N processes (default: torchrun's)")
    parser.add_argument("--plan", action="store_true", help="show names, prompts and counts, and stop")
    parser.add_argument("--example-names", action="store_true", help="print a short list of names, and stop")
    _augment_texts(parser)
    _augment_pictures(parser)
    _augment_choice(parser)


def _augment_texts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("names and prompts")
    group.add_argument("--held-out", type=Path, metavar="FILE", help="names of test faces, which are left out")
    group.add_argument("--held-out-faces", type=Path, metavar="DIR", help="test faces: nobody like them is kept")
    group.add_argument(
        "--keep-near-duplicates", action="store_true", help="do not merge names that differ by a slip or an initial"
    )
    group.add_argument("--prompts", type=Path, metavar="FILE", help="more editing prompts with S*, one a line")
    group.add_argument("--only-my-prompts", action="store_true", help="leave the paper's eight prompts out")
    _setting(group, "--face-prompt", metavar="TEXT", help='of source pictures (default: "{name} face, looking at …")')


def _augment_pictures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how pictures are made")
    _setting(group, "--faces-per-name", type=int, metavar="N", help="source pictures of each name (default: 4)")
    _setting(group, "--edits-per-prompt", type=int, metavar="N", help="of each source face (default: 1)")
    _setting(group, "--sampler", help="ddim (default) or euler_ancestral")
    _setting(group, "--steps", type=int, metavar="N", help="default: 30")
    _setting(group, "--cfg", type=float, metavar="X", help="guidance scale (default: 7.5)")
    _setting(group, "--size", type=int, metavar="PX", help="of the square pictures (default: 512)")
    _setting(group, "--negative", metavar="TEXT", help="what no picture should show")
    _setting(group, "--seed", type=int, metavar="N", help="default: 0")
    _setting(group, "--crop", help="of the source face: ffhq (default) or box")
    _setting(group, "--min-face-px", type=int, metavar="PX", help="a source face must be larger (default: 128)")
    group.add_argument("--detector", default="auto", metavar="NAME", help="see `encode --help`")
    group.add_argument("--detector-weights", type=Path, metavar="FILE", help="see `encode --help`")
    _setting(group, "--threshold", type=float, metavar="0..1", help="how sure the detector must be (default: 0.6)")


def _augment_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which pictures are kept")
    _setting(group, "--keep", type=float, metavar="0..1", help="the part of each prompt's pictures (default: 0.25)")
    _setting(group, "--subject", metavar="TEXT", help='for S* in the compared text (default: "a person"; or {name})')
    _setting(
        group, "--held-out-similarity", type=float, metavar="X", help="from which on a face is left out (default: 0.4)"
    )


def _setting(group: argparse._ActionsContainer, name: str, **options: Any) -> None:
    """An option that is absent unless given, so that its default stands in one place, the settings."""
    group.add_argument(name, default=argparse.SUPPRESS, **options)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", metavar="PLAN", help="a TOML file, or a shipped plan: face2diffusion, dreamidentity")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder, or one to go on with")
    parser.add_argument("--faces", type=Path, metavar="DIR", help="photos, one of each face")
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="NAME", help="of the plan (default: those of `run`)"
    )
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="also score pictures made otherwise, DIR/face/prompt/n.png; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="print the names of faces, prompts and methods, and stop")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one key, on top of the plan; repeatable"
    )
    _evaluate_makers(parser)
    _evaluate_judges(parser)


def _evaluate_makers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what makes the pictures")
    _model(group, required=False)
    _networks(group, required=False)
    group.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a running ComfyUI with this pack, instead of --model; repeatable; --msid and --mapping are names there",
    )
    group.add_argument("--checkpoint", metavar="NAME", help="on the servers (default: the only one there is)")
    group.add_argument("--shard", metavar="I/N", help="make part I of N only, for example 1/4, and score nothing")
    group.add_argument("--make-only", action="store_true", help="make the pictures and score nothing")


def _evaluate_judges(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what judges them")
    group.add_argument(
        "--extractors",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder with the judging networks; repeatable (default: the folders of `doctor`)",
    )
    group.add_argument("--detector", default="auto", metavar="NAME", help="see `encode --help`")
    group.add_argument("--detector-weights", type=Path, metavar="FILE", help="see `encode --help`")
    group.add_argument("--real", type=Path, metavar="DIR", help="real pictures, for FID and KID")


_COMMANDS = {
    "encode": ("face photos become identity files (S*)", _encode),
    "generate": ("pictures of people in prompts", _generate),
    "prepare": ("a folder of face photos, or of editing triplets, becomes a data set to train on", _prepare),
    "export": ("an identity becomes a plain textual-inversion embedding", _export),
    "inspect": ("what a file is: sizes, metadata, hashes", _inspect),
    "convert": ("a published .pt or .pth file becomes safetensors", _convert),
    "augment": ("a list of names becomes editing data to train on, drawn by the base model itself", _augment),
    "train-mapping": ("train a mapping network on prepared photos, on many GPUs with torchrun", _train_mapping),
    "train-msid": ("train an identity encoder on pictures of many people, on many GPUs with torchrun", _train_msid),
    "verify-msid": ("how well an identity encoder tells people apart, level by level", _verify_msid),
    "fetch": ("download a published file, after showing its size and licence", _fetch),
    "evaluate": ("pictures of a plan, made and scored as in the papers: tables, plots, a report", _evaluate),
    "doctor": ("versions, weights and a self-test", _doctor),
    "demo": ("the whole way from a photo to a picture, with small stand-ins for missing weights", _demo),
}
