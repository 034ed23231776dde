"""Prepare Face Dataset."""

from __future__ import annotations

from pathlib import Path

from ..f2d_core.data.cache import REPORT, Cache
from ..f2d_core.data.masks import PRESETS
from ..f2d_core.data.parser import FaceParser, load_parser
from ..f2d_core.data.prepare import Models, find_sources, prepare
from ..f2d_core.data.settings import PrepareSettings
from ..f2d_core.detectors import DETECTORS
from ..f2d_core.errors import F2DError, WeightsError
from ..f2d_core.files import require_plain_name
from ..f2d_core.image import read_image
from . import host, host_training, sockets
from .face import detector_named
from .host import io

_REASONS_SHOWN = 30


class PrepareDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DPrepareDataset",
            display_name="Prepare Face Dataset",
            description=(
                "Turns a folder of photos into a data set for Train Mapping Network: crops, features, latents, masks,"
                " each computed once. Goes on after a cancel. Look at the contact sheet before you train."
            ),
            search_aliases=["face2diffusion", "dataset", "training data", "ffhq crop", "face folder", "train"],
            is_output_node=True,
            inputs=[*_source_inputs(), *_mask_inputs(), *_crop_inputs(), *_optional_inputs()],
            outputs=[
                sockets.DATASET.Output("dataset"),
                io.Image.Output("contact_sheet"),
                io.String.Output("report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, parser, masks=None):
        return True if masks else host.file_message(parser, "parser") or True

    @classmethod
    def fingerprint_inputs(cls, folder, name, masks="", **_others):
        try:
            sources = find_sources(*_folders(folder, masks), _dataset_folder(name))
            return [(source.name, source.stamp) for source in sources.values()]
        except (F2DError, OSError):  # execute says what is wrong
            return None

    @classmethod
    def execute(
        cls,
        folder,
        name,
        vae,
        msid,
        parser,
        mask,
        detector,
        size,
        already_cropped,
        hard_mask,
        max_outside,
        max_enlargement,
        threshold,
        expression_encoder=None,
        masks="",
    ) -> io.NodeOutput:
        photos, ready_masks = _folders(folder, masks)
        settings = PrepareSettings(size, already_cropped, max_outside, max_enlargement, threshold, mask, hard_mask)
        codec = host_training.LatentCodec(vae)
        models = Models(
            msid, expression_encoder, codec, codec.sha256, detector_named(detector), ready_masks or _parser(parser)
        )
        cache = prepare(photos, _dataset_folder(name), models, settings, progress=host.progress(1))
        sheet = cache.folder / REPORT
        report = _prepared(cache)
        shown = {**host_training.saved_images([sheet]), **host.ui.PreviewText(report).as_dict()}
        return io.NodeOutput(cache, sockets.image([read_image(sheet)]), report, ui=shown)


def _source_inputs() -> list:
    return [
        io.String.Input(
            "folder",
            default="faces",
            tooltip="The folder with the photos: an absolute path, or a folder inside ComfyUI's input folder.",
        ),
        io.String.Input(
            "name",
            default="faces",
            tooltip="Of the data set, in output/face2diffusion/datasets. The same name goes on with it.",
        ),
        io.Vae.Input("vae", tooltip="The VAE of the checkpoint that will be trained on (SD 1.x or 2.x)."),
        sockets.MSID.Input("msid", tooltip="From Load MSID Encoder. The mapping will belong to this encoder."),
    ]


def _mask_inputs() -> list:
    return [
        io.Combo.Input(
            "parser",
            options=_parser_files(),
            tooltip="The face parser in models/face2diffusion (parsing_bisenet.pth). Not read when masks are given.",
        ),
        io.Combo.Input(
            "mask",
            options=list(PRESETS),
            default="face",
            tooltip=(
                "What is learnt as the person: the face, without glasses, with hair, or the whole head. The rest stays"
                " as the base model would draw it."
            ),
        ),
    ]


def _crop_inputs() -> list:
    return [
        io.Combo.Input(
            "detector",
            options=["auto", *DETECTORS],
            default="auto",
            tooltip="What finds the faces. auto takes the first that is installed and has its file: "
            + ", ".join(DETECTORS),
        ),
        io.Int.Input(
            "size",
            default=512,
            min=64,
            max=1024,
            step=8,
            tooltip="Side of the pictures trained on, px: 512 for SD 1.x.",
        ),
        io.Boolean.Input(
            "already_cropped",
            default=False,
            tooltip="The photos are square FFHQ-style crops: take them whole instead of cutting around the face.",
        ),
        *_advanced_crop_inputs(),
    ]


def _advanced_crop_inputs() -> list:
    return [
        host.newer(io.Boolean.Input, "hard_mask", advanced=True, default=False, tooltip="A mask without a soft edge."),
        host.newer(
            io.Float.Input,
            "max_outside",
            advanced=True,
            default=0.3,
            min=0.0,
            max=0.95,
            step=0.05,
            tooltip="Photos are rejected when more than this part of the crop lies outside them.",
        ),
        host.newer(
            io.Float.Input,
            "max_enlargement",
            advanced=True,
            default=2.0,
            min=1.0,
            max=8.0,
            step=0.1,
            tooltip="Photos are rejected when the face would have to be enlarged more than this: S* would learn blur.",
        ),
        host.newer(
            io.Float.Input,
            "threshold",
            advanced=True,
            default=PrepareSettings.threshold,
            min=0.05,
            max=0.99,
            step=0.01,
            tooltip="How sure the detector must be.",
        ),
    ]


def _optional_inputs() -> list:
    return [
        sockets.EXPRESSION_ENCODER.Input(
            "expression_encoder",
            optional=True,
            tooltip="From Load Expression Encoder: the mapping then learns to tell expression from identity.",
        ),
        io.String.Input(
            "masks",
            default="",
            optional=True,
            tooltip=(
                "A folder of ready masks instead of the parser: pictures as large as the photos and named alike, white"
                " where the face is. Empty: the parser makes them."
            ),
        ),
    ]


def _parser_files() -> list[str]:
    """Those that look like parsers first, since the list holds all weight files."""
    files = host.model_files("parser")
    return sorted(files, key=lambda name: not any(part in name.lower() for part in ("pars", "bisenet")))


def _parser(file: str) -> FaceParser:
    path = host.find_file(file)
    if path is None:
        raise WeightsError(host.file_message(file, "parser"))
    return load_parser(path, host.managed)


def _folders(folder: str, masks: str) -> tuple[Path, Path | None]:
    """(photos, ready masks)."""
    return host_training.readable_folder(folder), host_training.readable_folder(masks) if masks.strip() else None


def _dataset_folder(name: str) -> Path:
    return host_training.work_folder("datasets") / require_plain_name(name, "The data set name")


def _prepared(cache: Cache) -> str:
    lines = [f"{len(cache)} photos prepared, {len(cache.rejected)} rejected, in {cache.folder}"]
    lines += [f"{photo.name}: {photo.reason}" for photo in cache.rejected[:_REASONS_SHOWN]]
    if len(cache.rejected) > _REASONS_SHOWN:
        lines.append(f"… and {len(cache.rejected) - _REASONS_SHOWN} more: see manifest.json there.")
    return "\n".join(lines)
