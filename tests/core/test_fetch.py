"""Downloads from a server on this machine: whole, broken off and gone on with, wrong, behind Google Drive's page."""

import hashlib
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from f2d_core import fetch as module
from f2d_core.catalogue import PUBLISHED
from f2d_core.errors import DownloadError, WeightsError
from f2d_core.fetch import address_of, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"""<html><body><form id="download-form" action="/confirmed" method="get">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="7"><input type="hidden"
name="confirm" value="t"></form></body></html>"""


class Server(BaseHTTPRequestHandler):
    """What it does is set by the test; `requests` keeps (path, Range header)."""

    def do_GET(self):
        settings = self.server
        settings.requests.append((self.path, self.headers.get("Range")))
        path = urlparse(self.path)
        if path.path.startswith("/drive") and not settings.confirmed_at_once:
            return self._answer(200, PAGE, "text/html; charset=utf-8")
        if path.path.startswith("/confirmed"):
            assert parse_qs(path.query) == {"id": ["7"], "confirm": ["t"]}
        if path.path.startswith("/missing"):
            return self.send_error(404)
        if path.path.startswith("/sorry"):
            return self._answer(200, b"<html>Too many have fetched it today</html>", "text/html")
        if path.path.startswith("/endless"):
            return self._endless("text/html" if path.query == "page" else "application/octet-stream")
        return self._file()

    def _file(self):
        start, settings = 0, self.server
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == settings.etag and settings.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        if start and settings.says is not None:
            self.send_header("Content-Range", settings.says or f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("ETag", settings.etag)
        self.end_headers()
        if settings.breaks > 0:
            settings.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def _endless(self, kind):
        """An answer without a length; nobody should take all of it."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        try:
            while self.server.sent < 40 * len(CONTENT):
                self.wfile.write(CONTENT)
                self.server.sent += len(CONTENT)
        except ConnectionError:
            pass

    def _answer(self, code, body, kind):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    instance = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    instance.requests, instance.etag, instance.breaks = [], '"one"', 0
    instance.ranges, instance.confirmed_at_once = True, False
    instance.says, instance.sent = "", 0  # what stands in Content-Range: the truth, another text, or None
    thread = threading.Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    instance.address = f"http://127.0.0.1:{instance.server_port}"
    yield instance
    instance.shutdown()
    instance.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.0)


def entry(server, path="file", sha256=""):
    return replace(
        PUBLISHED["yunet"], file="weights.bin", megabytes=1.0, sha256=sha256, download=f"{server.address}/{path}"
    )


def anything(_path):
    pass


def test_a_file_arrives_whole_with_its_hash_and_progress(server, tmp_path):
    told = []
    found = fetch(
        entry(server, sha256=SHA256),
        tmp_path / "new",
        anything,
        progress=lambda done, total: told.append((done, total)),
    )

    assert found.path.read_bytes() == CONTENT and (found.sha256, found.published) == (SHA256, True)
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [done for done, _ in told] == sorted(done for done, _ in told)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["weights.bin"]


def test_a_broken_connection_goes_on_where_it_broke(server, tmp_path):
    server.breaks = 2
    found = fetch(entry(server), tmp_path, anything)

    assert found.path.read_bytes() == CONTENT and not found.published
    half, quarter = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert [asked for _, asked in server.requests] == [None, f"bytes={half}-", f"bytes={quarter}-"]


def test_a_stopped_download_goes_on_in_the_next_call(server, tmp_path):
    def stop(done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry(server), tmp_path, anything, progress=stop)
    assert not (tmp_path / "weights.bin").exists()

    assert fetch(entry(server), tmp_path, anything).path.read_bytes() == CONTENT
    assert server.requests[-1][1].startswith("bytes=") and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", ["etag", "ranges", "address"])
def test_bytes_of_another_version_are_not_gone_on_with(server, tmp_path, change):
    (tmp_path / ".weights.bin.part").write_bytes(b"old" * 1000)
    module._Part(tmp_path / "weights.bin").note(f"{server.address}/file", server.etag)
    if change == "etag":
        server.etag = '"two"'
    elif change == "ranges":
        server.ranges = False
    where = "other" if change == "address" else "file"

    assert fetch(entry(server, where), tmp_path, anything).path.read_bytes() == CONTENT


@pytest.mark.parametrize("says", ["bytes 5-1048575/1048576", "bytes */1048576", "items 1048576-2/3", None])
def test_an_answer_that_begins_elsewhere_is_not_appended(server, tmp_path, says):
    server.breaks, server.says = 1, says

    assert fetch(entry(server), tmp_path, anything).path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert [asked for _, asked in server.requests] == [None, f"bytes={half}-", None]  # all of it, anew


@pytest.mark.parametrize("path", ["file", "endless"])
def test_more_bytes_than_the_file_can_have_are_not_taken(server, tmp_path, path):
    """With a length that is said beforehand, and without one."""
    small, told = replace(entry(server, path), megabytes=0.5), []

    with pytest.raises(DownloadError, match=r"sends more than 0\.6 MB, weights\.bin has 0\.5 MB.*Put weights\.bin"):
        fetch(small, tmp_path, anything, progress=lambda done, total: told.append(done))
    assert list(tmp_path.iterdir()) == [] and server.sent < 20 * len(CONTENT)
    assert (told == []) == (path == "file")


def test_what_goes_on_above_the_size_is_not_taken(server, tmp_path):
    (tmp_path / ".weights.bin.part").write_bytes(CONTENT[:-1])
    module._Part(tmp_path / "weights.bin").note(f"{server.address}/file", server.etag)

    with pytest.raises(DownloadError, match="sends more than"):
        fetch(replace(entry(server), megabytes=0.5), tmp_path, anything)
    assert list(tmp_path.iterdir()) == []


def test_of_a_page_only_its_beginning_is_read(server, tmp_path):
    with pytest.raises(DownloadError, match="answers with a page"):
        fetch(entry(server, "endless?page"), tmp_path, anything)
    assert server.sent < 20 * len(CONTENT)


def test_google_drives_page_is_passed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DRIVE_ADDRESS", f"{server.address}/drive")
    server.breaks = 1
    on_drive = replace(entry(server), download="drive:7")

    assert fetch(on_drive, tmp_path, anything).path.read_bytes() == CONTENT
    assert server.requests[0][0] == "/drive?id=7&export=download"
    assert [path.split("?")[0] for path, _ in server.requests] == ["/drive", "/confirmed"] * 2
    assert server.requests[-1][1] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize(("path", "message"), [("missing", "404"), ("sorry", "answers with a page")])
def test_what_cannot_be_fetched_says_where_to_get_it(server, tmp_path, path, message):
    with pytest.raises(DownloadError, match=rf"{message}.*Put weights\.bin.*published at"):
        fetch(entry(server, path), tmp_path, anything)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_finishes_is_given_up(server, tmp_path):
    server.breaks = 99
    with pytest.raises(DownloadError, match=r"broke 5 times.*to go on"):
        fetch(entry(server), tmp_path, anything)
    assert (
        not (tmp_path / "weights.bin").exists() and (tmp_path / ".weights.bin.part").stat().st_size > len(CONTENT) / 2
    )


def test_nobody_at_the_address(tmp_path):
    nobody = replace(PUBLISHED["yunet"], file="weights.bin", download="http://127.0.0.1:9/file")
    with pytest.raises(DownloadError, match="broke 5 times"):
        fetch(nobody, tmp_path, anything)


def test_another_hash_is_refused_and_deleted(server, tmp_path):
    with pytest.raises(DownloadError, match="published is 0000"):
        fetch(entry(server, sha256="0" * 64), tmp_path, anything)
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_refused_and_deleted(server, tmp_path):
    def check(path):
        assert path.read_bytes() == CONTENT
        raise WeightsError("something else")

    with pytest.raises(WeightsError, match="something else"):
        fetch(entry(server), tmp_path, check)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_checked_and_kept(server, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"mine")
    assert fetch(entry(server), tmp_path, anything).sha256 == hashlib.sha256(b"mine").hexdigest()
    with pytest.raises(DownloadError, match="published is"):
        fetch(entry(server, sha256=SHA256), tmp_path, anything)
    assert (tmp_path / "weights.bin").read_bytes() == b"mine" and server.requests == []


def test_a_full_disk_is_noticed_before_anything_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(DownloadError, match=r"0 MB free, weights\.bin needs 1 MB more"):
        fetch(entry(server), tmp_path, anything)
    assert list(tmp_path.iterdir()) == []


def test_addresses(server):
    assert address_of(PUBLISHED["msid"]).endswith("?id=1DjUf-ib612SDDt86TRlsDkHqXTeYx030&export=download")
    assert address_of(PUBLISHED["recon"], "https://m.example/w") == "https://m.example/w/epoch_20.pth"
    with pytest.raises(DownloadError, match=r"epoch_20\.pth has no address.*published at"):
        address_of(PUBLISHED["recon"])
    with pytest.raises(DownloadError, match="is no address"):
        fetch(replace(entry(server), download="weights"), "/tmp", anything)


def test_a_mirror_is_not_asked_for_files_that_share_a_name():
    names = Counter(published.file for published in PUBLISHED.values())
    for published in PUBLISHED.values():
        assert published.mirrored == (names[published.file] == 1), published.kind

    for kind in ("clip_h14", "siglip_so400m", "siglip_b16"):
        with pytest.raises(DownloadError, match=r"several published files .* from a mirror.*published at"):
            address_of(PUBLISHED[kind], "https://m.example/w")
    assert address_of(PUBLISHED["clip_h14"]).startswith("https://huggingface.co/laion/")
    with pytest.raises(DownloadError, match="no address of its own"):
        address_of(PUBLISHED["siglip_b16"])
