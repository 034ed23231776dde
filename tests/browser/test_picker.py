"""The face picker on Detect Faces and Encode Face → S*: seen, clicked, walked through by keys, still there later."""

import pytest

FACES = ".f2d-picker .f2d-face"
NODES = {
    "photo": ("LoadImage", 20, 20, {"image": "two.png"}),
    "msid": ("F2DLoadMSIDEncoder", 20, 400, {"file": "msid.pt"}),
    "mapping": ("F2DLoadMapping", 20, 500, {"file": "mapping.pt"}),
    "encode": ("F2DEncodeFace", 340, 20, {}),
    "crop": ("PreviewImage", 760, 20, {}),
}
LINKS = [
    ("photo", 0, "encode", "image"),
    ("msid", 0, "encode", "msid"),
    ("mapping", 0, "encode", "mapping"),
    ("encode", 1, "crop", "images"),
]
DETECT = {"photo": NODES["photo"], "detect": ("F2DDetectFaces", 340, 20, {}), "shown": ("PreviewImage", 760, 20, {})}
DETECT_LINKS = [("photo", 0, "detect", "image"), ("detect", 1, "shown", "images")]


@pytest.fixture(autouse=True)
def detector(yunet_file):
    """Without it nothing is found."""


def run(page, faces=2):
    page.queue()
    page.wait(f"return document.querySelectorAll('{FACES}').length === {faces}")


def chosen(page, number):
    return page.widget(number, "order"), page.widget(number, "index")


def taken(page):
    """The number written on the face that is highlighted."""
    return page.text(f"{FACES}[aria-checked='true']")


def crops(server, number):
    """The crop of the node's last run, and of the one before."""
    runs = server.json("/history?max_items=2").values()
    last, before = sorted(runs, key=lambda run: -run["prompt"][0])
    return [server.picture(run["outputs"][str(number)]["images"][0]) for run in (last, before)]


def test_a_click_chooses_the_face(page, server):
    server.bytes("/free", {"free_memory": True})  # nothing is taken from the cache
    made = page.build(NODES, LINKS)
    run(page)
    assert (chosen(page, made["encode"]), taken(page)) == (("largest", 0), "0")

    page.click(f"{FACES}[aria-label^='Face 1,']")

    assert (chosen(page, made["encode"]), taken(page)) == (("largest", 1), "1")
    assert page.prompt()[str(made["encode"])]["inputs"]["index"] == 1
    page.evaluate("window.done = 0; app.api.addEventListener('execution_success', () => { window.done += 1; });")
    page.queue()
    page.wait("return window.done === 1", 60_000)
    last, before = crops(server, made["encode"])
    assert abs(last.astype(int) - before).mean() > 3  # it is the other face indeed


def test_the_order_renumbers_and_an_index_beyond_the_faces_is_said(page):
    made = page.build(NODES, LINKS)
    run(page)
    set_widget = "const w = app.graph.getNodeById(argument[0]).widgets.find((w) => w.name === argument[1]);"
    set_widget += "w.value = argument[2]; w.callback(w.value);"

    page.evaluate(set_widget, [made["encode"], "order", "left-right"])
    # The largest face stands at the right.
    page.wait(f"return document.querySelector(\"{FACES}[aria-label^='Face 1,']\").offsetLeft > 100")
    page.evaluate(set_widget, [made["encode"], "index", 7])

    page.wait("return document.querySelector('.f2d-picker').innerText.includes('There is no face 7')")
    assert page.count(f"{FACES}[aria-checked='true']") == 0


def test_keys_walk_and_choose(page):
    made = page.build(NODES, LINKS)
    run(page)
    page.evaluate("app.canvas.deselectAll?.();")
    page.evaluate("document.activeElement?.blur();")

    page.press("Alt+Shift+F")
    page.wait("return document.activeElement.matches('.f2d-face[aria-checked=\"true\"]')")
    page.press("ArrowRight")
    page.press("Enter")
    assert chosen(page, made["encode"]) == ("largest", 1)
    page.press("ArrowRight")  # round to the first
    page.press(" ")
    assert chosen(page, made["encode"]) == ("largest", 0)


def test_pages_of_a_batch(page):
    nodes = {**DETECT, "other": ("LoadImage", 20, 400, {"image": "astronaut.png"}), "both": ("ImageBatch", 20, 760, {})}
    links = [("photo", 0, "both", "image1"), ("other", 0, "both", "image2"), ("both", 0, "detect", "image")]
    page.build(nodes, [*links, DETECT_LINKS[1]])
    run(page)
    assert "1 / 2" in page.text(".f2d-picker") and page.count("[aria-label='Picture before']:disabled") == 1

    page.click("[aria-label='Next picture']")

    assert "2 / 2" in page.text(".f2d-picker") and page.count(FACES) == 1
    page.press("Tab")  # the button before: the other one cannot be used
    page.click("[aria-label='Picture before']")
    assert page.count(FACES) == 2


def test_detect_faces_chooses_for_the_nodes_behind_it(page, server):
    server.bytes("/history", {"clear": True})  # in which Encode Face would find its own faces
    server.bytes("/free", {"free_memory": True})
    nodes = {**NODES, **DETECT, "encode": ("F2DEncodeFace", 760, 20, {}), "second": ("F2DEncodeFace", 1180, 20, {})}
    del nodes["crop"]
    links = [("photo", 0, "detect", "image"), ("detect", 1, "shown", "images")]
    made = page.build(nodes, [*links, ("detect", 0, "encode", "faces"), ("detect", 0, "second", "faces")])
    run(page)

    page.click(f"{FACES}[aria-label^='Face 1,']")
    assert chosen(page, made["encode"]) == ("largest", 1) and chosen(page, made["second"]) == ("largest", 0)

    page.evaluate(
        "const select = document.querySelector('.f2d-picker select');"
        "select.value = String(argument); select.dispatchEvent(new Event('change'));",
        made["second"],
    )
    assert taken(page) == "0"
    page.click(f"{FACES}[aria-label^='Face 1,']")
    assert chosen(page, made["second"]) == ("largest", 1)


def test_it_is_there_again_after_a_reload(page):
    made = page.build(NODES, LINKS)
    page.load(page.evaluate("return app.graph.serialize();"))  # opened as a workflow it gets its own id
    run(page)
    workflow = page.evaluate("return app.graph.serialize();")

    page.reload()
    page.load(workflow)

    page.wait(f"return document.querySelectorAll('{FACES}').length === 2")
    page.click(f"{FACES}[aria-label^='Face 1,']")
    assert chosen(page, made["encode"]) == ("largest", 1)


def test_switched_off_it_is_gone(page):
    page.build(NODES, LINKS)
    page.wait("return document.querySelector('.f2d-picker')?.offsetHeight > 0")

    page.evaluate("await app.extensionManager.setting.set('Face2Diffusion.FacePicker.Enabled', false);")
    try:
        page.wait("return !(document.querySelector('.f2d-picker')?.offsetHeight > 0)")
        # The classic canvas takes its place away when it draws: after that, only another drawing brings it back.
        page.wait("return !(document.querySelector('.f2d-picker')?.closest('.dom-widget')?.offsetHeight > 0)")
    finally:  # the server keeps the setting
        page.evaluate("await app.extensionManager.setting.set('Face2Diffusion.FacePicker.Enabled', true);")
    page.wait("return document.querySelector('.f2d-picker')?.offsetHeight > 0")


def test_nothing_of_it_is_saved_or_sent(page, server):
    made = page.build(NODES, LINKS)
    nodes = page.evaluate("return app.graph.serialize();")["nodes"]
    (saved,) = [node for node in nodes if str(node["id"]) == str(made["encode"])]

    known = server.object_info["F2DEncodeFace"]["input"]
    assert saved["widgets_values"] == ["auto", "largest", 0, "error", "each", "S*", "", True]
    sent = page.prompt()[str(made["encode"])]["inputs"]
    assert sent.keys() <= {**known["required"], **known["optional"]}.keys()
