"""Blend S*, Average Faces, Expression Sweep, Region per Person."""

from __future__ import annotations

from ..f2d_core.detect import ORDERS
from ..f2d_core.locate import ON_MISSING
from . import host, sockets
from .face import choice_inputs, detector_input
from .host import io

ALIASES = ["face2diffusion", "S*"]
_MOST = 8  # people of a blend, photos of an average
MIXED_BY = (
    "From Load Mapping Network. With it identity features are mixed, and mapped to words afterwards; without it the "
    "words themselves."
)


class BlendSStar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DBlend",
            display_name="Blend S*",
            description="Mixes two to eight people into a new one, or sweeps from one to the next as a batch.",
            search_aliases=[*ALIASES, "mix faces", "merge identities", "interpolate", "morph"],
            inputs=[
                sockets.SSTAR.Input("s_star", tooltip="The first person. The blend bears their marker."),
                sockets.SSTAR.Input("s_star_2", tooltip="The second person."),
                _weight("weight"),
                _weight("weight_2"),
                io.Int.Input(
                    "sweep",
                    default=1,
                    min=1,
                    max=256,
                    tooltip="1: one blend by the weights. 2 or more: that many S* on the way from the first person "
                    "through all others to the last; the weights do not count then.",
                ),
                io.String.Input("marker", default="", tooltip="The word for the blend. Empty: the first person's."),
                io.String.Input("name", default="", tooltip="Of the blend. Empty: the names and shares of all."),
                sockets.MAPPING.Input("mapping", optional=True, tooltip=MIXED_BY),
                *(item for n in range(3, _MOST + 1) for item in _one_more(n)),
            ],
            outputs=[sockets.SSTAR.Output("blended"), io.String.Output("report")],
        )

    @classmethod
    def execute(
        cls,
        s_star,
        s_star_2,
        weight,
        weight_2,
        sweep,
        marker,
        name,
        mapping=None,
        s_star_3=None,
        weight_3=1.0,
        s_star_4=None,
        weight_4=1.0,
        s_star_5=None,
        weight_5=1.0,
        s_star_6=None,
        weight_6=1.0,
        s_star_7=None,
        weight_7=1.0,
        s_star_8=None,
        weight_8=1.0,
    ) -> io.NodeOutput:
        from . import creation  # when it runs, not when ComfyUI starts

        people = (s_star, s_star_2, s_star_3, s_star_4, s_star_5, s_star_6, s_star_7, s_star_8)
        weights = (weight, weight_2, weight_3, weight_4, weight_5, weight_6, weight_7, weight_8)
        connected = [pair for pair in zip(people, weights, strict=True) if pair[0] is not None]
        return creation.blend_people(connected, sweep, mapping, marker, name)


def _weight(name: str, optional: bool = False):
    return io.Float.Input(
        name,
        default=1.0,
        min=-2.0,
        max=2.0,
        step=0.05,
        optional=optional,
        tooltip="How much of this person. Only the relation of all weights counts; below 0 leads away from them.",
    )


def _one_more(n: int) -> list:
    return [
        sockets.SSTAR.Input(f"s_star_{n}", optional=True, tooltip="One more person."),
        _weight(f"weight_{n}", optional=True),
    ]


class AverageFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DAverageFaces",
            display_name="Average Faces",
            description=(
                "Makes one S* of several photos of the same person, whatever their sizes, and says which photo does "
                "not agree with the others."
            ),
            search_aliases=[*ALIASES, "several photos", "mean face", "average identity", "multiple references"],
            inputs=[
                sockets.MSID.Input("msid", tooltip="From Load MSID Encoder."),
                sockets.MAPPING.Input("mapping", tooltip="From Load Mapping Network."),
                io.Image.Input("image", tooltip="A photo of the person, or a batch."),
                detector_input(),
                *choice_inputs(),
                io.Combo.Input(
                    "method",
                    options=["robust", "mean"],
                    default="robust",
                    tooltip="robust: photos that are far from the rest count less. mean: all count by their weight.",
                ),
                io.Combo.Input(
                    "on_missing",
                    options=[policy for policy in ON_MISSING if policy != "previous"],
                    default="error",
                    tooltip="A photo without a face: stop with an error, or leave it out (skip).",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    tooltip="How much each photo counts, with commas, in order: 1, 1, 0.5. Empty: all alike.",
                ),
                io.String.Input("marker", default="S*", tooltip="The word that stands for this person in prompts."),
                io.String.Input("name", default="", tooltip="The person's name. May stay empty."),
                io.Boolean.Input(
                    "thumbnail", default=True, tooltip="Keep a 112 px crop in S*, of the photo that counts most."
                ),
                *(
                    io.Image.Input(f"image_{n}", optional=True, tooltip="More photos of the person; any size.")
                    for n in range(2, _MOST + 1)
                ),
            ],
            outputs=[sockets.SSTAR.Output("s_star"), io.Image.Output("crops"), io.String.Output("report")],
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
        method,
        on_missing,
        weights,
        marker,
        name,
        thumbnail,
        image_2=None,
        image_3=None,
        image_4=None,
        image_5=None,
        image_6=None,
        image_7=None,
        image_8=None,
    ) -> io.NodeOutput:
        from . import creation

        images = [image, image_2, image_3, image_4, image_5, image_6, image_7, image_8]
        photos = [picture for batch in images if batch is not None for picture in sockets.pictures(batch)]
        weights = creation.photo_weights(weights, len(photos))
        crops = creation.photo_crops(photos, detector, order, index, on_missing)
        labels = creation.Labels(name.strip(), marker, thumbnail)
        return creation.average_photos(crops, msid, mapping, weights, method, labels, cls)


class ExpressionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DExpressionSweep",
            display_name="Expression Sweep",
            description=(
                "The same person with an expression growing from none to exaggerated, or changing from one reference "
                "to another, as a batch. Works with saved people too: no photo is needed."
            ),
            search_aliases=[*ALIASES, "emotion", "smile slider", "expression strength"],
            inputs=[
                sockets.SSTAR.Input("s_star", tooltip="One person, from Encode Face → S* or Load S*."),
                sockets.MAPPING.Input("mapping", tooltip="From Load Mapping Network: the one that made this S*."),
                sockets.EXPRESSION.Input("expression", tooltip="From Expression Reference, of one face."),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=-2.0,
                    max=3.0,
                    step=0.05,
                    tooltip="Of the first S*: the strength of the expression, or the place on the way to the second.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=-2.0,
                    max=3.0,
                    step=0.05,
                    tooltip="Of the last S*: 1 is the reference (expression_to, where connected), above 1 exaggerates.",
                ),
                io.Int.Input(
                    "steps", default=5, min=1, max=256, tooltip="How many S* there will be, start and end included."
                ),
                sockets.EXPRESSION.Input(
                    "expression_to",
                    optional=True,
                    tooltip="A second expression: the sweep then goes from the first (0) to this one (1).",
                ),
            ],
            outputs=[sockets.SSTAR.Output("s_star_batch"), io.String.Output("report")],
        )

    @classmethod
    def execute(cls, s_star, mapping, expression, start, end, steps, expression_to=None) -> io.NodeOutput:
        from . import creation

        return creation.sweep_expressions(s_star, mapping, expression, expression_to, start, end, steps)


class Regions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DRegions",
            display_name="Region per Person",
            description=(
                "Gives each person a part of the picture, from detected faces, from masks or side by side, and the "
                "rest to a background prompt, so that people do not get mixed."
            ),
            search_aliases=[*ALIASES, "regional prompt", "mask", "two people", "area", "attention couple"],
            inputs=[
                io.Conditioning.Input(
                    "background", tooltip="The prompt for the whole picture, such as: two people in a park."
                ),
                io.Conditioning.Input("person", tooltip="The prompt of the first person, with only their marker."),
                _order(),
                io.Float.Input(
                    "margin",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="With faces: how far a region reaches beyond the face on every side, in sizes of the face.",
                ),
                io.Boolean.Input(
                    "to_bottom", default=True, tooltip="With faces: down to the lower edge, so that the body is in it."
                ),
                io.Float.Input(
                    "feather",
                    default=0.03,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="How soft the edges are, as a part of the shorter side of the picture.",
                ),
                io.Float.Input(
                    "background_inside",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the background prompt also counts in the regions; holds the picture together.",
                ),
                *(
                    io.Conditioning.Input(f"person_{n}", optional=True, tooltip="The prompt of one more person.")
                    for n in range(2, _MOST + 1)
                ),
                sockets.FACES.Input(
                    "faces",
                    optional=True,
                    tooltip="From Detect Faces, of one picture laid out as the new one shall be. The first face in "
                    "order is for person, the second for person_2.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="A batch of masks, one for each person, in order. Count before faces.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("conditioning"),
                io.Mask.Output("regions"),
                io.Image.Output("preview"),
            ],
        )

    @classmethod
    def execute(
        cls,
        background,
        person,
        order,
        margin,
        to_bottom,
        feather,
        background_inside,
        person_2=None,
        person_3=None,
        person_4=None,
        person_5=None,
        person_6=None,
        person_7=None,
        person_8=None,
        faces=None,
        masks=None,
    ) -> io.NodeOutput:
        from . import creation

        people = [person, person_2, person_3, person_4, person_5, person_6, person_7, person_8]
        people = [conditioning for conditioning in people if conditioning is not None]
        regions = creation.regions(len(people), masks, faces, order, margin, to_bottom)
        return creation.place_people(background, people, regions, feather, background_inside, cls)


def _order():
    """As in Detect Faces, but from left to right, since that is how people are told apart here."""
    return io.Combo.Input(
        "order",
        options=list(ORDERS),
        default="left-right",
        tooltip="With faces: which face is whose, as in Detect Faces.",
    )
