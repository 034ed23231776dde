"""Is a file the one that the catalogue means? By its content, whatever it is called."""

from __future__ import annotations

from pathlib import Path

from .catalogue import Published
from .errors import WeightsError

_LEAST_SIZE, _MOST_SIZE = 0.9, 1.1  # of the published size, for files that nothing here can look into
KEYS, SIZE = "keys", "size"  # how a file can be checked: by keys and shapes; by nothing but its size
_NETWORKS = ("msid", "mapping", "recon")


def how_checked(entry: Published) -> str:
    """KEYS, or SIZE for ONNX files and detectors: what `check_file` compares."""
    readable = entry.kind in (*_NETWORKS, "parser", *judge_kinds()) and not entry.file.endswith(".onnx")
    return KEYS if readable else SIZE


def most_bytes(entry: Published) -> int:
    """Above this it is another file."""
    return round(_MOST_SIZE * entry.megabytes * 1e6)


def check_file(entry: Published, path: Path) -> None:
    """Raise WeightsError unless keys and shapes, or the size, are those of the entry (see `how_checked`)."""
    try:
        _check(entry, path)
    except WeightsError as error:  # of a file on its way: by the name it will have
        raise WeightsError(str(error).replace(path.name, _name(path))) from error


def _check(entry: Published, path: Path) -> None:
    if how_checked(entry) == SIZE:
        _check_size(entry, path)
    elif entry.kind in _NETWORKS:
        from .networks import load_network

        load_network(path, entry.kind)
    elif entry.kind == "parser":
        from .data.parser import load_parser

        load_parser(path)
    else:
        _check_kind(entry, path)


def judge_kinds() -> tuple[str, ...]:
    """Those of networks that judge pictures."""
    from .evaluate.extractors import IDENTITY_KINDS, IMAGE_TEXT_KINDS, INCEPTION_KIND

    return (*IDENTITY_KINDS, *IMAGE_TEXT_KINDS, INCEPTION_KIND)


def _check_kind(entry: Published, path: Path) -> None:
    from .evaluate.extractors import extractor_kind

    found = extractor_kind(path)
    if found != entry.kind:
        raise WeightsError(
            f"{path.name} is {found or 'damaged, or no network of ours'}, expected {entry.title} ({entry.kind}). "
            "Fetch it again, or get it by hand."
        )


def _check_size(entry: Published, path: Path) -> None:
    size = path.stat().st_size / 1e6
    if not _LEAST_SIZE * entry.megabytes <= size <= _MOST_SIZE * entry.megabytes:
        raise WeightsError(
            f"{path.name} has {size:.1f} MB, expected {entry.megabytes:g} MB: it is "
            "incomplete or another file. Fetch it again, or get it by hand."
        )


def _name(path: Path) -> str:
    """What the file will be called when its download is done."""
    return path.name.removeprefix(".").removesuffix(".part")
