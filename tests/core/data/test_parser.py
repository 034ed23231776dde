"""The face parser against facexlib's own, with the same random weights."""

import numpy as np
import pytest
import torch

from f2d_core.data.parser import BiSeNet, FaceParser, build_parser, load_parser, parser_input
from f2d_core.errors import ImageError, WeightsError
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled, tiny_msid_state_dict
from f2d_core.weights import write_safetensors


@pytest.fixture(scope="module")
def reference():
    bisenet = pytest.importorskip("facexlib.parsing.bisenet", reason="facexlib is not installed")
    network = bisenet.BiSeNet(num_class=19)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(filled(shapes, seed=3))
    return network.eval()


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    coarse = np.random.RandomState(0).randint(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def test_same_scores_and_labels_as_facexlib(reference, crops, tmp_path):
    file = tmp_path / "parsing_bisenet.pth"
    torch.save(reference.state_dict(), file)
    parser = load_parser(file)
    with torch.inference_mode():
        expected = reference(parser_input(crops))[0]

    found = parser.run(parser_input(crops))

    tolerance = 1e-5 * float(expected.abs().max())
    assert torch.allclose(found, expected, rtol=1e-4, atol=tolerance)
    # Where two classes score alike to the last bits, either is right: rounding depends on the number of threads.
    labels = torch.from_numpy(parser.labels(crops)).long()
    assert (expected.amax(dim=1) - expected.gather(1, labels[:, None])[:, 0]).max() <= 2 * tolerance
    assert (labels == expected.argmax(dim=1)).float().mean() > 0.999
    assert len(np.unique(parser.labels(crops))) > 3  # the comparison means something


def test_a_file_and_its_conversion_have_one_hash(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    write_safetensors(tmp_path / "b.safetensors", reference.state_dict())

    assert load_parser(tmp_path / "a.pth").sha256 == load_parser(tmp_path / "b.safetensors").sha256


def test_host_may_place_the_network(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "a.pth")
    placed = []
    parser = load_parser(tmp_path / "a.pth", place=lambda module: placed.append(module) or module)

    assert isinstance(placed[0], BiSeNet) and parser.run is placed[0]
    assert not placed[0].training and not any(p.requires_grad for p in placed[0].parameters())


def test_input_is_normalised_as_imagenet():
    crops = np.zeros((1, 512, 512, 3), np.uint8)
    crops[..., 0] = 255

    pixels = parser_input(crops)

    assert torch.allclose(pixels[0, :, 7, 9], torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]))


def test_other_sizes_are_resized_to_512():
    crops = np.full((2, 64, 64, 3), 128, np.uint8)

    assert parser_input(crops).shape == (2, 3, 512, 512)
    with pytest.raises(ImageError, match="expected"):
        parser_input(crops[0])


def test_labels_are_the_best_class():
    scores = torch.zeros(1, 19, 512, 512)
    scores[0, 17, :, 100] = 1
    labels = FaceParser(lambda pixels: scores, "", "").labels(np.zeros((1, 8, 8, 3), np.uint8))

    assert labels.dtype == np.uint8 and (labels[0, :, 100] == 17).all() and labels.sum() == 17 * 512


def test_other_files_are_refused(tmp_path):
    file = write_safetensors(tmp_path / "msid.safetensors", tiny_msid_state_dict())
    with pytest.raises(WeightsError, match=r"is an MSID encoder, expected a face parser.*parsing_bisenet\.pth"):
        load_parser(file)
    with pytest.raises(WeightsError, match="Cannot read.*release v0.2.0"):
        load_parser(tmp_path / "missing.pth")


def test_missing_and_misshapen_entries_are_named(tmp_path):
    state = filled(expected_shapes(BiSeNet), seed=0)
    state["conv_out.conv_out.weight"] = torch.zeros(11, 256, 1, 1)
    with pytest.raises(WeightsError, match=r"a.safetensors: .*conv_out.conv_out.weight.*\(11, 256, 1, 1\)"):
        load_parser(write_safetensors(tmp_path / "a.safetensors", state))
    del state["conv_out.conv_out.weight"]
    with pytest.raises(WeightsError, match="conv_out.conv_out.weight is missing"):
        build_parser(state)
