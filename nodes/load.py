"""Load MSID Encoder, Load Mapping Network, Load Expression Encoder."""

from __future__ import annotations

from . import host, sockets
from .host import io


class _LoadNetwork(io.ComfyNode):
    """What the three loaders share: one file out of models/face2diffusion."""

    KIND: str

    @classmethod
    def describe(
        cls, node_id: str, name: str, output, output_name: str, description: str, aliases: list[str]
    ) -> io.Schema:
        return host.schema(
            node_id=node_id,
            display_name=name,
            description=description,
            search_aliases=["face2diffusion", *aliases],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.model_files(cls.KIND),
                    tooltip=(
                        "A .pt, .pth or .safetensors file in models/face2diffusion. Recognised by content, not by name."
                    ),
                )
            ],
            outputs=[output.Output(output_name)],
        )

    @classmethod
    def validate_inputs(cls, file):
        return host.file_message(file, cls.KIND) or True

    @classmethod
    def fingerprint_inputs(cls, file):
        found = host.find_file(file)
        return None if found is None else (str(found), found.stat().st_mtime_ns, found.stat().st_size)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(host.load(file, cls.KIND))


class LoadMSIDEncoder(_LoadNetwork):
    KIND = "msid"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.describe(
            "F2DLoadMSIDEncoder",
            "Load MSID Encoder",
            sockets.MSID,
            "msid",
            "Loads the multi-scale identity encoder (msid.pt): it turns a face into identity features.",
            ["identity encoder", "face encoder", "msid"],
        )


class LoadMapping(_LoadNetwork):
    KIND = "mapping"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.describe(
            "F2DLoadMapping",
            "Load Mapping Network",
            sockets.MAPPING,
            "mapping",
            "Loads the mapping network (mapping.pt, or one you trained): it turns identity features into words, S*.",
            ["mapping", "face to words", "f_map"],
        )


class LoadExpressionEncoder(_LoadNetwork):
    KIND = "recon"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.describe(
            "F2DLoadExpressionEncoder",
            "Load Expression Encoder",
            sockets.EXPRESSION_ENCODER,
            "expression_encoder",
            "Loads the expression encoder (epoch_20.pth of Deep3DFaceRecon). Needed only to copy an expression "
            "from a photo.",
            ["expression", "3d face", "deep3d"],
        )
