"""What "Prepare Face Dataset" does when it runs; imported then, so that ComfyUI starts without it."""

from __future__ import annotations

from pathlib import Path

from ..f2d_core.data.cache import REPORT, Cache
from ..f2d_core.data.parser import FaceParser, load_parser
from ..f2d_core.data.prepare import Models, find_sources, prepare
from ..f2d_core.data.settings import PrepareSettings
from ..f2d_core.errors import F2DError, WeightsError
from ..f2d_core.files import require_plain_name
from ..f2d_core.image import read_image
from . import host, host_training, sockets
from .face import detector_named
from .host import io

_REASONS_SHOWN = 30


def fingerprint(folder: str, name: str, masks: str) -> list | None:
    """Changes when a photo or mask does; None where the folders cannot be read, which `prepare_dataset` will say."""
    try:
        sources = find_sources(*_folders(folder, masks), _dataset_folder(name))
        return [(source.name, source.stamp) for source in sources.values()]
    except (F2DError, OSError):
        return None


def prepare_dataset(
    folder: str, name: str, networks: tuple, parser: str, detector: str, settings: PrepareSettings, masks: str
) -> io.NodeOutput:
    """networks: VAE, msid and expression encoder or None. Data set, contact sheet, report."""
    vae, msid, expression_encoder = networks
    photos, ready_masks = _folders(folder, masks)
    codec = host_training.LatentCodec(vae)
    models = Models(
        msid, expression_encoder, codec, codec.sha256, detector_named(detector), ready_masks or _parser(parser)
    )
    cache = prepare(photos, _dataset_folder(name), models, settings, progress=host.progress(1))
    sheet = cache.folder / REPORT
    report = _prepared(cache)
    shown = {**host_training.saved_images([sheet]), **host.ui.PreviewText(report).as_dict()}
    return io.NodeOutput(cache, sockets.image([read_image(sheet)]), report, ui=shown)


def _parser(file: str) -> FaceParser:
    path = host.find_file(file)
    if path is None:
        raise WeightsError(host.file_message(file, "parser"))
    return load_parser(path, host.managed)


def _folders(folder: str, masks: str) -> tuple[Path, Path | None]:
    """(photos, ready masks)."""
    return host_training.readable_folder(folder), host_training.readable_folder(masks) if masks.strip() else None


def _dataset_folder(name: str) -> Path:
    return host_training.work_folder("datasets") / require_plain_name(name, "The data set name")


def _prepared(cache: Cache) -> str:
    lines = [f"{len(cache)} photos prepared, {len(cache.rejected)} rejected, in {cache.folder}"]
    lines += [f"{photo.name}: {photo.reason}" for photo in cache.rejected[:_REASONS_SHOWN]]
    if len(cache.rejected) > _REASONS_SHOWN:
        lines.append(f"… and {len(cache.rejected) - _REASONS_SHOWN} more: see manifest.json there.")
    return "\n".join(lines)
