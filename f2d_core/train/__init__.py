"""Training f_map with class-guided denoising regularisation, and f_id with multi-scale ArcFace (Face2Diffusion 3)."""

from .config import TrainConfig, config_from
from .mapping_run import TrainResult, train
from .metrics import read_metrics
from .msid_config import MSIDTrainConfig
from .msid_run import MSIDResult, train_msid
from .run import Report, run_folder
from .settings import read_toml, to_toml, with_overrides
from .task import TrainingParts

__all__ = [
    "MSIDResult",
    "MSIDTrainConfig",
    "Report",
    "TrainConfig",
    "TrainResult",
    "TrainingParts",
    "config_from",
    "read_metrics",
    "read_toml",
    "run_folder",
    "to_toml",
    "train",
    "train_msid",
    "with_overrides",
]
