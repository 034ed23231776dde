"""The identity library: seen, searched, dragged, renamed, exported, deleted, taken in; by mouse and by keys."""

import base64

import numpy as np
import pytest
import torch

from f2d_core.s_star import SStar, load_s_star, save_s_star
from tests.support import base_directory

ANNA = "li[data-file='anna.safetensors']"


@pytest.fixture
def identities(base):
    folder = base / "models" / "face2diffusion" / "identities"
    pixels = np.linspace(0, 255, 112 * 112 * 3).reshape(112, 112, 3).astype(np.uint8)
    known = {"licence": "CC0, made up", "detector": "yunet", "msid_sha256": "ab12" * 16, "mapping_sha256": "cd34" * 16}
    save_s_star(
        SStar(torch.ones(2, 768), "Anna", thumbnail=torch.from_numpy(pixels), **known), folder / "anna.safetensors"
    )
    save_s_star(SStar(torch.ones(2, 768), "Ben", "ben", injection="token"), folder / "ben.safetensors")
    (folder / "cut.safetensors").write_bytes(b"cut")
    yield folder
    for file in [*folder.iterdir(), *(base / "models" / "embeddings").iterdir()]:
        file.unlink()


@pytest.fixture
def library(page, identities):
    page.evaluate("await app.extensionManager.command.execute('Face2Diffusion.Library');")
    shows(page, "anna.safetensors", "ben.safetensors", "cut.safetensors")
    return page


def shows(page, *files):
    """Wait until these are the people in the list."""
    wanted = ",".join(files)
    page.wait(
        f"return [...document.querySelectorAll('.f2d-people li')].map((e) => e.dataset.file).join() === '{wanted}';"
    )


def loads(page, *files):
    """Wait until these are the files of the Load S* nodes on the canvas, and can be chosen there."""
    page.wait(f"return app.graph.nodes.length === {len(files)};")
    sent = page.prompt().values()
    assert [node["inputs"]["file"] for node in sent if node["class_type"] == "F2DLoadSStar"] == [*files]
    known = page.evaluate("return app.graph.nodes.map((node) => node.widgets[0].options.values);")
    assert all(file in values for file, values in zip(files, known, strict=True))


def test_people_are_shown_found_and_dragged_onto_the_canvas(library, screenshots):
    shown = library.text(f"{ANNA}")
    assert "Anna" in shown and "S*" in shown and "CC0, made up" in shown
    library.click(f"{ANNA} summary")
    origin = library.text(f"{ANNA} dl")
    assert "ab12ab12ab" in origin and "cd34cd34cd" in origin and "yunet" in origin and "msid" in origin
    assert library.evaluate(f'return document.querySelector("{ANNA} img").naturalWidth;') == 112
    assert "tensors only" in library.text("li[data-file='cut.safetensors'] .f2d-problem")
    library.screenshot(screenshots / f"library_{library.vue}.png")

    library.fill(".f2d-library input[type=search]", "ben")
    shows(library, "ben.safetensors")
    library.fill(".f2d-library input[type=search]", "")

    library.drag(f"{ANNA} .f2d-person", "#graph-canvas", targetPosition={"x": 700, "y": 300})
    loads(library, "anna.safetensors")
    place = library.evaluate("const node = app.graph.nodes[0]; return app.canvasPosToClientPos([...node.pos]);")
    assert abs(place[0] - 700) < 3 and abs(place[1] - 300) < 3
    library.click("li[data-file='ben.safetensors'] .f2d-person", clickCount=2)
    loads(library, "anna.safetensors", "ben.safetensors")
    library.screenshot(screenshots / f"library_dragged_{library.vue}.png")


def test_the_keyboard_is_enough(library, identities):
    library.evaluate(f'document.querySelector("{ANNA} .f2d-person").focus();')
    library.press("Enter")
    loads(library, "anna.safetensors")
    library.press("ArrowDown")
    assert library.evaluate("return document.activeElement.closest('li').dataset.file;") == "ben.safetensors"

    library.press("F2")
    library.type("carl")
    library.press("Enter")
    shows(library, "anna.safetensors", "carl.safetensors", "cut.safetensors")
    assert load_s_star(identities / "carl.safetensors").name == "carl"
    assert library.evaluate("return document.activeElement.closest('li').dataset.file;") == "carl.safetensors"

    library.press("Delete")
    library.wait("return document.querySelector('dialog[open]');")
    library.press("Escape")
    library.wait("return !document.querySelector('dialog');")
    assert (identities / "carl.safetensors").exists()  # asked, and not confirmed
    loads(library, "anna.safetensors")  # the key went to the library, not to the selected node


def test_rename_export_download_import_delete(library, identities, base, screenshots, tmp_path):
    library.click(f"{ANNA} button:has-text('Rename')")
    library.fill("dialog input", "ben")
    library.click("dialog .f2d-main")
    library.wait("return document.querySelector('dialog .f2d-problem').textContent.includes('already');")
    library.fill("dialog input", "../anna")
    library.click("dialog .f2d-main")
    library.wait("return document.querySelector('dialog .f2d-problem').textContent.includes('cannot be a file name');")
    library.screenshot(screenshots / f"library_rename_{library.vue}.png")
    library.press("Escape")

    library.click(f"{ANNA} button:has-text('Export')")
    library.wait("return document.querySelector('dialog select')?.options.length;")
    library.screenshot(screenshots / f"library_export_{library.vue}.png")
    assert base_directory.CHECKPOINT in library.text("dialog select")
    library.click("dialog .f2d-main")
    library.wait("return !document.querySelector('dialog');")
    assert (base / "models" / "embeddings" / "anna.safetensors").is_file()
    library.click("li[data-file='ben.safetensors'] button:has-text('Export')")
    assert library.count("dialog select") == 0  # exact everywhere: no place is asked for
    library.press("Escape")

    name, data = library.download(f"{ANNA} button:has-text('Download')")
    assert name == "anna.safetensors" and data == (identities / "anna.safetensors").read_bytes()

    (tmp_path / "anna.safetensors").write_bytes(data)
    library.choose_files(".f2d-library input[type=file]", tmp_path / "anna.safetensors")
    shows(library, "anna.safetensors", "anna_2.safetensors", "ben.safetensors", "cut.safetensors")
    library.evaluate(
        "const data = new DataTransfer(); const bytes = Uint8Array.from(atob(argument), (c) => c.charCodeAt(0));"
        "data.items.add(new File([bytes], 'dropped.safetensors'));"
        "const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true});"
        "document.querySelector('.f2d-library').dispatchEvent(drop);",
        base64.b64encode(data).decode(),
    )
    library.wait("return document.querySelectorAll('.f2d-people li').length === 5;")
    assert (identities / "dropped.safetensors").read_bytes() == data

    for file in ("anna_2", "cut", "dropped"):
        library.click(f"li[data-file='{file}.safetensors'] button:has-text('Delete')")
        library.click("dialog .f2d-main")
        library.wait(f"return !document.querySelector(\"li[data-file='{file}.safetensors']\");")
    assert sorted(file.name for file in identities.iterdir()) == ["anna.safetensors", "ben.safetensors"]


def test_somebody_who_is_saved_appears(library, identities):
    nodes = {
        "load": ("F2DLoadSStar", 500, 100, {"file": "anna.safetensors"}),
        "save": ("F2DSaveSStar", 800, 100, {"filename": "zoe"}),
    }
    library.build(nodes, [("load", 0, "save", "s_star")])

    library.queue()

    shows(library, "anna.safetensors", "ben.safetensors", "cut.safetensors", "zoe.safetensors")
    library.wait("return app.graph.nodes[0].widgets[0].options.values.includes('zoe.safetensors');")
