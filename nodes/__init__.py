"""The index of the pack: every node, and the extension that hands them to ComfyUI."""

from __future__ import annotations

from . import renames
from .augment import Augment
from .creative import AverageFaces, BlendSStar, ExpressionSweep, Regions
from .dataset import PrepareDataset, PrepareTriplets
from .doctor import Doctor
from .evaluate import BestOfN, FaceReport, Likeness, LoadJudges
from .face import DetectFaces, EncodeFace, ExpressionReference
from .host import ComfyExtension, register_folders
from .identity import ExportEmbedding, LoadSStar, SaveSStar
from .load import LoadExpressionEncoder, LoadMapping, LoadMSIDEncoder
from .prompt import ApplyToClip, Inject
from .routes import register as register_routes
from .steps import DelayedSubject, Schedule
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
    BlendSStar,
    AverageFaces,
    ExpressionSweep,
    DelayedSubject,
    Schedule,
    Regions,
    PrepareDataset,
    Augment,
    PrepareTriplets,
    TrainMapping,
    LoadJudges,
    Likeness,
    BestOfN,
    FaceReport,
    Doctor,
]

# At import, so that the folder is known before the server answers what files there are.
register_folders()
register_routes()


class Face2DiffusionExtension(ComfyExtension):
    async def on_load(self) -> None:
        await renames.register()

    async def get_node_list(self) -> list:
        return [*NODES, *renames.old_nodes()]
