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
from f2d_core.weights import file_sha256
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


def watch_what_is_sent(page):
    """From here on prompts that are sent are counted and the seed goes up with each; what state_of_page says now."""
    page.evaluate(
        "window.sent = 0; const own = app.api.queuePrompt;"
        "app.api.queuePrompt = function (...values) { window.sent += 1; return own.apply(this, values); };"
        "const seed = app.graph.nodes.find((node) => node.type === 'KSampler')"
        "  .widgets.find((each) => each.name === 'control_after_generate');"
        "seed.value = 'increment'; seed.callback?.('increment');"
        "await new Promise((done) => setTimeout(done, 1000));"  # what the host says of a workflow that it opened
    )
    return state_of_page(page)


def state_of_page(page):
    return page.evaluate(
        "const sampler = app.graph.nodes.find((node) => node.type === 'KSampler');"
        "const count = (selector) => document.querySelectorAll(selector).length;"
        "return {"
        "  sent: window.sent, seed: sampler.widgets.find((each) => each.name === 'seed').value,"
        "  refused: Object.keys(app.lastNodeErrors ?? {}).length, errors: count('.p-toast-message-error'),"
        "  windows: count('[role=dialog]'), ours: count('dialog'),"
        "};"
    )


def test_empty_folders_end_in_one_message_that_offers_the_files(page, folder, screenshots):
    page.click(RUN)
    page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")

    assert page.count("dialog") == 1
    msid = row(page, "msid")
    assert "msid.pt, 86 MB" in msid and "CC BY-NC-SA 4.0, non-commercial. Commercial use: no." in msid
    assert "https://drive.google.com/file/d/" in msid and "Download" in msid
    assert "mapping.pt, 48 MB" in row(page, "mapping")
    assert "yunet_n_640_640.onnx, 0.3 MB" in row(page, "yunet") and "Apache-2.0" in row(page, "yunet")
    assert "SHA-256 25a606a1…" in row(page, "yunet") and "as published" not in row(page, "yunet")
    assert "no published hash: checked by keys and shapes" in msid and "SHA-256" not in msid
    assert page.count("dialog li") == 3
    assert "checkpoint of yours" in page.text("dialog") and page.text("dialog .f2d-main") == "Download all, 134 MB"
    page.screenshot(screenshots / f"fetch_message_{page.vue}.png")

    page.press("Escape")
    page.wait("return !document.querySelector('dialog');")
    time.sleep(0.5)
    assert list(folder.glob("*.*")) == []  # nothing was downloaded
    assert not page.evaluate("return app.lastNodeErrors;") and page.count(".p-toast-message-error") == 0


@pytest.mark.parametrize("way", ["Escape", "Cancel"])
def test_a_cancelled_run_is_not_sent_and_nothing_more_is_said(page, folder, way):
    before = watch_what_is_sent(page)
    page.evaluate("app.queuePrompt(0, 3).then((value) => (window.queued = value));")  # three in a row
    page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")

    page.press("Escape") if way == "Escape" else page.click("dialog button:has-text('Cancel')")
    page.wait("return window.queued === false;")
    time.sleep(1)

    assert state_of_page(page) == before and (before["sent"], before["errors"], before["ours"]) == (0, 0, 0)
    page.click(RUN)  # and the next run asks again
    page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")
    page.press("Escape")
    page.wait("return !document.querySelector('dialog');")


def test_a_run_can_go_on_without_the_files(page, folder):
    watch_what_is_sent(page)
    page.click(RUN)
    page.click("dialog .f2d-answers button:has-text('Run anyway')")

    page.wait("return window.sent === 1 && app.lastNodeErrors;")  # the server says what it lacks
    assert page.count("dialog.f2d-dialog") == 0 and list(folder.glob("*.*")) == []


@pytest.mark.parametrize("after_a_run", [False, True])
def test_an_export_asks_for_nothing(page, folder, after_a_run):
    if after_a_run:
        page.click(RUN)
        page.wait("return document.querySelector('dialog[open] .f2d-answers .f2d-main');")
        page.press("Escape")
        page.wait("return !document.querySelector('dialog');")
    page.evaluate(
        "await app.extensionManager.setting.set('Comfy.PromptFilename', false); window.exported = null;"
        "URL.createObjectURL = ((own) => (blob) => {"
        "  if (blob.type === 'application/json') blob.text().then((text) => (window.exported = JSON.parse(text)));"
        "  return own(blob);"
        "})(URL.createObjectURL.bind(URL));"
        "app.extensionManager.command.execute('Comfy.ExportWorkflowAPI');"  # what File > Export (API) does
    )
    try:
        page.wait("return window.exported || document.querySelector('dialog');")
        assert page.count("dialog") == 0
        exported = page.evaluate("return Object.values(window.exported);")
        (msid,) = [node for node in exported if node["class_type"] == "F2DLoadMSIDEncoder"]
        assert msid["inputs"] == {"file": "msid.pt"}
    finally:  # the server keeps the setting
        page.evaluate("await app.extensionManager.setting.set('Comfy.PromptFilename', true);")


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
    found = file_sha256(folder / "msid.pt")[:8]
    assert f"no published hash: checked by keys and shapes; it has SHA-256 {found}…" in row(page, "msid")
    assert "SHA-256 25a606a1…, as published" in row(page, "yunet")
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
    assert "no published hash: checked by keys and shapes" in text
    assert page.count("dialog li button") == 0
    page.click("dialog button:has-text('Cancel')")
    page.wait("return !document.querySelector('dialog');")


def test_a_mirror_does_not_bring_files_that_share_a_name(page, folder, mirror):
    page.evaluate("await app.extensionManager.setting.set(argument[0], argument[1]);", [MIRROR, mirror.address])
    page.evaluate("app.extensionManager.command.execute('Face2Diffusion.Download');")
    page.wait("return document.querySelector(\"dialog[open] li[data-kind='siglip_b16']\");")

    for kind in ("siglip_so400m", "siglip_b16"):
        assert "Only to be had by hand" in row(page, kind) and "with tokenizer.json" in row(page, kind)
    assert "Not from a mirror" in row(page, "clip_h14")
    for kind in ("clip_h14", "siglip_so400m", "siglip_b16"):
        assert page.count(f"dialog li[data-kind='{kind}'] button") == 0
    assert page.count("dialog li[data-kind='recon'] button") == 1  # its name is its own
    assert "no published hash: checked by size" in row(page, "insightface")
    assert mirror.asked == []
    page.press("Escape")


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
