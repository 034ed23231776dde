"""Settings: ranges, TOML and back, overrides, differences."""

import json
from dataclasses import asdict

import pytest

from f2d_core.errors import PromptError, SettingsError
from f2d_core.train.config import FREE, TrainConfig, config_from, recorded
from f2d_core.train.settings import differences, parse_toml, read_toml, to_toml, with_overrides


def test_the_defaults_are_the_papers():
    found = TrainConfig()
    assert (found.variant, found.learning_rate, found.batch, found.steps) == ("cgdr", 1e-5, 32, 100_000)
    assert (found.beta1, found.beta2, found.weight_decay, found.grad_clip) == (0.9, 0.999, 1e-2, 1.0)
    assert (found.dropout, found.expression_drop, found.words, found.injection) == (0.1, 0.2, 2, "token")
    assert found.class_prompt == "A photo of a person"


def test_toml_and_back():
    config = TrainConfig(seed=5, learning_rate=3e-7, class_word='a "person"\\ ü', micro_batch=4, flip=False, licence="")
    assert config_from(parse_toml(to_toml(asdict(config)), "x")) == config


def test_overrides_are_typed_and_may_do_without_quotes():
    values = with_overrides({"batch": 2}, ["batch=16", "flip=false", "variant=masked", "ema=0", 'class_word="a man"'])
    config = config_from(values)
    assert (config.batch, config.flip, config.variant, config.ema) == (16, False, "masked", 0.0)
    assert config.class_word == "a man"


@pytest.mark.parametrize("item", ["batch", "=3", " = "])
def test_an_override_without_name_or_value_is_refused(item):
    with pytest.raises(SettingsError, match="expected key=value"):
        with_overrides({}, [item])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is 0, expected at least 1"),
        ({"batch": "32"}, "batch is '32', expected something like 32"),
        ({"flip": 1}, "flip is 1"),
        ({"dropout": 1.0}, "dropout is 1.0, expected 0 or more and below 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"variant": "eq9"}, "variant is eq9, expected one of reconstruction, masked, cgdr"),
        ({"micro_batch": "some"}, "micro_batch is 'some', expected a whole number or auto"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"words": 76}, "words is 76, expected 1 to 75"),
        ({"seed": -1}, "seed is -1"),
        ({"template": "a photo of X*"}, 'has no "S\\*"'),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(SettingsError, match=message) as caught:
        TrainConfig(**changes)
    assert "\n" not in str(caught.value)


def test_a_marker_that_cannot_stand_in_a_prompt():
    with pytest.raises(PromptError):
        TrainConfig(marker="(x)", template="a photo of (x)")


def test_an_unknown_setting_is_named():
    with pytest.raises(SettingsError, match='no setting "batchsize".*batch'):
        config_from({"batchsize": 3})


def test_what_is_no_toml_is_refused(tmp_path):
    file = tmp_path / "train.toml"
    with pytest.raises(SettingsError, match=r"Cannot read .*train\.toml"):
        read_toml(file)
    file.write_text("batch = = 3", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"train\.toml is not TOML"):
        read_toml(file)


def test_differences_lists_what_decides_the_result_and_nothing_else():
    before = json.loads(json.dumps(asdict(TrainConfig())))
    now = asdict(TrainConfig(learning_rate=1e-4, seed=1, steps=5, micro_batch=3, keep_last=1))
    assert differences(before, before, FREE) == []
    assert differences(before, now, FREE) == ["learning_rate: 1e-05 -> 0.0001", "seed: 0 -> 1"]
    assert differences({**before, "data": "a"}, before, FREE) == ["data: a -> nothing"]


def test_settings_that_older_runs_do_not_name_are_written_down_where_they_matter():
    config = TrainConfig(seed=3)
    later = {"aug_ratio": 0.3, "l2": 1e-4, "l2_kind": "squared", "error": "velocity"}
    assert not set(later) & set(recorded(config)) and recorded(config)["seed"] == 3
    assert recorded(TrainConfig(**later)) == {**recorded(TrainConfig()), **later}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"aug_ratio": 1.5}, "aug_ratio is 1.5, expected 0 to 1"), ({"aug_ratio": -0.1}, "aug_ratio is -0.1"),
     ({"aug_ratio": float("nan")}, "aug_ratio is nan"), ({"l2": -1.0}, "l2 is -1.0, expected 0 or more"),
     ({"l2": float("inf")}, "l2 is inf"), ({"l2_kind": "l1"}, "l2_kind is l1, expected one of norm, squared"),
     ({"error": "v"}, "error is v, expected one of noise, velocity")],
)  # fmt: skip
def test_later_settings_have_ranges(changes, message):
    with pytest.raises(SettingsError, match=message):
        TrainConfig(**changes)
