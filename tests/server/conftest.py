"""The server ring: the shipped workflows run to the end in a real ComfyUI process, over HTTP.

Every server has a private base directory and the CPU only. Without a ComfyUI checkout every test
of this ring is skipped with one line that says how to get it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.support import base_directory, checkouts, workflows
from tests.support.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from tests.support.server import Graph

HERE = Path(__file__).parent
WORKFLOWS = base_directory.REPO / "workflows"
GOLDEN = base_directory.REPO.parent / "shared" / "golden"
GOLDEN_PHOTOS = tuple(f"{i}.jpg" for i in range(5))
PORTRAIT = "astronaut.png"  # the public-domain portrait that scikit-image ships
PHOTOS = (*GOLDEN_PHOTOS, PORTRAIT)


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.server)


def pytest_runtest_setup(item):
    checkouts.comfyui()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the end of the log of every server that runs."""
    report = yield
    if report.failed:
        report.sections += [(f"ComfyUI log, {server.log}", server.tail()) for server in Server.running]
    return report


@pytest.fixture(scope="session")
def weights(request, tmp_path_factory) -> Path:
    """A folder with stand-ins for msid.pt, mapping.pt and epoch_20.pth: full size, or tiny without golden data."""
    source = request.getfixturevalue("golden_weights") if GOLDEN.is_dir() else base_directory.tiny_weights
    return base_directory.write_stand_ins(tmp_path_factory.mktemp("weights"), source)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder with the real photos: the golden ones where present, and scikit-image's portrait."""
    from skimage import data

    folder = tmp_path_factory.mktemp("photos")
    for name in GOLDEN_PHOTOS if GOLDEN.is_dir() else ():
        shutil.copyfile(GOLDEN / "images" / name, folder / name)
    Image.fromarray(data.astronaut()).save(folder / PORTRAIT)
    return folder


@pytest.fixture(params=PHOTOS)
def photo(request, photos) -> str:
    """The name of each real photo in turn, as it stands in the input folder."""
    if not (photos / request.param).is_file():
        pytest.skip("golden photos not present (a folder `shared/golden` beside the repository)")
    return request.param


@pytest.fixture(scope="session")
def new_base(weights, photos) -> Callable[..., Path]:
    """new_base(folder, …) -> a base directory there, with weights, photos and the detector (where present)."""
    detector = base_directory.REPO.parent / "shared" / "assets" / "yunet_n_640_640.onnx"

    def make(folder: Path, **options: Any) -> Path:
        base = base_directory.make(folder, **options)
        for file in (*weights.iterdir(), *([detector] if detector.is_file() else [])):
            base_directory.place(file, base / "models" / "face2diffusion" / file.name)
        for file in photos.iterdir():
            base_directory.place(file, base / "input" / file.name)
        return base

    return make


@pytest.fixture(scope="session")
def server(new_base, tmp_path_factory) -> Server:
    """One ordinary server for all tests that only run workflows on it."""
    with Server(checkouts.comfyui(), new_base(tmp_path_factory.mktemp("server") / "base")) as running:
        yield running


@pytest.fixture
def start(new_base, tmp_path) -> Callable[..., Server]:
    """start(*arguments, root=…, base=…, …) -> a fresh server of its own, stopped when the test ends."""
    numbers = itertools.count()

    with contextlib.ExitStack() as running:

        def make(*arguments: str, root: Path | None = None, base: Path | None = None, **options: Any) -> Server:
            folder = new_base(base or tmp_path / f"base{next(numbers)}", **options)
            return running.enter_context(Server(root or checkouts.comfyui(), folder, *arguments))

        yield make


@pytest.fixture(scope="session")
def face_to_image(yunet_file) -> Callable[..., Graph]:
    """face_to_image(server, photo) -> workflows/face_to_image.json as the UI would send it to that server.

    Changed are only the file names, which are the user's choice, and what makes a run long on two
    cores: 2 steps instead of 30, 128 px instead of 512.
    """

    def make(server: Server, photo: str) -> Graph:
        graph = workflows.to_api(workflows.load(WORKFLOWS / "face_to_image.json"), server.object_info)
        workflows.inputs_of(graph, "LoadImage")["image"] = photo
        workflows.inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
        workflows.inputs_of(graph, "KSampler")["steps"] = 2
        workflows.inputs_of(graph, "EmptyLatentImage").update(width=128, height=128)
        return graph

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[[Server, Graph], np.ndarray]:
    """picture(server, graph) -> the pixels of the one picture that the graph saves, (H, W, 3) uint8."""

    def run(server: Server, graph: Graph) -> np.ndarray:
        (shown,) = server.run(graph)[workflows.find(graph, "SaveImage")]["images"]
        return server.picture(shown)

    return run


@pytest.fixture(scope="session")
def expected(server, face_to_image, picture) -> Callable[[str], np.ndarray]:
    """expected(photo) -> the pixels that the shipped graph gives for it on the ordinary server, run once."""
    return functools.cache(lambda photo: picture(server, face_to_image(server, photo)))
