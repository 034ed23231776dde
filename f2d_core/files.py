"""Writing files so that nothing is ever half-written, and file names that cannot leave their folder."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock

from .errors import OutputError, SettingsError

# Windows refuses these whatever the extension; a name made on Linux should travel.
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+')  # half characters, too: no UTF-8 can hold them
_UMASK = Lock()
_MAX_STEM = 100  # characters
_MAX_STEM_BYTES = 200  # in UTF-8; file systems allow 255 with the ending and what tells namesakes apart


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Call `write` with a temporary path beside `path`, flush it to disk, then move it into place.

    Readers see the old file or the new one, never a part. Raises OutputError; nothing is left behind then.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder that can be written, with free space."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    """It can be read by changing it alone; two threads at once would leave it at what the other one set."""
    with _UMASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def safe_stem(name: str, default: str = "person") -> str:
    """A file name without extension made from any text: no separators, no reserved words, at most 100 characters that
    take at most 200 bytes."""
    stem = _cut(_UNSAFE.sub("_", name).strip(" ._")).strip(" ._")
    if not stem:
        return default
    return f"{stem}_" if stem.split(".")[0].lower() in _RESERVED else stem


def _cut(stem: str) -> str:
    """As much of its beginning as fits, in whole characters."""
    return stem[:_MAX_STEM].encode()[:_MAX_STEM_BYTES].decode(errors="ignore")


def require_plain_name(name: str, what: str) -> str:
    """`name` stripped, if it can be a file name as it stands; else SettingsError that shows one that can."""
    name = name.strip()
    if not name or safe_stem(name) != name:
        raise SettingsError(
            f'{what} "{name}" cannot be a file name: use a plain name of at most {_MAX_STEM} characters, '
            f'{_MAX_STEM_BYTES} bytes, no folders and none of < > : " / \\ | ? *, for example "{safe_stem(name)}".'
        )
    return name


def fresh_path(folder: str | Path, stem: str, suffix: str, others: Iterable[str | Path] = ()) -> Path:
    """`folder/stem.suffix`, or with _2, _3 … when that exists: nobody's file is overwritten.

    others: folders in which the name must be free as well, where a name means the first folder that has it.
    """
    places = [Path(folder), *map(Path, others)]
    name, count = f"{stem}{suffix}", 1
    while any((place / name).exists() for place in places):
        count += 1
        name = f"{stem}_{count}{suffix}"
    return places[0] / name


def files_below(folder: str | Path, without: str = "") -> Iterator[Path]:
    """All files below, through links too, each real folder once (links may lead in a circle).

    without: the name of a folder directly in `folder` that is left out.
    """
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if without in folders and Path(place) == Path(folder):
            folders.remove(without)
        yield from (Path(place, file) for file in files)
