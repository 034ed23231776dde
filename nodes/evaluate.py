"""Load Likeness Models, Likeness, Best of N, Face Report."""

from __future__ import annotations

from . import host, host_judges, sockets
from .face import choice_inputs, detector_input
from .host import io

AUTO, NONE = "auto", "none"  # as in judging.py, which is not read at ComfyUI's start
_ALIASES = ["face2diffusion", "similarity", "face similarity", "evaluate"]


class LoadJudges(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DLoadJudges",
            display_name="Load Likeness Models",
            description=(
                "Loads the networks that judge pictures: who is on them, and whether they show what the prompt says."
                " Takes whichever are there, and says which."
            ),
            search_aliases=[*_ALIASES, "adaface", "arcface", "facenet", "clip score"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "identity",
                    options=[AUTO, NONE, *host_judges.judge_files()],
                    default=AUTO,
                    tooltip="Who is on the picture. auto: every face recognition network in models/face2diffusion "
                    "(AdaFace, SphereFace, FaceNet, ArcFace); they are recognised by content.",
                ),
                io.Combo.Input(
                    "text",
                    options=[AUTO, NONE, *host_judges.judge_files()],
                    default=AUTO,
                    tooltip="What is on the picture. auto: the connected CLIP vision, else the first of CLIP ViT-H/14, "
                    "ViT-L/14 and SigLIP in models/face2diffusion. Only Best of N needs it.",
                ),
                sockets.MSID.Input(
                    "msid",
                    optional=True,
                    tooltip="From Load MSID Encoder: judges identity where nothing else does. Not independent, since "
                    "S* is made with it.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="ComfyUI's own CLIP vision model as the judge of pictures, together with clip.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder of the same CLIP as clip_vision. Those of SD 1.x checkpoints lack the "
                    "part that compares with pictures.",
                ),
                sockets.JUDGES.Input("more", optional=True, tooltip="Other likeness models, to have these and those."),
            ],
            outputs=[sockets.JUDGES.Output("judges"), io.String.Output("report")],
        )

    @classmethod
    def validate_inputs(cls, identity, text):
        chosen = [(name, kind) for name, kind in ((identity, "adaface_ir50"), (text, "clip_h14"))]
        messages = [host.file_message(name, kind) for name, kind in chosen if name not in (AUTO, NONE)]
        return next((message for message in messages if message), True)

    @classmethod
    def fingerprint_inputs(cls, identity, text, **_others):
        from . import judging  # not at the start of ComfyUI

        return judging.fingerprint(identity, text)

    @classmethod
    def execute(cls, identity, text, msid=None, clip_vision=None, clip=None, more=None) -> io.NodeOutput:
        from . import judging  # not at the start of ComfyUI

        return judging.load_judges(cls, identity, text, msid, clip_vision, clip, more)


class Likeness(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DLikeness",
            display_name="Likeness",
            description=(
                "How alike is it? Compares pictures with photos of the person. With several photos it says where a"
                " picture falls among the person's own photos."
            ),
            search_aliases=[*_ALIASES, "how alike", "identity score", "same person"],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            inputs=[
                _judges_input(),
                io.Image.Input("image", tooltip="The pictures to judge, one or a batch."),
                io.Image.Input(
                    "references",
                    tooltip="Photos of the person, one or a batch. Three or more give a verdict; one gives a number.",
                ),
                detector_input(),
                *choice_inputs(),
                *_more_references(),
                *_face_sources(),
                _reference_landmarks(),
            ],
            outputs=[io.Image.Output("preview"), io.String.Output("report"), io.String.Output("table")],
        )

    @classmethod
    def execute(
        cls,
        judges,
        image,
        references,
        detector,
        order,
        index,
        references_2=None,
        references_3=None,
        references_4=None,
        faces=None,
        face_landmarks=None,
        reference_landmarks=None,
    ) -> io.NodeOutput:
        from . import judging  # not at the start of ComfyUI

        finder = judging.Finder(detector, order, index, faces, face_landmarks, reference_landmarks)
        photos = (references, references_2, references_3, references_4)
        return judging.likeness_of(cls, judges, image, photos, finder)


class BestOfN(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DBestOfN",
            display_name="Best of N",
            description=(
                "Keeps the best pictures of a batch: those that are most alike and show best what the prompt says."
            ),
            search_aliases=[*_ALIASES, "best image", "pick best", "select", "rank", "filter"],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            inputs=[
                _judges_input(),
                io.Image.Input("image", tooltip="The pictures to choose from, a batch."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What the pictures should show. Empty: only the likeness counts.",
                ),
                io.String.Input(
                    "marker",
                    default="S*",
                    tooltip='The word for the person in the prompt, read as "a person". Several with commas between.',
                ),
                io.Int.Input("keep", default=1, min=1, max=4096, tooltip="How many pictures are kept, best first."),
                detector_input(),
                *choice_inputs(),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Photos of the person, one or a batch. Not connected: only the prompt counts.",
                ),
                *_more_references(),
                *_face_sources(),
                _reference_landmarks(),
            ],
            outputs=[
                io.Image.Output("images"),
                io.String.Output("indices"),
                io.Int.Output("best"),
                io.String.Output("report"),
            ],
        )

    @classmethod
    def execute(
        cls,
        judges,
        image,
        prompt,
        marker,
        keep,
        detector,
        order,
        index,
        references=None,
        references_2=None,
        references_3=None,
        references_4=None,
        faces=None,
        face_landmarks=None,
        reference_landmarks=None,
    ) -> io.NodeOutput:
        from . import judging  # not at the start of ComfyUI

        finder = judging.Finder(detector, order, index, faces, face_landmarks, reference_landmarks)
        photos = (references, references_2, references_3, references_4)
        return judging.best_of(cls, judges, image, prompt, marker, keep, photos, finder)


class FaceReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DFaceReport",
            display_name="Face Report",
            description=(
                "Is this photo good enough? Size, sharpness, pose, light, what covers the face and its expression, with"
                " advice, before the photo becomes S*."
            ),
            search_aliases=[*_ALIASES, "quality", "reference check", "blur", "head pose"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The photo, or a batch."),
                detector_input(),
                *choice_inputs(),
                io.Combo.Input(
                    "parser",
                    options=[AUTO, NONE, *host_judges.judge_files()],
                    default=AUTO,
                    tooltip="The face parser in models/face2diffusion (parsing_bisenet.pth), which sees what covers "
                    "the face. auto: if it is there.",
                ),
                *_face_sources(),
                sockets.EXPRESSION_ENCODER.Input(
                    "expression_encoder",
                    optional=True,
                    tooltip="From Load Expression Encoder: says how strong the expression is.",
                ),
            ],
            outputs=[io.Image.Output("preview"), io.String.Output("report"), io.Boolean.Output("usable")],
        )

    @classmethod
    def validate_inputs(cls, parser):
        return True if parser in (AUTO, NONE) else host.file_message(parser, "parser") or True

    @classmethod
    def execute(
        cls, image, detector, order, index, parser, faces=None, face_landmarks=None, expression_encoder=None
    ) -> io.NodeOutput:
        from . import judging  # not at the start of ComfyUI

        finder = judging.Finder(detector, order, index, faces, face_landmarks)
        return judging.report_of(cls, image, parser, expression_encoder, finder)


def _judges_input():
    return sockets.JUDGES.Input("judges", tooltip="From Load Likeness Models.")


def _more_references() -> list:
    tooltip = "More photos of the same person, of another size than the first."
    return [io.Image.Input(f"references_{n}", optional=True, tooltip=tooltip) for n in (2, 3, 4)]


def _face_sources() -> list:
    return [
        sockets.FACES.Input(
            "faces", optional=True, tooltip="Faces of image from Detect Faces, so that nothing is detected twice."
        ),
        sockets.FACE_LANDMARKS.Input(
            "face_landmarks",
            optional=True,
            tooltip="Landmarks of image by ComfyUI's own face landmarker; no detector file is needed then.",
        ),
    ]


def _reference_landmarks():
    return sockets.FACE_LANDMARKS.Input(
        "reference_landmarks", optional=True, tooltip="The same of references; the other inputs need the detector."
    )
