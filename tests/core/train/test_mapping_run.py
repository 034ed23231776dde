"""A run as a folder, seen through one that trains a mapping: begin, stop, continue, refuse, what it leaves behind."""

import errno
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import f2d_core.train.mapping_run as mapping_module
import f2d_core.train.run as run_module
from f2d_core.errors import MismatchError, MissingPackageError, OutputError, SettingsError, TrainingError
from f2d_core.networks import load_network
from f2d_core.train import read_metrics, run_folder, train
from f2d_core.train.checkpoint import load_checkpoint
from f2d_core.train.distributed import World
from f2d_core.weights import read_weights, write_safetensors
from tests.support import training
from tests.support.training import MemoryData, MemoryTriplets, TinyCodec, TinyEncoder


def run(folder, data=None, parts=None, **options):
    settings = {name: options.pop(name) for name in list(options) if name not in ("progress", "should_stop",
                                                                                 "on_preview", "triplets")}  # fmt: skip
    return train(parts or training.parts(), data or MemoryData(), training.config(**settings), folder, **options)


def weights(folder, file="mapping.safetensors"):
    return read_weights(folder / file).state_dict


def same(found, expected):
    return all(torch.equal(value, expected[name]) for name, value in found.items())


class Stop:
    """Asks for a stop at the n-th question."""

    def __init__(self, after, error=None):
        self.left, self.error = after, error

    def __call__(self):
        self.left -= 1
        if self.left > 0:
            return False
        if self.error is not None:
            raise self.error
        return True


def test_the_mapping_loads_like_any_other_and_says_where_it_comes_from(tmp_path):
    result = run(tmp_path)
    assert (result.step, result.finished) == (20, True)
    network = load_network(result.mapping, "mapping")
    facts = network.facts
    assert (facts["injection"], facts["encoder_key"], facts["class_word"]) == ("token", "l", "a person")
    assert (facts["msid_sha256"], facts["base_model_sha256"], facts["features"]) == ("m" * 64, "b" * 64, "msid")
    assert (facts["template"], facts["words"], facts["width"], facts["step"]) == ("a photo of S*", "2", "8", "20")
    assert "NC" in network.licence
    assert network.run(torch.zeros(1, training.ID_WIDTH)).shape == (1, 2, training.WIDTH)
    assert load_network(tmp_path / "mapping_ema.safetensors", "mapping").facts["ema"] == "0.9"
    assert not same(weights(tmp_path, "mapping_ema.safetensors"), weights(tmp_path))


@pytest.mark.parametrize("words", [1, 3])
def test_any_number_of_words_and_no_expression(tmp_path, words):
    result = run(tmp_path, words=words, expression=False, steps=2)
    network = load_network(result.mapping, "mapping")
    assert network.module.config.expression_width == 0
    assert network.run(torch.zeros(1, training.ID_WIDTH)).shape == (1, words, training.WIDTH)


@pytest.mark.parametrize("after", [1, 3, 9, 38])
def test_a_stopped_run_continues_to_the_same_bits(tmp_path, after):
    run(tmp_path / "whole")
    result = run(tmp_path / "cut", should_stop=Stop(after))
    assert not result.finished and result.step == (after - 1) // 4  # four micro-batches a step
    assert load_network(result.mapping, "mapping").facts["step"] == str(result.step)
    assert run(tmp_path / "cut").finished
    for file in ("mapping.safetensors", "mapping_ema.safetensors"):
        assert same(weights(tmp_path / "cut", file), weights(tmp_path / "whole", file))
    steps = [row["step"] for row in read_metrics(tmp_path / "cut")]
    assert steps == list(range(1, 21))


class Cancelled(BaseException):
    """As ComfyUI's interruption: none of Exception's."""


@pytest.mark.parametrize("error", [Cancelled(), RuntimeError("cancelled"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["should_stop", "progress"])
def test_what_interrupts_is_raised_again_after_the_save(tmp_path, error, place):
    stop = Stop(3, error)
    with pytest.raises(type(error)) as caught:
        run(tmp_path, **{place: stop if place == "should_stop" else lambda _report: stop()})
    assert caught.value is error
    step = 0 if place == "should_stop" else 3
    assert load_checkpoint(tmp_path / "checkpoints").step == step
    assert load_network(tmp_path / "mapping.safetensors", "mapping").facts["step"] == str(step)


def test_a_finished_run_goes_on_with_more_steps(tmp_path):
    run(tmp_path / "whole", steps=12)
    run(tmp_path / "more", steps=5)
    assert run(tmp_path / "more", steps=5).step == 5
    assert run(tmp_path / "more", steps=12).step == 12
    assert same(weights(tmp_path / "more"), weights(tmp_path / "whole"))


def test_changed_settings_are_refused_and_all_listed(tmp_path):
    run(tmp_path, steps=2)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(SettingsError) as caught:
        run(tmp_path, data=MemoryData(fingerprint="g"), learning_rate=1e-3, variant="masked")
    message = str(caught.value)
    for part in ("variant: cgdr -> masked", "learning_rate: 0.01 -> 0.001", "data: f -> g", "choose a new run name"):
        assert part in message
    assert "\n" not in message
    assert (tmp_path / "run.json").read_bytes() == before


def test_another_base_model_is_refused(tmp_path):
    run(tmp_path, steps=2)
    other = replace(training.parts(), base_model_sha256="c" * 64)
    with pytest.raises(SettingsError, match=f"base_model: {'b' * 64} -> {'c' * 64}"):
        run(tmp_path, parts=other)


def test_a_fine_tune_starts_from_the_file(tmp_path):
    run(tmp_path / "first", steps=3, words=3, hidden=12)
    first = weights(tmp_path / "first")
    start = str(tmp_path / "first" / "mapping.safetensors")
    run(tmp_path / "second", start_from=start, should_stop=Stop(1))
    assert same(weights(tmp_path / "second"), first)  # its sizes too, not those of the settings
    run(tmp_path / "second", start_from=start)
    assert not same(weights(tmp_path / "second"), first)
    assert same(weights(tmp_path / "first"), first)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, {"encoder": TinyEncoder(width=9)}, "word width 8, text encoder and data set give 9"),
        ({"expression": False}, {}, "expression width 3, text encoder and data set give 0"),
    ],
)
def test_a_fine_tune_of_another_kind_is_refused(tmp_path, settings, change, message):
    run(tmp_path / "first", steps=1)
    start = str(tmp_path / "first" / "mapping.safetensors")
    with pytest.raises(MismatchError, match=message):
        run(tmp_path / "second", parts=replace(training.parts(), **change), start_from=start, **settings)
    assert not (tmp_path / "second").exists()


def test_a_fine_tune_keeps_injection_and_encoder(tmp_path):
    """A file that says nothing is a published one: injection "sum"."""
    result = run(tmp_path / "first", steps=1)
    with pytest.raises(MismatchError, match="has injection token and the setting is sum.*Set injection to token"):
        run(tmp_path / "second", start_from=str(result.mapping), injection="sum")
    silent = write_safetensors(tmp_path / "silent.safetensors", weights(tmp_path / "first"))
    with pytest.raises(MismatchError, match="has injection sum and the setting is token"):
        run(tmp_path / "second", start_from=str(silent))
    assert run(tmp_path / "second", start_from=str(silent), injection="sum", steps=1).finished
    other = MemoryData()
    other.facts = {"msid_sha256": "n" * 64}
    with pytest.raises(MismatchError, match="trained with another encoder"):
        run(tmp_path / "third", other, start_from=str(result.mapping))


def test_a_data_set_that_does_not_fit_is_refused(tmp_path):
    narrow = MemoryData()
    narrow.v_exp = narrow.v_exp[..., :0]
    with pytest.raises(MismatchError, match="prepared without expressions"):
        run(tmp_path, data=narrow)
    run(tmp_path / "without", data=narrow, expression=False, steps=1)
    small = MemoryData()
    small.mask = small.mask[..., :2]
    with pytest.raises(MismatchError, match="latents and masks of sizes"):
        run(tmp_path, data=small)
    with pytest.raises(SettingsError, match="10 photos and hold_out is 10"):
        run(tmp_path, hold_out=10)


def test_held_out_photos_are_never_trained_on(tmp_path):
    data = MemoryData()
    data.v_id[:, 7:] = float("nan")
    run(tmp_path, data=data, hold_out=3, steps=3)
    with pytest.raises(TrainingError):
        run(tmp_path / "all", data=data, steps=3)


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path):
    class Spoiling(MemoryData):
        def batch(self, indices, flips):
            found = super().batch(indices, flips)
            if self.spoiled:
                found.latent_mean[1] = float("inf")
            return found

    data = Spoiling()
    data.spoiled = False

    def spoil(report):
        data.spoiled = report.result.step == 5

    with pytest.raises(TrainingError, match=r"loss of step 5 is nan \(from photos \d+"):
        run(tmp_path, data=data, checkpoint_every=2, progress=spoil)
    assert load_checkpoint(tmp_path / "checkpoints").step == 4
    data.spoiled = False
    assert run(tmp_path, data=data, checkpoint_every=2).finished


def test_a_hard_mask_is_zero_or_one(tmp_path):
    soft = mapping_module.MappingTask(training.parts(), MemoryData(), training.config())
    hard = mapping_module.MappingTask(training.parts(), MemoryData(), training.config(mask_edge="hard"))
    mask = soft.prepare(0, range(8)).mask
    assert torch.equal(hard.prepare(0, range(8)).mask, (mask >= 0.5).float()) and 0 < mask.min() < mask.max() < 1


def test_validation_is_the_same_wherever_it_happens_and_changes_nothing(tmp_path):
    run(tmp_path / "plain", steps=6)
    run(tmp_path / "watched", steps=6, validate_every=2, preview_every=3, parts=training.parts(codec=TinyCodec()))
    assert same(weights(tmp_path / "watched"), weights(tmp_path / "plain"))
    run(tmp_path / "cut", validate_every=2, should_stop=Stop(7))
    run(tmp_path / "cut", steps=6, validate_every=2)

    def validations(folder):
        return [row for row in read_metrics(tmp_path / folder) if row["kind"] == "validation"]

    found = validations("watched")
    assert [row["step"] for row in found] == [2, 4, 6]
    assert found == validations("cut")
    assert found[2]["loss"] < found[0]["loss"]


def test_previews_are_pictures_of_the_first_faces_from_fixed_noise(tmp_path):
    seen = []
    parts = training.parts(codec=TinyCodec())
    run(tmp_path, parts=parts, steps=4, preview_every=2, preview_faces=3, preview_steps=2, on_preview=seen.append)
    assert [pictures.shape for pictures in seen] == [(3, 3, 32, 32)] * 2
    assert all(pictures.abs().max() <= 1 for pictures in seen)
    assert not torch.equal(seen[0][0], seen[0][1]) and not torch.equal(seen[0], seen[1])
    with Image.open(tmp_path / "previews" / "step_000000004.png") as picture:
        shown = np.asarray(picture)
    assert shown.shape == (32, 96, 3)
    expected = ((seen[1][1].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.array_equal(shown[:, 32:64], expected.astype(np.uint8))


def test_progress_tells_figures_speed_and_time_left(tmp_path):
    reports = []
    run(tmp_path, steps=4, validate_every=2, progress=reports.append)
    assert [report.result.step for report in reports] == [1, 2, 3, 4]
    assert all(report.images_per_s > 0 and report.steps == 4 for report in reports)
    assert reports[-1].seconds_left == 0 and reports[0].seconds_left > 0
    assert reports[0].validation is None and set(reports[1].validation) == {"loss", "foreground", "background"}
    rows = [row for row in read_metrics(tmp_path) if row["kind"] == "train"]
    assert rows[3]["loss"] == reports[3].result.loss and rows[3]["word_length"] > 0


def test_a_half_written_line_of_figures_is_dropped(tmp_path):
    run(tmp_path, should_stop=Stop(13))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 9')
    run(tmp_path, steps=5)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]


def test_it_trains_inside_inference_mode_and_leaves_it_as_it_was(tmp_path):
    parts, data = training.parts(), MemoryData()
    run(tmp_path / "outside", data, parts, steps=3)
    with torch.inference_mode():
        run(tmp_path / "inside", data, parts, steps=3, deterministic=True)
        assert torch.is_inference_mode_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert same(weights(tmp_path / "inside"), weights(tmp_path / "outside"))


def test_neither_a_run_nor_its_pictures_touch_the_hosts_random_numbers(tmp_path):
    parts = training.parts(codec=TinyCodec())
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(1)
    np.random.seed(1)
    run(tmp_path, steps=2, preview_every=1, parts=parts)
    assert torch.equal(torch.rand(3), expected[0]) and np.array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("name", ["../other", "a/b", "..", "", "/etc", "con"])
def test_a_run_name_cannot_lead_elsewhere(tmp_path, name):
    with pytest.raises(SettingsError, match="The run name"):
        run_folder(tmp_path, name)
    assert run_folder(tmp_path, " anna 2 ") == tmp_path / "anna 2"


def test_more_processes_than_samples_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="batch is 32 for 40 processes"):
        train(training.parts(), MemoryData(), training.config(), tmp_path, world=World(0, 40))


WRITES = ("run.json", "metrics.jsonl", "mapping.safetensors", "mapping_ema.safetensors", "loss.png", "checkpoint")


@pytest.mark.parametrize("file", WRITES)
def test_a_full_disk_at_any_write_is_said_and_mended(tmp_path, monkeypatch, file):
    import f2d_core.train.checkpoint as checkpoint_module
    import f2d_core.train.metrics as metrics_module
    import f2d_core.train.plot as plot_module

    def guarded(write):
        def call(path, *args):
            if path.name == file and "checkpoints" not in path.parts:
                raise OutputError(f"Cannot write {path}: No space left on device.")
            return write(path, *args)

        return call

    for module in (run_module, metrics_module, plot_module):
        monkeypatch.setattr(module, "write_atomically", guarded(module.write_atomically))
    monkeypatch.setattr(mapping_module, "write_safetensors", guarded(mapping_module.write_safetensors))
    if file == "checkpoint":

        def full(*_args):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoint_module, "_flush_folder", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(tmp_path / "run", steps=4, checkpoint_every=2)
    monkeypatch.undo()
    run(tmp_path / "run", steps=4, checkpoint_every=2)
    run(tmp_path / "whole", steps=4)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_full_disk_at_the_figures_is_said(tmp_path, monkeypatch):
    import f2d_core.train.metrics as metrics_module

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics_module, "open", full, raising=False)
    with pytest.raises(OutputError, match=r"Cannot write .*metrics\.jsonl: No space left"):
        run(tmp_path)


def test_a_damaged_newest_checkpoint_falls_back_and_still_ends_at_the_same_bits(tmp_path, caplog):
    run(tmp_path / "whole")
    run(tmp_path / "cut", steps=15, checkpoint_every=5)
    (tmp_path / "cut" / "checkpoints" / "step_000000015" / "moments.safetensors").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "cut", checkpoint_every=5)
    assert "step_000000015 is damaged" in caplog.text
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_tensorboard_is_optional_and_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError, match="pip install tensorboard"):
        run(tmp_path, tensorboard=True)


def test_the_settings_are_kept_with_the_run(tmp_path):
    run(tmp_path, steps=1)
    kept = json.loads((tmp_path / "run.json").read_text())
    assert (kept["learning_rate"], kept["data"], kept["text_encoder"]) == (0.01, "f", "l 8")


# --- editing triplets ---


@pytest.mark.parametrize("settings", [{}, {"aug_ratio": 0.3}], ids=["one set", "a share"])
def test_a_stopped_run_with_triplets_continues_to_the_same_bits(tmp_path, settings):
    settings |= {"triplets": MemoryTriplets(), "l2": 1e-4, "steps": 8}
    run(tmp_path / "whole", **settings)
    for after in (2, 17):
        result = run(tmp_path / "cut", **settings, should_stop=Stop(after))
        assert not result.finished
    run(tmp_path / "cut", **settings)
    assert same(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    rows = read_metrics(tmp_path / "cut")
    assert [row["step"] for row in rows] == list(range(1, 9)) and all(row["edited"] > 0 for row in rows)
    assert rows == read_metrics(tmp_path / "whole")
    assert load_network(tmp_path / "cut" / "mapping.safetensors", "mapping").facts["method"] == "dreamidentity+cgdr"


def test_triplets_change_the_mapping_and_others_are_refused_when_it_goes_on(tmp_path):
    run(tmp_path / "without", steps=2)
    run(tmp_path / "with", steps=2, triplets=MemoryTriplets())
    assert not same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    with pytest.raises(SettingsError, match="triplets: t -> u"):
        run(tmp_path / "with", steps=3, triplets=MemoryTriplets(fingerprint="u"))
    with pytest.raises(SettingsError, match="triplets: t -> nothing"):
        run(tmp_path / "with", steps=3)
    with pytest.raises(SettingsError, match="triplets: nothing -> t"):
        run(tmp_path / "without", steps=3, triplets=MemoryTriplets())


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """Its run.json names none of the settings that came later."""
    run(tmp_path, steps=2)
    before = json.loads((tmp_path / "run.json").read_text())
    assert not {"triplets", "aug_ratio", "l2", "l2_kind"} & set(before)
    assert run(tmp_path, steps=3).finished
    with pytest.raises(SettingsError, match="l2: nothing -> 0.5"):
        run(tmp_path, steps=4, l2=0.5)


def test_a_mapping_of_other_features_is_not_trained_further(tmp_path):
    run(tmp_path / "first", steps=1)
    data = MemoryData()
    data.facts = {**data.facts, "features": "dreamidentity"}
    with pytest.raises(MismatchError, match="takes msid features and the photos were prepared with dreamidentity"):
        run(tmp_path / "further", steps=1, data=data, start_from=str(tmp_path / "first" / "mapping.safetensors"))


@pytest.mark.parametrize("words", [1, 2, 3])
def test_dreamidentitys_features_and_any_number_of_words(tmp_path, words):
    data, triplets = MemoryData(), MemoryTriplets()
    data.facts = triplets.facts = {"msid_sha256": "m" * 64, "features": "dreamidentity"}
    settings = {"variant": "reconstruction", "expression": False, "l2": 1e-4, "steps": 2, "words": words}
    result = run(tmp_path, data=data, triplets=triplets, **settings)
    network = load_network(result.mapping, "mapping")
    assert (network.facts["features"], network.facts["method"]) == ("dreamidentity", "dreamidentity")
    assert network.run(torch.zeros(1, training.ID_WIDTH)).shape == (1, words, training.WIDTH)
