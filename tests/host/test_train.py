"""Train Mapping Network in process: runs that stop, continue, refuse, and leave a mapping that loads."""

import json

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
