"""Identities as plain embeddings."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from f2d_core.s_star import load_s_star


@pytest.fixture
def text_encoder(tmp_path):
    """text_encoder(key) -> (file, position table)"""
    table = torch.randn(77, 768, generator=torch.Generator().manual_seed(5))

    def make(key="text_model.embeddings.position_embedding.weight", values=table):
        save_file(
            {key: values, "vision_model.embeddings.position_embedding.weight": torch.zeros(257, 768)},
            tmp_path / "clip.safetensors",
        )
        return tmp_path / "clip.safetensors", table

    return make


def test_a_token_identity_is_exported_as_it_is(f2d, identity, tmp_path):
    file = identity(injection="token", licence="test only")
    code, out, err = f2d("export", file, "--out", tmp_path / "e.safetensors")
    assert code == 0, err
    assert torch.equal(load_file(tmp_path / "e.safetensors")["clip_l"], load_s_star(file).vectors)
    assert "Exact at every place" in out and "embedding:e" in out and "Licence: test only" in out


@pytest.mark.parametrize(
    "key",
    [
        "text_model.embeddings.position_embedding.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        "embeddings.position_embedding.weight",
    ],
)
def test_a_sum_identity_is_exact_at_its_position(f2d, identity, text_encoder, tmp_path, key):
    file = identity()
    source, table = text_encoder(key)
    code, out, err = f2d("export", file, "--out", tmp_path / "e.safetensors", "--position", 4, "--text-encoder", source)
    assert code == 0, err
    assert torch.equal(load_file(tmp_path / "e.safetensors")["clip_l"], load_s_star(file).vectors - table[4:6])
    assert "token 4 of the prompt; elsewhere the words deviate by" in out


def test_the_deviation_printed_is_the_one_measured(f2d, identity, text_encoder, tmp_path):
    vectors = load_s_star(identity()).vectors
    source, table = text_encoder()
    _, out, _ = f2d(
        "export", identity(), "--out", tmp_path / "e.safetensors", "--position", 1, "--text-encoder", source
    )
    shares = [
        ((table[1:3] - table[p : p + 2]).norm() / (vectors - table[p : p + 2]).norm()).item() for p in range(2, 75)
    ]
    median = sorted(shares)[(len(shares) - 1) // 2]
    assert f"{median:.1%} of their length (median; {min(shares):.1%} to {max(shares):.1%})" in out


def test_a_diffusers_folder_will_do(f2d, identity, text_encoder, tmp_path):
    source, _ = text_encoder()
    (tmp_path / "model" / "text_encoder").mkdir(parents=True)
    source.rename(tmp_path / "model" / "text_encoder" / "model.safetensors")
    code, _, err = f2d(
        "export", identity(), "--out", tmp_path / "e.safetensors", "--position", 1, "--text-encoder", tmp_path / "model"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({}, [], "exact at one position only"),
        ({}, ["--position", "4"], "--text-encoder FILE"),
        ({}, ["--position", "0", "--text-encoder", "clip.safetensors"], "Position 0 is outside"),
        ({}, ["--position", "75", "--text-encoder", "clip.safetensors"], "choose 1 to 74"),
        ({}, ["--position", "4", "--text-encoder", "nowhere"], "Cannot read nowhere"),
        ({}, ["--position", "4", "--text-encoder", "ids"], "has no text_encoder/model.safetensors"),
        (
            {},
            ["--position", "4", "--text-encoder", "ids/anna.safetensors"],
            "a saved identity (S*) without a position table",
        ),
        ({"injection": "token"}, ["--position", "4"], "leave out --position"),
    ],
)
def test_mistakes(refused, identity, text_encoder, tmp_path, monkeypatch, fields, options, message):
    monkeypatch.chdir(tmp_path)
    text_encoder()
    assert message in refused("export", identity(**fields), "--out", "e.safetensors", *options)
    assert not (tmp_path / "e.safetensors").exists()


def test_another_text_encoder_is_refused(refused, identity, text_encoder, tmp_path):
    source, _ = text_encoder(values=torch.zeros(77, 1024))
    message = refused(
        "export", identity(), "--out", tmp_path / "e.safetensors", "--position", 4, "--text-encoder", source
    )
    assert "(77, 1024)" in message and "(77, 768)" in message


def test_nothing_is_overwritten_unasked(f2d, refused, identity, tmp_path):
    file, out = identity(injection="token"), tmp_path / "e.safetensors"
    out.write_text("precious")
    assert "not overwritten" in refused("export", file, "--out", out) and out.read_text() == "precious"
    assert f2d("export", file, "--out", out, "--force")[0] == 0
    assert "ends in .safetensors" in refused("export", file, "--out", tmp_path / "e.pt")
