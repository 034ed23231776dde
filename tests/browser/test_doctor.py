"""The doctor's tab, and its node."""

import json

from tests.support import base_directory


def test_the_tab_shows_and_copies_the_report(page, base, screenshots):
    page.evaluate("await app.extensionManager.command.execute('Face2Diffusion.Doctor');")
    page.wait("return document.querySelector('.f2d-doctor table');")
    page.screenshot(screenshots / f"doctor_{page.vue}.png")

    assert "Self-test: passed" in page.text(".f2d-doctor .f2d-good")
    assert page.evaluate("return document.querySelector('.f2d-doctor img').naturalWidth;") == 688
    assert "ComfyUI " in page.text(".f2d-doctor pre")
    here = page.text("tr[data-kind='msid'][data-here]")
    assert "msid.pt" in here and "CC BY-NC-SA 4.0" in here
    missing = page.text("tr[data-kind='clip_h14']")
    assert "3.9 GB" in missing and "MIT" in missing and "huggingface.co" in missing

    page.click(".f2d-doctor button:has-text('Copy report')")
    page.wait("return document.querySelector('.p-toast')?.textContent.includes('clipboard');")
    copied = page.evaluate("return await navigator.clipboard.readText();")
    assert copied.startswith("Face2Diffusion ") and "Self-test: passed" in copied
    assert str(base) not in copied and "face2diffusion/msid.pt" in copied

    page.click("tr[data-kind='recon'] button, tr[data-kind='insightface'] button")
    page.wait("return document.querySelector('dialog[open] .f2d-files li');")
    assert "Only to be had by hand" in page.text("dialog .f2d-files")
    page.press("Escape")
    page.wait("return !document.querySelector('dialog');")


def test_the_node_shows_the_report_and_the_picture(page, screenshots):
    page.build({"doctor": ("F2DDoctor", 100, 60, {})})
    page.evaluate("app.graph.nodes[0].setSize([620, 700]); app.canvas.setDirty(true, true);")

    page.click("button:has-text('Run')")
    page.wait("return Object.values(app.nodeOutputs ?? {}).some((output) => output.text && output.images);")
    page.evaluate("await new Promise((done) => setTimeout(done, 800));")
    page.screenshot(screenshots / f"doctor_node_{page.vue}.png")

    text = page.text(".f2d-report")
    assert text.startswith("Face2Diffusion ") and "Self-test: passed" in text
    page.click(".f2d button:has-text('Copy report')")
    page.wait("return document.querySelector('.p-toast')?.textContent.includes('clipboard');")
    assert page.evaluate("return await navigator.clipboard.readText();").strip() == text.strip()


def test_the_workflow_of_the_library_has_the_node(page, screenshots):
    workflow = json.loads((base_directory.REPO / "workflows" / "identity_library.json").read_text(encoding="utf-8"))
    (doctor,) = [node for node in workflow["nodes"] if node["type"] == "F2DDoctor"]
    page.load(workflow)
    page.screenshot(screenshots / f"identity_library_{page.vue}.png")

    assert page.prompt()[str(doctor["id"])] == {
        "class_type": "F2DDoctor",
        "inputs": {},
        "_meta": {"title": doctor["title"]},
    }
