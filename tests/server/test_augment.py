"""The workflow that makes editing data in a real server: cancelled, gone on with, and prepared for training."""

from __future__ import annotations

import json
import time

import pytest
import torch

from tests.support import base_directory, workflows

CLIP = "small_clip.pt"
SECONDS = 120


@pytest.fixture(scope="module")
def clip_file(server):
    """CLIP ViT-B/32 in open_clip's layout, of overlapping windows of one small buffer: 0.3 MB."""
    open_clip = pytest.importorskip("open_clip", reason="the extra `eval` is not installed")
    with torch.device("meta"):
        shapes = {
            k: v.shape for k, v in open_clip.model.CLIP(**open_clip.get_model_config("ViT-B-32")).state_dict().items()
        }
    buffer = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0)) / 20
    tensors = {
        key: buffer.as_strided(tuple(shape), [1] * len(shape)) for key, shape in shapes.items() if "mask" not in key
    }
    torch.save(tensors, server.base / "models" / "face2diffusion" / CLIP)
    return CLIP


@pytest.fixture
def graph(server, clip_file, yunet_file):
    """The shipped graph, as small as it gets. At this threshold the detector sees small faces in coloured noise."""
    graph = workflows.to_api(workflows.load(base_directory.REPO / "workflows" / "augment.json"), server.object_info)
    workflows.inputs_of(graph, "CheckpointLoaderSimple")["ckpt_name"] = base_directory.CHECKPOINT
    workflows.inputs_of(graph, "F2DLoadJudges").update(identity="none", text=clip_file)
    workflows.inputs_of(graph, "F2DAugment").update(
        names="Ada Lovelace\nMark Twain\nTwain, Mark", prompts="S* as a chef\nS* wearing a hat", faces_per_name=1,
        steps=2, size=128, min_face_px=0, threshold=0.05, name="served",
    )  # fmt: skip
    workflows.inputs_of(graph, "F2DPrepareTriplets").update(name="served", size=64)
    return graph


def lines(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)
    return found


def test_editing_data_are_made_cancelled_gone_on_with_and_prepared(server, graph):
    folder = server.base / "output" / "face2diffusion" / "editing" / "served"
    prompt_id = server.json("/prompt", {"prompt": graph})["prompt_id"]
    wait_for(lambda: lines(folder / "work" / "0_of_1.jsonl"))
    server.bytes("/interrupt", {})
    entry = wait_for(lambda: server.json(f"/history/{prompt_id}").get(prompt_id))
    assert "execution_interrupted" in [kind for kind, _ in entry["status"]["messages"]]
    assert not (folder / "kept.jsonl").exists()
    begun = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}

    shown = server.run(graph)

    assert begun and all(path.stat().st_mtime_ns == time_ns for path, time_ns in begun.items())
    records, kept = lines(folder / "pictures.jsonl"), lines(folder / "kept.jsonl")
    edits = [record for record in records if record["kind"] == "edit"]
    assert [record["kind"] for record in records if "rejected" not in record].count("face") * 2 == len(edits) > 0
    assert {line["prompt"] for line in kept} <= {"S* as a chef", "S* wearing a hat"} and 1 <= len(kept) <= 2
    assert all(0 < abs(record["text"]) <= 1 for record in edits)
    node = workflows.find(graph, "F2DAugment")
    assert server.picture(shown[node]["images"][0]).std() > 10
    assert "2 names; 1 merged, 0 held out" in shown[node]["text"][0]
    assert f"{len(kept)} triplets prepared" in shown[workflows.find(graph, "F2DPrepareTriplets")]["text"][0]
