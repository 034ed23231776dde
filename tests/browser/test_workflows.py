"""Every shipped workflow and the blueprint in the real frontend: opened, laid out, sent, and found by the user."""

import itertools
import json
import re
import shutil
import time
import urllib.error

import numpy as np
import pytest

from tests.support import base_directory, workflows
from tests.support import browser as support

RENDERERS = {"canvas": False, "nodes2": True}
FILES = sorted((base_directory.REPO / "workflows").glob("*.json"))
BLUEPRINT = "Face to CONDITIONING"
# How the host and this pack refuse a file that is not there.
REFUSALS = {"value_not_in_list", "custom_validation_failed"}
FILE = re.compile(r"\.(safetensors|pth?|png|onnx)\b")

# What the frontend made of the workflow. Boxes: x0, y0, x1, y1 with the title bar, as they are drawn.
LOOK = """
const drawn = Object.fromEntries([...document.querySelectorAll("[data-node-id]")].map((element) => {
  const box = element.getBoundingClientRect(), { scale } = app.canvas.ds;
  return [element.dataset.nodeId, [box.width / scale, box.height / scale]];
}));
const box = (node) => {
  const [width, height] = drawn[node.id] ?? [node.size[0], node.size[1] + 30];
  return [node.pos[0], node.pos[1] - 30, node.pos[0] + width, node.pos[1] - 30 + height];
};
return {
  drawn: Object.keys(drawn).length,
  nodes: app.graph.nodes.map((node) => ({
    name: node.title, type: node.type, known: node.type in LiteGraph.registered_node_types, box: box(node),
  })),
  groups: app.graph.groups.map(({ pos, size }) => [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]),
  prompt: (await app.graphToPrompt()).output,
  dialogs: [...document.querySelectorAll("[role=dialog]")].map((element) => element.innerText),
};
"""


@pytest.fixture(scope="module", params=RENDERERS)
def seen(request, browser, server):
    """Name of each workflow -> what one page of this renderer showed of it, and the problems on its console."""
    vue = RENDERERS[request.param]
    page = support.Page(browser, server.url, vue)
    found = {}
    for file in FILES:
        page.load(workflows.load(file))
        if vue:
            page.wait("return document.querySelectorAll('[data-node-id]').length >= app.graph.nodes.length")
        look = page.evaluate(LOOK)
        found[file.stem] = look | {"problems": page.problems(), "vue": vue}
    return found


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


def test_it_opens_whole_and_without_a_complaint(seen, file):
    look, nodes = seen[file.stem], workflows.load(file)["nodes"]

    assert [node["name"] for node in look["nodes"] if not node["known"]] == []
    assert len(look["nodes"]) == len(nodes)
    assert look["drawn"] == (len(nodes) if look["vue"] else 0)  # by the renderer that was asked for
    assert look["dialogs"] == [] and look["problems"] == []


def test_nodes_lie_apart_and_in_their_groups_as_drawn(seen, file):
    nodes = seen[file.stem]["nodes"]

    for one, other in itertools.combinations(nodes, 2):
        a, b = one["box"], other["box"]
        assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]), (one["name"], other["name"])
    for node in nodes:
        x0, y0, x1, y1 = node["box"]
        around = [g for g in seen[file.stem]["groups"] if g[0] <= x0 and g[1] <= y0 and x1 <= g[2] and y1 <= g[3]]
        assert len(around) == (node["type"] not in workflows.NOTES), node["name"]


def test_it_is_sent_as_it_stands_in_the_file(seen, server, file):
    expected = workflows.to_api(workflows.load(file), server.object_info)

    sent = seen[file.stem]["prompt"]

    # A node without a title of its own is sent under its class's.
    assert _without_titles(sent) == _without_titles(expected)


def _without_titles(graph):
    return {key: {name: value for name, value in node.items() if name != "_meta"} for key, node in graph.items()}


def test_the_server_takes_it_but_for_the_files_of_the_user(seen, server, file):
    errors = [error for node in _node_errors(server, seen[file.stem]["prompt"]).values() for error in node["errors"]]

    assert [each for each in errors if each["type"] not in REFUSALS or not FILE.search(each["details"])] == []


def _node_errors(server, graph):
    """An output that needs none of the missing files (a report) runs all the same; else the whole is refused."""
    try:
        return server.json("/prompt", {"prompt": graph})["node_errors"]
    except urllib.error.HTTPError as refused:
        return json.loads(refused.read())["node_errors"]


# --- found by the user ---


def test_the_template_browser_shows_them_with_pictures(open_page, screenshots):
    page = open_page()
    _open_templates(page)

    cards = page.evaluate(
        "return [...document.querySelectorAll('[role=dialog] [data-testid^=template-workflow-]')]"
        "  .map((card) => card.dataset.testid.slice('template-workflow-'.length));"
    )
    assert sorted(cards) == [each.stem for each in FILES]
    for name in cards:
        card = f"[data-testid='template-workflow-{name}']"
        page.evaluate("document.querySelector(argument).scrollIntoView();", card)
        # Where there is no picture, the host shows one of its own from /assets.
        shown = f'document.querySelector("{card} img")'
        page.wait(f"return {shown}?.src.startsWith('blob:') && {shown}.naturalWidth > 1000")

    page.screenshot(screenshots / "templates.png")


def test_from_the_template_and_a_photo_to_a_picture(open_page, server, base, screenshots, tmp_path, yunet_file):
    """The first five minutes: open face_to_image, choose a photo and the checkpoint, press Run."""
    photo = tmp_path / "my photo.png"
    shutil.copyfile(base / "input" / "astronaut.png", photo)
    page = open_page()
    _open_templates(page)
    page.click("[data-testid='template-workflow-face_to_image']")
    page.wait("return app.graph.nodes.some((node) => node.type === 'F2DInject')")
    opened = workflows.load(base_directory.REPO / "workflows" / "face_to_image.json")
    assert page.evaluate("return app.graph.nodes.map((node) => node.type);") == [n["type"] for n in opened["nodes"]]

    page.wait("return !document.querySelector('[role=dialog]')")
    time.sleep(1)  # the view moves to the graph
    page.choose_files_at(*page.evaluate(UPLOAD_AT), photo)
    page.wait("return app.graph.nodes.find((node) => node.type === 'LoadImage').imgs?.length")
    page.evaluate(
        "for (const [type, name, value] of argument) {"
        "  const widget = app.graph.nodes.find((node) => node.type === type).widgets.find((w) => w.name === name);"
        "  widget.value = value; widget.callback?.(value);"
        "}",
        [("CheckpointLoaderSimple", "ckpt_name", base_directory.CHECKPOINT), ("KSampler", "steps", 1)],
    )
    shown = _run(page, server, lambda: page.click("button:has-text('Run')"))
    picture = _picture(server, shown, "Save Image", page)
    page.wait("return app.graph.nodes.find((node) => node.type === 'SaveImage').imgs?.length")
    page.evaluate("await app.extensionManager.command.execute('Comfy.Canvas.FitView');")
    time.sleep(1)
    page.screenshot(screenshots / "face_to_image.png")

    assert picture.shape == (512, 512, 3) and picture.std() > 10
    assert (base / "input" / "my photo.png").is_file()


# Where on the page the button is that uploads a photo, drawn on the canvas.
UPLOAD_AT = """
const node = app.graph.nodes.find((each) => each.type === "LoadImage");
const widget = node.widgets.find((each) => each.name === "upload");
const { offset, scale } = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + widget.computedHeight / 2];
return [canvas.left + (at[0] + offset[0]) * scale, canvas.top + (at[1] + offset[1]) * scale];
"""


def _open_templates(page):
    """By the menu, as people do."""
    page.click(".comfy-menu-button-wrapper")
    page.click("[role=menuitem][aria-label='Browse Templates']")
    page.click("[role=dialog] >> text=face2diffusion")
    page.wait("return document.querySelector('[data-testid=template-workflow-face_to_image]')")


# --- the blueprint ---


def test_the_host_serves_the_blueprint(server):
    (key,) = [key for key, entry in server.json("/global_subgraphs").items() if entry["name"] == BLUEPRINT]

    entry = server.json(f"/global_subgraphs/{key}")

    assert entry["info"]["node_pack"] == f"custom_nodes.{base_directory.PACK}"
    (subgraph,) = json.loads(entry["data"])["definitions"]["subgraphs"]
    assert [each["type"] for each in subgraph["outputs"]] == ["CONDITIONING", "F2D_SSTAR", "IMAGE"]


def test_the_blueprint_is_put_in_by_its_name_and_gives_a_picture(page, server, yunet_file):
    """Photo and checkpoint in, a picture out; the prompt and the marker are set outside."""
    number = _insert_blueprint(page)
    page.evaluate(
        "const set = (name, value) => {"
        "  const widget = app.graph.getNodeById(argument).widgets.find((each) => each.name === name);"
        "  widget.value = value; widget.callback?.(value);"
        "};"
        "set('text', 'a photo of T* at sea'); set('marker', 'T*'); set('order', 'left-right');",
        number,
    )
    _connect_around(page, number)

    prompt = page.prompt()
    inside = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert (inside["F2DInject"]["text"], inside["F2DEncodeFace"]["marker"]) == ("a photo of T* at sea", "T*")
    assert inside["F2DEncodeFace"]["order"] == "left-right" and inside["F2DLoadMapping"]["file"] == "mapping.pt"

    assert any(output.get("images") for output in _run(page, server).values())


def _insert_blueprint(page):
    """By the search that opens with a double click on the canvas; its number in the graph."""
    page.evaluate("await app.extensionManager.command.execute('Workspace.SearchBox.Toggle');")
    page.wait("return document.querySelector('[role=dialog] input, [role=combobox]')")
    page.type(BLUEPRINT)
    page.wait(f"return document.querySelector('[role=dialog]').innerText.includes('{BLUEPRINT}')")
    page.press("Enter")
    time.sleep(0.5)
    page.mouse(("move", 600, 300), ("down",), ("up",))  # it hangs on the pointer until it is put down
    page.wait("return app.graph.nodes.length === 1")
    return page.evaluate("return app.graph.nodes[0].id;")


def _connect_around(page, number):
    """A photo and a checkpoint before it, a short run behind it."""
    nodes = {
        "photo": ("LoadImage", 0, 0, {"image": "astronaut.png"}),
        "model": ("CheckpointLoaderSimple", 0, 400, {"ckpt_name": base_directory.CHECKPOINT}),
        "nothing": ("CLIPTextEncode", 0, 600, {}),
        "size": ("EmptyLatentImage", 900, 0, {"width": 64, "height": 64}),
        "sampler": ("KSampler", 900, 200, {"steps": 1}),
        "decode": ("VAEDecode", 900, 600, {}),
        "picture": ("PreviewImage", 1300, 0, {}),
    }
    links = [
        ("model", 1, "nothing", "clip"),
        ("model", 0, "sampler", "model"),
        ("nothing", 0, "sampler", "negative"),
        ("size", 0, "sampler", "latent_image"),
        ("sampler", 0, "decode", "samples"),
        ("model", 2, "decode", "vae"),
        ("decode", 0, "picture", "images"),
    ]
    made = page.build(nodes, links)
    page.evaluate(
        "const [number, photo, model, sampler] = argument.map((each) => app.graph.getNodeById(each));"
        "photo.connect(0, number, number.inputs.findIndex((each) => each.name === 'image'));"
        "model.connect(1, number, number.inputs.findIndex((each) => each.name === 'clip'));"
        "number.connect(0, sampler, sampler.inputs.findIndex((each) => each.name === 'positive'));",
        [number, made["photo"], made["model"], made["sampler"]],
    )


# --- two people ---

CHIPS = """
const node = app.graph.getNodeById(argument);
const element = node.widgets.find((each) => each.element?.classList.contains("f2d-tokens"))?.element;
return [...element?.querySelectorAll("li") ?? []].map((token) =>
  [token.innerText, token.classList.contains("f2d-chip") ? getComputedStyle(token).backgroundColor : null]);
"""
# Title of each prompt -> the tokens of each marker in it, the start counted as 0.
TWO_PEOPLE = {
    "Both in one prompt": {"S*": [4, 5], "T*": [7, 8]},
    "Left: the first person": {"S*": [4, 5]},
    "Right: the second person": {"T*": [4, 5]},
}


def test_two_people_stand_at_their_own_tokens_and_give_two_pictures(page, server, yunet_file):
    """In the token view before the run, and in the report of what was put into the conditioning."""
    page.load(_small_two_people())
    injects = {title: _inject_beside(page, title, markers) for title, markers in TWO_PEOPLE.items()}
    colours = {}
    for title, markers in TWO_PEOPLE.items():
        page.wait(f"const argument = {injects[title][0]}; return (() => {{ {CHIPS} }})().length > 0")
        chips = page.evaluate(CHIPS, injects[title][0])
        for marker, places in markers.items():
            assert chips[places[0] - 1][0].startswith(marker), title
            (colour,) = {chips[place - 1][1] for place in places}
            colours.setdefault(title, []).append(colour)
        assert sum(colour is not None for _, colour in chips) == 2 * len(markers), title
    assert None not in colours["Both in one prompt"] and len(set(colours["Both in one prompt"])) == 2

    shown = _run(page, server)

    together = _picture(server, shown, "In one prompt: people may mix", page)
    assert np.abs(together.astype(int) - _picture(server, shown, "In two regions", page)).mean() > 0.5
    for title, markers in TWO_PEOPLE.items():
        lines = [f"{marker}: token {one} of chunk 1, token {two} of chunk 1" for marker, (one, two) in markers.items()]
        assert "".join(shown[str(injects[title][1])]["text"]) == "\n".join(lines)
    # The host's own prompt node, behind Apply S* to CLIP, had the same conditioning: the same picture comes of it.
    page.evaluate(
        "const sampler = app.graph.nodes.find((node) => node.type === 'KSampler');"
        "app.graph.getNodeById(argument).connect(0, sampler, sampler.inputs.findIndex((i) => i.name === 'positive'));",
        injects["Both in one prompt"][0],
    )
    assert np.array_equal(_picture(server, _run(page, server), "In one prompt: people may mix", page), together)


def _small_two_people():
    """The shipped graph with the photos and the model that are here, small and short."""
    graph = workflows.load(base_directory.REPO / "workflows" / "two_people.json")
    photos = iter(("astronaut.png", "two.png"))
    for node in graph["nodes"]:
        values = node.get("widgets_values")
        if node["type"] == "LoadImage":
            values[0] = next(photos)
        if node.get("title") == "Second person: T*":
            values[2] = 1  # the other face of two.png
        if node["type"] == "CheckpointLoaderSimple":
            values[0] = base_directory.CHECKPOINT
        if node["type"] == "EmptyLatentImage":
            values[:2] = 128, 64
        if node["type"] == "KSampler":
            values[2] = 2
    return graph


def _inject_beside(page, title, markers):
    """Inject S* with the prompt of that title and the people who stand in it, and what it reports; their numbers."""
    return page.evaluate(
        "const [title, markers] = argument, find = (name) => app.graph.nodes.find((node) => node.title === name);"
        "const inject = LiteGraph.createNode('F2DInject'), report = LiteGraph.createNode('PreviewAny');"
        "inject.pos = [0, 2000 + 600 * app.graph.nodes.length]; report.pos = [600, inject.pos[1]];"
        "app.graph.add(inject); app.graph.add(report);"
        "const into = (name) => inject.inputs.findIndex((each) => each.name === name);"
        "find('Load Checkpoint (SD 1.x)').connect(1, inject, into('clip'));"
        "const people = { 'S*': 'First person: S*', 'T*': 'Second person: T*' };"
        "markers.forEach((marker, i) => find(people[marker]).connect(0, inject, into(i ? 's_star_2' : 's_star')));"
        "const [from, to] = [find(title), inject].map((node) => node.widgets.find((each) => each.name === 'text'));"
        "to.value = from.value; to.callback?.(to.value); inject.connect(1, report, 0);"
        "await new Promise(requestAnimationFrame); return [inject.id, report.id];",
        [title, list(markers)],
    )


def _picture(server, shown, title, page):
    number = page.evaluate("return app.graph.nodes.find((node) => node.title === argument).id;", title)
    (entry,) = shown[str(number)]["images"]
    return server.picture(entry)


def _run(page, server, press=None):
    """Queue the graph, by pressing a button if one is given, and wait for its end; what its nodes show, by number."""
    page.evaluate(
        "window.over = ''; for (const kind of ['execution_success', 'execution_error'])"
        "  app.api.addEventListener(kind, () => { window.over = kind; }, { once: true });"
    )
    (press or page.queue)()
    page.wait("return window.over", 120_000)
    assert page.evaluate("return window.over;") == "execution_success"
    (last,) = server.json("/history?max_items=1").values()
    return last["outputs"]
