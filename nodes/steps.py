"""Delayed Subject Conditioning, S* Schedule: which steps of the sampler see whom."""

from __future__ import annotations

from . import host, sockets
from .creative import ALIASES, MIXED_BY
from .host import io
from .prompt import people_inputs


def _step_inputs() -> list:
    return [
        io.Int.Input(
            "steps", default=30, min=1, max=10000, tooltip="As in KSampler. Not used when sigmas are connected."
        ),
        io.Combo.Input(
            "scheduler",
            options=host.schedulers(),
            default="normal",
            tooltip="As in KSampler. Not used when sigmas are connected.",
        ),
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="As in KSampler. Not used when sigmas are connected.",
        ),
    ]


def _schedule_inputs() -> list:
    return [
        io.Sigmas.Input(
            "sigmas",
            optional=True,
            tooltip="What the sampler gets, for example of BasicScheduler: then the steps are exact for any schedule.",
        ),
        io.Model.Input(
            "model",
            optional=True,
            tooltip="Only for models with a noise schedule of their own (ModelSamplingDiscrete): the model sampled.",
        ),
    ]


class DelayedSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DDelayedSubject",
            display_name="Delayed Subject Conditioning",
            description=(
                "The first steps see the class word (a person), the later ones the person: the prompt lays out the "
                "picture, then the face comes in (FastComposer)."
            ),
            search_aliases=[*ALIASES, "fastcomposer", "delay", "start at step", "prompt scheduling"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of your checkpoint (SD 1.x)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of S*",
                    tooltip="The prompt. In the first steps each marker is read as the class word.",
                ),
                *people_inputs()[:2],
                io.Float.Input(
                    "alpha",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The part of the steps that sees the person: 0.8 of 30 steps leaves the first 6 to the "
                    "class word, 1 none.",
                ),
                io.String.Input(
                    "class_word", default="", tooltip='Such as "a woman". Empty: the one of the S*, mostly "a person".'
                ),
                *_step_inputs(),
                *people_inputs()[2:],
                *_schedule_inputs(),
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
        alpha,
        class_word,
        steps,
        scheduler,
        denoise,
        s_star_2=None,
        strength_2=1.0,
        s_star_3=None,
        strength_3=1.0,
        s_star_4=None,
        strength_4=1.0,
        sigmas=None,
        model=None,
    ) -> io.NodeOutput:
        from . import creation

        people = ((s_star, strength), (s_star_2, strength_2), (s_star_3, strength_3), (s_star_4, strength_4))
        return creation.delay(
            clip, text, people, alpha, class_word, host.Steps(model, sigmas, scheduler, steps, denoise)
        )


class Schedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DSchedule",
            display_name="S* Schedule",
            description=(
                "One person in the first steps, another in the last, and mixtures between; or one person with a "
                "strength that changes over the steps."
            ),
            search_aliases=[*ALIASES, "prompt scheduling", "a to b", "identity schedule", "strength over steps"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of your checkpoint (SD 1.x)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of S*",
                    tooltip="The prompt, with the marker of the first person.",
                ),
                sockets.SSTAR.Input("s_star", tooltip="The person of the first steps; their marker counts."),
                sockets.SSTAR.Input("s_star_to", tooltip="The person of the last steps; may be the same one."),
                _strength("strength", "In the first steps"),
                _strength("strength_to", "In the last steps"),
                _place("begin", 0.0, "Until here, as a part of the steps, only the first person is there."),
                _place("end", 1.0, "From here on, as a part of the steps, only the second person is there."),
                io.Int.Input(
                    "mixtures",
                    default=8,
                    min=2,
                    max=64,
                    tooltip="How many prompts are encoded on the way, both people included; 2 is a switch.",
                ),
                *_step_inputs(),
                sockets.MAPPING.Input("mapping", optional=True, tooltip=MIXED_BY),
                *_schedule_inputs(),
            ],
            outputs=[io.Conditioning.Output("conditioning"), io.String.Output("report")],
        )

    @classmethod
    def execute(
        cls,
        clip,
        text,
        s_star,
        s_star_to,
        strength,
        strength_to,
        begin,
        end,
        mixtures,
        steps,
        scheduler,
        denoise,
        mapping=None,
        sigmas=None,
        model=None,
    ) -> io.NodeOutput:
        from . import creation

        ends = [(s_star, strength), (s_star_to, strength_to)]
        timing = host.Steps(model, sigmas, scheduler, steps, denoise)
        return creation.schedule(clip, text, ends, mapping, timing, (begin, end, mixtures))


def _strength(name: str, when: str):
    return io.Float.Input(
        name,
        default=1.0,
        min=0.0,
        max=2.0,
        step=0.05,
        tooltip=f"{when}: 0 is the class word (a person), 1 the person, above 1 exaggerates.",
    )


def _place(name: str, default: float, tooltip: str):
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)
