"""The training panel on Train Mapping Network: fed by a run that goes on, and by what lies on disk after a reload."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.support import base_directory, workflows

PANEL = ".f2d-training"
CURVES = f"{PANEL} polyline"


@pytest.fixture
def seen(base):
    """A run on disk: 300 steps, two validations, three previews."""
    folder = base / "output" / "face2diffusion" / "runs" / "seen"
    (folder / "previews").mkdir(parents=True, exist_ok=True)
    rows = [
        {"kind": "train", "step": i, "loss": 0.6, "foreground": 0.3 + 3 / (i + 9), "background": 0.1 + 1 / (i + 9)}
        for i in range(1, 301)
    ]
    rows += [{"kind": "validation", "step": i, "loss": 0.4 + 9 / i} for i in (100, 200, 300)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (100, 200, 300):
        pixels = np.full((64, 128, 3), (step // 2, 90, 200), np.uint8)
        Image.fromarray(pixels).save(folder / "previews" / f"step_{step:09}.png")
    return folder.name


def wait_for_text(page, text, timeout_ms=30_000):
    page.wait(f"return document.querySelector('{PANEL}')?.innerText.includes({text!r})", timeout_ms)


def looked_at(page):
    """What stands on the panel: number of curves, captions of the previews that could be read."""
    page.wait(f"return [...document.querySelectorAll('{PANEL} img')].every((image) => image.naturalWidth === 128)")
    captions = page.evaluate(f"return [...document.querySelectorAll('{PANEL} figcaption')].map((c) => c.innerText);")
    return page.count(CURVES), captions


def test_a_run_on_disk_is_drawn_and_drawn_again_after_a_reload(page, seen):
    page.build({"train": ("F2DTrainMapping", 100, 20, {"run_name": seen, "steps": 1000})})

    wait_for_text(page, "Step 300 of 1000")
    expected = 3, ["step 100", "step 200", "step 300"]  # face, rest, validation
    assert looked_at(page) == expected
    workflow = page.evaluate("return app.graph.serialize();")

    page.reload()
    page.load(workflow)

    wait_for_text(page, "Step 300 of 1000")
    assert looked_at(page) == expected


def test_events_move_it_and_another_name_is_another_run(page, seen):
    made = page.build({"train": ("F2DTrainMapping", 100, 20, {"run_name": seen, "steps": 1000})})
    wait_for_text(page, "Step 300 of 1000")

    facts = {"node": made["train"], "run": seen, "step": 301, "steps": 1000, "loss": 0.5}
    facts |= {"foreground": 0.25, "background": 0.125, "seconds_left": 7300.0, "images_per_s": 1.0}
    page.evaluate("app.api.dispatchCustomEvent('f2d.train', argument);", facts)
    wait_for_text(page, "Step 301 of 1000, loss 0.5000, 2 h 02 min left")
    wait_for_text(page, "face 0.2500")

    for name, text in (("not begun", "appear here"), ("a/b", "cannot be a file name")):
        page.evaluate(
            "const w = app.graph.getNodeById(argument[0]).widgets.find((w) => w.name === 'run_name');"
            "w.value = argument[1]; w.callback(w.value);",
            [made["train"], name],
        )
        wait_for_text(page, text)
        assert page.count(CURVES) == 0


def small_run(server, base):
    """The shipped workflow, as small as it gets: two photos of 64 px with ready masks."""
    for folder, mode, colour in (("people", None, None), ("masks", "L", 255)):
        (base / "input" / folder).mkdir(exist_ok=True)
        for name, side in (("a.png", 512), ("b.png", 400)):
            portrait = Image.open(base / "input" / "astronaut.png").resize((side, side))
            (Image.new(mode, (side, side), colour) if mode else portrait).save(base / "input" / folder / name)
    workflow = workflows.load(base_directory.REPO / "workflows" / "train_mapping.json")
    values = {
        "CheckpointLoaderSimple": {"ckpt_name": base_directory.CHECKPOINT},
        "F2DPrepareDataset": {"folder": "people", "masks": "masks", "name": "people", "size": 64},
        "F2DTrainMapping": {"run_name": "live", "steps": 100_000, "batch": 1, "preview_every": 0},
        "F2DLoadMSIDEncoder": {"file": "msid.pt"},
        "F2DLoadExpressionEncoder": {"file": "epoch_20.pth"},
    }
    for node in workflow["nodes"]:
        if node["type"] in values:
            known = workflows.inputs(server.object_info[node["type"]])
            names = [name for name, spec in known if workflows.is_widget(spec)]
            for name, value in values[node["type"]].items():
                node["widgets_values"][names.index(name)] = value
    return workflow


def test_a_run_is_watched_while_it_goes_on_also_after_a_reload(open_page, server, base, yunet_file):
    page = open_page(vue=True)
    workflow = small_run(server, base)
    page.load(workflow)
    page.queue()
    try:
        wait_for_text(page, "left", 120_000)  # only an event says it
        page.reload()
        page.load(workflow)
        wait_for_text(page, "of 100000")
        wait_for_text(page, "left")
        assert page.count(CURVES) == 2
    finally:
        server.bytes("/interrupt", {})
