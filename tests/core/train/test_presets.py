"""The named methods: what they set, what they need, and how a mapping file calls them."""

import pytest

from f2d_core.errors import MismatchError, SettingsError
from f2d_core.train.config import TrainConfig, config_from
from f2d_core.train.presets import PRESETS, method_of, require_data, with_preset


def test_dreamidentity_is_what_the_paper_says():
    config = config_from(with_preset("dreamidentity", {}))
    assert (config.variant, config.l2, config.l2_kind, config.words) == ("reconstruction", 1e-4, "norm", 2)
    assert (config.learning_rate, config.batch, config.steps) == (5e-5, 64, 60_000)
    assert not config.expression and config.aug_ratio == 0


def test_both_papers_at_once_is_face2diffusion_with_triplets():
    assert config_from(with_preset("dreamidentity+cgdr", {})) == TrainConfig()
    assert config_from(with_preset("face2diffusion", {})) == config_from(with_preset("", {})) == TrainConfig()


def test_given_settings_win():
    config = config_from(with_preset("dreamidentity", {"batch": 8, "l2_kind": "squared", "variant": "masked"}))
    assert (config.batch, config.l2_kind, config.variant, config.learning_rate) == (8, "squared", "masked", 5e-5)


def test_an_unknown_name_is_refused():
    with pytest.raises(SettingsError, match='no preset "dreambooth"; expected one of: face2diffusion, dreamidentity'):
        with_preset("dreambooth", {})


@pytest.mark.parametrize("name", PRESETS)
def test_data_must_be_what_the_preset_needs(name):
    preset = PRESETS[name]
    require_data(name, preset.features, preset.triplets)
    require_data("", "anything", True)
    with pytest.raises(MismatchError, match=f"preset {name.replace('+', '.')} takes {preset.features} features"):
        require_data(name, "other", preset.triplets)
    with pytest.raises(MismatchError, match=f"for the preset {name.replace('+', '.')}"):
        require_data(name, preset.features, not preset.triplets)


@pytest.mark.parametrize(
    ("made_of", "name"),
    [(("cgdr", "msid", False), "face2diffusion"), (("cgdr", "", False), "face2diffusion"),
     (("reconstruction", "dreamidentity", True), "dreamidentity"), (("cgdr", "msid", True), "dreamidentity+cgdr"),
     (("reconstruction", "msid", False), "reconstruction, msid features"),
     (("masked", "dreamidentity", True), "masked, dreamidentity features, with triplets")],
)  # fmt: skip
def test_what_a_mapping_file_calls_it(made_of, name):
    assert method_of(*made_of) == name
