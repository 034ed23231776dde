"""Training the mapping network f_map with class-guided denoising regularisation (Face2Diffusion 3.3, 3.4)."""

from .config import TrainConfig, config_from, read_toml, to_toml, with_overrides
from .metrics import read_metrics
from .run import Report, TrainResult, run_folder, train
from .task import TrainingParts

__all__ = [
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
    "with_overrides",
]
