"""Save S*, Load S*, Export S* as Embedding."""

from __future__ import annotations

from dataclasses import replace

from ..f2d_core.constants import INJECTION_SUM
from ..f2d_core.errors import WeightsError
from ..f2d_core.files import fresh_path, require_plain_name
from ..f2d_core.prompt import require_marker
from ..f2d_core.s_star import SStar, embedding_file_name, export_embedding, load_s_star, save_s_star
from . import host, sockets
from .host import io

ENDING = ".safetensors"


class SaveSStar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DSaveSStar",
            display_name="Save S*",
            description=(
                "Saves people as identity files in models/face2diffusion/identities: reusable without the "
                "photo. Nothing is overwritten."
            ),
            search_aliases=["face2diffusion", "save identity", "save face"],
            is_output_node=True,
            inputs=[
                sockets.SSTAR.Input("s_star", tooltip="One person or a batch; a batch is numbered."),
                io.String.Input(
                    "filename",
                    default="person",
                    tooltip=("A plain name without folders. If it exists, a number is added."),
                ),
                io.Boolean.Input(
                    "thumbnail",
                    default=True,
                    tooltip=("Keep the small picture of the face in the file. Off: the file shows nobody."),
                ),
            ],
            outputs=[io.String.Output("file")],
        )

    @classmethod
    def execute(cls, s_star, filename, thumbnail) -> io.NodeOutput:
        stem = require_plain_name(filename, "The identity name")
        paths = []
        for person in s_star:
            person = person if thumbnail else person.without_thumbnail()
            path = fresh_path(host.identities_folder(), stem, ENDING, host.identities_folders())
            paths.append(save_s_star(replace(person, name=person.name or stem), path))
        names = "\n".join(path.name for path in paths)
        return io.NodeOutput(names, ui=host.ui.PreviewText(f"Saved in {host.identities_folder()}:\n{names}"))


class LoadSStar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DLoadSStar",
            display_name="Load S*",
            description="Loads a person saved with Save S*. No photo, encoder or mapping file is needed.",
            search_aliases=["face2diffusion", "load identity", "load face"],
            inputs=[
                io.Combo.Input(
                    "file", options=host.identity_files(), tooltip=("An identity in models/face2diffusion/identities.")
                ),
                io.String.Input(
                    "marker", default="", tooltip=("Another word for this person. Empty: the one they were saved with.")
                ),
            ],
            outputs=[sockets.SSTAR.Output("s_star")],
        )

    @classmethod
    def validate_inputs(cls, file):
        return host.identity_message(file) or True

    @classmethod
    def fingerprint_inputs(cls, file, marker):
        found = host.find_identity(file)
        return None if found is None else (str(found), found.stat().st_mtime_ns, found.stat().st_size)

    @classmethod
    def execute(cls, file, marker) -> io.NodeOutput:
        path = host.find_identity(file)
        if path is None:
            raise WeightsError(host.identity_message(file))
        person = load_s_star(path)
        marker = require_marker(marker or person.marker)
        return io.NodeOutput((replace(person, marker=marker),))


class ExportEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="F2DExportEmbedding",
            display_name="Export S* as Embedding",
            description=(
                "Writes a plain textual-inversion embedding into models/embeddings, for stock nodes "
                "(embedding:name) and other programs."
            ),
            search_aliases=["face2diffusion", "textual inversion", "embedding"],
            is_output_node=True,
            inputs=[
                sockets.SSTAR.Input("s_star", tooltip="One person or a batch; a batch is numbered."),
                io.String.Input(
                    "filename",
                    default="person",
                    tooltip=("A plain name without folders or blanks. If it exists, a number is added."),
                ),
                io.Int.Input(
                    "position",
                    default=4,
                    min=1,
                    max=75,
                    tooltip=(
                        "For the published mapping (convention sum): which token of the prompt the word will be, "
                        'e.g. 4 in "a photo of X". The export is exact there only.'
                    ),
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=("Needed for the convention sum: the text encoder the embedding will be used with."),
                ),
            ],
            outputs=[io.String.Output("embedding")],
        )

    @classmethod
    def execute(cls, s_star, filename, position, clip=None) -> io.NodeOutput:
        stem = embedding_file_name(require_plain_name(filename, "The embedding name"))
        paths = [
            _export(person, fresh_path(host.embeddings_folder(), stem, ENDING), position, clip) for person in s_star
        ]
        words = "\n".join(f"embedding:{path.stem}" for path in paths)
        return io.NodeOutput(words, ui=host.ui.PreviewText(f"Write in any prompt:\n{words}"))


def _export(person: SStar, path, position: int, clip):
    table = host.position_embedding(clip, person) if person.injection == INJECTION_SUM and clip is not None else None
    return export_embedding(person, path, table, position if table is not None else None)
