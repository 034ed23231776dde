"""Crops to S*: which parts fit together, batches, means, expressions, provenance."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from f2d_core.align import face_input
from f2d_core.encode import Crop, Expression, Labels, effective_expression, encode_faces, expression_features
from f2d_core.errors import MismatchError, PromptError, SettingsError
from f2d_core.networks import Network


@dataclass
class FakeConfig:
    features: int = 3
    id_width: int = 3
    expression_width: int = 2
    own_features: str = "msid"
    levels: tuple = (0, 1)
    depth: int = 2

    def width_of(self, features):
        return self.features + 2 * (features == "dreamidentity")


class FakeModule(torch.nn.Module):
    def __init__(self, null_exp=(0.5, -0.5)):
        super().__init__()
        self.config = FakeConfig(expression_width=len(null_exp))
        self.null_exp = torch.tensor(null_exp)
        self.expression_part = slice(1, 3)


FACTS = {"injection": "token", "encoder_key": "l", "class_word": "a person", "features": "msid", "msid_sha256": ""}


def network(run, module=None, sha256="", **facts):
    return Network(module or FakeModule(), run, sha256, "licence", {**FACTS, **facts}, Path("file.pt"))


def mean_colour(faces, features="msid"):
    colour = faces.mean(dim=(2, 3))
    return colour if features == "msid" else torch.nn.functional.pad(colour, (0, 2), value=7.0)


def two_words(v_id, v_exp=None):
    """Words that show what went in: the identity, and the expression (9, 9 where there was none)."""
    exp = torch.full((len(v_id), 2), 9.0) if v_exp is None else v_exp
    return torch.stack([torch.cat([v_id, exp], 1), torch.cat([exp, v_id], 1)], dim=1)


MSID = network(mean_colour, sha256="m")
MAPPING = network(two_words, sha256="f")


def crop(level, image="h"):
    return Crop(np.full((112, 112, 3), level, np.uint8), image, "yunet, as is")


def colour(level):
    return (level / 255 - 0.5) / 0.5


def test_each_crop_becomes_a_person_with_all_that_is_known_of_it():
    labels = Labels("anna", "T*")
    first, second = encode_faces([crop(0, "h0"), crop(255, "h1")], MSID, MAPPING, labels=labels)
    assert torch.allclose(first.vectors[0], torch.tensor([-1.0, -1, -1, 9, 9]))
    assert torch.allclose(second.vectors[1], torch.tensor([9.0, 9, 1, 1, 1]))
    assert (first.name, first.marker, first.injection, first.class_word) == ("anna", "T*", "token", "a person")
    assert (first.msid_sha256, first.mapping_sha256, first.image_sha256) == ("m", "f", "h0")
    assert (first.detector, first.licence, first.v_exp) == ("yunet, as is", "licence", None)
    assert second.thumbnail.shape == (112, 112, 3) and int(second.thumbnail.min()) == 255


def test_the_thumbnail_can_be_left_out():
    (someone,) = encode_faces([crop(3)], MSID, MAPPING, labels=Labels(thumbnail=False))
    assert someone.thumbnail is None


def test_more_faces_than_a_batch_give_the_same_as_one_by_one_and_report_progress():
    calls = []
    crops = [crop(level) for level in range(0, 250, 7)]
    together = encode_faces(crops, MSID, MAPPING, progress=lambda done, total: calls.append((done, total)))
    alone = [encode_faces([c], MSID, MAPPING)[0] for c in crops]
    assert len(together) == 36 and calls == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(a.vectors, b.vectors) for a, b in zip(together, alone, strict=True))


def test_the_mean_is_taken_of_the_features_and_keeps_all_sources():
    (someone,) = encode_faces([crop(0, "a"), crop(255, "b"), crop(255, "b")], MSID, MAPPING, combine="mean")
    assert torch.allclose(someone.v_id, torch.full((3,), (colour(0) + 2 * colour(255)) / 3))
    assert someone.image_sha256 == "a b"


def test_strength_moves_between_null_exp_and_the_reference():
    reference = Expression(torch.tensor([[1.0, 1.0]]), "e")
    expected = {0.0: [0.5, -0.5], 0.5: [0.75, 0.25], 1.0: [1.0, 1.0], 2.0: [1.5, 2.5]}
    for strength, values in expected.items():
        assert effective_expression(replace(reference, strength=strength), MAPPING).tolist() == [values]
    (someone,) = encode_faces([crop(0)], MSID, MAPPING, replace(reference, strength=0.5))
    assert someone.v_exp.tolist() == [0.75, 0.25] and someone.expression_encoder_sha256 == "e"
    assert someone.vectors[0, 3:].tolist() == [0.75, 0.25]


def test_one_face_goes_with_many_expressions_and_the_other_way_round():
    many = Expression(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), "e")
    assert [s.v_exp.tolist() for s in encode_faces([crop(0)], MSID, MAPPING, many)] == [[1, 1], [2, 2]]
    one = Expression(torch.tensor([[3.0, 3.0]]), "e")
    assert [s.v_exp.tolist() for s in encode_faces([crop(0), crop(1)], MSID, MAPPING, one)] == [[3, 3], [3, 3]]
    with pytest.raises(MismatchError, match="3 faces and 2 expressions"):
        encode_faces([crop(0)] * 3, MSID, MAPPING, many)


def test_expression_features_are_the_expression_part_of_all_coefficients():
    recon = network(lambda faces: torch.arange(5.0).expand(len(faces), 5))
    assert expression_features([np.zeros((224, 224, 3), np.uint8)] * 2, recon).tolist() == [[1, 2], [1, 2]]


def test_parts_that_do_not_belong_together_are_refused():
    wide = FakeModule()
    wide.config.features = 4
    with pytest.raises(MismatchError, match="gives 4 identity features.*expects 3"):
        encode_faces([crop(0)], network(mean_colour, wide), MAPPING)
    with pytest.raises(MismatchError, match="trained with another encoder"):
        encode_faces([crop(0)], MSID, network(two_words, msid_sha256="other"))
    encode_faces([crop(0)], MSID, network(two_words, msid_sha256="m"))
    with pytest.raises(MismatchError, match="takes 0. Disconnect"):
        encode_faces([crop(0)], MSID, network(two_words, FakeModule(())), Expression(torch.ones(1, 2), "e"))


def test_the_mapping_says_which_features_it_takes():
    plain, wide = FakeModule(), FakeModule()
    plain.config.own_features, wide.config.id_width = "dreamidentity", 5
    mapping = network(lambda v_id, _: v_id[:, None], wide, features="dreamidentity")
    (someone,) = encode_faces([crop(0)], network(mean_colour, plain), mapping)
    assert someone.v_id.tolist() == [-1, -1, -1, 7, 7] and someone.features == "dreamidentity"
    with pytest.raises(MismatchError, match="file.pt normalises .* blocks 0, 1 of 2, expected a plain ArcFace encoder"):
        encode_faces([crop(0)], MSID, mapping)
    with pytest.raises(MismatchError, match="gives 3 identity features.*expects 5"):
        encode_faces([crop(0)], network(mean_colour, plain), network(two_words, wide))


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="median"):
        encode_faces([crop(0)], MSID, MAPPING, combine="median")
    with pytest.raises(PromptError, match="cannot be a marker"):
        encode_faces([crop(0)], MSID, MAPPING, labels=Labels(marker="a:b"))


def test_a_network_that_gives_no_numbers_is_reported():
    with pytest.raises(MismatchError, match="not numbers"):
        encode_faces([crop(0)], MSID, network(lambda v_id, v_exp: torch.full((1, 2, 5), float("nan"))))


def test_the_encoder_gets_pixels_from_minus_one_to_one():
    seen = []
    encode_faces([crop(51)], network(lambda faces, _: seen.append(faces) or mean_colour(faces)), MAPPING)
    assert torch.equal(seen[0], face_input(np.full((1, 112, 112, 3), 51, np.uint8)))
