"""Likeness, Best of N and Face Report inside ComfyUI: with whichever judges are there, on a real portrait."""

import csv
import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from f2d_core.data.parser import BiSeNet
from f2d_core.evaluate.metrics import clip_scores, geometric_mean, identity_scores
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled, tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from tests.support.extractors import (
    TINY_CLIP,
    FakeImageText,
    add_tiny_models,
    tiny_adaface_state_dict,
    tiny_model,
    write_tiny_adaface,
)

TINY_VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 32,
    "image_size": 56,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 14,
    "projection_dim": 768,
}


@pytest.fixture(scope="module")
def errors(host):
    return host.pack_module("f2d_core.errors")


@pytest.fixture(scope="module")
def folder(host, yunet_file):
    """models/face2diffusion with the detector in it."""
    target = host.base / "models" / "face2diffusion"
    (target / "detectors").mkdir(parents=True, exist_ok=True)
    (target / "detectors" / yunet_file.name).write_bytes(yunet_file.read_bytes())
    return target


@pytest.fixture
def place(folder):
    """place(name, tensors) -> a file of ours there, taken away after the test; with None AdaFace's stand-in."""
    made = []

    def write(name, tensors=None):
        file = folder / "judges" / name
        file.parent.mkdir(exist_ok=True)
        torch.save(tensors, file) if tensors is not None else write_tiny_adaface(file)
        made.append(file)
        return f"judges/{name}"

    yield write
    for file in made:
        file.unlink()


@pytest.fixture
def msid(host, place):
    return host.run("F2DLoadMSIDEncoder", file=place("tiny_msid.pt", tiny_msid_state_dict()))[0]


@pytest.fixture
def adaface(host, place):
    """The judges that AdaFace's stand-in alone makes."""
    return host.run("F2DLoadJudges", identity=place("tiny_adaface.ckpt"), text="none")[0]


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    return torch.from_numpy(data.astronaut().astype(np.float32) / 255)[None]


@pytest.fixture(scope="module")
def batch(portrait):
    """Mirrored, without a face, the portrait, and a darker one."""
    return torch.cat([portrait.flip(2), torch.full_like(portrait, 0.5), portrait, portrait * 0.6])


def rows(table):
    return list(csv.DictReader(io.StringIO(table)))


# --- Load Likeness Models ---


def test_whatever_is_there_is_found_by_its_content_and_named(host, place):
    place("some name.ckpt")
    judges, report = outputs = host.run("F2DLoadJudges")

    assert [judge.kind for judge in judges.identity] == ["adaface_ir50"] and judges.text == ()
    assert report == "Identity: AdaFace IR-50\nText: nobody"
    assert outputs.ui == {"text": (report,)}


def test_where_nothing_is_there_the_message_says_what_to_get(host, folder, errors):
    with pytest.raises(errors.WeightsError, match=r"adaface_ir50_ms1mv2\.ckpt .*github.com/mk-minchul/AdaFace"):
        host.run("F2DLoadJudges")
    with pytest.raises(errors.WeightsError, match="No network is chosen"):
        host.run("F2DLoadJudges", identity="none", text="none")


def test_the_encoder_judges_only_where_nothing_else_does(host, msid, place):
    judges, report = host.run("F2DLoadJudges", msid=msid)
    assert [judge.kind for judge in judges.identity] == ["msid"] and "not independent" in report

    place("tiny_adaface.ckpt")
    judges, report = host.run("F2DLoadJudges", msid=msid)
    assert [judge.kind for judge in judges.identity] == ["adaface_ir50"] and "not independent" not in report


def test_a_wrong_file_is_named_and_the_others_go_on(host, place, msid, errors):
    wrong = place("mapping.pt", tiny_mapping_state_dict())
    judges, report = host.run("F2DLoadJudges", identity=wrong, msid=msid)

    assert len(judges.identity) == 1
    assert "Not used: mapping.pt is a mapping network, expected a face recognition network" in report
    with pytest.raises(errors.WeightsError, match="mapping.pt is a mapping network"):
        host.run("F2DLoadJudges", identity=wrong)


def test_a_damaged_file_is_named(host, place, errors):
    state = tiny_adaface_state_dict()
    state.pop("output_layer.3.bias")
    with pytest.raises(errors.WeightsError, match=r"short.pt: .*output_layer\.3\.bias"):
        host.run("F2DLoadJudges", identity=place("short.pt", state))


def test_a_file_that_is_gone_is_refused_before_the_run(host, folder):
    node = host.mappings["F2DLoadJudges"]

    assert node.validate_inputs("auto", "none") is True
    assert "AdaFace" in node.validate_inputs("gone.pt", "auto")
    assert "laion" in node.validate_inputs("auto", "gone.pt")


def test_another_file_loads_again(host, place):
    node = host.mappings["F2DLoadJudges"]
    before = node.fingerprint_inputs("auto", "auto")
    name = place("tiny_adaface.ckpt")

    assert node.fingerprint_inputs("auto", "auto") != before
    assert node.fingerprint_inputs(name, "none") == node.fingerprint_inputs(name, "none") != []


def test_models_add_up(host, adaface, place):
    other = place("other.pt", tiny_adaface_state_dict(seed=1))
    judges, _ = host.run("F2DLoadJudges", identity=other, text="none", more=adaface)

    assert len(judges.identity) == 2
    assert len(host.run("F2DLoadJudges", identity=other, text="none", more=judges)[0].identity) == 2


# --- Likeness ---


def test_likeness_of_a_batch_to_one_photo(host, adaface, batch, portrait):
    preview, report, table = outputs = host.run("F2DLikeness", judges=adaface, image=batch, references=portrait)
    detections = host.run("F2DDetectFaces", image=batch)[0].detections
    points = [detections[i].faces[0].points for i in (0, 2, 3)]
    pictures = [(batch[i].numpy() * 255).round().astype(np.uint8) for i in (0, 2, 3)]
    features = adaface.identity[0].features(pictures, points)
    expected = identity_scores(features, features[1:2])
    found = rows(table)

    assert [float(found[i]["score"]) for i in (0, 2, 3)] == pytest.approx(expected, abs=1e-4)
    assert found[1]["score"] == "" and found[1]["verdict"] == "no face"
    assert found[2]["score"] == "1.0000"
    assert "1: no face found" in report and "(the same picture as reference 0)" in report.splitlines()[3]
    assert report.startswith("Judged by AdaFace IR-50. 1 reference.")
    assert preview.shape[0] == 4 and preview.shape[2] == 512 and preview.shape[1] > 520
    assert outputs.ui["text"] == (report,) and len(outputs.ui["images"]) == 4


def test_several_photos_of_several_sizes_give_a_verdict(host, adaface, batch, portrait):
    inputs = {"references": batch[:2], "references_2": portrait[:, :400, :400], "references_3": batch[3:]}
    _, report, table = host.run("F2DLikeness", judges=adaface, image=portrait, **inputs)
    (row,) = rows(table)

    assert "3 references; number 1 has no face that can be used." in report
    assert row["references"] == "3" and row["rank"] in "0123" and row["verdict"] in ("below", "low", "within", "above")


def test_faces_and_landmarks_that_are_connected_are_used(host, adaface, portrait):
    faces = host.run("F2DDetectFaces", image=portrait)[0]
    five = faces.detections[0].faces[0].points
    mesh = np.zeros((478, 2), np.float32)
    mesh[[468, 473, 1, 61, 291]] = five
    landmarks = {
        "frames": [[{"bbox_xyxy": np.array([*five.min(0), *five.max(0)]), "landmarks_xy": mesh, "score": 0.9}]],
        "image_size": (512, 512),
    }
    inputs = {"judges": adaface, "image": portrait, "references": portrait, "detector": "facexlib"}
    for source in ({"faces": faces}, {"face_landmarks": landmarks}):
        _, _, table = host.run("F2DLikeness", **inputs, reference_landmarks=landmarks, **source)
        assert float(rows(table)[0]["score"]) == pytest.approx(1, abs=1e-3)


def test_likeness_without_a_judge_of_identity_says_what_is_missing(host, portrait, errors):
    judges = host.pack_module("f2d_core.evaluate.judges").Judges(text=(FakeImageText(),))
    with pytest.raises(errors.WeightsError, match="No network judges identity.*adaface_ir50_ms1mv2.ckpt"):
        host.run("F2DLikeness", judges=judges, image=portrait, references=portrait)


def test_no_face_in_any_reference_is_an_error(host, adaface, batch, portrait, errors):
    with pytest.raises(errors.NoFaceError, match="None of the 1 references"):
        host.run("F2DLikeness", judges=adaface, image=portrait, references=batch[1:2])


def test_cancelling_stops_between_pictures(host, adaface, batch, portrait):
    import comfy.model_management as devices

    faces = host.run("F2DDetectFaces", image=batch)[0]
    devices.interrupt_current_processing(True)
    try:
        with pytest.raises(devices.InterruptProcessingException):
            host.run("F2DLikeness", judges=adaface, image=batch, references=portrait, faces=faces)
    finally:
        devices.interrupt_current_processing(False)


# --- Best of N ---


@pytest.fixture
def both(host, adaface):
    """AdaFace's stand-in, and a fake that reads texts."""
    return host.pack_module("f2d_core.evaluate.judges").Judges(adaface.identity, (FakeImageText(),))


def test_the_best_by_identity_and_text(host, both, batch, portrait):
    run = {"judges": both, "image": batch, "references": portrait, "prompt": "(S*:1.2) in space", "keep": 2}
    images, indices, best, report = outputs = host.run("F2DBestOfN", **run)
    table = rows(host.run("F2DLikeness", judges=both, image=batch, references=portrait)[2])
    identity = [float(row["score"] or 0) for row in table]
    pictures = [(picture.numpy() * 255).round().astype(np.uint8) for picture in batch]
    text = clip_scores(both.text[0].image_features(pictures), FakeImageText().text_features(["a person in space"]))
    scores = geometric_mean(np.stack([identity, text], axis=1))
    order = sorted((0, 2, 3), key=lambda i: -scores[i])

    assert both.text[0].read == ["a person in space"]
    assert indices == f"{order[0]}, {order[1]}" and best == order[0]
    assert torch.equal(images, batch[order[:2]])
    assert report.splitlines()[0] == "Judged by AdaFace IR-50, Fake CLIP; the geometric mean decides."
    assert report.splitlines()[-1].startswith("4. picture 1: no face found")
    assert outputs.ui["text"] == (report,) and len(outputs.ui["images"]) == 2


def test_the_best_by_one_of_them(host, both, adaface, batch, portrait, errors):
    _, indices, best, _ = host.run("F2DBestOfN", judges=both, image=batch, references=portrait, keep=9)
    assert best == 2 and indices.startswith("2, ") and indices.endswith(", 1")
    _, _, _, report = host.run("F2DBestOfN", judges=both, image=batch, prompt="a wall")
    assert report.startswith("Judged by Fake CLIP;") and "no face" not in report
    _, _, best, report = host.run("F2DBestOfN", judges=adaface, image=batch, references=portrait, prompt="a wall")
    assert best == 2 and "Not used: The prompt was not compared: no network judges text." in report
    with pytest.raises(errors.SettingsError, match="Nothing can be judged"):
        host.run("F2DBestOfN", judges=both, image=batch)
    with pytest.raises(errors.SettingsError, match=r"Nothing can be judged.*no network judges text"):
        host.run("F2DBestOfN", judges=adaface, image=batch, prompt="a wall")


# --- CLIP from a file ---


@pytest.fixture
def clip_file(host, folder, monkeypatch, tmp_path):
    """(A small CLIP in open_clip's layout among the models, the network itself)."""
    pytest.importorskip("open_clip", reason="the extra `eval` is not installed")
    add_tiny_models(monkeypatch, tmp_path)
    known = host.pack_module("f2d_core.evaluate.extractors.image_text")  # the pack's own copy of the module
    monkeypatch.setitem(known._CLIP_MODELS, (16, 16, 5), TINY_CLIP)
    monkeypatch.setattr(known, "MODELS", (*known.MODELS, TINY_CLIP))
    model = tiny_model(TINY_CLIP)
    file = folder / "judges" / "open_clip_model.safetensors"
    file.parent.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    yield "judges/open_clip_model.safetensors", model
    file.unlink()


def test_clip_from_a_file_runs_under_the_hosts_model_management(host, clip_file, batch):
    file, model = clip_file
    judges, report = host.run("F2DLoadJudges", identity="none", text=file)
    (judge,) = judges.text
    pictures = [(picture.numpy() * 255).round().astype(np.uint8) for picture in batch]
    with torch.inference_mode():
        image = F.normalize(model.encode_image(judge.preprocess(pictures)), dim=1)
        text = F.normalize(model.encode_text(judge.tokenize(["a person in space"])), dim=1)

    assert report == f"Identity: nobody\nText: CLIP {TINY_CLIP}"
    assert torch.allclose(judge.image_features(pictures), image, atol=1e-5)
    assert torch.allclose(judge.text_features(["a person in space"]), text, atol=1e-5)
    expected = clip_scores(image, text)
    _, _, best, _ = host.run("F2DBestOfN", judges=judges, image=batch, prompt="S* in space")
    assert best == int(np.argmax(expected))


# --- ComfyUI's own CLIP vision ---


@pytest.fixture(scope="module")
def clip_vision(host, tmp_path_factory):
    import comfy.clip_vision

    config = tmp_path_factory.mktemp("vision") / "config.json"
    config.write_text(json.dumps(TINY_VISION), encoding="utf-8")
    model = comfy.clip_vision.ClipVisionModel(str(config))
    state = {key: tuple(value.shape) for key, value in model.model.state_dict().items()}
    model.load_sd(filled(state, seed=5))
    return model


@pytest.fixture(scope="module")
def projected(clip, small_text_encoder):
    """A small CLIP-L whose file holds the projection, and that projection."""
    weight = torch.randn(768, 768, generator=torch.Generator().manual_seed(1)) * 768**-0.5
    return clip(tensors={**small_text_encoder(3), "text_projection.weight": weight}), weight


def test_comfyuis_own_clip_judges_pictures_and_texts(host, clip_vision, projected, portrait, folder):
    clip, weight = projected
    (judge,) = host.run("F2DLoadJudges", identity="none", clip_vision=clip_vision, clip=clip)[0].text
    picture = (portrait[0].numpy() * 255).round().astype(np.uint8)
    with torch.inference_mode():
        image = judge.image_features([picture, picture])
        (text,) = judge.text_features(["a person"])
        expected = clip_vision.encode_image(portrait)["image_embeds"].float()
        pooled = clip.encode_from_tokens(clip.tokenize("a person"), return_pooled=True)[1].float()

    assert torch.allclose(image[:1], F.normalize(expected), atol=1e-5) and torch.equal(image[0], image[1])
    assert torch.allclose(text, F.normalize(pooled @ weight.T)[0], atol=1e-5)
    assert judge.name == "CLIP vision of ComfyUI (768 features)"


def test_best_of_n_by_comfyuis_own_clip(host, clip_vision, projected, batch, folder):
    judges, report = host.run("F2DLoadJudges", identity="none", clip_vision=clip_vision, clip=projected[0])
    _, indices, _, told = host.run("F2DBestOfN", judges=judges, image=batch, prompt="a person in space", keep=4)

    assert report == "Identity: nobody\nText: CLIP vision of ComfyUI (768 features)"
    assert sorted(indices.split(", ")) == list("0123") and "CLIP vision of ComfyUI" in told


def test_a_text_encoder_without_its_projection_is_refused(host, clip_vision, clip, small_text_encoder, errors):
    tensors = {**small_text_encoder(3), "text_projection.weight": torch.zeros(768, 768)}
    with pytest.raises(errors.WeightsError, match="has no text projection"):
        host.run("F2DLoadJudges", identity="none", clip_vision=clip_vision, clip=clip(tensors=tensors))


def test_halves_that_do_not_belong_together_are_refused(host, clip_vision, clip, errors):
    with pytest.raises(errors.WeightsError, match="gives 768 features, the text encoder 1280"):
        host.run("F2DLoadJudges", identity="none", clip_vision=clip_vision, clip=clip(foreign="sdxl"))
    with pytest.raises(errors.WeightsError, match="clip is missing"):
        host.run("F2DLoadJudges", identity="none", clip_vision=clip_vision)


# --- Face Report ---


def test_a_good_portrait_and_one_without_a_face(host, portrait, batch, folder):
    preview, report, usable = outputs = host.run("F2DFaceReport", image=portrait)
    assert report.startswith("0: good\n") and usable is True
    assert "size: 91 px wide, 44 px between the eyes (good)" in report
    assert "covered: not judged without a face parser" in report
    assert preview.shape[1] > 520 and outputs.ui["text"] == (report,)

    preview, report, usable = host.run("F2DFaceReport", image=batch[:2])
    assert "1: poor\nface: no face found (poor): No face was found" in report and usable is False
    assert preview.shape[0] == 2


def test_a_small_face_gets_advice(host, portrait, folder):
    small = F.interpolate(portrait.permute(0, 3, 1, 2), size=(160, 160), mode="area").permute(0, 2, 3, 1)
    _, report, usable = host.run("F2DFaceReport", image=small)

    assert usable is False and report.splitlines()[1].startswith("size: ")
    assert "px wide: use a larger photo" in report.splitlines()[1]


def test_what_covers_the_face_and_its_expression(host, place, portrait, folder, errors):
    recon = host.run("F2DLoadExpressionEncoder", file=place("tiny_recon.pth", tiny_recon_state_dict()))[0]
    place("parsing_bisenet.pth", filled(expected_shapes(BiSeNet), seed=3))
    _, report, _ = host.run("F2DFaceReport", image=portrait, expression_encoder=recon)
    assert "% covered" in report and "expression: strength " in report
    _, report, _ = host.run("F2DFaceReport", image=portrait, parser="none")
    assert "covered: not judged" in report

    wrong = place("parser.pt", tiny_mapping_state_dict())
    with pytest.raises(errors.WeightsError, match="expected a face parser"):
        host.run("F2DFaceReport", image=portrait, parser=wrong)
    node = host.mappings["F2DFaceReport"]
    assert node.validate_inputs("auto") is True and "parsing_bisenet.pth" in node.validate_inputs("gone.pth")


def test_a_parser_that_was_only_found_may_fail(host, place, portrait, folder):
    place("a parser.pt", tiny_mapping_state_dict())
    _, report, usable = host.run("F2DFaceReport", image=portrait)

    assert usable is True and "Not used: a parser.pt is a mapping network" in report
