"""What "Prepare Face Dataset" and "Prepare Editing Triplets" do when they run; imported then, so that ComfyUI starts
without it."""

from __future__ import annotations

from pathlib import Path

from ..f2d_core.data.cache import REPORT, Cache
from ..f2d_core.data.parser import FaceParser, load_parser
from ..f2d_core.data.prepare import Models, find_sources, prepare
from ..f2d_core.data.settings import PrepareSettings, TripletSettings
from ..f2d_core.data.triplets import TripletModels, prepare_triplets, read_triplets
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
    return _shown(prepare(photos, _dataset_folder(name), models, settings, progress=host.progress(1)), "photos")


def triplets_fingerprint(folder: str | None) -> list | None:
    """Changes when a triplet does; None where they cannot be read, or where the folder is connected."""
    try:
        return [(source.stamp, source.prompt) for source in read_triplets(_triplet_folder(folder)).values()]
    except (F2DError, OSError, AttributeError):
        return None


def prepare_editing_triplets(
    folder: str, name: str, networks: tuple, detector: str, settings: TripletSettings
) -> io.NodeOutput:
    """networks: VAE and msid. Triplets, contact sheet, report."""
    vae, msid = networks
    codec = host_training.LatentCodec(vae)
    models = TripletModels(msid, codec, codec.sha256, lambda: detector_named(detector))
    out = host_training.work_folder("triplets") / require_plain_name(name, "The name of the triplets")
    return _shown(
        prepare_triplets(_triplet_folder(folder), out, models, settings, progress=host.progress(1)), "triplets"
    )


def _triplet_folder(folder: str) -> Path:
    """A folder of the user's, or one of that name that this pack made."""
    given, made = host_training.readable_folder(folder), host_training.work_folder("editing") / folder.strip()
    return made if not given.is_dir() and made.is_dir() else given


def _shown(cache: Cache, what: str) -> io.NodeOutput:
    """The data, its contact sheet, the report."""
    sheet = cache.folder / REPORT
    report = _prepared(cache, what)
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


def _prepared(cache: Cache, what: str) -> str:
    lines = [f"{len(cache)} {what} prepared, {len(cache.rejected)} rejected, in {cache.folder}"]
    lines += [f"{photo.name}: {photo.reason}" for photo in cache.rejected[:_REASONS_SHOWN]]
    if len(cache.rejected) > _REASONS_SHOWN:
        lines.append(f"… and {len(cache.rejected) - _REASONS_SHOWN} more: see manifest.json there.")
    return "\n".join(lines)
