"""Make Editing Triplets."""

from __future__ import annotations

from ..f2d_core.augment.settings import CROPS, FFHQ
from ..f2d_core.augment.texts import EXAMPLE_NAMES, FACE_PROMPT
from ..f2d_core.constants import DDIM, DEFAULT_CLASS_WORD, SAMPLERS
from ..f2d_core.detect import DEFAULT_THRESHOLD
from ..f2d_core.evaluate.prompts import DREAMIDENTITY_PROMPTS
from . import host, sockets
from .face import any_detector_input
from .host import io


class Augment(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DAugment",
            display_name="Make Editing Triplets",
            description=(
                "Draws people that the base model knows, edits them by prompts and keeps the best: data that teaches a"
                " mapping network to follow prompts (DreamIdentity). Goes on after a cancel. Look at the contact sheet."
            ),
            search_aliases=["face2diffusion", "dreamidentity", "editability", "augmentation", "dataset", "names"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*_model_inputs(), *_text_inputs(), *_amount_inputs(), *_advanced_inputs(), *_held_out_inputs()],
            outputs=[io.String.Output("folder"), io.Image.Output("contact_sheet"), io.String.Output("report")],
        )

    @classmethod
    def fingerprint_inputs(cls, name, names, held_out="", held_out_faces="", **_others):
        from . import augmentation  # not at the start of ComfyUI: most people never train

        return augmentation.fingerprint(name, names, held_out, held_out_faces)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        judges,
        name,
        names,
        prompts,
        faces_per_name,
        edits_per_prompt,
        keep,
        detector,
        seed,
        steps,
        cfg,
        sampler,
        size,
        negative,
        face_prompt,
        crop,
        min_face_px,
        threshold,
        subject,
        near_duplicates,
        held_out="",
        held_out_faces="",
        held_out_similarity=0.4,
    ) -> io.NodeOutput:
        from . import augmentation  # not at the start of ComfyUI: most people never train

        settings = augmentation.AugmentSettings(
            faces_per_name=faces_per_name,
            edits_per_prompt=edits_per_prompt,
            face_prompt=face_prompt,
            negative=negative,
            sampler=sampler,
            steps=steps,
            cfg=cfg,
            size=size,
            seed=seed,
            crop=crop,
            min_face_px=min_face_px,
            threshold=threshold,
            keep=keep,
            subject=subject,
            held_out_similarity=held_out_similarity,
        )
        texts = augmentation.Texts(names, prompts, near_duplicates, held_out, held_out_faces)
        models = (model, clip, vae, judges, detector)
        return augmentation.make_triplets(name, texts, models, settings, cls.hidden.unique_id)


def _model_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="The base model that will be trained on: SD 1.x or 2.x. It is not changed."),
        io.Clip.Input("clip", tooltip="Its text encoder."),
        io.Vae.Input("vae", tooltip="Its VAE."),
        sockets.JUDGES.Input(
            "judges",
            tooltip=(
                "From Load Likeness Models: the first for identity and the first for text choose the best pictures."
                " They should not be those that you judge results with later."
            ),
        ),
    ]


def _text_inputs() -> list:
    return [
        io.String.Input(
            "name",
            default="editing",
            tooltip="Of the data set, in output/face2diffusion/editing. The same name goes on with it.",
        ),
        io.String.Input(
            "names",
            default="\n".join(EXAMPLE_NAMES),
            multiline=True,
            tooltip=(
                "People that the model knows, one a line, or a .txt file: an absolute path, or one in ComfyUI's input"
                " folder. Spellings of one person are merged. The paper had 1,015 names; these are an example."
            ),
        ),
        io.String.Input(
            "prompts",
            default="\n".join(DREAMIDENTITY_PROMPTS),
            multiline=True,
            tooltip="Editing prompts with S*, one a line, or a .txt file. These eight are the paper's; add at the end.",
        ),
    ]


def _amount_inputs() -> list:
    return [
        io.Int.Input("faces_per_name", default=4, min=1, max=1000, tooltip="Source pictures of each name."),
        io.Int.Input("edits_per_prompt", default=1, min=1, max=1000, tooltip="Of each source face and prompt."),
        io.Float.Input(
            "keep",
            default=0.25,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="The part of each prompt's pictures that is kept. May be changed later: no picture is made anew.",
        ),
        any_detector_input(),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="Each picture's own seed comes from this, its name and its prompt.",
        ),
    ]


def _advanced_inputs() -> list:
    def advanced(make, name, **kwargs):
        return host.newer(make, name, advanced=True, **kwargs)

    return [
        advanced(io.Int.Input, "steps", default=30, min=1, max=1000, tooltip="Of the sampler."),
        advanced(io.Float.Input, "cfg", default=7.5, min=0.0, max=100.0, step=0.1, tooltip="Guidance scale."),
        advanced(
            io.Combo.Input, "sampler", options=list(SAMPLERS), default=DDIM, tooltip="ddim is the paper's choice."
        ),
        advanced(
            io.Int.Input,
            "size",
            default=512,
            min=64,
            max=2048,
            step=8,
            tooltip="Side of the square pictures, px: 512 for SD 1.x.",
        ),
        advanced(io.String.Input, "negative", default="", tooltip="What no picture should show."),
        advanced(
            io.String.Input,
            "face_prompt",
            default=FACE_PROMPT,
            tooltip="Of the source pictures; {name} is the place of the name.",
        ),
        advanced(
            io.Combo.Input,
            "crop",
            options=list(CROPS),
            default=FFHQ,
            tooltip="How a source face is cut out. ffhq: turned upright, with hair and neck. box: the detector's box.",
        ),
        advanced(
            io.Int.Input,
            "min_face_px",
            default=128,
            min=0,
            max=2047,
            tooltip="Source faces are left out unless the short side of their box is larger.",
        ),
        advanced(
            io.Float.Input,
            "threshold",
            default=DEFAULT_THRESHOLD,
            min=0.05,
            max=0.99,
            step=0.01,
            tooltip="How sure the detector must be.",
        ),
        advanced(
            io.String.Input,
            "subject",
            default=DEFAULT_CLASS_WORD,
            tooltip="What stands for S* in the text that pictures are compared with; {name} is the person's name.",
        ),
        advanced(
            io.Boolean.Input,
            "near_duplicates",
            default=True,
            tooltip="Merge names that differ by a slip of the pen or a middle initial.",
        ),
    ]


def _held_out_inputs() -> list:
    return [
        io.String.Input(
            "held_out",
            default="",
            multiline=True,
            optional=True,
            tooltip="Names of people you will test with, one a line, or a .txt file: they are left out.",
        ),
        io.String.Input(
            "held_out_faces",
            default="",
            optional=True,
            tooltip="A folder with pictures of test faces: source faces that look like one of them are left out.",
        ),
        host.newer(
            io.Float.Input,
            "held_out_similarity",
            advanced=True,
            default=0.4,
            min=-0.99,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="From this likeness on, by the first identity network, a source face is left out.",
        ),
    ]
