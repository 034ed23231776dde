"""The index of the pack: every node, and the extension that hands them to ComfyUI."""

from __future__ import annotations

from .dataset import PrepareDataset
from .face import DetectFaces, EncodeFace, ExpressionReference
from .host import ComfyExtension, register_folders
from .identity import ExportEmbedding, LoadSStar, SaveSStar
from .load import LoadExpressionEncoder, LoadMapping, LoadMSIDEncoder
from .prompt import ApplyToClip, Inject
from .train import TrainMapping

NODES = [
    LoadMSIDEncoder,
    LoadMapping,
    LoadExpressionEncoder,
    DetectFaces,
    EncodeFace,
    ExpressionReference,
    Inject,
    ApplyToClip,
    SaveSStar,
    LoadSStar,
    ExportEmbedding,
    PrepareDataset,
    TrainMapping,
]

# At import, so that the folder is known before the server answers what files there are.
register_folders()


class Face2DiffusionExtension(ComfyExtension):
    async def get_node_list(self) -> list:
        return NODES
