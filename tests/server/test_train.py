"""The workflows that train in a real server: prepared, begun, cancelled, continued, loaded, sampled with."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from f2d_core.testing import TINY_MSID, tiny_msid_state_dict
from f2d_core.weights import write_safetensors
from tests.support import base_directory, workflows

PHOTO = "astronaut.png"
STEPS = 20
SECONDS = 120


@pytest.fixture
def people(server, photos):
    """Two photos of one face, and ready masks, in the server's input folder."""
    people, masks = server.base / "input" / "people", server.base / "input" / "masks"
    for folder in (people, masks):
        folder.mkdir(exist_ok=True)
    portrait = Image.open(photos / PHOTO)
    for name, side in (("a.png", 512), ("b.png", 400)):
        portrait.resize((side, side)).save(people / name)
        Image.new("L", (side, side), 255).save(masks / name)


@pytest.fixture
def graph(server, people, yunet_file):
    """The shipped graph, as small as it gets: two photos of 64 px with ready masks, one photo per step."""
    graph = workflows.to_api(
        workflows.load(base_directory.REPO / "workflows" / "train_mapping.json"), server.object_info
    )
    workflows.inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
    workflows.inputs_of(graph, "F2DPrepareDataset").update(folder="people", masks="masks", name="people", size=64)
    workflows.inputs_of(graph, "F2DTrainMapping").update(
        run_name="served", steps=STEPS, batch=1, learning_rate=1e-3, preview_every=STEPS, preview_faces=1
    )
    return graph


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)
    return found


def steps_done(server):
    file = server.base / "output" / "face2diffusion" / "runs" / "served" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [row["step"] for row in map(json.loads, lines) if row["kind"] == "train"]


def sample(server, face_to_image, picture, mapping="mapping.pt"):
    """The picture, sampled anew: nothing is taken from the results of earlier prompts, the models stay loaded."""
    server.bytes("/free", {"unload_models": False, "free_memory": True})
    time.sleep(0.5)
    graph = face_to_image(server, PHOTO)
    workflows.inputs_of(graph, "F2DLoadMapping")["file"] = mapping
    pixels = picture(server, graph)
    (entry,) = server.json("/history?max_items=1").values()
    assert dict(entry["status"]["messages"])["execution_cached"]["nodes"] == []
    return pixels


def test_a_run_is_cancelled_continued_loaded_and_sampled_with(server, graph, face_to_image, picture):
    before = sample(server, face_to_image, picture)

    prompt_id = server.json("/prompt", {"prompt": graph})["prompt_id"]
    wait_for(lambda: len(steps_done(server)) >= 3)
    server.bytes("/interrupt", {})
    entry = wait_for(lambda: server.json(f"/history/{prompt_id}").get(prompt_id))
    assert "execution_interrupted" in [kind for kind, _ in entry["status"]["messages"]]
    saved = (server.base / "output" / "face2diffusion" / "runs" / "served" / "checkpoints" / "latest").read_text()
    assert 3 <= int(saved.removeprefix("step_")) < STEPS
    assert not (server.base / "models" / "face2diffusion" / "served.safetensors").exists()

    shown = server.run(graph)
    assert steps_done(server) == list(range(1, STEPS + 1))
    names = [image["filename"] for image in shown[workflows.find(graph, "F2DTrainMapping")]["images"]]
    assert names == ["step_000000020.png", "loss.png"]
    (sheet,) = shown[workflows.find(graph, "F2DPrepareDataset")]["images"]
    assert server.picture(sheet).std() > 10
    assert shown[workflows.find(graph, "LossGraphNode")]["images"]

    assert np.array_equal(sample(server, face_to_image, picture), before)
    assert not np.array_equal(sample(server, face_to_image, picture, "served.safetensors"), before)


@pytest.fixture
def triplets(server, people):
    """The two photos once more, as the face and as the edited picture of a triplet."""
    folder = server.base / "input" / "celebrities"
    for name in ("faces", "edited"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.open(server.base / "input" / "people" / "b.png").save(folder / name / "0.png")
    entry = {"face": "faces/0.png", "image": "edited/0.png", "prompt": "S* as an astronaut"}
    (folder / "kept.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    return folder.name


def test_dreamidentity_is_prepared_trained_and_drawn_with(server, triplets, face_to_image, picture, yunet_file):
    models = server.base / "models" / "face2diffusion"
    write_safetensors(models / "arcface.safetensors", tiny_msid_state_dict(replace(TINY_MSID, levels=(3,))), {})
    file = base_directory.REPO / "workflows" / "train_dreamidentity.json"
    graph = workflows.to_api(workflows.load(file), server.object_info)
    workflows.inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
    workflows.inputs_of(graph, "F2DPrepareDataset").update(folder="people", masks="masks", size=64)
    workflows.inputs_of(graph, "F2DPrepareTriplets").update(folder=triplets, size=64)
    workflows.inputs_of(graph, "F2DTrainMapping").update(run_name="dreamt", steps=2, batch=2, preview_every=0)

    shown = server.run(graph)

    (sheet,) = shown[workflows.find(graph, "F2DPrepareTriplets")]["images"]
    assert server.picture(sheet).std() > 10
    drawn = face_to_image(server, PHOTO)
    workflows.inputs_of(drawn, "F2DLoadMSIDEncoder")["file"] = "arcface.safetensors"
    workflows.inputs_of(drawn, "F2DLoadMapping")["file"] = "dreamt.safetensors"
    assert picture(server, drawn).std() > 1
