"""workflows/likeness.json and best_of_n.json, run by real servers: real photos, a small judge, wrong files."""

import numpy as np
import pytest
from PIL import Image

from tests.support import base_directory, checkouts, workflows
from tests.support.extractors import write_tiny_adaface
from tests.support.server import FailedError

PORTRAIT = "astronaut.png"
WORKFLOWS = base_directory.REPO / "workflows"
NO_TEXT = "Not used: The prompt was not compared: no network judges text."


def add_judge_and_photos(base):
    """A small AdaFace among the models; more "photos" of the person, and a picture without a face."""
    write_tiny_adaface(base / "models" / "face2diffusion" / "tiny_adaface.ckpt")
    portrait = Image.open(base / "input" / PORTRAIT).convert("RGB")
    portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(base / "input" / "mirrored.png")
    portrait.crop((60, 0, 460, 400)).point(lambda level: level * 0.7).save(base / "input" / "darker.png")
    ramp = np.tile(np.linspace(60, 200, 256, dtype=np.uint8)[:, None], (1, 256))
    Image.fromarray(ramp).convert("RGB").save(base / "input" / "nobody.png")


@pytest.fixture(scope="module")
def judging(server, yunet_file):
    add_judge_and_photos(server.base)
    yield server
    (server.base / "models" / "face2diffusion" / "tiny_adaface.ckpt").unlink()


def likeness_graph(server, picture):
    """workflows/likeness.json as the UI would send it, with these photos."""
    graph = workflows.to_api(workflows.load(WORKFLOWS / "likeness.json"), server.object_info)
    names = {"Photo 1 of the person": PORTRAIT, "Photo 2 of the person": "mirrored.png"}
    names |= {"Photo 3 of the person": "darker.png", "The picture to judge": picture}
    for node in graph.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = names[node["_meta"]["title"]]
    return graph


def shown(server, graph, node):
    """What a node of the graph shows in its box: (text, number of pictures)."""
    outputs = server.run(graph)[workflows.find(graph, node)]
    return outputs["text"][0], len(outputs["images"])


def check_likeness(server):
    text, pictures = shown(server, likeness_graph(server, "darker.png"), "F2DLikeness")
    lines = text.splitlines()

    assert lines[0] == "Judged by AdaFace IR-50. 3 references."
    assert lines[1].startswith("0: 0.") and lines[1].endswith("(the same picture as reference 2)")
    assert lines[-1] == "Of further photos of the person, one in 4 would be less alike than any reference."
    assert pictures == 1


def test_likeness(judging):
    check_likeness(judging)


def test_a_picture_without_a_face_is_its_own_state(judging):
    graph = likeness_graph(judging, "nobody.png")
    outputs = judging.run(graph)
    text, report = (outputs[workflows.find(graph, node)]["text"][0] for node in ("F2DLikeness", "F2DFaceReport"))

    assert "0: no face found" in text.splitlines()
    assert report.startswith("0: good\n") and "px between the eyes (good)" in report


def test_a_wrong_file_is_named_and_the_encoder_judges_instead(judging):
    graph = likeness_graph(judging, PORTRAIT)
    workflows.inputs_of(graph, "F2DLoadJudges")["identity"] = "mapping.pt"
    text, _ = shown(judging, graph, "F2DLikeness")

    assert text.startswith("Judged by MSID encoder (not independent")
    assert "Not used: mapping.pt is a mapping network, expected a face recognition network" in text


def test_nothing_to_judge_by_gives_one_line(judging):
    graph = likeness_graph(judging, PORTRAIT)
    workflows.inputs_of(graph, "F2DLoadJudges")["identity"] = "mapping.pt"
    del workflows.inputs_of(graph, "F2DLoadJudges")["msid"]
    with pytest.raises(FailedError) as failed:
        judging.run(graph)

    assert failed.value.node_type == "F2DLoadJudges"
    assert "\n" not in str(failed.value).strip() and "mapping.pt" in str(failed.value)


def test_best_of_n(judging):
    graph = workflows.to_api(workflows.load(WORKFLOWS / "best_of_n.json"), judging.object_info)
    workflows.inputs_of(graph, "LoadImage")["image"] = PORTRAIT
    workflows.inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
    workflows.inputs_of(graph, "KSampler")["steps"] = 2
    workflows.inputs_of(graph, "EmptyLatentImage").update(width=128, height=128, batch_size=3)
    outputs = judging.run(graph)
    lines = outputs[workflows.find(graph, "F2DBestOfN")]["text"][0].splitlines()

    assert lines[0] == "Judged by AdaFace IR-50; the geometric mean decides."
    assert lines[1].startswith("1. picture ") and lines[1].endswith(", kept")
    assert sorted(line.split(" ")[2].rstrip(":") for line in lines[1:4]) == ["0", "1", "2"]
    assert lines[4].startswith(NO_TEXT)
    assert len(outputs[workflows.find(graph, "SaveImage")]["images"]) == 1


def test_oldest_supported_release(start, yunet_file):
    old = start(root=checkouts.old_comfyui())
    add_judge_and_photos(old.base)

    check_likeness(old)
