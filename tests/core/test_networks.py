"""From a file to a network: what a mapping file says, or what follows where it says nothing."""

from dataclasses import replace

import pytest
import torch

from f2d_core.errors import WeightsError
from f2d_core.networks import load_network
from f2d_core.testing import TINY_MAPPING, TINY_MSID, tiny_mapping_state_dict, tiny_msid_state_dict
from f2d_core.weights import write_safetensors


@pytest.fixture
def mapping(tmp_path):
    """mapping({metadata}, sizes …) -> the loaded network."""

    def make(metadata=None, **sizes):
        state = tiny_mapping_state_dict(replace(TINY_MAPPING, **sizes))
        return load_network(write_safetensors(tmp_path / "mapping.safetensors", state, metadata), "mapping")

    return make


def test_a_file_that_says_nothing_is_taken_for_the_published_one(mapping):
    facts = mapping().facts
    assert (facts["features"], facts["injection"], facts["encoder_key"]) == ("msid", "sum", "l")


@pytest.mark.parametrize(("width", "key"), [(768, "l"), (1024, "h"), (256, "w256")])
def test_the_width_of_the_words_names_the_text_encoder(mapping, width, key):
    assert mapping(word_width=width).facts["encoder_key"] == key


@pytest.mark.parametrize("words", [1, 2, 3, 7])
def test_any_number_of_words_loads(mapping, words):
    network = mapping({"features": "dreamidentity"}, words=words, id_width=320, expression_width=0)
    assert network.facts["features"] == "dreamidentity"
    assert network.run(torch.zeros(2, 320), None).shape == (2, words, 768)


def test_features_of_a_newer_version_are_refused(mapping):
    with pytest.raises(WeightsError, match="features called clip, expected one of msid, dreamidentity. Update"):
        mapping({"features": "clip"})


def test_an_encoder_runs_with_the_features_asked_for(tmp_path):
    state = tiny_msid_state_dict(replace(TINY_MSID, levels=(3,)))
    network = load_network(write_safetensors(tmp_path / "arcface.safetensors", state, {"features": "64"}), "msid")
    faces = torch.rand(2, 3, 112, 112)
    assert network.run(faces).shape == (2, 64) and network.run(faces, "dreamidentity").shape == (2, 320)
