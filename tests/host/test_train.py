"""Train Mapping Network in process: runs that stop, continue, refuse, and leave a mapping that loads."""

import dataclasses
import json

import numpy as np
import pytest
import torch

STEPS = 3


class Data:
    """Five samples of noise as a prepared data set (ports.TrainingData)."""

    fingerprint = "noise"
    facts = {"msid_sha256": "", "features": "msid"}

    def __init__(self, samples, expression_width=64):
        self._samples, self.expression_width = samples, expression_width
        random = torch.Generator().manual_seed(0)
        self._values = {
            "latent_mean": torch.randn(5, 4, 8, 8, generator=random),
            "latent_logvar": torch.full((5, 4, 8, 8), -30.0),
            "v_id": torch.randn(5, 256, generator=random),
            "v_exp": torch.randn(5, expression_width, generator=random),
            "mask": (torch.rand(5, 1, 8, 8, generator=random) > 0.5).float(),
        }

    def __len__(self):
        return 5

    def batch(self, indices, flips):
        return self._samples(**{name: value[list(indices)] for name, value in self._values.items()})


@pytest.fixture(scope="module")
def data(host):
    return Data(host.pack_module("f2d_core.data.samples").Samples)


@pytest.fixture(scope="module")
def small_mapping(host):
    """A mapping network with 128 hidden units, in the file that a run starts from: saving it is quick."""
    tensors = host.pack_module("f2d_core.testing").tiny_mapping_state_dict()
    write = host.pack_module("f2d_core.weights").write_safetensors
    write(host.base / "models" / "face2diffusion" / "small.safetensors", tensors, {"injection": "token"})
    return host.run("F2DLoadMapping", file="small.safetensors")[0]


@pytest.fixture
def run(run_node, small_models, clip, data, small_mapping):
    """run("name", steps=…) -> outputs of the node on a small model, from a small mapping."""
    fixed = {"model": small_models[0], "clip": clip(), "dataset": data, "start_from": small_mapping}
    fixed |= {"steps": STEPS, "batch": 1, "learning_rate": 1e-3}

    def train(run_name, **inputs):
        return run_node("F2DTrainMapping", **{**fixed, "run_name": run_name, **inputs})

    return train


def rows(host, run_name):
    folder = host.base / "output" / "face2diffusion" / "runs" / run_name
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_is_listed_loaded_plotted_and_shown(host, run, run_node, small_models):
    file, mapping, loss, preview = outputs = run(
        "anna", start_from=None, vae=small_models[2], preview_every=STEPS, preview_faces=1
    )
    assert file == "anna.safetensors"
    assert file in host.mappings["F2DLoadMapping"].GET_SCHEMA().inputs[0].options
    (loaded,) = run_node("F2DLoadMapping", file=file)
    assert (
        loaded.sha256 == mapping.sha256 and loaded.facts["injection"] == "token" and loaded.facts["step"] == str(STEPS)
    )
    assert mapping.module.config.expression_width == 64
    assert [row["step"] for row in rows(host, "anna") if row["kind"] == "train"] == list(range(1, STEPS + 1))
    assert loss["loss"] == [row["loss"] for row in rows(host, "anna") if row["kind"] == "train"]
    assert preview.shape[0] == 1 and preview.shape[3] == 3 and preview.std() > 0.01
    shown = [(image["filename"], image["subfolder"]) for image in outputs.ui["images"]]
    assert shown == [
        ("step_000000003.png", "face2diffusion/runs/anna/previews"),
        ("loss.png", "face2diffusion/runs/anna"),
    ]


def interrupt_in(monkeypatch, host, call):
    """Press Cancel just before that call of the UNet: newer hosts raise in its first operation."""
    devices = __import__("comfy.model_management", fromlist=["model_management"])
    denoiser = host.pack_module("nodes.host_training").Denoiser
    calls, predict = [], denoiser.predict_noise

    def pressed(self, *args):
        calls.append(None)
        if len(calls) == call:
            devices.interrupt_current_processing(True)
        return predict(self, *args)

    monkeypatch.setattr(denoiser, "predict_noise", pressed)
    return devices.InterruptProcessingException


def test_a_cancelled_run_saves_and_continues_to_the_same_mapping(host, run, monkeypatch):
    whole = run("in one go", steps=2, batch=2, micro_batch=1)[1]
    with monkeypatch.context() as patched:
        interruption = interrupt_in(patched, host, 5)  # step 2: class pass, first of two micro-batches
        with pytest.raises(interruption):
            run("in two goes", steps=2, batch=2, micro_batch=1)
    folder = host.base / "output" / "face2diffusion" / "runs" / "in two goes"
    assert [path.name for path in (folder / "checkpoints").glob("step_*")] == ["step_000000001"]
    assert not (host.base / "models" / "face2diffusion" / "in two goes.safetensors").exists()
    file, mapping, loss, _ = run("in two goes", steps=2, batch=2, micro_batch=1)
    assert file == "in two goes.safetensors" and len(loss["loss"]) == 2
    assert mapping.sha256 == whole.sha256


def test_the_same_run_again_adds_no_file_and_more_steps_go_on(host, run):
    first = run("once", steps=1)[0]
    assert run("once", steps=1)[0] == first == "once.safetensors"
    assert run("once", steps=2)[0] == "once_2.safetensors"
    assert len([row for row in rows(host, "once") if row["kind"] == "train"]) == 2


def test_changed_settings_are_refused_with_the_differences(host, run, clip, run_node):
    run("fixed", steps=1)
    (skipped,) = run_node("CLIPSetLastLayer", clip=clip(), stop_at_clip_layer=-2)
    with pytest.raises(host.pack_module("f2d_core.errors").SettingsError) as refused:
        run("fixed", steps=2, seed=3, method="masked", clip=skipped)
    for part in ("seed: 0 -> 3", "variant: cgdr -> masked", "base_model", "new run name"):
        assert part in str(refused.value)
    assert "steps" not in str(refused.value)


def test_a_mapping_is_trained_further_and_not_changed(run, run_node, small_mapping):
    after = run("further", steps=1, words=3)[1]
    before = run_node("F2DLoadMapping", file="small.safetensors")[0]
    assert before.sha256 == small_mapping.sha256
    assert after.module.config == before.module.config  # the words of the mapping, not of the widget
    moved = (after.module.i2t_first.fc_out.weight - before.module.i2t_first.fc_out.weight).abs().max()
    assert 0 < moved < 2e-3  # one step of AdamW at 1e-3


@pytest.mark.parametrize("name", ["../out", "a/b", "", "con"])
def test_a_run_name_that_is_no_file_name_is_refused(host, run, name):
    with pytest.raises(host.pack_module("f2d_core.errors").SettingsError, match="cannot be a file name"):
        run(name)


def test_a_data_set_without_expressions_gives_a_mapping_without(host, run):
    plain = Data(host.pack_module("f2d_core.data.samples").Samples, expression_width=0)
    assert run("plain", steps=1, dataset=plain, start_from=None, words=1)[1].module.config.expression_width == 0


def test_computing_blocks_again_gives_the_same_mapping(run):
    kept, again = (run(f"again {again}", steps=1, gradient_checkpointing=again)[1] for again in (False, True))
    assert kept.sha256 == again.sha256


def test_events_tell_figures_and_a_line(host, run, monkeypatch):
    """What a page script hears; without a server there is nobody to tell."""
    from server import PromptServer

    heard = []

    class Server:
        client_id = "tab"

        def send_sync(self, event, data, sid):
            heard.append((event, data, sid))

        def send_progress_text(self, text, node_id):
            heard.append(("text", text, node_id))

    monkeypatch.setattr(PromptServer, "instance", Server(), raising=False)
    run("heard", steps=1)
    told = next(data for event, data, sid in heard if event == "f2d.train" and sid == "tab")
    assert told["run"] == "heard" and told["node"] == "1" and (told["step"], told["steps"]) == (1, 1)
    assert told["loss"] > 0 and told["validation"] is None
    assert any(event == "text" and text.startswith("step 1 of 1: loss ") for event, text, _ in heard)


# --- DreamIdentity ---


@pytest.fixture(scope="module")
def arcface(host):
    """A plain ArcFace encoder, loaded by the node."""
    testing = host.pack_module("f2d_core.testing")
    state = testing.tiny_msid_state_dict(dataclasses.replace(testing.TINY_MSID, levels=(3,)))
    write = host.pack_module("f2d_core.weights").write_safetensors
    write(host.base / "models" / "face2diffusion" / "arcface.safetensors", state, {})
    return host.run("F2DLoadMSIDEncoder", file="arcface.safetensors")[0]


class Triplets(Data):
    """Five edited pictures of noise with two prompts (ports.TripletData)."""

    fingerprint, prompts = "edited noise", ("S* as a chef", "Oil painting style, S* face")

    def batch(self, indices, flips):
        samples = super().batch(indices, flips)
        return dataclasses.replace(samples, prompts=tuple(self.prompts[i % 2] for i in indices))


@pytest.fixture
def dreamidentity(host, arcface):
    """(photos, triplets) with features of that encoder."""
    samples, made = host.pack_module("f2d_core.data.samples").Samples, []
    for kind in (Data, Triplets):
        data = kind(samples, expression_width=0)
        data._values["v_id"] = torch.randn(5, 320, generator=torch.Generator().manual_seed(1))
        data.facts = {"msid_sha256": arcface.sha256, "features": "dreamidentity"}
        made.append(data)
    return made


@pytest.mark.parametrize("words", [1, 2, 3])
def test_any_number_of_words_from_training_to_s_star(host, run, run_node, arcface, dreamidentity, words):
    photos, triplets = dreamidentity
    settings = {"method": "reconstruction", "l2": 1e-4, "aug_ratio": 0.5, "batch": 2, "steps": 2}
    name = f"words {words}"
    file, mapping, *_ = run(name, dataset=photos, triplets=triplets, start_from=None, words=words, **settings)
    assert mapping.facts["method"] == mapping.facts["features"] == "dreamidentity"
    assert all(row["edited"] > 0 for row in rows(host, name))
    points = np.zeros((478, 2), np.float32)
    points[[468, 473, 1, 61, 291]] = [(40, 45), (70, 44), (55, 60), (43, 80), (68, 79)]
    mesh = {"bbox_xyxy": np.array([35, 40, 75, 85]), "landmarks_xy": points, "score": 0.9}
    picture = torch.rand(1, 120, 120, 3, generator=torch.Generator().manual_seed(2))
    faces = {"frames": [[mesh]], "image_size": (120, 120)}
    ((person,), *_) = run_node("F2DEncodeFace", msid=arcface, mapping=mapping, image=picture, face_landmarks=faces)
    assert (person.vectors.shape, person.features, person.v_id.shape) == ((words, 768), "dreamidentity", (320,))
    again = run_node("F2DLoadMapping", file=file)[0]
    assert torch.equal(again.run(person.v_id[None], None)[0], person.vectors)


def test_the_managed_encoder_gives_dreamidentitys_features(host, arcface):
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.inference_mode():
        plain = arcface.module(faces, "dreamidentity")
    found = arcface.run(faces, "dreamidentity")
    assert found.shape == (2, 320) and torch.allclose(found, plain, atol=1e-5)
    assert torch.equal(arcface.run(faces), arcface.run(faces, "msid")) and arcface.run(faces).shape == (2, 64)


def test_triplets_of_another_encoder_are_refused(host, run, dreamidentity, data):
    with pytest.raises(host.pack_module("f2d_core.errors").MismatchError, match="another kind of features"):
        run("mixed up", dataset=data, triplets=dreamidentity[1], start_from=None)
