"""Which judges there are: found by content, in the order of preference; what is wrong with the others."""

import numpy as np
import torch
from safetensors.torch import save_file

from f2d_core.constants import FACE_TEMPLATE_PX
from f2d_core.evaluate.extractors import (
    IDENTITY_KINDS,
    IMAGE_TEXT_KINDS,
    INCEPTION_KIND,
    extractor_kind,
    find_extractors,
    load_inception,
    usable_extractors,
)
from f2d_core.evaluate.extractors.inception import Inception
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled, tiny_msid_state_dict
from tests.support.extractors import tiny_adaface_state_dict, write_tiny_adaface


def test_files_are_found_by_their_content(tmp_path):
    write_tiny_adaface(tmp_path / "b.bin")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    torch.save(tiny_adaface_state_dict(units=(3, 13, 30, 3)), tmp_path / "deep" / "er" / "a.pt")
    save_file(tiny_msid_state_dict(), tmp_path / "msid.safetensors")
    (tmp_path / "w600k_r50.ONNX").write_bytes(b"judged when loaded")
    (tmp_path / "det_10g.onnx").write_bytes(b"a detector")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("adaface")

    found = find_extractors([tmp_path / "none", tmp_path])

    assert list(found) == ["adaface_ir50", "adaface_ir101", "arcface"]
    assert [path.name for path in found.values()] == ["b.bin", "a.pt", "w600k_r50.ONNX"]


def test_a_file_is_known_whatever_it_is_called(tmp_path):
    save_file(tiny_adaface_state_dict(), tmp_path / ".adaface.part")

    assert (
        extractor_kind(tmp_path / ".adaface.part")
        == extractor_kind(write_tiny_adaface(tmp_path / "x"))
        == "adaface_ir50"
    )


def test_the_first_folder_counts(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tiny_adaface(tmp_path / name / "a.ckpt")

    assert find_extractors([tmp_path / "two", tmp_path / "one"])["adaface_ir50"].parent.name == "two"


def test_a_depth_that_is_not_judged_with_is_passed_over(tmp_path):
    torch.save(tiny_adaface_state_dict(units=(1, 1, 1, 1)), tmp_path / "odd.pt")

    assert extractor_kind(tmp_path / "odd.pt") == extractor_kind(tmp_path / "none.pt") == extractor_kind(tmp_path) == ""
    assert find_extractors([tmp_path]) == {}


def test_usable_ones_come_and_the_others_are_named(tmp_path):
    write_tiny_adaface(tmp_path / "adaface.ckpt")
    (tmp_path / "w600k_r50.onnx").write_bytes(b"damaged")

    judges = usable_extractors([tmp_path])

    assert list(judges.identity) == ["adaface_ir50"] and not judges.image_text and judges.inception is None
    assert set(judges.problems) == {*IDENTITY_KINDS, *IMAGE_TEXT_KINDS, INCEPTION_KIND} - {"adaface_ir50"}
    assert "w600k_r50.onnx cannot be used as ArcFace" in judges.problems["arcface"]
    assert judges.problems["clip_h14"].startswith("CLIP ViT-H/14, LAION-2B is not there. Put open_clip_model")
    assert all("\n" not in problem for problem in judges.problems.values())
    points = np.array(FACE_TEMPLATE_PX)
    assert judges.identity["adaface_ir50"].features([np.zeros((112, 112, 3), np.uint8)], [points]).shape == (1, 32)


def test_the_inception_of_fid(tmp_path):
    state = filled(expected_shapes(Inception), 0)
    torch.save({**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "pt.pth")
    pictures = [np.random.RandomState(i).randint(0, 256, (50, 60 + i, 3)).astype(np.uint8) for i in range(3)]

    assert list(find_extractors([tmp_path])) == [INCEPTION_KIND]
    judge = load_inception(tmp_path / "pt.pth", batch=2)
    features = judge.features(pictures)

    assert features.shape == (3, 2048) and (judge.kind, len(judge.sha256)) == (INCEPTION_KIND, 64)
    assert torch.allclose(features[2:], judge.features(pictures[2:]), atol=1e-5)
