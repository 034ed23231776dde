"""ArcFace through onnxruntime, with a small network of the same inputs and outputs."""

import builtins
import warnings

import numpy as np
import pytest
import torch

from f2d_core.align import align_face
from f2d_core.constants import FACE_TEMPLATE_PX
from f2d_core.errors import MissingPackageError, WeightsError
from f2d_core.evaluate.extractors import load_identity_extractor

onnx = pytest.importorskip("onnx", reason="writes the small network")
pytest.importorskip("onnxruntime", reason="the extra `faces` is not installed")

POINTS = np.array(FACE_TEMPLATE_PX)


def write_network(path, batch="N", size=112, outputs=1):
    """Means of the three channels, times a matrix: enough to see order and range."""
    matrix = np.random.RandomState(0).standard_normal((3, 8)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["means"]),
        onnx.helper.make_node("MatMul", ["means", "matrix"], ["output"]),
    ]
    given = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [batch, 3, size, size])
    made = [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [batch, 8])]
    if outputs == 2:
        made.append(onnx.helper.make_tensor_value_info("means", onnx.TensorProto.FLOAT, [batch, 3]))
    graph = onnx.helper.make_graph(nodes, "small", [given], made, [onnx.numpy_helper.from_array(matrix, "matrix")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path, matrix


def photos(count=3):
    random = np.random.RandomState(0)
    return [(random.rand(130, 140, 3) * (255, 120, 40)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("batch", ["N", 1])
def test_features_of_rgb_crops(tmp_path, batch):
    path, matrix = write_network(tmp_path / "w600k_r50.onnx", batch)
    pictures, points = photos(), [POINTS, POINTS + 3, POINTS + 7]

    judge = load_identity_extractor(path)

    crops = np.stack([align_face(rgb, five) for rgb, five in zip(pictures, points, strict=True)])
    expected = torch.from_numpy(((crops - 127.5) / 127.5).mean(axis=(1, 2)) @ matrix)
    expected = torch.nn.functional.normalize(expected, dim=1).float()
    assert (judge.kind, judge.name) == ("arcface", "ArcFace") and len(judge.sha256) == 64
    assert torch.allclose(judge.features(pictures, points), expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"size": 128}, {"outputs": 2}])
def test_another_network(tmp_path, wrong):
    path, _ = write_network(tmp_path / "other.onnx", **wrong)

    with pytest.raises(WeightsError, match=r"other\.onnx cannot be used as ArcFace R50.*Put w600k_r50\.onnx"):
        load_identity_extractor(path)


def test_damaged_and_missing(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a network")
    with pytest.raises(WeightsError, match=r"x\.onnx cannot be used"):
        load_identity_extractor(tmp_path / "x.onnx")
    with pytest.raises(WeightsError, match=r"Cannot read .*none\.onnx.*buffalo_l"):
        load_identity_extractor(tmp_path / "none.onnx")


def test_without_the_package(tmp_path, monkeypatch):
    path, _ = write_network(tmp_path / "w600k_r50.onnx")
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with warnings.catch_warnings(), pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        load_identity_extractor(path)
