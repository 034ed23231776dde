"""Draw web/docs/pictures/<NodeId>.png, the pictures of the help pages: each node as the real frontend shows it.

    python docs/make_node_pictures.py [--only NODE …] [--out web/docs/pictures]

Needs what the browser tests need (tests/support/browser.py) and a ComfyUI checkout.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from make_workflow_pictures import FIT, REPO, opened
from PIL import Image

from tests.support import base_directory, checkouts
from tests.support.browser import Browser, Page, missing
from tests.support.server import Server

MARGIN = 14  # around the node, px of the graph
WIDTH, HEIGHT = 480, 1000  # px of the finished picture, at most
COLOURS = 64  # a palette: nodes have few


def draw(page: Page, node: str, number: int, file: Path) -> Image.Image:
    """One node alone, as it is when it is new. number: of the node; the frontend remembers values by it, even when the
    graph was cleared."""
    page.evaluate("app.graph.clear(); app.graph.state.lastNodeId = argument;", number)
    page.add_node(node, 0, 0)
    page.evaluate(FIT, MARGIN)  # a panel finds its size when it is drawn
    box = page.evaluate(FIT, MARGIN)
    with Image.open(page.screenshot(file)) as whole:
        picture = whole.convert("RGB").crop([round(edge) for edge in box])
    picture.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="NODE")
    parser.add_argument("--out", type=Path, default=REPO / "web" / "docs" / "pictures", metavar="FOLDER")
    arguments = parser.parse_args()
    if missing():
        parser.error(missing())
    arguments.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = base_directory.make(Path(folder, "base"))
        with Server(checkouts.comfyui(), base) as server, Browser() as browser:
            page = opened(browser, server)
            nodes = sorted(name for name in server.object_info if name.startswith("F2D"))
            for number, node in enumerate(arguments.only or nodes, 1):
                picture = draw(page, node, 1000 * number, Path(folder, "shot.png"))
                picture.quantize(COLOURS).save(arguments.out / f"{node}.png", optimize=True)


if __name__ == "__main__":
    main()
