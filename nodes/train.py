"""Train Mapping Network."""

from __future__ import annotations

from ..f2d_core.constants import (
    AUTO,
    CGDR,
    DEFAULT_CLASS_WORD,
    DEFAULT_TEMPLATE,
    INJECTIONS,
    L2_KINDS,
    L2_NORM,
    MASK_EDGES,
    PRECISIONS,
    VARIANTS,
)
from . import host, sockets
from .host import io

AS_PREPARED, WITHOUT_EXPRESSION = "as prepared", "without"


class TrainMapping(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DTrainMapping",
            display_name="Train Mapping Network",
            description=(
                "Trains a mapping network on your faces and your base model. Cancel whenever you like: all is saved,"
                " and the same run name goes on. The finished mapping appears in Load Mapping Network."
            ),
            search_aliases=["face2diffusion", "training", "train face", "cgdr", "f_map", "mapping"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*_model_inputs(), *_method_inputs(), *_run_inputs(), *_further_inputs()],
            outputs=[
                io.String.Output("file"),
                sockets.MAPPING.Output("mapping"),
                io.LossMap.Output("loss"),
                io.Image.Output("preview"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        dataset,
        run_name,
        steps,
        batch,
        learning_rate,
        method,
        words,
        injection,
        expression,
        seed,
        preview_every,
        checkpoint_every,
        preview_faces,
        template,
        class_word,
        expression_drop,
        mask_edge,
        hold_out,
        precision,
        micro_batch,
        gradient_checkpointing,
        vae=None,
        start_from=None,
        triplets=None,
        aug_ratio=0.0,
        l2=0.0,
        l2_kind=L2_NORM,
    ) -> io.NodeOutput:
        from . import training  # not at the start of ComfyUI: most people never train

        config = training.TrainConfig(
            variant=method,
            words=words,
            injection=injection,
            template=template,
            class_word=class_word,
            expression=expression == AS_PREPARED and dataset.expression_width > 0,
            expression_drop=expression_drop,
            mask_edge=mask_edge,
            start_from="" if start_from is None else str(start_from.path),
            aug_ratio=aug_ratio,
            l2=l2,
            l2_kind=l2_kind,
            learning_rate=learning_rate,
            batch=batch,
            steps=steps,
            seed=seed,
            hold_out=hold_out,
            precision=precision,
            micro_batch=micro_batch or AUTO,
            gradient_checkpointing=gradient_checkpointing,
            checkpoint_every=checkpoint_every,
            preview_every=preview_every,
            preview_faces=preview_faces,
        )
        return training.train_mapping(model, clip, vae, dataset, triplets, config, run_name, cls.hidden.unique_id)


def _model_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="The base model, SD 1.x or 2.x, with or without LoRAs. It is not changed."),
        io.Clip.Input("clip", tooltip="Its text encoder. It is not changed."),
        sockets.DATASET.Input("dataset", tooltip="From Prepare Face Dataset."),
        io.String.Input(
            "run_name",
            default="my mapping",
            tooltip="The same name goes on where the run was; the settings must then be the same, steps may be more.",
        ),
    ]


def _method_inputs() -> list:
    return [
        io.Int.Input("steps", default=100_000, min=1, max=10_000_000, tooltip="In all, those already done included."),
        io.Int.Input(
            "batch", default=32, min=1, max=4096, tooltip="Photos per step. Memory depends on micro_batch instead."
        ),
        io.Float.Input(
            "learning_rate",
            default=1e-5,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="Of AdamW, constant. The paper's: 1e-5.",
        ),
        io.Combo.Input(
            "method",
            options=list(VARIANTS),
            default=CGDR,
            tooltip=(
                "cgdr: the face learns from the photo, the rest from the base model, so that prompts keep working."
                " masked: only the face counts. reconstruction: the whole photo."
            ),
        ),
        io.Int.Input("words", default=2, min=1, max=75, tooltip="How many words a person becomes."),
        io.Combo.Input(
            "injection",
            options=list(INJECTIONS),
            default="token",
            tooltip="token: exports are exact everywhere. sum: as the published mapping, to train it further.",
        ),
        io.Combo.Input(
            "expression",
            options=[AS_PREPARED, WITHOUT_EXPRESSION],
            default=AS_PREPARED,
            tooltip="Whether the mapping takes expressions. as prepared: if the data set has them.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="Of everything random. The same seed and settings give the same mapping.",
        ),
    ]


def _run_inputs() -> list:
    return [
        io.Int.Input(
            "preview_every",
            default=2000,
            min=0,
            max=10_000_000,
            tooltip="Steps between previews; needs a VAE. 0: none.",
        ),
        io.Int.Input(
            "checkpoint_every",
            default=1000,
            min=1,
            max=10_000_000,
            tooltip="Steps between saves. Cancelling saves as well.",
        ),
        *_advanced_inputs(),
    ]


def _advanced_inputs() -> list:
    def advanced(make, name, **kwargs):
        return host.newer(make, name, advanced=True, **kwargs)

    return [
        advanced(
            io.Int.Input,
            "preview_faces",
            default=4,
            min=1,
            max=64,
            tooltip="How many faces of the data set are drawn for a preview.",
        ),
        advanced(
            io.String.Input,
            "template",
            default=DEFAULT_TEMPLATE,
            tooltip="The prompt that is trained with; S* is the place of the person.",
        ),
        advanced(
            io.String.Input,
            "class_word",
            default=DEFAULT_CLASS_WORD,
            tooltip="What stands there instead when the base model is asked for the rest of the picture.",
        ),
        advanced(
            io.Float.Input,
            "expression_drop",
            default=0.2,
            min=0.0,
            max=0.99,
            step=0.05,
            tooltip="How often the expression is left out, so that the mapping works without one.",
        ),
        advanced(
            io.Combo.Input, "mask_edge", options=list(MASK_EDGES), default=MASK_EDGES[0], tooltip="Edge of the mask."
        ),
        advanced(
            io.Int.Input,
            "hold_out",
            default=0,
            min=0,
            max=1_000_000,
            tooltip="Photos at the end of the data set that are only validated on.",
        ),
        advanced(
            io.Combo.Input,
            "precision",
            options=list(PRECISIONS),
            default=AUTO,
            tooltip="What the UNet calculates in. auto: bf16 where the GPU has it.",
        ),
        advanced(
            io.Int.Input,
            "micro_batch",
            default=0,
            min=0,
            max=4096,
            tooltip="Photos through the UNet at once: more is faster and takes more memory. 0: as many as fit.",
        ),
        advanced(
            io.Boolean.Input,
            "gradient_checkpointing",
            default=False,
            tooltip="A fifth of the memory for a third more time. Seldom needed from 8 GB on.",
        ),
    ]


def _further_inputs() -> list:
    return [
        io.Vae.Input("vae", optional=True, tooltip="For preview pictures."),
        sockets.MAPPING.Input(
            "start_from",
            optional=True,
            tooltip="A mapping to train further, from Load Mapping Network. Set its injection.",
        ),
        *_dreamidentity_inputs(),
    ]


def _dreamidentity_inputs() -> list:
    return [
        sockets.TRIPLETS.Input(
            "triplets",
            optional=True,
            tooltip="From Prepare Editing Triplets: people in other scenes and styles, learnt beside the photos.",
        ),
        io.Float.Input(
            "aug_ratio",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Which part of the samples are triplets. 0: photos and triplets are one set, each as likely.",
        ),
        io.Float.Input(
            "l2",
            default=0.0,
            min=0.0,
            max=1.0,
            step=1e-5,
            optional=True,
            tooltip="Weight of DreamIdentity's penalty on long word vectors. DreamIdentity's: 0.0001. 0: none.",
        ),
        host.newer(
            io.Combo.Input,
            "l2_kind",
            advanced=True,
            options=list(L2_KINDS),
            default=L2_NORM,
            optional=True,
            tooltip="norm: the length of each word, as the paper prints it. squared: its square.",
        ),
    ]
