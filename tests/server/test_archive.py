"""The archive that the registry hands out, unpacked into custom_nodes of a fresh ComfyUI: it runs, and it writes
nowhere but where its user looks. In a place with an odd name; the other servers load the pack through a link."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import base_directory, checkouts, locales, workflows
from tests.support.server import Server

PHOTO = "astronaut.png"
PACK = Path("custom_nodes", base_directory.PACK)
# Where files may appear: the results of the user's nodes, and what the host writes for itself.
OWN = ("models/face2diffusion/identities/eileen.safetensors", "models/embeddings/eileen.safetensors")
HOST = ("output", "temp", "user", "server.log")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(the base directory, the home directory) of a server that has nothing else."""
    folder = tmp_path_factory.mktemp("Büro, 2. Stock")
    (folder / "home").mkdir()
    return folder / "肖像 base", folder / "home"


@pytest.fixture(scope="module")
def unpacked(places, new_base):
    """A server on the unpacked archive, with files before it started: (server, names)."""
    base, home = places
    new_base(base, link_pack=False)
    before = _files(base)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "USERPROFILE"):
            patch.setenv(name, str(home))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.delenv(name, raising=False)
        with Server(checkouts.comfyui(), base) as running:
            yield running, before


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_it_gives_the_same_picture_as_the_repository(unpacked, face_to_image, expected, picture):
    server, _ = unpacked
    graph = face_to_image(server, PHOTO)
    s_star = workflows.inputs_of(graph, "F2DInject")["s_star"]
    clip = workflows.inputs_of(graph, "F2DInject")["clip"]
    named = {"s_star": s_star, "filename": "eileen"}
    graph["save"] = {"class_type": "F2DSaveSStar", "inputs": {**named, "thumbnail": True}}
    graph["export"] = {"class_type": "F2DExportEmbedding", "inputs": {**named, "position": 4, "clip": clip}}

    assert np.array_equal(picture(server, graph), expected(PHOTO))


def test_pages_scripts_translations_and_templates_are_in_it(unpacked):
    server, _ = unpacked

    assert {name for name in server.object_info if name.startswith("F2D")} == set(locales.read("en", locales.NODES))
    for name in ("docs/F2DEncodeFace.md", "js/face2diffusion.js"):
        assert server.bytes(f"/extensions/{base_directory.PACK}/{name}")
    assert {"face_to_image", "train_mapping"} <= set(server.json("/workflow_templates")[base_directory.PACK])


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_translations_reach_the_frontend(unpacked, language):
    served = unpacked[0].json("/i18n")[language]

    assert served["nodeDefs"] == locales.read(language, locales.NODES)


def test_nothing_is_left_behind_but_what_the_user_made(unpacked, places):
    """After the tests above: what is new, in the base directory and at home, and was not asked for."""
    server, before = unpacked
    base, home = places
    new = _files(base) - before
    assert Path(OWN[0]) in new  # the picture was made, and the person saved

    unasked = {
        path
        for path in new
        if path.as_posix() not in OWN
        and path.parts[0] not in HOST
        and not (path.is_relative_to(PACK) and "__pycache__" in path.parts)
    }

    assert unasked == set()
    assert [path for path in _files(base / "user") if "f2d" in path.as_posix().lower()] == []
    assert _files(home) == set()
    assert "face2diffusion" not in json.dumps(server.json("/settings")).lower()
