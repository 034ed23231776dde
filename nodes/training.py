"""What "Train Mapping Network" does when it runs; imported then, so that ComfyUI starts without it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
from PIL import Image

from ..f2d_core.duration import duration
from ..f2d_core.errors import WeightsError
from ..f2d_core.files import fresh_path, write_atomically
from ..f2d_core.image import read_image
from ..f2d_core.train import Report, TrainConfig, TrainResult, read_metrics, run_folder, train
from ..f2d_core.weights import read_weights
from . import host, host_training, sockets
from .host import io

ENDING = ".safetensors"
EVENT = "f2d.train"
SECONDS_BETWEEN_EVENTS = 0.5
_PARTS = {"foreground": "face", "background": "rest", "edited": "edited"}  # figures of a step, as the line calls them
_SHOWN = ("step", "loss", *_PARTS)  # what an event tells of a step


def train_mapping(
    model, clip, vae, dataset, triplets, config: TrainConfig, run_name: str, node_id: str | None
) -> io.NodeOutput:
    """Begin the run of that name or go on with it; file, mapping, loss, preview."""
    folder = run_folder(host_training.work_folder("runs"), run_name)
    return _outputs(_train(model, clip, vae, (dataset, triplets), config, folder, node_id))


def _outputs(result: TrainResult) -> io.NodeOutput:
    """file, mapping, loss, preview."""
    folder = result.folder
    file = _publish(result.mapping, folder.name)
    picture = _newest_picture(folder)
    losses = [row["loss"] for row in read_metrics(folder) if row["kind"] == "train"]
    told = f"{result.step} steps done. Load Mapping Network lists the mapping as {file} (press R)."
    pictures = host_training.saved_images(list(dict.fromkeys((picture, folder / "loss.png"))))
    shown = {**pictures, **host.ui.PreviewText(told).as_dict()}
    preview = sockets.image([read_image(picture)])
    return io.NodeOutput(file, host.load(file, "mapping"), {"loss": losses}, preview, ui=shown)


def _train(model, clip, vae, data: tuple, config: TrainConfig, folder: Path, node_id: str | None) -> TrainResult:
    """All steps, or the host's interruption once everything is saved. data: photos, and triplets or None."""
    dataset, triplets = data
    watch = _Watch(folder.name, node_id, config.steps)
    with host_training.training_models(model, clip, config.precision, config.gradient_checkpointing) as models:
        result = train(
            models.parts(vae),
            dataset,
            config,
            folder,
            progress=watch.progress,
            should_stop=models.cancellation,
            on_preview=watch.preview,
            triplets=triplets,
        )
    if not result.finished:
        models.cancellation.raise_if_requested()
    return result


class _Watch:
    """What the trainer tells, as the host shows it."""

    def __init__(self, run: str, node_id: str | None, steps: int):
        self._host = host_training.Watch(EVENT, node_id, steps)
        self._run = run
        self._picture: Image.Image | None = None
        self._told = 0.0

    def preview(self, pictures: torch.Tensor) -> None:
        """pictures: (n, 3, H, W) in [-1, 1]."""
        row_01 = (torch.cat(tuple(pictures), dim=2).clamp(-1, 1) + 1) / 2
        self._picture = Image.fromarray((row_01 * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())

    def progress(self, report: Report) -> None:
        now, result = time.monotonic(), report.result
        if now - self._told >= SECONDS_BETWEEN_EVENTS or result.step == report.steps:
            self._told = now
            self._host.tell(_line(report), _facts(report, self._run))
        self._host.bar(result.step, report.steps, self._picture)


def _line(report: Report) -> str:
    result, figures = report.result, report.result.figures
    # A step without photos or without triplets does not have all of them.
    parts = ", ".join(f"{word} {figures[name]:.4f}" for name, word in _PARTS.items() if name in figures)
    return (
        f"step {result.step} of {report.steps}: loss {result.loss:.4f} ({parts}),"
        f" {report.images_per_s:.1f} photos/s, {duration(report.seconds_left)} left"
    )


def _facts(report: Report, run: str) -> dict:
    return {
        "run": run,
        "steps": report.steps,
        **{name: value for name, value in report.result.row().items() if name in _SHOWN},
        "images_per_s": report.images_per_s,
        "seconds_left": report.seconds_left,
        "validation": None if report.validation is None else dict(report.validation),
    }


def _publish(mapping: Path, stem: str) -> str:
    """Copy a mapping into models/face2diffusion, once, and never over another file. Its name there."""
    folder, made = host.model_folders()[0], read_weights(mapping, "mapping")
    for path in sorted(folder.glob(f"{stem}*{ENDING}")):
        if _same_mapping(path, made):
            return path.name
    path = fresh_path(folder, stem, ENDING)
    return write_atomically(path, lambda temporary: shutil.copyfile(mapping, temporary)).name


def _same_mapping(path: Path, made) -> bool:
    try:
        other = read_weights(path)
    except WeightsError:  # somebody else's file
        return False
    return (other.sha256, other.metadata) == (made.sha256, made.metadata)


def _newest_picture(folder: Path) -> Path:
    """The newest preview; the loss curve where there is none."""
    return max((folder / "previews").glob("*.png"), default=folder / "loss.png")
