"""Inject S* into CONDITIONING, Apply S* to CLIP."""

from __future__ import annotations

from collections.abc import Sequence

from ..f2d_core.prompt import Person, describe_slots
from ..f2d_core.s_star import SStar, pair_up
from . import host, sockets
from .host import io

MORE_PEOPLE = (2, 3, 4)
_STRENGTH = "How strongly this person is meant: 0 is the class word (a person), 1 the person, above 1 exaggerates."


def people_inputs() -> list:
    inputs = [
        sockets.SSTAR.Input("s_star", tooltip="The person, from Encode Face → S* or Load S*."),
        _strength("strength"),
    ]
    for n in MORE_PEOPLE:
        tooltip = "One more person, with a marker of their own. For more than four, chain Apply S* to CLIP."
        inputs += [
            sockets.SSTAR.Input(f"s_star_{n}", optional=True, tooltip=tooltip),
            _strength(f"strength_{n}", optional=True),
        ]
    return inputs


def _strength(name: str, optional: bool = False):
    return io.Float.Input(name, default=1.0, min=0.0, max=2.0, step=0.05, optional=optional, tooltip=_STRENGTH)


def _connected(*people: tuple[Sequence[SStar] | None, float]) -> list[tuple[Sequence[SStar], float]]:
    """(S*, strength) of every socket that has something connected."""
    return [(s_star, strength) for s_star, strength in people if s_star is not None]


class Inject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DInject",
            display_name="Inject S* into CONDITIONING",
            description=(
                "Encodes a prompt in which markers such as S* stand for people. The model itself is not changed."
            ),
            search_aliases=["face2diffusion", "prompt", "clip text encode", "S*", "identity prompt"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of your checkpoint (SD 1.x), with or without LoRAs."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of S*",
                    tooltip="The prompt. Weights such as (S*:1.2), several people and long prompts work.",
                ),
                *people_inputs(),
            ],
            outputs=[io.Conditioning.Output("conditioning"), io.String.Output("report")],
        )

    @classmethod
    def execute(
        cls,
        clip,
        text,
        s_star,
        strength,
        s_star_2=None,
        strength_2=1.0,
        s_star_3=None,
        strength_3=1.0,
        s_star_4=None,
        strength_4=1.0,
    ) -> io.NodeOutput:
        people = _connected((s_star, strength), (s_star_2, strength_2), (s_star_3, strength_3), (s_star_4, strength_4))
        batches, strengths = zip(*people, strict=True)
        encoded = []
        for row in pair_up(batches):
            persons = [Person(person, weight) for person, weight in zip(row, strengths, strict=True)]
            encoded.append(host.encode_prompt(clip, text, persons))
        conditioning = host.batch_conditioning([item[0] for item in encoded])
        report = "\n".join(describe_slots(slots, people) for _, slots, people in encoded)
        return io.NodeOutput(conditioning, report)


class ApplyToClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DApplyToClip",
            display_name="Apply S* to CLIP",
            description=(
                "Gives a CLIP whose text nodes, stock or third-party, understand the markers. Texts without a"
                " marker are not affected."
            ),
            search_aliases=["face2diffusion", "clip", "S*", "prompt control"],
            inputs=[io.Clip.Input("clip", tooltip="The text encoder of your checkpoint (SD 1.x)."), *people_inputs()],
            outputs=[io.Clip.Output("clip_with_people")],
        )

    @classmethod
    def execute(
        cls,
        clip,
        s_star,
        strength,
        s_star_2=None,
        strength_2=1.0,
        s_star_3=None,
        strength_3=1.0,
        s_star_4=None,
        strength_4=1.0,
    ) -> io.NodeOutput:
        people = _connected((s_star, strength), (s_star_2, strength_2), (s_star_3, strength_3), (s_star_4, strength_4))
        persons = [Person(sockets.only(batch), weight) for batch, weight in people]
        return io.NodeOutput(host.with_people(clip, persons))
