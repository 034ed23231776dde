"""Weights on a click: one message before a run that lacks some, and nothing is downloaded without it."""

import json
import shutil
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict
from tests.support import base_directory, checkouts
from tests.support.server import Server

MIRROR = "Face2Diffusion.Fetch.Mirror"
WORKFLOW = base_directory.REPO / "workflows" / "face_to_image.json"
RUN = "button:has-text('Run')"


class Quiet(SimpleHTTPRequestHandler):
    """A server that is not too fast to be watched, and counts."""

    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        time.sleep(0.5)
        super().do_GET()

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A ComfyUI whose model folders are empty."""
    base = base_directory.make(tmp_path_factory.mktemp("bare") / "base")
    (base / "models" / "checkpoints" / base_directory.CHECKPOINT).unlink()
    with Server(checkouts.comfyui(), base) as running:
        yield running


@pytest.fixture
def folder(bare):
    """Its model folder, empty again."""
    folder = bare.base / "models" / "face2diffusion"
    yield folder
    for file in folder.glob("*.*"):
        file.unlink()


@pytest.fixture
def mirror(tmp_path, yunet_file):
    files = tmp_path / "mirror"
    files.mkdir()
    torch.save(tiny_msid_state_dict(), files / "msid.pt")
    torch.save(tiny_msid_state_dict(), files / "mapping.pt")  # the wrong one, to begin with
    shutil.copyfile(yunet_file, files / yunet_file.name)
    handler = type("Handler", (Quiet,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(files)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.address, server.files, server.asked = f"http://127.0.0.1:{server.server_port}", files, handler.asked
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["canvas", "nodes2"])
def page(request, open_page, bare):
    page = open_page(request.param == "nodes2", {MIRROR: ""}, bare)
    page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    return page


def row(page, kind):
    return page.text(f"dialog li[data-kind='{kind}']")


def test_empty_folders_end_in_one_message_that_offers_the_files(page, folder, screenshots):
    page.click(RUN)
    page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")

    assert page.count("dialog") == 1
    msid = row(page, "msid")
    assert "msid.pt, 86 MB" in msid and "CC BY-NC-SA 4.0, non-commercial. Commercial use: no." in msid
    assert "https://drive.google.com/file/d/" in msid and "Download" in msid
    assert "mapping.pt, 48 MB" in row(page, "mapping")
    assert "yunet_n_640_640.onnx, 0.3 MB" in row(page, "yunet") and "Apache-2.0" in row(page, "yunet")
    assert page.count("dialog li") == 3
    assert "checkpoint of yours" in page.text("dialog") and page.text("dialog .f2d-main") == "Download all, 134 MB"
    page.screenshot(screenshots / f"fetch_message_{page.vue}.png")

    page.press("Escape")
    page.wait("return !document.querySelector('dialog');")
    time.sleep(0.5)
    assert list(folder.glob("*.*")) == []  # nothing was downloaded


def test_a_click_brings_them_and_the_run_goes_on(page, folder, mirror, screenshots):
    page.evaluate("await app.extensionManager.setting.set(argument[0], argument[1]);", [MIRROR, mirror.address])
    page.click(RUN)
    page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")
    assert f"from the mirror {mirror.address}" in page.text("dialog") and mirror.asked == []

    page.click("dialog .f2d-answers .f2d-main")
    page.wait("return document.querySelector('dialog progress');")
    page.screenshot(screenshots / f"fetch_progress_{page.vue}.png")
    page.wait("return document.querySelector(\"li[data-kind='mapping'][data-state='failed']\");")
    page.wait("return document.querySelectorAll(\"li[data-state='here']\").length === 2;")
    assert "mapping.pt is an MSID encoder, expected a mapping network" in row(page, "mapping") and "Try again" in row(
        page, "mapping"
    )
    assert sorted(file.name for file in folder.glob("[!.]*.*")) == ["msid.pt", "yunet_n_640_640.onnx"]
    page.screenshot(screenshots / f"fetch_failed_{page.vue}.png")

    torch.save(tiny_mapping_state_dict(), mirror.files / "mapping.pt")
    page.click("dialog li[data-kind='mapping'] button:has-text('Try again')")
    page.wait("return !document.querySelector('dialog');")

    assert (folder / "mapping.pt").read_bytes() == (mirror.files / "mapping.pt").read_bytes()
    assert sorted(mirror.asked) == ["/mapping.pt", "/mapping.pt", "/msid.pt", "/yunet_n_640_640.onnx"]
    # The run went on, up to what is not ours: the photo and the checkpoint.
    page.wait("return app.lastNodeErrors;")
    refused = page.evaluate("return Object.values(app.lastNodeErrors).map((node) => node.class_type).sort();")
    assert refused == ["CheckpointLoaderSimple", "LoadImage"]


def test_what_cannot_be_fetched_shows_address_and_folder(page, folder):
    page.evaluate("app.graph.clear();")
    nodes = {"load": ("F2DLoadExpressionEncoder", 100, 100, {}), "shown": ("PreviewAny", 500, 100, {})}
    page.build(nodes, [("load", 0, "shown", "source")])

    page.click(RUN)
    page.wait("return document.querySelector('dialog[open] .f2d-files li');")

    text = row(page, "recon")
    assert "epoch_20.pth" in text and "by hand" in text and "drive.google.com" in text and str(folder) in text
    assert page.count("dialog li button") == 0
    page.click("dialog button:has-text('Cancel')")
    page.wait("return !document.querySelector('dialog');")


def test_a_run_that_failed_for_want_of_a_file_offers_it(page, folder):
    message = "No face parser was found. Put parsing_bisenet.pth (53.3 MB, licence: …) into models."
    failed = {
        "node_id": "1",
        "node_type": "F2DFaceReport",
        "exception_message": message,
        "traceback": [],
        "executed": [],
    }
    page.evaluate("app.api.dispatchEvent(new CustomEvent('execution_error', {detail: argument}));", failed)

    page.wait("return document.querySelector('dialog.f2d-dialog[open] .f2d-files li');")
    assert page.count("dialog.f2d-dialog li") == 1 and "parsing_bisenet.pth, 53 MB" in page.text("dialog.f2d-dialog li")
