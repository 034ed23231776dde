"""A saved identity, loaded again, gives the same picture without the photo."""

import numpy as np

from tests.support import workflows


def test_saved_and_loaded_person_gives_the_same_picture(server, face_to_image, picture):
    graph = face_to_image(server, "astronaut.png")
    inject = workflows.inputs_of(graph, "F2DInject")
    graph["save"] = {
        "class_type": "F2DSaveSStar",
        "inputs": {"s_star": inject["s_star"], "filename": "eileen", "thumbnail": False},
    }
    from_photo = picture(server, graph)
    (saved,) = (server.base / "models" / "face2diffusion" / "identities").iterdir()

    loaded = face_to_image(server, "astronaut.png")
    workflows.inputs_of(loaded, "F2DInject")["s_star"] = ["load", 0]
    loaded["load"] = {"class_type": "F2DLoadSStar", "inputs": {"file": saved.name, "marker": ""}}
    for node in ("F2DEncodeFace", "F2DLoadMSIDEncoder", "F2DLoadMapping", "LoadImage"):
        del loaded[workflows.find(loaded, node)]

    assert np.array_equal(picture(server, loaded), from_photo)
