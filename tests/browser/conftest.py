"""The browser ring: ComfyUI's own frontend in Chromium, with real clicks, in both of its renderers.

Skipped, with the reason, where there is no ComfyUI, Chromium, node or playwright-core.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import base_directory, checkouts
from tests.support import browser as support
from tests.support.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
RENDERERS = {"canvas": False, "nodes2": True}


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_runtest_setup(item):
    checkouts.comfyui()
    reason = support.missing()
    if reason:
        pytest.skip(f"the browser ring needs more: {reason}")


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A base directory with stand-in weights, the public-domain portrait and the detector (where present)."""
    import numpy as np
    from PIL import Image
    from skimage import data

    base = base_directory.make(tmp_path_factory.mktemp("browser") / "base")
    base_directory.write_stand_ins(base / "models" / "face2diffusion", base_directory.tiny_weights)
    portrait = data.astronaut()
    Image.fromarray(portrait).save(base / "input" / "astronaut.png")
    # The mirrored one is a little smaller, so that the two faces have an order.
    small = np.asarray(Image.fromarray(portrait[:, ::-1]).resize((410, 410)))
    Image.fromarray(np.hstack([np.pad(small, ((0, 102), (0, 0), (0, 0))), portrait])).save(base / "input" / "two.png")
    detector = base_directory.REPO.parent / "shared" / "assets" / "yunet_n_640_640.onnx"
    if detector.is_file():
        base_directory.place(detector, base / "models" / "face2diffusion" / detector.name)
    return base


@pytest.fixture(scope="session")
def server(base) -> Server:
    with Server(checkouts.comfyui(), base) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> support.Browser:
    with support.Browser() as running:
        yield running


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Path:
    """Where pictures of the page go: the folder F2D_SCREENSHOTS, to be looked at, or a temporary one."""
    folder = os.environ.get("F2D_SCREENSHOTS")
    return Path(folder) if folder else tmp_path_factory.mktemp("screenshots")


@pytest.fixture
def open_page(browser, server) -> Callable[..., support.Page]:
    """open_page(vue=False, settings=…) -> a page with an empty graph. Errors of ours on its console fail the test."""
    pages = []

    def make(
        vue: bool = False,
        settings: dict[str, Any] | None = None,
        running: Server = server,
        blocked: Sequence[str] = (),
    ) -> support.Page:
        page = support.Page(browser, running.url, vue, settings, blocked)
        page.empty()
        pages.append(page)
        return page

    yield make
    for page in pages[-1:]:  # an older one was closed by opening the next
        assert page.problems() == []


@pytest.fixture(params=RENDERERS)
def page(request, open_page) -> support.Page:
    """A page with an empty graph, in each renderer in turn."""
    return open_page(vue=RENDERERS[request.param])
