"""The three back ends. YuNet with its real weights; the others with stand-ins that report a known face.

The files of InsightFace and facexlib are not free to ship, so networks of the same layout are made here whose output
is known beforehand: their real loading and running code is what is tested.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core import detectors
from f2d_core.detect import choose_face, find_faces, overlap, sort_faces
from f2d_core.detectors import DETECTORS, auto_detector, build_detector, find_detector_weights
from f2d_core.errors import MissingPackageError, SettingsError, WeightsError
from f2d_core.image import read_image

REPO = Path(__file__).resolve().parents[2]


def need(*packages):
    """A mark that skips with a visible reason where an optional package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"optional package {', '.join(missing)} is not installed")


needs_cv2 = need("cv2")
needs_insightface = need("insightface", "onnxruntime", "onnx")
needs_facexlib = need("facexlib", "torchvision")


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 1200
    return text


# --- YuNet ---


@pytest.fixture(scope="module")
def yunet(yunet_file):
    if importlib.util.find_spec("cv2") is None:
        pytest.skip("optional package cv2 is not installed")
    return build_detector("yunet", yunet_file)


@pytest.fixture(scope="module")
def photos(golden):
    return [read_image(golden / "images" / f"{i}.jpg") for i in range(5)]


def error_in_crop_px(points, expected) -> float:
    """Mean distance in pixels of a 112 px face crop, where the eyes are 35 px apart."""
    eyes = np.linalg.norm(expected[0] - expected[1])
    return np.linalg.norm(points - expected, axis=1).mean() / eyes * 35


@pytest.mark.parametrize("case", range(3))
def test_yunet_golden_rows(yunet, golden, photos, case):
    x, y, w, h, *points, score = np.load(golden / "alignment.npz")["yunet"][case].astype(np.float64)
    for found in (yunet.detect(photos[case], 0.6), find_faces(yunet, photos[case]).faces):
        (face,) = found
        assert np.abs(np.array(face.box) - (x, y, x + w, y + h)).max() < 1e-2
        assert np.abs(face.points.ravel() - points).max() < 1e-2
        assert face.score == pytest.approx(score, abs=1e-4)


def test_yunet_on_the_portrait_of_the_demo(yunet):
    data = pytest.importorskip("skimage.data", reason="optional package scikit-image is not installed")
    found = find_faces(yunet, data.astronaut())
    expected = [(203.35, 103.62), (247.52, 104.45), (224.10, 127.69), (203.96, 143.14), (242.91, 143.67)]
    assert found.rung == "as is" and found.detector == "yunet"
    assert np.abs(found.faces[0].points - expected).max() < 0.02


def framed(rgb, face, fraction, side):
    """The photo pasted into a square of `side` px so that its face is `fraction` of it high; (picture, points)."""
    x0, y0, x1, y1 = face.box
    size = max(1, round(rgb.shape[0] * fraction * side / (y1 - y0)))
    zoom = size / rgb.shape[0]
    shift = np.round((side / 2 - (x0 + x1) / 2 * zoom, side / 2 - (y0 + y1) / 2 * zoom)).astype(int)
    frame = Image.new("RGB", (side, side), (90, 110, 130))
    frame.paste(Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC), tuple(shift.tolist()))
    return np.asarray(frame), (face.points + 0.5) * zoom - 0.5 + shift


@pytest.mark.parametrize("side", [400, 1024])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.6, 0.9, 1.0, 1.2])
def test_one_face_from_a_twentieth_to_all_of_the_frame(yunet, photos, side, fraction):
    """At 1024 px a single run of the network finds parts of the large faces, with scores above 0.8."""
    for photo in (photos[0], photos[1]):
        (face,) = yunet.detect(photo, 0.6)
        picture, points = framed(photo, face, fraction, side)
        found = find_faces(yunet, picture)
        assert len(found.faces) == 1 and found.rung == "as is"
        assert error_in_crop_px(found.faces[0].points, points) < (12 if fraction * side < 30 else 6)


def test_a_photo_of_24_megapixels(yunet, photos):
    (face,) = yunet.detect(photos[2], 0.6)
    picture, points = framed(photos[2], face, 0.7, 4900)
    found = find_faces(yunet, picture)
    assert len(found.faces) == 1
    assert error_in_crop_px(found.faces[0].points, points) < 4


def test_a_turned_photo_is_found_after_its_exif_rotation(yunet, photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(np.rot90(photos[0], -1)).save(tmp_path / "turned.jpg", exif=exif, quality=98)
    turned = find_faces(yunet, read_image(tmp_path / "turned.jpg")).faces[0]
    upright = find_faces(yunet, photos[0]).faces[0]
    assert overlap(turned.box, upright.box) > 0.95
    assert error_in_crop_px(turned.points, upright.points) < 2


@pytest.fixture(scope="module")
def group(photos):
    """Four people in a row, 600 px high: the second largest, the smallest, the largest, and one that stands higher."""
    picture = np.full((600, 1700, 3), 128, np.uint8)
    for photo, size, x, y in zip(photos, (400, 250, 512, 300), (0, 450, 720, 1300), (190, 320, 80, 0), strict=False):
        small = Image.fromarray(photo).resize((size, size), Image.Resampling.BICUBIC)
        picture[y : y + size, x : x + size] = np.asarray(small)
    return picture


def test_people_of_a_group_in_every_order(yunet, group):
    found = find_faces(yunet, group)
    assert len(found.faces) == 4

    def places(order):
        return [int(np.digitize(face.points[2, 0], (425, 710, 1260))) for face in sort_faces(found.faces, order)]

    assert places("left-right") == [0, 1, 2, 3]
    assert places("large-small") == places("largest") == [2, 0, 3, 1]
    assert places("top-bottom") == [3, 2, 0, 1]
    scores = [face.score for face in sort_faces(found.faces, "score")]
    assert scores == sorted(scores, reverse=True)
    assert choose_face(found.faces, "left-right", 1).points[2, 0] == pytest.approx(570, abs=40)


def test_no_face_in_plain_pictures(yunet):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for picture in (noise, np.full((200, 300, 3), 128, np.uint8), np.zeros((64, 64, 3), np.uint8)):
        assert find_faces(yunet, picture).rung == "none"


def test_yunet_keeps_to_the_threshold(yunet, photos):
    (face,) = yunet.detect(photos[0], 0.5)
    assert yunet.detect(photos[0], face.score + 0.001) == []
    assert len(yunet.detect(photos[0], face.score - 0.001)) == 1


def test_yunet_from_a_path_of_any_kind(yunet_file, photos, tmp_path):
    pytest.importorskip("cv2", reason="optional package cv2 is not installed")
    folder = tmp_path / "mödels ☺ with spaces"
    folder.mkdir()
    (folder / "YuNet.ONNX").write_bytes(yunet_file.read_bytes())
    assert len(build_detector("yunet", folder / "YuNet.ONNX").detect(photos[0], 0.6)) == 1


@needs_cv2
@pytest.mark.parametrize("version", ["4.7.0", "4.5.5.64", "3.4.18"])
def test_opencv_that_is_too_old(monkeypatch, tmp_path, version):
    import cv2

    monkeypatch.setattr(cv2, "__version__", version)
    with pytest.raises(MissingPackageError) as error:
        build_detector("yunet", tmp_path / "yunet.onnx")
    assert f"{version} is older than 4.8" in one_line(error)


# --- InsightFace ---


def scrfd_bytes(side: int | None = None, outputs: int = 9, batched: bool = False) -> bytes:
    """A network with SCRFD's layout that sees a face wherever an 8 x 8 px cell is red.

    Its input is RGB, (value - 127.5) / 128. The box reaches 1, 2, 3, 4 cells to the left, top, right and bottom of the
    cell's first pixel; the points lie -2 … +2 cells beside and 0 … 4 below it. Strides 16 and 32 see nothing.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    boxes = np.tile([1, 2, 3, 4], 2)
    points = np.tile(np.stack([np.arange(-2, 3), np.arange(5)], axis=1).ravel(), 2)
    nodes, constants, results = [], [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def output(name, stride, weight, bias, width, activation="Identity"):
        """Average cells, one 1x1 convolution, then one row per cell and anchor."""
        nodes.append(
            helper.make_node("AveragePool", ["in"], [f"{name}p"], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        weights = [constant(f"{name}w", np.float32(weight)), constant(f"{name}b", np.float32(bias))]
        nodes.append(helper.make_node("Conv", [f"{name}p", *weights], [f"{name}c"]))
        nodes.append(helper.make_node("Transpose", [f"{name}c"], [f"{name}t"], perm=[0, 2, 3, 1]))
        shape = constant(f"{name}s", np.array([*((1,) if batched else ()), -1, width], np.int64))
        nodes.append(helper.make_node("Reshape", [f"{name}t", shape], [f"{name}r"]))
        nodes.append(helper.make_node(activation, [f"{name}r"], [name]))
        dims = [1, None, width] if batched else [None, width]
        results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    redness = np.zeros((2, 3, 1, 1))
    redness[0, :, 0, 0] = (4, -4, -4)  # red: 4 + 4 + 4 - 8 = 4; grey: -8
    for stride in (8, 16, 32):
        alive = stride == 8
        output(f"score{stride}", stride, redness * alive, [-8 if alive else -20, -20], 1, "Sigmoid")
    for stride in (8, 16, 32):
        output(f"box{stride}", stride, np.zeros((8, 3, 1, 1)), boxes, 4)
    for stride in (8, 16, 32)[: outputs - 6]:
        output(f"point{stride}", stride, np.zeros((20, 3, 1, 1)), points, 10)
    size = [side or "height", side or "width"]
    source = helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "stand-in", [source], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def red_cell(width, height, x, y, size):
    rgb = np.full((height, width, 3), 100, np.uint8)
    rgb[y : y + size, x : x + size] = (255, 0, 0)
    return rgb


def require_known_face(detector, zoom, cell_x, cell_y, rgb):
    """The stand-in's face around the cell (cell_x, cell_y) of the 8 px grid, in a picture enlarged `zoom` times."""
    (face,) = detector.detect(rgb, 0.6)
    x, y = 8.0 * cell_x, 8.0 * cell_y
    box = np.array([(x - 8, y - 16), (x + 24, y + 32)])
    points = np.stack([x + 8 * np.arange(-2, 3), y + 8 * np.arange(5)], axis=1)
    assert np.abs(np.array(face.box).reshape(2, 2) - ((box + 0.5) / zoom - 0.5)).max() < 1e-4
    assert np.abs(face.points - ((points + 0.5) / zoom - 0.5)).max() < 1e-4
    return face


@needs_insightface
@pytest.mark.parametrize("side, batched", [(None, False), (None, True), (320, False)])
def test_insightface_finds_the_known_face(tmp_path, side, batched):
    file = tmp_path / "det_stand_in.onnx"
    file.write_bytes(scrfd_bytes(side, batched=batched))
    detector = build_detector("insightface", file)
    fed = side or 640
    assert detector.name == "insightface"
    face = require_known_face(detector, 1, 10, 20, red_cell(fed, fed, 80, 160, 8))
    assert face.score == pytest.approx(1 / (1 + np.exp(-3.95)), abs=0.01)
    require_known_face(detector, 2, 10, 5, red_cell(fed // 2, fed // 4, 40, 20, 4))
    assert detector.detect(np.full((fed, fed, 3), 100, np.uint8), 0.1) == []
    assert detector.detect(red_cell(fed, fed, 80, 160, 8)[..., ::-1], 0.6) == []  # blue is no face
    assert detector.detect(red_cell(fed, fed, 80, 160, 8), 0.99) == []


@needs_insightface
def test_insightface_on_extreme_strips(tmp_path):
    file = tmp_path / "det_stand_in.onnx"
    file.write_bytes(scrfd_bytes())
    detector = build_detector("insightface", file)
    for shape in ((16, 20000, 3), (20000, 16, 3), (1, 1, 3)):
        assert detector.detect(np.full(shape, 100, np.uint8), 0.6) == []


@needs_insightface
def test_other_networks_are_not_taken_for_insightface(tmp_path, yunet_file):
    file = tmp_path / "det_other.onnx"
    file.write_bytes(scrfd_bytes(outputs=6))
    with pytest.raises(WeightsError, match="6 outputs; expected a picture and 9 or 15 outputs"):
        build_detector("insightface", file)
    with pytest.raises(WeightsError, match="12 outputs"):
        build_detector("insightface", yunet_file)


@needs_insightface
@needs_cv2
def test_insightface_files_are_not_taken_for_yunet(tmp_path):
    file = tmp_path / "yunet.onnx"
    file.write_bytes(scrfd_bytes())
    with pytest.raises(WeightsError, match="cannot be used as YuNet"):
        build_detector("yunet", file)


# --- facexlib ---


def retinaface_state(name: str) -> dict[str, torch.Tensor]:
    """All zero but the last biases, so that every place gives the same answer: only the coarsest stride sees faces.

    The box is moved by a tenth, then twice as wide and high as the first of its two default boxes (256 px); the points
    lie 0.1 … 0.4 of that box beside its middle.
    """
    retinaface = importlib.import_module("facexlib.detection.retinaface")
    with torch.random.fork_rng(devices=[]):
        network = retinaface.RetinaFace(network_name=name, device=torch.device("cpu"))
    state = {
        key: torch.full_like(value, float("var" in key)) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    for stride, seen in enumerate((False, False, True)):
        # (not a face, face) for both default boxes
        state[f"ClassHead.{stride}.conv1x1.bias"] = torch.tensor([0.0, 3.0 if seen else -20.0, 0.0, -20.0])
    state["BboxHead.2.conv1x1.bias"] = torch.tensor([1.0, -1.0, np.log(2) / 0.2, np.log(2) / 0.2] * 2)
    state["LandmarkHead.2.conv1x1.bias"] = torch.tensor([-4.0, -3.0, 4, -3, 0, 0, -2, 4, 2, 3] * 2)
    return state


ignore_pretrained = pytest.mark.filterwarnings(  # facexlib's own use of torchvision
    "ignore:The parameter 'pretrained' is deprecated:UserWarning",
    "ignore:Arguments other than a weight enum:UserWarning",
)


@needs_facexlib
@ignore_pretrained
@pytest.mark.parametrize("name, prefix", [("mobile0.25", ""), ("mobile0.25", "module."), ("resnet50", "")], ids=str)
def test_facexlib_finds_the_known_face(tmp_path, name, prefix):
    file = tmp_path / "detection_stand_in.pth"
    torch.save({prefix + key: value for key, value in retinaface_state(name).items()}, file)
    before = torch.get_rng_state()
    detector = build_detector("facexlib", file)
    assert torch.equal(torch.get_rng_state(), before)
    assert detector.name == "facexlib"
    (face,) = detector.detect(np.zeros((32, 32, 3), np.uint8), 0.6)
    # one default box: middle (16, 16), side 256, both in px; offsets count tenths of it
    middle, side = np.array([16 + 25.6, 16 - 25.6]), 512
    assert np.abs(np.array(face.box) - [*(middle - side / 2), *(middle + side / 2)]).max() < 1e-3
    offsets = np.array([(-4, -3), (4, -3), (0, 0), (-2, 4), (2, 3)]) * 25.6
    assert np.abs(face.points - (offsets + 16)).max() < 1e-3
    assert face.score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)
    assert detector.detect(np.zeros((32, 32, 3), np.uint8), 0.96) == []


@needs_facexlib
@ignore_pretrained
def test_facexlib_gets_blue_first_and_no_more_than_it_can_hold(tmp_path, monkeypatch):
    file = tmp_path / "detection_stand_in.pth"
    torch.save(retinaface_state("mobile0.25"), file)
    detector = build_detector("facexlib", file)
    given = []

    def detect_faces(picture, conf_threshold):
        given.append(picture)
        return np.array([[0, 0, 1279, 639, 0.9, *range(10)]], np.float32)

    monkeypatch.setattr(detector._network, "detect_faces", detect_faces)
    rgb = np.full((2560, 5120, 3), (10, 20, 30), np.uint8)
    (face,) = detector.detect(rgb, 0.6)
    assert given[0][5, 5].tolist() == [30, 20, 10]
    height, width = given[0].shape[:2]
    assert height * width == pytest.approx(1280**2, rel=0.01) and width / height == pytest.approx(2, rel=0.01)
    assert face.box[2] == pytest.approx(1279.5 * 5120 / width - 0.5, abs=0.01)


@needs_facexlib
@ignore_pretrained
def test_other_checkpoints_are_not_taken_for_facexlib(tmp_path):
    file = tmp_path / "retinaface.pth"
    torch.save({"cls_token": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="cannot be used as RetinaFace"):
        build_detector("facexlib", file)
    state = retinaface_state("mobile0.25")
    state.pop("fpn.output1.0.weight")
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"fpn\.output1\.0\.weight"):
        build_detector("facexlib", file)


class Bomb:
    """Runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@needs_facexlib
def test_checkpoints_that_carry_code_do_not_run(tmp_path):
    file, proof = tmp_path / "retinaface.pth", tmp_path / "ran"
    torch.save({"body.layer4.2.conv3.weight": Bomb(proof)}, file)
    with pytest.raises(WeightsError) as error:
        build_detector("facexlib", file)
    one_line(error)
    assert not proof.exists()


# --- files and packages, all of them ---


@pytest.mark.parametrize("name", DETECTORS)
def test_missing_truncated_and_wrong_files(name, tmp_path, yunet_file):
    missing = [p for p in detectors._PACKAGES[name] if importlib.util.find_spec(p) is None]
    if missing:
        pytest.skip(f"optional package {', '.join(missing)} is not installed")
    wrong = tmp_path / "wrong.onnx"
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(yunet_file.read_bytes()[:100_000])
    for content in (b"", b"\0" * 2000, b"<html>not found</html>"):
        wrong.write_bytes(content)
        with pytest.raises(WeightsError) as error:
            build_detector(name, wrong)
        assert "wrong.onnx" in one_line(error)
    for file in (None, tmp_path / "missing.onnx", tmp_path, truncated):
        with pytest.raises(WeightsError) as error:
            build_detector(name, file)
        assert "licence" in one_line(error) or file == truncated


@pytest.mark.parametrize(
    "name, module",
    [("yunet", "cv2"), ("insightface", "onnxruntime"), ("insightface", "insightface"), ("facexlib", "facexlib")],
)
def test_missing_packages(name, module, monkeypatch, tmp_path):
    """None in sys.modules is Python's way of saying that a module cannot be imported."""
    if module == "insightface" and importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("optional package onnxruntime is not installed")
    loaded = [key for key in sys.modules if key == module or key.startswith(module + ".")]
    for key in [module, *loaded]:
        monkeypatch.setitem(sys.modules, key, None)
    with pytest.raises(MissingPackageError) as error:
        build_detector(name, tmp_path / "file")
    text = one_line(error)
    assert "needs the package" in text and module in text
    assert "(extra: faces)" in text and "work without it" in text


def test_other_names():
    with pytest.raises(SettingsError, match="expected one of yunet, insightface, facexlib"):
        build_detector("dlib", "file")


def make(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def test_weights_are_found_by_name(tmp_path):
    make(tmp_path / "a", "sub/deep/Det_10G.ONNX", "msid.pt", "sub/detection_MobileNet0.25_Final.pth")
    make(tmp_path / "b", "face_detection_yunet_2023mar_int8.onnx", "x/face_detection_yunet_2023mar.onnx", "scrfd.onnx")
    make(tmp_path / "b", "detection_Resnet50_Final.pth", "yunet.onnx.part")
    found = find_detector_weights([tmp_path / "none", tmp_path / "a", str(tmp_path / "b")])
    assert list(found) == ["yunet", "insightface", "facexlib"]
    assert found["yunet"].relative_to(tmp_path).as_posix() == "b/x/face_detection_yunet_2023mar.onnx"
    assert found["insightface"].relative_to(tmp_path).as_posix() == "a/sub/deep/Det_10G.ONNX"
    assert found["facexlib"].name == "detection_MobileNet0.25_Final.pth"  # the first folder counts
    assert find_detector_weights([tmp_path / "b"])["facexlib"].name == "detection_Resnet50_Final.pth"
    assert find_detector_weights([tmp_path / "none"]) == {} == find_detector_weights([])


def test_the_best_yunet_of_a_folder(tmp_path):
    make(tmp_path, "yunet_n_dynamic.onnx", "yunet_n_640_640.onnx", "a_yunet_int8.onnx")
    assert find_detector_weights([tmp_path])["yunet"].name == "yunet_n_640_640.onnx"


def test_links_are_followed_and_circles_end(tmp_path):
    make(tmp_path / "elsewhere", "det_500m.onnx")
    models = tmp_path / "models"
    models.mkdir()
    try:
        (models / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (models / "circle").symlink_to(models, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert find_detector_weights([models]) == {"insightface": models / "linked" / "det_500m.onnx"}


def pretend(monkeypatch, *installed):
    """As if exactly these packages were installed."""
    monkeypatch.setattr(detectors, "_is_installed", lambda package: package in installed)


@needs_facexlib
@ignore_pretrained
def test_auto_takes_the_first_that_is_installed_and_has_its_file(monkeypatch, tmp_path, yunet_file):
    torch.save(retinaface_state("mobile0.25"), tmp_path / "retinaface.pth")
    if importlib.util.find_spec("cv2") is not None:
        assert auto_detector([tmp_path, yunet_file.parent]).name == "yunet"
    assert auto_detector([tmp_path]).name == "facexlib"
    pretend(monkeypatch, "facexlib")
    assert auto_detector([tmp_path, yunet_file.parent]).name == "facexlib"


@needs_cv2
def test_auto_passes_over_a_package_that_is_too_old(monkeypatch, yunet_file):
    import cv2

    monkeypatch.setattr(cv2, "__version__", "4.6.0")
    with pytest.raises((WeightsError, MissingPackageError)) as error:
        auto_detector([yunet_file.parent])
    assert "4.6.0 is older than 4.8" in one_line(error)


@needs_cv2
def test_auto_does_not_hide_a_damaged_file(tmp_path):
    make(tmp_path, "yunet.onnx")
    with pytest.raises(WeightsError, match=r"yunet\.onnx cannot be used"):
        auto_detector([tmp_path])


def test_auto_says_what_each_back_end_lacks(monkeypatch, tmp_path):
    pretend(monkeypatch, "cv2", "insightface")
    with pytest.raises(WeightsError) as error:
        auto_detector([tmp_path])
    text = one_line(error)
    assert (
        "yunet: it lacks a file like yunet_n_640_640.onnx (licence: Apache-2.0, published at https://github.com" in text
    )
    assert "insightface: it lacks package onnxruntime and a file like det_10g.onnx (licence: non-commercial" in text
    assert "facexlib: it lacks package facexlib and a file like detection_Resnet50_Final.pth" in text
    assert str(tmp_path) in text
    pretend(monkeypatch)
    with pytest.raises(MissingPackageError, match="it lacks package cv2"):
        auto_detector([])


# --- no network, cheap import ---

BLOCKED = """
import sys
sys.path.insert(0, {repo!r})
tried = []
def hook(event, args):
    if event.startswith(("socket.connect", "socket.get", "socket.sendto", "urllib.Request")):
        tried.append(event)
        raise OSError("no network here: " + event)
sys.addaudithook(hook)
import warnings
warnings.simplefilter("ignore")
import numpy as np
from pathlib import Path
from f2d_core.detectors import DETECTORS, auto_detector, build_detector
from f2d_core.errors import F2DError
folder = Path({folder!r})
rgb = np.full((64, 64, 3), 100, np.uint8)
for name in DETECTORS:
    for file in (folder / name, folder / "missing", folder / "damaged", None):
        try:
            print(name, len(build_detector(name, file).detect(rgb, 0.6)), "faces")
        except F2DError as error:
            print(name, type(error).__name__)
try:
    auto_detector([folder / "nothing"])
except F2DError as error:
    print("auto", type(error).__name__)
print("tried", tried)
"""


def run(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@needs_cv2
@needs_insightface
@needs_facexlib
@ignore_pretrained
def test_nothing_goes_on_the_network(tmp_path, yunet_file):
    """Each back end builds, runs and fails in a fresh process in which every attempt to connect raises."""
    files, home = tmp_path / "files", tmp_path / "home"
    make(files, "damaged")
    home.mkdir()
    (files / "yunet").write_bytes(yunet_file.read_bytes())
    (files / "insightface").write_bytes(scrfd_bytes())
    torch.save(retinaface_state("mobile0.25"), files / "facexlib")
    lines = run(BLOCKED.format(repo=str(REPO), folder=str(files)), HOME=str(home), USERPROFILE=str(home))
    assert lines == [
        *("yunet 0 faces", *["yunet WeightsError"] * 3),
        *("insightface 0 faces", *["insightface WeightsError"] * 3),
        *("facexlib 1 faces", *["facexlib WeightsError"] * 3),
        *("auto WeightsError", "tried []"),
    ]
    assert not [path for path in home.rglob("*") if path.suffix in (".onnx", ".pth", ".zip")]


def test_the_block_blocks(tmp_path):
    """The hook of the test above does see an attempt."""
    code = BLOCKED.split("import warnings")[0].format(repo=str(REPO), folder="")
    code += (
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError as e:\n    print(e, tried)"
    )
    assert run(code) == ["no network here: socket.getaddrinfo ['socket.getaddrinfo']"]


def test_importing_imports_no_back_end():
    code = f"""
import sys
sys.path.insert(0, {str(REPO)!r})
import f2d_core.detectors, f2d_core.detect, f2d_core.align
others = ("cv2", "onnxruntime", "onnx", "insightface", "facexlib", "torchvision")
print([name for name in others if name in sys.modules])
"""
    assert run(code) == ["[]"]
