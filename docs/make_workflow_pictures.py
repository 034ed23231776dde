"""Draw workflows/<name>.jpg, the pictures that ComfyUI's template browser shows: each graph in the real frontend.

    python docs/make_workflow_pictures.py [--only NAME …] [--out workflows]

The people in the photos are invented, drawn by f2d_core/miniature. So are the results: the same people in the graph's
prompt, as the renderer draws them, since the weights that would make them are not ours to ship. Needs what the browser
tests need (tests/support/browser.py) and a ComfyUI checkout.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # a script: it runs without anything of ours being installed

from f2d_core.miniature.people import Identities, sample_identities  # noqa: E402
from f2d_core.miniature.render import Rendered, render, render_together  # noqa: E402
from f2d_core.miniature.situations import PORTRAIT, sample_situations, side_by_side  # noqa: E402
from f2d_core.s_star import SStar, save_s_star  # noqa: E402
from tests.support import base_directory, checkouts, workflows  # noqa: E402
from tests.support.browser import Browser, Page, missing  # noqa: E402
from tests.support.server import Server  # noqa: E402

WORKFLOWS = REPO / "workflows"
SEED = 20240328
WINDOW = (2400, 1500)  # px; drawn larger than it is kept
MARGIN = 30  # around the graph, px of the graph
WIDTH = 1280  # px of the finished picture
LARGEST = 150_000  # bytes
QUALITIES = (90, 86, 82, 78, 74, 70, 64, 58)  # of the JPEG, until it is small enough
ANNA, BEN, CARL = 4, 11, 7  # numbers of the invented people

# Title of a Load Image node -> (who, mood, scene, role) of the photo in it.
PHOTOS = {
    "The photo": (ANNA, "smiling", "beach", "none"),
    "The person": (ANNA, "neutral", "beach", "none"),
    "The first person": (ANNA, "smiling", "beach", "none"),
    "The first person, another photo": (ANNA, "neutral", "library", "none"),
    "The second person": (BEN, "smiling", "mountains", "none"),
    "The expression (any face)": (CARL, "laughing", "meadow", "none"),
    "A face with the expression": (CARL, "laughing", "meadow", "none"),
    "Photo 1 of the person": (ANNA, "smiling", "beach", "none"),
    "Photo 2 of the person": (ANNA, "neutral", "library", "none"),
    "Photo 3 of the person": (ANNA, "laughing", "city", "none"),
    "The picture to judge": (ANNA, "smiling", "kitchen", "chef"),
}
POSE = "Pose or landmarks, ready made"
BONES = ((0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4))  # between eye, eye, nose, and the corners of the mouth
COLOURS = ((255, 0, 85), (170, 0, 255), (255, 170, 0), (0, 255, 85), (0, 170, 255))

# Workflow -> for each of its Save Image nodes, in the order of their numbers, the pictures: (who, mood, scene, role);
# two people stand side by side, and a share (0..1) between two of them mixes them.
CHEF, ASTRONAUT = ("smiling", "kitchen", "chef"), ("neutral", "night sky", "astronaut")
RESULTS = {
    "best_of_n": [[(ANNA, *CHEF)]],
    "blend": [[((ANNA, BEN, share), *CHEF) for share in (0, 1 / 3, 2 / 3, 1)]],
    "delayed_subject": [[(ANNA, *ASTRONAUT)], [(ANNA, *ASTRONAUT)], [(ANNA, *ASTRONAUT)]],
    "export_embedding": [[(ANNA, *CHEF)]],
    "expression_reference": [[(ANNA, "laughing", "meadow", "none")]],
    "expression_sweep": [[(ANNA, mood, "meadow", "none") for mood in ("neutral", "smiling", "laughing", "laughing")]],
    "face_to_image": [[(ANNA, *CHEF)]],
    "identity_library": [[(ANNA, *CHEF)]],
    "scene_switch": [[(ANNA, "neutral", "sunset", "none")], [(CARL, "neutral", "sunset", "none")]],
    "two_people": [[((ANNA, BEN), "smiling", "meadow", "none")], [((ANNA, BEN), "smiling", "meadow", "none")]],
    "with_lora": [[(ANNA, "smiling", "meadow", "none")]],
}

# A node shows what has come out of it: the frontend is told as if the server had run it.
SHOW = """
for (const [node, names] of Object.entries(argument)) {
  const images = names.map((filename) => ({filename, subfolder: "", type: "input"}));
  app.api.dispatchCustomEvent("executed", {node, display_node: node, prompt_id: "", output: {images}});
}
await new Promise((done) => setTimeout(done, 1500));
"""

# Only the graph is to be seen.
STYLE = ".p-toast, button:has(> .pi-bars) {display: none !important}"
# The canvas is drawn whole again at the new place; where the graph then lies on it, px of the window.
FIT = """
const nodes = [...app.graph.nodes, ...app.graph.groups];
const boxes = nodes.map((each) => [...each.boundingRect ?? each.getBounding()]);
const left = Math.min(...boxes.map((b) => b[0])) - argument, top = Math.min(...boxes.map((b) => b[1])) - argument;
const width = Math.max(...boxes.map((b) => b[0] + b[2])) + argument - left;
const height = Math.max(...boxes.map((b) => b[1] + b[3])) + argument - top;
const rect = app.canvas.canvas.getBoundingClientRect();
const scale = Math.min(rect.width / width, rect.height / height);
app.canvas.deselectAll?.();
app.canvas.ds.scale = scale;
app.canvas.ds.offset[0] = -left;
app.canvas.ds.offset[1] = -top;
app.canvas.setDirty(true, true);
await new Promise((done) => setTimeout(done, 1500));
return [rect.left, rect.top, rect.left + width * scale, rect.top + height * scale];
"""


def photo(who: int, mood: str, scene: str, role: str, size: int = 384) -> Rendered:
    """One picture of an invented person, upright and large."""
    person, situation = sample_identities(SEED, 1, who), sample_situations(SEED, 1, who)
    situation = replace(situation, pose=np.array([PORTRAIT], dtype=float))
    return render(person, situation.named(mood, role, scene, "none"), size)


def result(who: Any, mood: str, scene: str, role: str) -> np.ndarray:
    """(S, S, 3) uint8: one of RESULTS."""
    if isinstance(who, int):
        return photo(who, mood, scene, role).pixels[0]
    people, situation = sample_identities(SEED, 1 + max(who[:2])), sample_situations(SEED, 1, who[0])
    situation = replace(situation, pose=np.array([PORTRAIT], dtype=float)).named(mood, role, scene, "none")
    first, second = (people.take([one]) for one in who[:2])
    if len(who) == 3:
        mixed = first.traits + who[2] * (second.traits - first.traits)
        return render(Identities(mixed, (first if who[2] < 0.5 else second).styles), situation, 384).pixels[0]
    return render_together([first, second], side_by_side(situation, situation), 384).pixels[0]


def place_results(name: str, workflow: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Node -> the files of its pictures, written into ComfyUI's input folder."""
    nodes = sorted(node["id"] for node in workflow["nodes"] if node["type"] == "SaveImage")
    files = {}
    for node, pictures in zip(nodes, RESULTS.get(name, []), strict=True) if name in RESULTS else ():
        files[str(node)] = [f"{name}_{node}_{i}.png" for i in range(len(pictures))]
        for file, wanted in zip(files[str(node)], pictures, strict=True):
            Image.fromarray(result(*wanted)).save(folder / file)
    return files


def pose_map() -> Image.Image:
    """The five landmarks of a face as a map for a ControlNet."""
    points = photo(*PHOTOS["The photo"]).points[0]
    drawn = Image.new("RGB", (384, 384))
    draw = ImageDraw.Draw(drawn)
    for one, other in BONES:
        draw.line([tuple(points[one]), tuple(points[other])], COLOURS[one], 6)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        draw.ellipse((x - 9, y - 9, x + 9, y + 9), colour)
    return drawn


def load_images(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (node for node in workflow["nodes"] if node["type"] == "LoadImage")


def place_photos(workflow: dict[str, Any], folder: Path) -> None:
    """Give every Load Image node a picture of its own, named after its title."""
    for node in load_images(workflow):
        title = node["title"]
        picture = pose_map() if title == POSE else Image.fromarray(photo(*PHOTOS[title]).pixels[0])
        name = "_".join(re.findall(r"\w+", title.lower())) + ".png"
        picture.save(folder / name)
        node["widgets_values"][0] = name


def place_models(workflow: dict[str, Any], models: Path) -> None:
    """Empty files under the names that the loaders ask for, so that none is shown as missing; people are saved ones."""
    folders = {"CheckpointLoaderSimple": "checkpoints", "LoraLoader": "loras", "ControlNetLoader": "controlnet"}
    for node in workflow["nodes"]:
        if node["type"] == "F2DLoadSStar":
            file = node["widgets_values"][0]
            person = SStar(torch.zeros(2, 768), name=Path(file).stem, marker="S*", injection="sum")
            save_s_star(person, models / "face2diffusion" / "identities" / file)
            continue
        folder = models / folders.get(node["type"], "face2diffusion")
        folder.mkdir(exist_ok=True)
        for value in node.get("widgets_values", []):
            if isinstance(value, str) and value.endswith((".safetensors", ".pt", ".pth", ".onnx")):
                (folder / value).touch()


def shot(page: Page, workflow: dict[str, Any], results: dict[str, list[str]], file: Path) -> Image.Image:
    """The workflow with its results, as the frontend shows it, cut to the graph."""
    page.load(workflow)
    page.evaluate(SHOW, results)
    box = page.evaluate(FIT, MARGIN)
    with Image.open(page.screenshot(file)) as whole:
        return whole.convert("RGB").crop([round(edge) for edge in box])


def save_small(picture: Image.Image, out: Path) -> None:
    """Write a JPEG, `WIDTH` wide, as good as `LARGEST` allows."""
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=quality, optimize=True, progressive=True)
        if written.tell() <= LARGEST:
            break
    out.write_bytes(written.getvalue())
    print(f"{out}: {picture.width} x {picture.height} px, {written.tell():,} bytes")


def opened(browser: Browser, server: Server) -> Page:
    """A page that shows nothing but the graph, however small."""
    settings = {
        "Comfy.ColorPalette": "dark",
        "LiteGraph.Canvas.MinFontSizeForLOD": 0,
        "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
        "Comfy.Minimap.Visible": False,
        "Comfy.Graph.CanvasMenu": False,
        "Comfy.Graph.CanvasInfo": False,
    }
    page = Page(browser, server.url, False, settings, size=WINDOW)
    page.evaluate("document.head.appendChild(document.createElement('style')).textContent = argument;", STYLE)
    page.evaluate("await app.extensionManager.command.execute('Workspace.ToggleFocusMode');")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these workflows instead of all")
    parser.add_argument("--out", type=Path, default=WORKFLOWS)
    arguments = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    graphs = {file.stem: workflows.load(file) for file in sorted(WORKFLOWS.glob("*.json"))}
    with tempfile.TemporaryDirectory() as folder:
        base = base_directory.make(Path(folder, "base"))
        for graph in graphs.values():
            place_photos(graph, base / "input")
            place_models(graph, base / "models")
        with Server(checkouts.comfyui(), base) as server, Browser() as browser:
            page = opened(browser, server)
            for name in arguments.only or graphs:
                results = place_results(name, graphs[name], base / "input")
                picture = shot(page, graphs[name], results, Path(folder, "shot.png"))
                save_small(picture, arguments.out / f"{name}.jpg")


if __name__ == "__main__":
    main()
