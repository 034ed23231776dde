"""`train-mapping`: settings from a file and the command line, stops, refusals, several processes."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from f2d_core.cli import train_mapping
from f2d_core.data.cache import Made, Photo
from f2d_core.data.settings import PrepareSettings, TripletSettings
from f2d_core.data.writer import CacheWriter
from f2d_core.networks import load_network
from f2d_core.s_star import load_s_star
from f2d_core.testing import TINY_MSID, tiny_msid_state_dict
from f2d_core.train import TrainConfig, config_from, read_metrics, read_toml
from f2d_core.train.run import Report
from f2d_core.train.settings import parse_toml
from f2d_core.train.trainer import StepResult
from f2d_core.weights import read_weights, write_safetensors

# diffusers 0.42 under numpy 2, at every scheduler.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

REPO = Path(__file__).resolve().parents[3]
SIDE = 8
FEW = ("steps=3", "batch=4", "micro_batch=2", "hidden=8", "validate_every=0", "preview_every=0", "device=cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These models are so small that a second thread costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Six prepared photos of random values."""
    folder, random = tmp_path_factory.mktemp("cache"), np.random.RandomState(0)
    arrays = {
        "latent_mean": random.randn(6, 2, 4, SIDE, SIDE).astype(np.float16),
        "latent_logvar": (random.randn(6, 2, 4, SIDE, SIDE) - 4).astype(np.float16),
        "v_id": random.randn(6, 2, 5).astype(np.float32),
        "v_exp": random.randn(6, 2, 3).astype(np.float32),
        "mask": random.randint(0, 256, (6, SIDE, SIDE)).astype(np.uint8),
    }
    models = {name: name[0] * 64 for name in ("msid", "expression_encoder", "autoencoder", "detector", "parser")}
    with CacheWriter(folder, Made(PrepareSettings(size=8 * SIDE), models)) as writer:
        writer.start({})
        writer.add([Photo(f"{i}.png", f"{i:064}", square=(1.0, 2.0, 3.0, 4.0)) for i in range(6)], arrays)
        writer.finish({f"{i}.png": "text" for i in range(6)})
    return folder


@pytest.fixture
def config_file(tmp_path, model, cache):
    """A file that names model, cache and the folder of runs."""
    path = tmp_path / "train.toml"
    places = {"model": model, "data": cache, "runs": tmp_path / "runs"}
    path.write_text("".join(f"{name} = {str(value)!r}\n" for name, value in places.items()), encoding="utf-8")
    return path


def sets(*pairs):
    return [part for pair in (*FEW, *pairs) for part in ("--set", pair)]


def test_a_run_from_file_and_command_line(f2d, config_file, tmp_path):
    code, out, err = f2d("train-mapping", config_file, *sets("name=anna", "learning_rate=1e-3"))
    mapping = tmp_path / "runs" / "anna" / "mapping.safetensors"
    assert code == 0, err
    assert out == f"{mapping}: step 3\n"
    assert re.search(r"step 3/3: loss \d\.\d+ \(face \d\.\d+, rest \d\.\d+\), [\d.]+ images/s, 0 s left", err)
    network = load_network(mapping, "mapping")
    assert network.module.config.hidden == 8 and network.facts["msid_sha256"] == "m" * 64
    assert network.facts["expression_encoder_sha256"] == "e" * 64


def test_the_resolved_settings_are_kept_and_can_be_used_again(f2d, config_file, tmp_path):
    f2d("train-mapping", config_file, *sets())
    kept = tmp_path / "runs" / "mapping" / "config.toml"
    values = read_toml(kept)
    assert (values["steps"], values["batch"], values["runs"]) == (3, 4, str(tmp_path / "runs"))
    code, out, err = f2d("train-mapping", kept, "--set", "steps=5")
    assert code == 0 and out.endswith("step 5\n"), err
    assert [row["step"] for row in read_metrics(kept.parent)] == [1, 2, 3, 4, 5]


def test_defaults_are_a_file_with_every_setting(f2d, tmp_path):
    code, out, _ = f2d("train-mapping", "--defaults")
    (tmp_path / "all.toml").write_text(out, encoding="utf-8")
    values = read_toml(tmp_path / "all.toml")
    places = [field.name for field in fields(train_mapping.Places)]
    assert code == 0 and all(name in values for name in places)
    assert config_from({name: value for name, value in values.items() if name not in places}) == TrainConfig()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_saves_and_the_same_command_goes_on(f2d, config_file, tmp_path, monkeypatch, number):
    shown = train_mapping.StatusLine.__call__

    def signalled(self, report):
        shown(self, report)
        if report.result.step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    monkeypatch.setattr(train_mapping.StatusLine, "__call__", signalled)
    code, out, err = f2d("train-mapping", config_file, *sets("steps=4"))
    assert (code, out.endswith("step 2\n")) == (130, True) and "the same command goes on" in err
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    assert f2d("train-mapping", config_file, *sets("steps=4"))[0] == 0
    f2d("train-mapping", config_file, *sets("steps=4", "name=whole"))
    found, whole = (read_weights(tmp_path / "runs" / n / "mapping.safetensors").sha256 for n in ("mapping", "whole"))
    assert found == whole


def test_changed_settings_are_refused(f2d, refused, config_file):
    assert f2d("train-mapping", config_file, *sets())[0] == 0
    message = refused("train-mapping", config_file, *sets("dropout=0.0", "seed=4"))
    assert "dropout: 0.1 -> 0.0; seed: 0 -> 4" in message


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["model="], "The setting model is missing"),
        (["data=nowhere"], "nowhere"),
        (["name=../elsewhere"], 'The run name "../elsewhere" cannot be a file name'),
        (["batch=none"], "batch is 'none'"),
        (["colour=red"], 'There is no setting "colour"'),
        (["triplet=x"], ", template, tensorboard, tokenizer, triplets, "),
        (["device=gpu"], 'The device "gpu" cannot be used here'),
        (["batch"], "--set batch is no setting"),
    ],
)
def test_mistakes_are_one_line(refused, config_file, tmp_path, pairs, message):
    assert message in refused("train-mapping", config_file, *sets(*pairs))
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "runs").exists()


def test_two_processes_give_what_one_gives(f2d, config_file, tmp_path):
    f2d("train-mapping", config_file, *sets("name=one", "learning_rate=1e-2"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "f2d_core", "train-mapping", str(config_file), *sets("name=two", "learning_rate=1e-2")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 3") == 1  # process 0 alone speaks
    one, two = (read_weights(tmp_path / "runs" / n / "mapping.safetensors").state_dict for n in ("one", "two"))
    apart = torch.cat([(value - two[name]).flatten() for name, value in one.items()])
    assert apart.norm() < 1e-4 * torch.cat([value.flatten() for value in one.values()]).norm()


# --- DreamIdentity ---


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The file of a plain ArcFace encoder."""
    state = tiny_msid_state_dict(replace(TINY_MSID, levels=(3,)))
    return write_safetensors(tmp_path_factory.mktemp("plain") / "arcface.safetensors", state, {"licence": "test only"})


@pytest.fixture(scope="module")
def dreamidentity(tmp_path_factory, plain, model):
    """Settings that name photos and triplets with features of that encoder, and the model."""
    random = np.random.RandomState(1)
    models = {"msid": read_weights(plain).sha256, "autoencoder": "a" * 64, "detector": ""}
    of_photos = {**models, "expression_encoder": "", "parser": "ready masks"}
    places = {}
    for name, settings, made_with in (
        ("data", PrepareSettings(size=8 * SIDE, features="dreamidentity"), of_photos),
        ("triplets", TripletSettings(size=8 * SIDE, features="dreamidentity"), models),
    ):
        folder = places[name] = tmp_path_factory.mktemp(name)
        arrays = {
            "latent_mean": random.randn(4, 2, 4, SIDE, SIDE).astype(np.float16),
            "latent_logvar": (random.randn(4, 2, 4, SIDE, SIDE) - 4).astype(np.float16),
            "v_id": random.randn(4, 2, 320).astype(np.float32),
            **({"mask": np.full((4, SIDE, SIDE), 255, np.uint8)} if name == "data" else {}),
        }
        with CacheWriter(folder, Made(settings, made_with)) as writer:
            writer.start({})
            writer.add([Photo(f"{i}.png", f"{i:064}", square=(1.0, 2.0, 3.0, 4.0)) for i in range(4)], arrays)
            writer.finish({f"{i}.png": ("S* as a chef", "Oil painting, S* face")[i % 2] for i in range(4)})
    return [f"{name}={folder}" for name, folder in {**places, "model": model}.items()]


@pytest.mark.parametrize("words", [1, 2, 3])
def test_from_dreamidentitys_training_to_s_star(f2d, dreamidentity, plain, photo, landmarks, tmp_path, words):
    """Any number of words trains, saves, loads and encodes, and the mapping knows which features it takes."""
    runs = (f"runs={tmp_path / 'runs'}", f"words={words}", "preset=dreamidentity", "steps=2", "aug_ratio=0.5")
    code, _, err = f2d("train-mapping", *sets(*dreamidentity, *runs))
    assert code == 0, err
    assert re.search(r"step 2/2: loss \d\.\d+ \(face \d\.\d+, rest \d\.\d+, edited \d\.\d+\)", err)
    mapping = tmp_path / "runs" / "mapping" / "mapping.safetensors"
    options = (
        "--msid",
        plain,
        "--mapping",
        mapping,
        "--landmarks",
        landmarks(),
        "--out",
        tmp_path / "anna.safetensors",
    )
    code, out, err = f2d("encode", photo("anna.png"), *options)
    assert code == 0, err
    person = load_s_star(tmp_path / "anna.safetensors")
    assert (person.words, person.width, person.features) == (words, 768, "dreamidentity")
    assert person.v_id.shape == (320,) and f"{words} words" in out
    code, out, _ = f2d("inspect", mapping, "--json")
    told = json.loads(out)
    assert told["what"] == "mapping network (DreamIdentity's features)"
    assert told["taken_as"]["features"] == told["metadata"]["method"] == "dreamidentity"
    assert told["sizes"]["words"] == words and told["metadata"]["l2"] == "0.0001"


def test_another_kind_of_encoder_is_refused_when_encoding(
    f2d, refused, dreamidentity, weights, photo, landmarks, tmp_path
):
    assert f2d("train-mapping", *sets(*dreamidentity, f"runs={tmp_path / 'runs'}", "preset=dreamidentity"))[0] == 0
    mapping = tmp_path / "runs" / "mapping" / "mapping.safetensors"
    options = ("--mapping", mapping, "--landmarks", landmarks(), "--out", tmp_path / "out")
    message = refused("encode", photo("anna.png"), "--msid", weights / "msid.safetensors", *options)
    assert "msid.safetensors normalises the class token of blocks 0, 1, 2, 3 of 4" in message


def test_a_preset_fills_the_defaults_and_asks_for_what_it_needs(f2d, refused, dreamidentity, config_file, tmp_path):
    code, out, _ = f2d("train-mapping", "--defaults", "--set", "preset=dreamidentity", "--set", "seed=3")
    values = parse_toml(out, "defaults")
    assert code == 0 and (values["l2"], values["batch"], values["seed"]) == (1e-4, 64, 3)
    data, _, model = dreamidentity
    message = refused("train-mapping", *sets(data, model, "preset=dreamidentity"))
    assert "The setting triplets is missing" in message
    assert "takes msid features" in refused("train-mapping", *sets(*dreamidentity, "preset=dreamidentity+cgdr"))
    assert 'no preset "x"' in refused("train-mapping", config_file, *sets("preset=x"))
    swapped = [f"data={dreamidentity[1].removeprefix('triplets=')}", f"triplets={data.removeprefix('data=')}", model]
    assert "holds editing triplets: expected prepared photos" in refused("train-mapping", *sets(*swapped))
    assert "another kind of features" in refused(
        "train-mapping", config_file, *sets("expression=false", dreamidentity[1])
    )


def report(step, **changes):
    return Report(
        StepResult(step, 0.5, 1.0, {"foreground": 0.25, "background": 0.125}),
        1000,
        70.04,
        changes.pop("left", 50.0),
        None,
    )


def test_the_line_is_not_repeated_too_often(capsys):
    now = iter([0.0, 0.0, 5.0, 11.0, 11.0, 12.0])
    line = train_mapping.StatusLine(train_mapping.status, clock=lambda: next(now))
    for step in (1, 2, 3):
        line(report(step))
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        f"step {step}/1000: loss 0.5000 (face 0.2500, rest 0.1250), 70.0 images/s, 50 s left" for step in (1, 3)
    ]


def test_the_line_tells_what_a_step_has():
    result = StepResult(7, 0.5, 1.0, {"edited": 0.75, "word_length": 2.0})
    line = train_mapping.status(Report(result, 10, 1.0, 3.0, {"loss": 0.25}))
    assert line == "step 7/10: loss 0.5000 (edited 0.7500, validation 0.2500), 1.0 images/s, 3 s left"


@pytest.mark.parametrize(("seconds", "text"), [(99, "99 s"), (101, "2 min"), (5900, "98 min"), (36000, "10 h")])
def test_time_left_in_a_fitting_unit(seconds, text):
    assert train_mapping.status(report(1, left=seconds)).endswith(f"{text} left")
