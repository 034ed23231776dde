"""The workflows of the creative nodes, run by a real server on stand-in weights, smaller and with fewer steps."""

import itertools

import numpy as np
import pytest

from tests.support import base_directory, checkouts, workflows

WORKFLOWS = base_directory.REPO / "workflows"
PHOTOS = ("0.jpg", "1.jpg", "2.jpg")
STEPS = 5


@pytest.fixture
def graph(golden, yunet_file):
    """graph(server, name) -> the workflow for that server, each Load Image with another photo."""

    def make(server, name):
        made = workflows.to_api(workflows.load(WORKFLOWS / f"{name}.json"), server.object_info)
        photos = iter(PHOTOS)
        for node in made.values():
            if node["class_type"] == "LoadImage":
                node["inputs"]["image"] = next(photos)
            if node["class_type"] == "CheckpointLoaderSimple":
                node["inputs"]["ckpt_name"] = base_directory.CHECKPOINT
            if node["class_type"] == "EmptyLatentImage":
                node["inputs"].update(width=128, height=64)
            if node["class_type"] in ("KSampler", "F2DDelayedSubject", "F2DSchedule"):
                node["inputs"]["steps"] = STEPS
        return made

    return make


def pictures(server, graph):
    """Title of each Save Image node -> its pictures."""
    shown = server.run(graph)
    titles = {key: node["_meta"]["title"] for key, node in graph.items() if node["class_type"] == "SaveImage"}
    return {title: [server.picture(entry) for entry in shown[key]["images"]] for key, title in titles.items()}


def text_shown(server, graph, title):
    (key,) = [key for key, node in graph.items() if node["_meta"]["title"] == title]
    return "".join(server.run(graph)[key]["text"])


def differ(one, other):
    return np.abs(one.astype(int) - other).mean()


def test_two_people_in_one_prompt_and_in_two_regions(server, graph):
    made = graph(server, "two_people")
    together, apart = (shown[0] for shown in pictures(server, made).values())
    assert together.shape == apart.shape == (64, 128, 3) and differ(together, apart) > 1
    (right,) = [node for node in made.values() if node["_meta"]["title"] == "Right: the second person"]
    right["inputs"]["text"] = "a photo of T* in a suit"
    changed = pictures(server, made)["In two regions"][0]
    assert differ(changed[:, 64:], apart[:, 64:]) > 2 * differ(changed[:, :64], apart[:, :64])


def test_a_blend_is_a_row_of_pictures_that_begins_and_ends_with_the_people(server, graph):
    made = graph(server, "blend")
    (row,) = pictures(server, made).values()
    assert len(row) == 4
    steps = [differ(a, b) for a, b in itertools.pairwise(row)]
    assert min(steps) > 0.1 and differ(row[0], row[3]) > max(steps)
    assert "0: anna\n1: anna 67% + ben 33%" in text_shown(server, made, "What was mixed")
    blended = workflows.inputs_of(made, "F2DBlend")
    workflows.inputs_of(made, "F2DInject")["s_star"] = blended["s_star"]
    workflows.inputs_of(made, "EmptyLatentImage")["batch_size"] = 1
    (alone,) = pictures(server, made).values()
    assert np.abs(alone[0].astype(int) - row[0]).max() <= 1  # the sampler's batch may round differently


def test_an_expression_grows(server, graph):
    made = graph(server, "expression_sweep")
    (row,) = pictures(server, made).values()
    assert len(row) == 4 and all(differ(a, b) > 0.1 for a, b in itertools.pairwise(row))
    workflows.inputs_of(made, "F2DExpressionSweep").update(start=0.5, end=0.5)
    (still,) = pictures(server, made).values()
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in itertools.pairwise(still))


def test_a_delayed_subject_three_ways(server, graph):
    made = graph(server, "delayed_subject")
    shown = [found[0] for found in pictures(server, made).values()]
    assert min(differ(a, b) for a, b in itertools.combinations(shown, 2)) > 0.1
    assert "first 1 of 5 steps" in text_shown(server, made, "Who sees what")
    delayed = workflows.inputs_of(made, "F2DDelayedSubject")
    delayed["alpha"] = 1.0
    undelayed = [found[0] for found in pictures(server, made).values()][1]
    assert np.array_equal(undelayed, shown[0])


def test_oldest_supported_release(start, graph):
    old = start(root=checkouts.old_comfyui())
    for name, count in (("two_people", 2), ("blend", 4), ("expression_sweep", 4), ("delayed_subject", 3)):
        assert sum(len(found) for found in pictures(old, graph(old, name)).values()) == count
