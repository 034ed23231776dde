"""Detect Faces, Encode Face → S*, Expression Reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..f2d_core.align import align_expression, align_face
from ..f2d_core.detect import DEFAULT_THRESHOLD, ORDERS, Detection
from ..f2d_core.detectors import DETECTORS, auto_detector, build_detector, find_detector_weights
from ..f2d_core.draw import draw_faces
from ..f2d_core.encode import COMBINE, Crop, Expression, Labels, encode_faces, expression_features
from ..f2d_core.errors import NoFaceError
from ..f2d_core.image import rgb_sha256
from ..f2d_core.locate import ON_MISSING, Located, detect_all, detect_in_box, fill_missing, locate
from ..f2d_core.ports import Detector
from . import host, sockets
from .host import io
from .picking import faces_to_pick


def detector_input():
    """The choice of a detector, as every node that looks for faces has it."""
    return io.Combo.Input(
        "detector",
        options=["auto", *DETECTORS],
        default="auto",
        tooltip="What finds the face. auto takes the first that is installed and has its file: "
        + ", ".join(DETECTORS)
        + ". Not used when faces or face_landmarks are connected.",
    )


def any_detector_input():
    """The same where many pictures are looked through."""
    return io.Combo.Input(
        "detector",
        options=["auto", *DETECTORS],
        default="auto",
        tooltip="What finds the faces. auto takes the first that is installed and has its file: "
        + ", ".join(DETECTORS),
    )


def choice_inputs() -> list:
    """Which face is meant where there are several."""
    return [
        io.Combo.Input(
            "order",
            options=list(ORDERS),
            default=ORDERS[0],
            tooltip="How faces are counted when there are several: by size, or by place in the picture, or by score.",
        ),
        io.Int.Input(
            "index",
            default=0,
            min=0,
            max=999,
            tooltip="Which face in that order, counted from 0 as numbered in Detect Faces.",
        ),
    ]


def _source_inputs() -> list:
    return [
        sockets.FACES.Input(
            "faces", optional=True, tooltip="Faces from Detect Faces, so that nothing is detected twice."
        ),
        sockets.FACE_LANDMARKS.Input(
            "face_landmarks",
            optional=True,
            tooltip="Landmarks of ComfyUI's own face landmarker; no detector file is needed then.",
        ),
        sockets.BOUNDING_BOX.Input(
            "bounding_box",
            optional=True,
            # A socket alone: the frontend would draw a box of its own for this type, and send it with every prompt.
            extra_dict={"forceInput": True},
            tooltip="Says which face is meant; its points come from the detector inside the box.",
        ),
    ]


def detector_named(name: str) -> Detector:
    if name == "auto":
        return auto_detector(host.model_folders())
    return build_detector(name, find_detector_weights(host.model_folders()).get(name))


def _detections(pictures, detector: Callable[[], Detector], faces, face_landmarks) -> tuple[Detection, ...]:
    """From what is connected, else from the detector."""
    if face_landmarks is not None:
        return sockets.faces_of_landmarks(face_landmarks, pictures)
    if faces is not None:
        return sockets.faces_of(faces, pictures)
    return tuple(detect_all(pictures, detector(), DEFAULT_THRESHOLD, host.progress(len(pictures))))


def chosen_faces(pictures, detector_name, order, index, faces, face_landmarks, bounding_box):
    """The face of each picture, or the error that says why there is none."""
    return _all_and_chosen(pictures, detector_name, order, index, faces, face_landmarks, bounding_box)[1]


def _all_and_chosen(pictures, detector_name, order, index, faces, face_landmarks, bounding_box):
    """All faces of each picture, and what `chosen_faces` gives."""
    detector = cache(lambda: detector_named(detector_name))  # built once, and only if it is needed
    boxes = sockets.boxes(bounding_box, index, len(pictures))
    detections = _detections(pictures, detector, faces, face_landmarks)
    found = locate(detections, order, index, boxes)
    if boxes is None or faces is not None or face_landmarks is not None:
        return detections, found
    return detections, [
        _look_closer(detector(), rgb, box) if box is not None and isinstance(item, NoFaceError) else item
        for item, rgb, box in zip(found, pictures, boxes, strict=True)
    ]


def _look_closer(detector: Detector, rgb, box) -> Located | NoFaceError:
    """A face too small in the whole picture may be found in what is around its box."""
    return locate([detect_in_box(detector, rgb, box, DEFAULT_THRESHOLD)], ORDERS[0], 0, [box])[0]


def _report(found: list[Located | NoFaceError]) -> str:
    """A line for each picture of the input, counted from 0."""
    return "\n".join(
        f"{i}: face {item.face.score:.2f} ({item.how})" if isinstance(item, Located) else f"{i}: no usable face"
        for i, item in enumerate(found)
    )


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DDetectFaces",
            display_name="Detect Faces",
            description="Finds all faces and numbers them, so that the right person can be chosen by index.",
            search_aliases=["face detection", "yunet", "insightface", "facexlib", "face2diffusion"],
            inputs=[
                io.Image.Input("image", tooltip="One picture or a batch."),
                detector_input(),
                io.Float.Input(
                    "threshold",
                    default=DEFAULT_THRESHOLD,
                    min=0.05,
                    max=0.99,
                    step=0.01,
                    tooltip="How sure the detector must be. Lower finds more, also wrong ones.",
                ),
                choice_inputs()[0],
            ],
            outputs=[
                sockets.FACES.Output("faces"),
                io.Image.Output("preview"),
                io.Int.Output("count"),
                io.String.Output("report"),
            ],
        )

    @classmethod
    def execute(cls, image, detector, threshold, order) -> io.NodeOutput:
        pictures = sockets.pictures(image)
        found = detect_all(pictures, detector_named(detector), threshold, host.progress(len(pictures)))
        preview = sockets.image([draw_faces(rgb, d.faces, order) for rgb, d in zip(pictures, found, strict=True)])
        report = "\n".join(f"{i}: {len(d.faces)} faces ({d.detector}, {d.rung})" for i, d in enumerate(found))
        count = sum(len(d.faces) for d in found)
        faces = sockets.FoundFaces(tuple(found), sockets.sizes(pictures))
        shown = {**host.ui.PreviewImage(preview, cls=cls).as_dict(), **faces_to_pick(pictures, found)}
        return io.NodeOutput(faces, preview, count, report, ui=shown)


class EncodeFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DEncodeFace",
            display_name="Encode Face → S*",
            description=(
                "Turns a face photo into S*, the person as a word. Write the marker in a prompt and inject it there."
            ),
            search_aliases=["face2diffusion", "identity", "face to prompt", "S*", "encode face", "personalize"],
            inputs=[
                sockets.MSID.Input("msid", tooltip="From Load MSID Encoder."),
                sockets.MAPPING.Input("mapping", tooltip="From Load Mapping Network."),
                io.Image.Input("image", tooltip="A photo of the person, or a batch: one S* each, or their mean."),
                detector_input(),
                *choice_inputs(),
                host.newer(
                    io.Combo.Input,
                    "on_missing",
                    advanced=True,
                    options=list(ON_MISSING),
                    default="error",
                    tooltip=(
                        "A picture without a face: stop with an error, leave it out (skip), or repeat the one"
                        " before (previous)."
                    ),
                ),
                host.newer(
                    io.Combo.Input,
                    "combine",
                    advanced=True,
                    options=list(COMBINE),
                    default="each",
                    tooltip="each: one S* per picture. mean: all pictures show one person, give one S*.",
                ),
                io.String.Input(
                    "marker",
                    default="S*",
                    tooltip=("The word that stands for this person in prompts. Another for each person."),
                ),
                io.String.Input(
                    "name", default="", tooltip=("The person's name, for saved files and messages. May stay empty.")
                ),
                host.newer(
                    io.Boolean.Input,
                    "thumbnail",
                    advanced=True,
                    default=True,
                    tooltip=("Keep the 112 px crop in S*, so that saved identities have a picture."),
                ),
                *_source_inputs(),
                sockets.EXPRESSION.Input(
                    "expression",
                    optional=True,
                    tooltip=("From Expression Reference. Without it the prompt decides the expression."),
                ),
            ],
            outputs=[sockets.SSTAR.Output("s_star"), io.Image.Output("crop"), io.String.Output("report")],
        )

    @classmethod
    def execute(
        cls,
        msid,
        mapping,
        image,
        detector,
        order,
        index,
        on_missing,
        combine,
        marker,
        name,
        thumbnail,
        faces=None,
        face_landmarks=None,
        bounding_box=None,
        expression=None,
    ) -> io.NodeOutput:
        pictures = sockets.pictures(image)
        detections, found = _all_and_chosen(pictures, detector, order, index, faces, face_landmarks, bounding_box)
        pairs = [
            item if not isinstance(item, Located) else (rgb, item) for rgb, item in zip(pictures, found, strict=True)
        ]
        kept, _ = fill_missing(pairs, on_missing)
        crops = [Crop(align_face(rgb, item.face.points), rgb_sha256(rgb), item.how) for rgb, item in kept]
        labels = Labels(name.strip(), marker, thumbnail)
        people = encode_faces(crops, msid, mapping, expression, labels, combine, host.progress(len(crops)))
        preview = sockets.image([crop.pixels for crop in crops])
        to_pick = {} if bounding_box is not None else faces_to_pick(pictures, detections)  # a box is no number
        shown = {**host.ui.PreviewImage(preview, cls=cls).as_dict(), **to_pick}
        return io.NodeOutput(tuple(people), preview, _report(found), ui=shown)


class ExpressionReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DExpressionReference",
            display_name="Expression Reference",
            description=(
                "Copies the expression of a face (anybody's) onto the person, instead of leaving it to the prompt."
            ),
            search_aliases=["face2diffusion", "expression", "smile", "emotion"],
            inputs=[
                sockets.EXPRESSION_ENCODER.Input("expression_encoder", tooltip="From Load Expression Encoder."),
                io.Image.Input("image", tooltip="A face with the wanted expression, or a batch of them."),
                detector_input(),
                *choice_inputs(),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=3.0,
                    step=0.05,
                    tooltip="0: no expression asked for, 1: as in the picture, above 1: exaggerated.",
                ),
                *_source_inputs(),
            ],
            outputs=[sockets.EXPRESSION.Output("expression"), io.Image.Output("crop"), io.String.Output("report")],
        )

    @classmethod
    def execute(
        cls,
        expression_encoder,
        image,
        detector,
        order,
        index,
        strength,
        faces=None,
        face_landmarks=None,
        bounding_box=None,
    ) -> io.NodeOutput:
        pictures = sockets.pictures(image)
        found = chosen_faces(pictures, detector, order, index, faces, face_landmarks, bounding_box)
        located, _ = fill_missing(found, "error")
        crops = [align_expression(rgb, item.face.points) for rgb, item in zip(pictures, located, strict=True)]
        v_exp = expression_features(crops, expression_encoder, host.progress(len(crops)))
        preview = sockets.image(crops)
        value = Expression(v_exp, expression_encoder.sha256, strength)
        return io.NodeOutput(value, preview, _report(found), ui=host.ui.PreviewImage(preview, cls=cls))
