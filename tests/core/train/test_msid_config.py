"""Settings of encoder training."""

from dataclasses import asdict

import pytest

from f2d_core.errors import SettingsError
from f2d_core.train.msid_config import MSIDTrainConfig
from f2d_core.train.settings import parse_toml, settings_from, to_toml


def test_the_defaults_are_the_published_encoder_and_its_recipe():
    found = MSIDTrainConfig()
    sizes = found.network
    assert (sizes.image_size, sizes.patch, sizes.width, sizes.depth, sizes.heads, sizes.mlp) == (
        112,
        8,
        384,
        12,
        12,
        1536,
    )
    assert sizes.levels == (2, 5, 8, 11) and sizes.features == 1536
    assert (found.scale, found.margin_size, found.learning_rate, found.weight_decay) == (64.0, 0.5, 1e-3, 0.1)
    assert (found.warm_up, found.grad_clip, found.batch, found.epochs) == (0.1, 5.0, 1024, 30)


def test_ablations():
    assert MSIDTrainConfig(loss="deepest").network.levels == (11,)
    assert MSIDTrainConfig(loss="sum").network.levels == (2, 5, 8, 11)
    assert MSIDTrainConfig(margin_kind="cosface").margin_size == 0.4
    assert MSIDTrainConfig(margin_kind="cosface", margin=0.35).margin_size == 0.35


def test_toml_and_back():
    config = MSIDTrainConfig(seed=5, learning_rate=5e-4, loss="sum", resize=True, licence="ü")
    assert settings_from(MSIDTrainConfig, parse_toml(to_toml(asdict(config)), "x")) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "all"}, "loss is all, expected one of concat, sum, deepest"),
        ({"margin_kind": "sphereface"}, "margin_kind is sphereface"),
        ({"width": 100}, "width is 100, expected a multiple of 32"),
        ({"patch": 9}, "image_size is 112, expected a multiple of patch, 9"),
        ({"levels": 13}, "levels is 13, expected at most depth, 12"),
        ({"micro_batch": 1}, "micro_batch is 1, expected at least 2"),
        ({"micro_batch": "auto"}, "micro_batch is 'auto'"),
        ({"class_rate": 0.0}, "class_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warm_up": 1.0}, "warm_up is 1.0"),
        ({"precision": "fp16"}, "precision is fp16"),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(SettingsError) as caught:
        MSIDTrainConfig(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)
