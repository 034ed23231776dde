"""Writing files so that nothing is ever half-written, and file names that cannot leave their folder."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from .errors import OutputError, SettingsError

# Windows refuses these whatever the extension; a name made on Linux should travel.
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]+')
_UMASK = Lock()
_MAX_STEM = 100  # characters; file systems allow 255 bytes


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
    """A file name without extension made from any text: no separators, no reserved words, at most 100 characters."""
    stem = _UNSAFE.sub("_", name).strip(" ._")[:_MAX_STEM].strip(" ._")
    if not stem:
        return default
    return f"{stem}_" if stem.split(".")[0].lower() in _RESERVED else stem


def require_plain_name(name: str, what: str) -> str:
    """`name` stripped, if it can be a file name as it stands; else SettingsError that shows one that can."""
    name = name.strip()
    if not name or safe_stem(name) != name:
        raise SettingsError(
            f'{what} "{name}" cannot be a file name: use a plain name without folders or the signs < > : " / \\ | ? *, '
            f'for example "{safe_stem(name)}".'
        )
    return name


def fresh_path(folder: str | Path, stem: str, suffix: str) -> Path:
    """`folder/stem.suffix`, or with _2, _3 … when that exists: nobody's file is overwritten."""
    folder = Path(folder)
    path, count = folder / f"{stem}{suffix}", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}_{count}{suffix}"
    return path
