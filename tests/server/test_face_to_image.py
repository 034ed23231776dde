"""workflows/face_to_image.json, run by real servers: pictures come out, depend on the face, and come out again."""

import itertools
import json

import numpy as np

from tests.support import base_directory, checkouts, workflows

A, B = "0.jpg", "astronaut.png"
INTERFACE = json.loads(base_directory.INTERFACE.read_text(encoding="utf-8"))


def test_every_photo_gives_a_picture(expected, photo):
    pixels = expected(photo)

    assert pixels.shape == (128, 128, 3)
    assert pixels.std() > 10  # a picture, not a flat or nearly flat field


def test_changing_the_face_changes_the_picture(golden, expected, photos):
    pictures = [expected(file.name) for file in sorted(photos.iterdir())]

    assert len(pictures) == 6
    for one, other in itertools.combinations(pictures, 2):
        assert np.abs(one.astype(int) - other).mean() > 1


def test_full_size_of_the_shipped_graph(server, face_to_image, picture):
    graph = face_to_image(server, B)
    workflows.inputs_of(graph, "EmptyLatentImage").update(width=512, height=512)
    workflows.inputs_of(graph, "KSampler")["steps"] = 1

    assert picture(server, graph).shape == (512, 512, 3)


def test_a_fresh_server_gives_the_same_bytes(expected, start, face_to_image, picture):
    fresh = start()

    assert np.array_equal(picture(fresh, face_to_image(fresh, B)), expected(B))


def test_a_b_a_without_a_cache_gives_the_same_bytes_for_a(golden, expected, start, face_to_image, picture):
    uncached = start("--cache-none")

    first, other, again = (picture(uncached, face_to_image(uncached, photo)) for photo in (A, B, A))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, expected(A))


def test_oldest_supported_release(start, face_to_image, picture):
    old = start(root=checkouts.old_comfyui())

    pixels = picture(old, face_to_image(old, B))

    assert {node for node in old.object_info if node.startswith("F2D")} == set(INTERFACE)
    assert pixels.shape == (128, 128, 3)
    assert pixels.std() > 10
