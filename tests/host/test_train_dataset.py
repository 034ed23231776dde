"""Prepare Face Dataset and Prepare Editing Triplets in process: what comes out, going on, what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def folders(host, tmp_path_factory):
    """(photos, masks): the public-domain portrait, and a picture without a face."""
    from skimage import data

    root = tmp_path_factory.mktemp("dataset")
    portrait = Image.fromarray(data.astronaut())
    for name, picture in (("a portrait.png", portrait), ("nobody.png", Image.new("RGB", (300, 300), "grey"))):
        for folder, content in (("photos", picture), ("masks", Image.new("L", picture.size, 255))):
            (root / folder).mkdir(exist_ok=True)
            content.save(root / folder / name)
    return root / "photos", root / "masks"


@pytest.fixture(scope="module")
def networks(host):
    """(msid, expression encoder), tiny."""
    testing, weights = host.pack_module("f2d_core.testing"), host.pack_module("f2d_core.weights")
    folder = host.base / "models" / "face2diffusion"
    weights.write_safetensors(folder / "tiny_msid.safetensors", testing.tiny_msid_state_dict(), {})
    weights.write_safetensors(folder / "tiny_recon.safetensors", testing.tiny_recon_state_dict(), {})
    (msid,) = host.run("F2DLoadMSIDEncoder", file="tiny_msid.safetensors")
    (recon,) = host.run("F2DLoadExpressionEncoder", file="tiny_recon.safetensors")
    return msid, recon


@pytest.fixture
def prepare(host, run_node, folders, networks, small_models, yunet_file):
    target = host.base / "models" / "face2diffusion" / yunet_file.name
    if not target.exists():
        target.write_bytes(yunet_file.read_bytes())
    photos, masks = folders
    fixed = {"folder": str(photos), "masks": str(masks), "vae": small_models[2], "detector": "yunet", "size": 64}

    def run(**inputs):
        return run_node("F2DPrepareDataset", **{**fixed, "msid": networks[0], **inputs})

    return run


def test_photos_become_a_data_set_and_rejected_ones_are_named(host, prepare, networks):
    dataset, sheet, report = outputs = prepare(name="people", expression_encoder=networks[1])
    assert len(dataset) == 1 and dataset.expression_width == 64
    sample = dataset.batch([0], [True])
    assert sample.latent_mean.shape == (1, 4, 8, 8) and sample.v_id.shape == (1, 256)
    assert sample.latent_mean.abs().max() > 0.01 and torch.equal(sample.mask, torch.ones(1, 1, 8, 8))
    assert report.startswith("1 photos prepared, 1 rejected") and "nobody.png: " in report
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3 and np.ptp(sheet.numpy()) > 0.5
    folder = host.base / "output" / "face2diffusion" / "datasets" / "people"
    assert dataset.folder == folder
    assert outputs.ui["images"] == [
        {"filename": "report.png", "subfolder": "face2diffusion/datasets/people", "type": "output"}
    ]


def test_the_same_again_computes_nothing_and_other_settings_are_refused(host, prepare, monkeypatch):
    first = prepare(name="kept")[0]
    codec = host.pack_module("nodes.host_training").LatentCodec
    with monkeypatch.context() as patched:
        patched.setattr(codec, "encode", lambda *_: pytest.fail("the latents were there already"))
        assert prepare(name="kept")[0].fingerprint == first.fingerprint
    with pytest.raises(host.pack_module("f2d_core.errors").CacheError, match="size: 64, now 128"):
        prepare(name="kept", size=128)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"folder": "not there"}, "ImageError", "input/not there is no folder"),
        ({"name": "../out"}, "SettingsError", "cannot be a file name"),
        ({"masks": ""}, "WeightsError", "parsing_bisenet.pth"),
    ],
)
def test_what_cannot_be_done_is_said(host, prepare, inputs, error, message):
    with pytest.raises(getattr(host.pack_module("f2d_core.errors"), error), match=message):
        prepare(**{"name": "wrong", "parser": "parsing_bisenet.pth", **inputs})


def test_a_parser_is_asked_for_before_running_unless_there_are_masks(host):
    node = host.mappings["F2DPrepareDataset"]
    assert "facexlib" in node.validate_inputs(parser="parsing_bisenet.pth")
    assert node.validate_inputs(parser="parsing_bisenet.pth", masks="masks") is True


def test_a_new_photo_makes_the_node_run_again(host, folders, tmp_path):
    def seen():
        return host.mappings["F2DPrepareDataset"].fingerprint_inputs(folder=str(tmp_path), name="new", size=64)

    assert seen() is None  # nothing there: execute says so
    (tmp_path / "a.png").write_bytes(b"1")
    one = seen()
    (tmp_path / "b.png").write_bytes(b"2")
    assert one != seen() and seen() == seen()


# --- editing triplets ---

POINTS = [[40, 45], [70, 44], [55, 60], [43, 80], [68, 79]]


@pytest.fixture(scope="module")
def editing(host):
    """Two triplets where "Make Editing Triplets" leaves its own, with points, so that nothing is detected."""
    folder = host.base / "output" / "face2diffusion" / "editing" / "celebrities"
    entries = []
    for i in range(2):
        for name in ("faces", "edited"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.RandomState(i).randint(0, 256, (120, 120, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
        entries.append(
            {"face": f"faces/{i}.png", "image": f"edited/{i}.png", "prompt": "S* as a chef", "points": POINTS}
        )
    (folder / "kept.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return folder


@pytest.mark.parametrize("by_name", [True, False])
def test_triplets_are_prepared_by_path_or_by_the_name_they_were_made_under(
    host, run_node, editing, networks, small_models, by_name
):
    folder = editing.name if by_name else str(editing)
    inputs = {"folder": folder, "name": f"by name {by_name}", "vae": small_models[2], "msid": networks[0], "size": 64}
    triplets, sheet, report = run_node("F2DPrepareTriplets", **inputs)
    assert len(triplets) == 2 and report.startswith("2 triplets prepared, 0 rejected")
    samples = triplets.batch([0, 1], [True, False])
    assert samples.prompts == ("S* as a chef",) * 2 and samples.v_id.shape == (2, 256)
    assert samples.latent_mean.shape == (2, 4, 8, 8) and samples.latent_mean.abs().max() > 0.01
    assert triplets.folder.parent == host.base / "output" / "face2diffusion" / "triplets"
    assert sheet.shape[3] == 3 and np.ptp(sheet.numpy()) > 0.5


def test_what_cannot_be_done_with_triplets_is_said(host, run_node, networks, small_models):
    errors, inputs = host.pack_module("f2d_core.errors"), {"vae": small_models[2], "msid": networks[0], "size": 64}
    with pytest.raises(errors.ImageError, match="kept.jsonl cannot be read"):
        run_node("F2DPrepareTriplets", folder="not there", name="wrong", **inputs)
    with pytest.raises(errors.SettingsError, match="cannot be a file name"):
        run_node("F2DPrepareTriplets", folder="celebrities", name="../out", **inputs)


def test_new_triplets_make_the_node_run_again(host, editing):
    seen = host.mappings["F2DPrepareTriplets"].fingerprint_inputs
    before = seen(folder=str(editing), name="x", size=64)
    assert len(before) == 2 and seen(folder="celebrities") == before
    assert seen(folder="nowhere") is None and seen(folder=None) is None  # which execute says; connected
    text = (editing / "kept.jsonl").read_text(encoding="utf-8")
    (editing / "kept.jsonl").write_text(text.replace("chef", "nurse"), encoding="utf-8")
    assert seen(folder=str(editing)) != before
    (editing / "kept.jsonl").write_text(text, encoding="utf-8")
