"""Prepare Face Dataset, Prepare Editing Triplets."""

from __future__ import annotations

from ..f2d_core.constants import MASK_PRESETS
from ..f2d_core.detect import DEFAULT_THRESHOLD
from ..f2d_core.detectors import DETECTORS
from . import host, sockets
from .face import any_detector_input
from .host import io


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
        from . import preparation  # not at the start of ComfyUI: most people never train

        return preparation.fingerprint(folder, name, masks)

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
        from . import preparation  # not at the start of ComfyUI: most people never train

        settings = preparation.PrepareSettings(
            size, already_cropped, max_outside, max_enlargement, threshold, mask, hard_mask
        )
        networks = (vae, msid, expression_encoder)
        return preparation.prepare_dataset(folder, name, networks, parser, detector, settings, masks)


class PrepareTriplets(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DPrepareTriplets",
            display_name="Prepare Editing Triplets",
            description=(
                "Turns editing triplets (a face, a prompt, the picture it gave) into data for Train Mapping Network:"
                " features of the face, latents of the picture. Goes on after a cancel. Look at the contact sheet."
            ),
            search_aliases=["face2diffusion", "dreamidentity", "editability", "augmentation", "dataset", "train"],
            is_output_node=True,
            inputs=_triplet_inputs(),
            outputs=[
                sockets.TRIPLETS.Output("triplets"),
                io.Image.Output("contact_sheet"),
                io.String.Output("report"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder, **_others):
        from . import preparation  # not at the start of ComfyUI: most people never train

        return preparation.triplets_fingerprint(folder)

    @classmethod
    def execute(cls, folder, name, vae, msid, detector, size, max_enlargement, threshold) -> io.NodeOutput:
        from . import preparation  # not at the start of ComfyUI: most people never train

        settings = preparation.TripletSettings(size, max_enlargement, threshold)
        return preparation.prepare_editing_triplets(folder, name, (vae, msid), detector, settings)


def _triplet_inputs() -> list:
    return [
        io.String.Input(
            "folder",
            default="editing",
            tooltip=(
                "The folder with kept.jsonl, made by Make Editing Triplets: connect its folder output, or give an"
                " absolute path, or a folder in ComfyUI's input folder."
            ),
        ),
        io.String.Input(
            "name",
            default="editing",
            tooltip="Of the prepared triplets, in output/face2diffusion/triplets. The same name goes on with them.",
        ),
        io.Vae.Input("vae", tooltip="The VAE of the checkpoint that will be trained on, as for the photos."),
        sockets.MSID.Input("msid", tooltip="From Load MSID Encoder, the same one as for the photos."),
        io.Combo.Input(
            "detector",
            options=["auto", *DETECTORS],
            default="auto",
            tooltip="What finds the face where the triplets do not say where it is. auto: the first that is there.",
        ),
        io.Int.Input(
            "size",
            default=512,
            min=64,
            max=1024,
            step=8,
            tooltip="Side of the pictures trained on, px, as for the photos.",
        ),
        *_advanced_triplet_inputs(),
    ]


def _advanced_triplet_inputs() -> list:
    return [item for item in _advanced_crop_inputs() if item.id in ("max_enlargement", "threshold")]


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
            options=list(MASK_PRESETS),
            default="face",
            tooltip=(
                "What is learnt as the person: the face, without glasses, with hair, or the whole head. The rest stays"
                " as the base model would draw it."
            ),
        ),
    ]


def _crop_inputs() -> list:
    return [
        any_detector_input(),
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
            default=DEFAULT_THRESHOLD,
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
