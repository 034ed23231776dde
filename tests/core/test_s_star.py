"""S*, the identity file and the export."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from f2d_core.errors import MismatchError, SettingsError, WeightsError
from f2d_core.s_star import (
    SStar,
    embedding_file_name,
    embedding_vectors,
    export_deviation,
    export_embedding,
    load_s_star,
    pair_up,
    save_s_star,
)
from f2d_core.weights import read_tensors, write_safetensors


@pytest.fixture
def anna():
    generator = torch.Generator().manual_seed(1)
    return SStar(
        vectors=torch.randn(2, 768, generator=generator),
        name="Anna Müller",
        marker="anna",
        v_id=torch.randn(1536, generator=generator),
        v_exp=torch.randn(64, generator=generator),
        thumbnail=torch.randint(0, 256, (112, 112, 3), generator=generator, dtype=torch.uint8),
        msid_sha256="a" * 64,
        mapping_sha256="b" * 64,
        detector="yunet, as is",
        image_sha256="c" * 64,
        licence="non-commercial",
    )


@pytest.fixture
def positions():
    return torch.randn(77, 768, generator=torch.Generator().manual_seed(2))


def test_a_reloaded_identity_has_the_same_bits_and_words(anna, tmp_path):
    again = load_s_star(save_s_star(anna, tmp_path / "anna.safetensors"))
    for name in ("vectors", "v_id", "v_exp", "thumbnail"):
        assert torch.equal(getattr(again, name), getattr(anna, name))
    for name in ("name", "marker", "injection", "encoder_key", "features", "class_word", "detector", "licence"):
        assert getattr(again, name) == getattr(anna, name)
    assert (again.msid_sha256, again.mapping_sha256, again.image_sha256) == ("a" * 64, "b" * 64, "c" * 64)
    assert (again.words, again.width) == (2, 768)


def test_what_is_not_there_stays_away(anna, tmp_path):
    path = save_s_star(replace(anna, v_exp=None).without_thumbnail(), tmp_path / "anna.safetensors")
    assert sorted(load_file(path)) == ["s_star", "v_id"]
    assert load_s_star(path).v_exp is None and load_s_star(path).thumbnail is None


def test_unknown_keys_survive_a_resave(anna, tmp_path):
    tensors, metadata = read_tensors(save_s_star(anna, tmp_path / "a.safetensors"))
    write_safetensors(
        tmp_path / "newer.safetensors", {**tensors, "voice": torch.ones(3)}, {**metadata, "favourite_colour": "red"}
    )
    again = replace(load_s_star(tmp_path / "newer.safetensors"), name="Anne")
    tensors, metadata = read_tensors(save_s_star(again, tmp_path / "again.safetensors"))
    assert torch.equal(tensors["voice"], torch.ones(3))
    assert (metadata["favourite_colour"], metadata["name"]) == ("red", "Anne")


def test_a_file_of_a_newer_format_asks_for_an_update(anna, tmp_path):
    tensors, metadata = read_tensors(save_s_star(anna, tmp_path / "a.safetensors"))
    write_safetensors(tmp_path / "b.safetensors", tensors, {**metadata, "format_version": "2"})
    with pytest.raises(WeightsError, match="format 2.*up to 1.*Update"):
        load_s_star(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"s_star": torch.ones(768)}, {}, r"shape \(768,\)"),
        ({"s_star": torch.full((2, 768), float("nan"))}, {}, "not numbers"),
        ({"s_star": torch.ones(2, 768, dtype=torch.int32)}, {}, "int32"),
        ({"s_star": torch.ones(2, 768), "v_id": torch.ones(1, 1536)}, {}, r"v_id is .* shape \(1, 1536\)"),
        ({"s_star": torch.ones(2, 768), "v_exp": torch.full((64,), float("inf"))}, {}, "v_exp .* finite floats"),
        ({"s_star": torch.ones(2, 768)}, {"injection": "magic"}, 'unknown injection "magic"'),
        ({"clip_l": torch.ones(2, 768)}, {"format": ""}, "textual-inversion embedding, expected an identity"),
    ],
)
def test_files_that_are_no_identity_are_refused(tmp_path, tensors, metadata, words):
    metadata = {"format": "f2d-identity", "format_version": "1", **metadata}
    with pytest.raises(WeightsError, match=words):
        load_s_star(write_safetensors(tmp_path / "x.safetensors", tensors, metadata))


@pytest.mark.parametrize(
    "picture",
    [torch.zeros(200, 200, 3, dtype=torch.uint8), torch.zeros(112, 112, 3), torch.zeros(112, 112, dtype=torch.uint8)],
)
def test_a_picture_that_is_no_thumbnail_is_left_out_and_said(anna, tmp_path, picture, caplog):
    path = save_s_star(replace(anna, thumbnail=picture), tmp_path / "anna.safetensors")

    again = load_s_star(path)

    assert again.thumbnail is None and torch.equal(again.vectors, anna.vectors)
    (line,) = caplog.messages
    assert f"anna.safetensors: its thumbnail is {picture.dtype}" in line and "(112, 112, 3)" in line


def test_the_export_of_a_token_s_star_is_its_vectors(anna, tmp_path):
    path = export_embedding(replace(anna, injection="token"), tmp_path / "anna.safetensors")
    tensors, metadata = read_tensors(path)
    assert list(tensors) == ["clip_l"]
    assert tensors["clip_l"].dtype == torch.float32 and torch.equal(tensors["clip_l"], anna.vectors)
    assert metadata["licence"] == "non-commercial"


def test_the_export_of_a_sum_s_star_is_exact_at_its_position(anna, positions):
    vectors = embedding_vectors(anna, positions, 4)
    # What any encoder does afterwards: add the position embedding of where the word stands.
    assert torch.allclose(vectors + positions[4:6], anna.vectors, atol=1e-6)
    deviation = export_deviation(anna, positions, 4)
    assert deviation.shape == (74,) and deviation[3] == 0
    assert (deviation[:3] > 0.1).all() and (deviation[4:] > 0.1).all()


@pytest.mark.parametrize("position", [0, 75, -1, None])
def test_a_sum_export_needs_a_position_inside_the_prompt(anna, positions, position):
    with pytest.raises(SettingsError, match="1 to 74"):
        embedding_vectors(anna, positions, position)


def test_a_sum_export_needs_the_text_encoder(anna):
    with pytest.raises(SettingsError, match="text encoder"):
        embedding_vectors(anna, None, 4)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("anna", "anna"),
        ("Anna Müller, 3", "Anna_Müller_3"),
        ("2024", "person_2024"),
        ("nan", "person_nan"),
        ("a<b", "a_b"),
    ],
)
def test_embedding_names_can_stand_in_a_prompt(stem, name):
    assert embedding_file_name(stem) == name


def test_batches_pair_up_with_each_other_and_with_single_ones(anna):
    a, b, c = (replace(anna, name=name) for name in "abc")
    rows = pair_up([(a, b), (c,)])
    assert [[s.name for s in row] for row in rows] == [["a", "c"], ["b", "c"]]
    with pytest.raises(MismatchError, match="2, 3"):
        pair_up([(a, b), (a, b, c)])
