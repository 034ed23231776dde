"""Fetching one published file, on the user's explicit word: the only code of this project that downloads.

A download goes on where it was stopped, is checked before it gets its name, and says what it became. Files on Google
Drive are reached through its page that warns of large files.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

from .catalogue import Published
from .errors import DownloadError
from .files import write_atomically
from .ports import Progress
from .published import most_bytes
from .weights import file_sha256

DRIVE = "drive:"  # what a catalogue entry's address begins with when it is the number of a file on Google Drive
DRIVE_ADDRESS = "https://drive.usercontent.google.com/download"
TRIES = 5  # connections, each going on where the last one broke
PAUSE_S = 1.0  # before the second try; longer before each later one
TIMEOUT_S = 30
_BLOCK = 1 << 18
_MOST_PAGE = 1 << 20  # bytes; Google Drive's page has a few thousand
_LEAST_SPARE = 1 << 26  # bytes left free on the disk
_AGENT = {"User-Agent": "face2diffusion (file fetched at the user's request)"}


@dataclass(frozen=True)
class Fetched:
    """path: the file. sha256: of its bytes. published: whether that is the hash its makers published."""

    path: Path
    sha256: str
    published: bool


def address_of(entry: Published, mirror: str = "") -> str:
    """Where the file is fetched from. mirror: an address below which files lie under their names.

    Raises DownloadError for a file that can only be had by hand, there or at all.
    """
    if mirror and not entry.mirrored:
        raise DownloadError(
            f"{entry.file} is the name of several published files and cannot be fetched from a mirror. "
            f"{_by_hand(entry)}"
        )
    if mirror:
        return urljoin(mirror if mirror.endswith("/") else f"{mirror}/", quote(entry.file))
    if not entry.download:
        raise DownloadError(f"{entry.file} has no address of its own and cannot be fetched. {_by_hand(entry)}")
    if entry.download.startswith(DRIVE):
        return f"{DRIVE_ADDRESS}?{urlencode({'id': entry.download.removeprefix(DRIVE), 'export': 'download'})}"
    return entry.download


def fetch(
    entry: Published,
    folder: str | Path,
    check: Callable[[Path], None],
    *,
    mirror: str = "",
    progress: Progress | None = None,
) -> Fetched:
    """Download a file into `folder`; call it again after a stop, and it goes on. A file that is there is only checked.

    check: raises an F2DError for a file that is not what the entry says; what it refuses is deleted, unless it was
    there before. progress counts bytes and may raise to stop. Raises DownloadError.
    """
    path = Path(folder) / entry.file
    if path.exists():
        check(path)
        return _fetched(entry, path)
    part = _Part(path)
    try:
        part.folder.mkdir(parents=True, exist_ok=True)
        _download(address_of(entry, mirror), part, entry, progress)
        found = _checked(entry, part, check)
        os.replace(part.path, path)
        part.forget()
    except OSError as error:
        raise DownloadError(
            f"Cannot write {path}: {error.strerror or error}. Free some space, or choose another folder."
        ) from error
    return Fetched(path, found.sha256, found.published)


class _Part:
    """A file on its way: its bytes so far, and of which version of which address they are."""

    def __init__(self, path: Path):
        self.folder = path.parent
        self.path = path.with_name(f".{path.name}.part")
        self._notes = path.with_name(f".{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, address: str) -> str:
        """What the server called the version these bytes are of; empty when it is another address, or unknown."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return notes["version"] if notes["address"] == address else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def note(self, address: str, version: str) -> None:
        text = json.dumps({"address": address, "version": version})
        write_atomically(self._notes, lambda path: path.write_text(text, encoding="utf-8"))

    def forget(self) -> None:
        for file in (self.path, self._notes):
            file.unlink(missing_ok=True)


# --- over the network ---


def _download(address: str, part: _Part, entry: Published, progress: Progress | None) -> None:
    """Receive until all is there, over several connections where they break."""
    problem: object = ""
    for attempt in range(TRIES):
        time.sleep(attempt * PAUSE_S)
        try:
            return _receive(address, part, entry, progress)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.forget()
            elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise DownloadError(
                    f"{error.url} answers {error.code} {error.reason}; expected {entry.file}. {_by_hand(entry)}"
                ) from error
            problem = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = getattr(error, "reason", None) or error or type(error).__name__
    raise DownloadError(
        f"The connection for {entry.file} broke {TRIES} times ({problem}), {part.size / 1e6:.1f} MB are here. "
        f"Run the same again to go on, set a mirror, or get it by hand. {_by_hand(entry)}"
    )


def _receive(address: str, part: _Part, entry: Published, progress: Progress | None) -> None:
    """One connection, or two where a page stands before the file. Raises ConnectionError when the file ends early."""
    version = part.version(address)
    with _open(address, part.size, version) as answer:
        if not _is_page(answer):
            return _save(answer, address, part, entry, progress)
        behind = _address_behind(answer.read(_MOST_PAGE).decode("utf-8", "replace"), answer.url)
    if behind is None:
        raise DownloadError(
            f"{answer.url} answers with a page instead of {entry.file}, perhaps because too many have fetched it today."
            f" {_by_hand(entry)}"
        )
    with _open(behind, part.size, version) as answer:
        if _is_page(answer):
            raise DownloadError(f"{answer.url} answers with pages instead of {entry.file}. {_by_hand(entry)}")
        _save(answer, address, part, entry, progress)


def _open(address: str, start: int, version: str) -> Any:
    """The answer of the server, which may begin at byte `start` if it still has that version."""
    headers = {**_AGENT, "Range": f"bytes={start}-", "If-Range": version} if start and version else _AGENT
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_S)
    except ValueError as error:
        raise DownloadError(f"{address} is no address; expected one such as https://example.org/weights.") from error


def _save(answer: Any, address: str, part: _Part, entry: Published, progress: Progress | None) -> None:
    start = _start(answer, part)
    total = start + _length(answer.headers)
    _require_size(total, answer, part, entry)
    _require_space(part.folder, total - start, entry)
    part.note(address, _version(answer.headers))
    expected = total if total > start else round(entry.megabytes * 1e6)
    with open(part.path, "ab" if start else "wb") as file:
        while file.tell() <= most_bytes(entry) and (block := answer.read(_BLOCK)):
            file.write(block)
            if progress is not None:
                progress(min(file.tell(), expected), expected)
        file.flush()
        os.fsync(file.fileno())
    _require_size(part.size, answer, part, entry)
    if total > start and part.size != total:
        raise ConnectionError(f"{part.size} of {total} bytes came")


def _start(answer: Any, part: _Part) -> int:
    """At which byte of the file the answer begins. Raises ConnectionError where that is not the next one needed."""
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    said = answer.headers.get("Content-Range", "")
    if not said.startswith(f"bytes {part.size}-"):
        part.forget()  # so that the next try asks for all of it
        raise ConnectionError(f'the server goes on at "{said}"')
    return part.size


def _length(headers: Message) -> int:
    """How many bytes the answer has; 0 where that is not said."""
    said = headers.get("Content-Length", "")
    return int(said) if said.isdecimal() else 0


def _require_size(size: int, answer: Any, part: _Part, entry: Published) -> None:
    """Raise DownloadError for more bytes than the file can have; those that came go, too."""
    if size > most_bytes(entry):
        part.forget()
        raise DownloadError(
            f"{answer.url} sends more than {most_bytes(entry) / 1e6:.1f} MB, {entry.file} has {entry.megabytes:g} MB: "
            f"it is another file. {_by_hand(entry)}"
        )


def _version(headers: Message) -> str:
    """What tells one state of a file from another; only strong marks serve for going on."""
    mark = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not mark or mark.startswith("W/") else mark


def _is_page(answer: Any) -> bool:
    return answer.headers.get_content_type() in ("text/html", "application/xhtml+xml")


def _require_space(folder: Path, size: int, entry: Published) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _LEAST_SPARE:
        raise DownloadError(
            f"{folder} has {free / 1e6:.0f} MB free, {entry.file} needs {size / 1e6:.0f} MB more. Free some space."
        )


def _address_behind(page: str, base: str) -> str | None:
    """Where the form of Google Drive's "too large to scan" page leads; None where there is no such form."""
    form = _Form()
    form.feed(page)
    if not form.action or "id" not in form.values:
        return None
    return f"{urljoin(base, form.action)}?{urlencode(form.values)}"


class _Form(HTMLParser):
    """The address and the hidden values of the first form of a page."""

    def __init__(self):
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.action:
            self.action = found.get("action", "")
        elif tag == "input" and self.action and found.get("type") == "hidden":
            self.values[found.get("name", "")] = found.get("value", "")


# --- what came ---


def _checked(entry: Published, part: _Part, check: Callable[[Path], None]) -> Fetched:
    """Raises what `check` raises, and DownloadError for another hash than the published one; the bytes go then."""
    try:
        found = _fetched(entry, part.path)
        check(part.path)
    except Exception:
        part.forget()
        raise
    return found


def _fetched(entry: Published, path: Path) -> Fetched:
    digest = file_sha256(path)
    if entry.sha256 and digest != entry.sha256:
        raise DownloadError(
            f"{entry.file} has the SHA-256 {digest}, published is {entry.sha256}. It is damaged or another file: fetch "
            "it again, from another place if that repeats."
        )
    return Fetched(path, digest, bool(entry.sha256))


def _by_hand(entry: Published) -> str:
    return entry.how_to_get("the model folder by hand")
