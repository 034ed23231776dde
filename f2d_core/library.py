"""The saved identities of a folder: seeing them, and changing them without overwriting one or leaving the folder."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import F2DError, OutputError, SettingsError, WeightsError
from .files import fresh_path, require_plain_name, safe_stem, write_atomically
from .s_star import SStar, load_s_star, save_s_star

ENDING = ".safetensors"
MOST_BYTES = 700_000  # of an identity file; ours have about 50,000
MOST_ENTRIES = 1000  # of a list
_MOST_NAME = 512  # characters of a file's name with its folders
_QUALITY = 85


@dataclass(frozen=True)
class Entry:
    """One file. file: its name in the folder, with forward slashes. problem: why it cannot be used, or empty; then
    all but file and bytes is empty. thumbnail: a JPEG, or empty. The hashes are those of SStar."""

    file: str
    bytes: int
    name: str = ""
    marker: str = ""
    words: int = 0
    injection: str = ""
    encoder_key: str = ""
    features: str = ""
    detector: str = ""
    licence: str = ""
    msid_sha256: str = ""
    mapping_sha256: str = ""
    image_sha256: str = ""
    thumbnail: bytes = b""
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_COPIED = tuple(
    name for name in Entry.__dataclass_fields__ if name in SStar.__dataclass_fields__ and name != "thumbnail"
)


class Library:
    """The identities in `folders` and below; new ones go into the first. A name counts in the first that has it."""

    def __init__(self, folders: Sequence[str | Path]):
        self.folders = [Path(folder) for folder in folders]

    def entries(self) -> tuple[list[Entry], int]:
        """(what is there by name, at most MOST_ENTRIES, the damaged among them; how many were left off)."""
        names = sorted(self._names(), key=str.casefold)
        return [self._entry(name) for name in names[:MOST_ENTRIES]], max(0, len(names) - MOST_ENTRIES)

    def _names(self) -> set[str]:
        found: set[str] = set()
        for folder in self.folders:
            for place, _, files in os.walk(folder):
                inside = Path(place).relative_to(folder)
                found.update((inside / file).as_posix() for file in files if _is_ours(file))
        return found

    def _entry(self, name: str) -> Entry:
        try:
            path = self.path(name)
            state = path.stat()
            return _read(str(path), name, state.st_mtime_ns, state.st_size)
        except (F2DError, OSError) as error:
            return Entry(name, 0, problem=str(error))

    def path(self, name: str) -> Path:
        """The file of that name. Raises SettingsError for a name that leaves the folder, WeightsError if it is gone."""
        parts = _parts(name)
        for folder in self.folders:
            path = folder.joinpath(*parts)
            if not os.path.isfile(path):  # no file either where the system refuses the name; Path.is_file would raise
                continue
            if not path.resolve().is_relative_to(folder.resolve()):
                raise SettingsError(f"{name} leads out of the identities folder. Copy it there.")
            return path
        raise WeightsError(f"{name} is not in the identities folder. Refresh the list.")

    def rename(self, name: str, new_name: str) -> str:
        """Give a person and the file another name; the new file's. Raises OutputError where that is taken.

        A name taken in any folder is: the file would hide the other one, or be hidden by it.
        """
        path, stem = self.path(name), require_plain_name(new_name, "The identity name")
        person = replace(_load(path), name=stem)
        target = path.with_name(stem + ENDING)
        new = Path(*_parts(name)).with_name(target.name).as_posix()
        if new != name:
            self._require_free(new, path)
        if _is_same(target, path):
            save_s_star(person, path)
            _move(path, target)
        else:
            _write_new(target, lambda: save_s_star(person, target))
            _remove(path)
        return new

    def _require_free(self, name: str, path: Path) -> None:
        """Raise OutputError where another file than `path` has that name in any folder."""
        places = [folder / name for folder in self.folders]
        if any(os.path.exists(place) and not _is_same(place, path) for place in places):
            raise OutputError(_taken(Path(name).name))

    def delete(self, name: str) -> None:
        """Delete one file. Raises OutputError."""
        _remove(self.path(name))

    def data(self, name: str) -> bytes:
        """The bytes of one file, as it is."""
        path = self.path(name)
        _require_size(path.name, path.stat().st_size)
        return path.read_bytes()

    def load(self, name: str) -> SStar:
        return _load(self.path(name))

    def add(self, name: str, data: bytes) -> str:
        """Take in an identity file; the name it got: a number is added where that is taken. Raises WeightsError."""
        _require_size(name, len(data))
        stem = safe_stem(Path(name.replace("\\", "/")).name.removesuffix(ENDING))
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder) / (stem + ENDING)
            probe.write_bytes(data)
            load_s_star(probe)
        path = fresh_path(self.folders[0], stem, ENDING, self.folders)
        _write_new(path, lambda: write_atomically(path, lambda temporary: temporary.write_bytes(data)))
        return path.name


def _is_ours(file: str) -> bool:
    return file.lower().endswith(ENDING) and not file.startswith(".")


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a name that stays in its folder. Raises SettingsError."""
    parts = tuple(name.split("/"))
    odd = any(part in ("", ".", "..") or part != part.strip() for part in parts)
    if odd or len(name) > _MOST_NAME or any(sign in name for sign in "\\:\0") or not _is_ours(parts[-1]):
        shown = name[:60].replace("\0", " ")
        raise SettingsError(f'"{shown}" is no identity file of the library; expected a name such as anna{ENDING}.')
    return parts


def _require_size(name: str, size: int) -> None:
    if size > MOST_BYTES:
        raise WeightsError(
            f"{name} has {size:,} bytes, an identity file at most {MOST_BYTES:,}. It is something else; choose another."
        )


def _load(path: Path) -> SStar:
    _require_size(path.name, path.stat().st_size)
    return load_s_star(path)


@lru_cache(maxsize=2 * MOST_ENTRIES)
def _read(path: str, name: str, changed_ns: int, size: int) -> Entry:
    """Read once for every state of the file."""
    try:
        person = _load(Path(path))
    except F2DError as error:
        return Entry(name, size, problem=str(error))
    texts = {key: getattr(person, key) for key in _COPIED}
    return Entry(name, size, words=person.words, thumbnail=_jpeg(person), **texts)


def _jpeg(person: SStar) -> bytes:
    """The small picture; nothing where there is none."""
    from PIL import Image

    if person.thumbnail is None:
        return b""
    out = io.BytesIO()
    Image.fromarray(person.thumbnail.contiguous().numpy()).save(out, format="JPEG", quality=_QUALITY)
    return out.getvalue()


def _write_new(path: Path, write: Callable[[], object]) -> None:
    """Write a file under a name that nobody has, taken first, so that no other can be overwritten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("x").close()
    except FileExistsError:
        raise OutputError(_taken(path.name)) from None
    except OSError as error:
        raise OutputError(f"Cannot write {path.name}: {error.strerror or error}. Look at the folder.") from error
    try:
        write()
    except F2DError:
        path.unlink(missing_ok=True)
        raise


def _taken(name: str) -> str:
    return f"There is a {name} already. Choose another name."


def _is_same(one: Path, other: Path) -> bool:
    """Are both names of one file that differ at most in capitals? Some file systems do not tell those apart."""
    try:
        return one.name.casefold() == other.name.casefold() and os.path.samefile(one, other)
    except OSError:
        return False


def _move(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        raise OutputError(f"Cannot rename {path.name}: {error.strerror or error}. Look at the folder.") from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"Cannot delete {path.name}: {error.strerror or error}. Look at the folder.") from error
