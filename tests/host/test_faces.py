"""From IMAGE to S* through the nodes: golden numbers through ComfyUI's model management, choosing a face, bad input."""

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def errors(host):
    return host.pack_module("f2d_core.errors")


@pytest.fixture(scope="module")
def networks(host, stand_ins):
    """The golden networks, loaded by the nodes."""
    (msid,) = host.run("F2DLoadMSIDEncoder", file="msid.pt")
    (mapping,) = host.run("F2DLoadMapping", file="mapping.pt")
    (recon,) = host.run("F2DLoadExpressionEncoder", file="epoch_20.pth")
    return msid, mapping, recon


@pytest.fixture(scope="module")
def detector_file(host, yunet_file):
    target = host.base / "models" / "face2diffusion" / "detectors" / yunet_file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(yunet_file.read_bytes())
    return target


@pytest.fixture(scope="module")
def photos(golden):
    """Three photos of three people, as IMAGE batches of one."""
    files = [golden / "images" / f"{i}.jpg" for i in range(3)]
    return [torch.from_numpy(np.array(Image.open(file))).float()[None] / 255 for file in files]


@pytest.fixture(scope="module")
def landmarks(golden):
    """FACE_LANDMARKS as ComfyUI's MediaPipe node gives them, with the golden five points of the three photos."""
    five = np.load(golden / "alignment.npz")["lmk5"]

    def mesh(i):
        points = np.zeros((478, 2), np.float32)
        points[[468, 473, 1, 61, 291]] = five[i]
        corners = [*five[i].min(0), *five[i].max(0)]
        return {"bbox_xyxy": np.array(corners), "landmarks_xy": points, "score": 0.9}

    return lambda *pictures: {"frames": [[mesh(i)] for i in pictures], "image_size": (512, 512)}


def encode(host, networks, image, **kwargs):
    return host.run("F2DEncodeFace", msid=networks[0], mapping=networks[1], image=image, **kwargs)


def test_golden_features_through_the_hosts_model_management(golden, networks):
    arrays = np.load(golden / "msid.npz")
    v_id = networks[0].run(torch.from_numpy(arrays["input"]))
    assert (v_id.dtype, v_id.device.type) == (torch.float32, "cpu")
    assert np.abs(v_id.numpy() - arrays["output"]).max() < 5e-5
    arrays = np.load(golden / "mapping.npz")
    words = networks[1].run(torch.from_numpy(arrays["idvec"]), torch.from_numpy(arrays["exp"]))
    assert np.abs(words[:, 0].numpy() - arrays["exp_first"]).max() < 5e-5
    assert np.abs(words[:, 1].numpy() - arrays["exp_last"]).max() < 5e-5
    words = networks[1].run(torch.from_numpy(arrays["idvec"]), None)
    assert np.abs(words[:, 1].numpy() - arrays["noexp_last"]).max() < 5e-5
    arrays = np.load(golden / "recon.npz")
    assert np.abs(networks[2].run(torch.from_numpy(arrays["input"])).numpy() - arrays["coeffs"]).max() < 5e-5


def test_golden_photo_to_s_star(golden, host, networks, photos, landmarks):
    """From the picture: within what exact bilinear alignment changes (golden README: features up to 3e-3)."""
    arrays = np.load(golden / "mapping.npz")
    people, crop, _ = encode(host, networks, torch.cat(photos), face_landmarks=landmarks(0, 1, 2))
    assert crop.shape == (3, 112, 112, 3) and len(people) == 3
    exact = np.load(golden / "alignment.npz")["crop_exact_bilinear"]
    for i, person in enumerate(people):
        assert np.abs(crop[i].numpy() * 255 - exact[i]).max() <= 1.01
        assert (
            np.abs(person.vectors.numpy() - np.stack([arrays["noexp_first"][i], arrays["noexp_last"][i]])).max() < 5e-3
        )


def test_networks_can_be_loaded_from_safetensors_too(host, networks, stand_ins):
    weights = host.pack_module("f2d_core.weights")
    weights.convert(stand_ins / "msid.pt", stand_ins / "converted" / "msid.safetensors")
    (converted,) = host.run("F2DLoadMSIDEncoder", file="converted/msid.safetensors")
    assert converted.sha256 == networks[0].sha256
    faces = torch.rand(1, 3, 112, 112)
    assert torch.equal(converted.run(faces), networks[0].run(faces))


def test_detector_and_landmarks_see_the_same_face(host, networks, photos, landmarks, detector_file):
    (found,), _, report = encode(host, networks, photos[0])
    (given,), _, _ = encode(host, networks, photos[0], face_landmarks=landmarks(0))
    assert torch.cosine_similarity(found.v_id, given.v_id, dim=0) > 0.999
    assert "yunet, as is" in report and found.detector == "yunet, as is" and given.detector == "face landmarks, as is"


def test_the_same_photo_gives_the_same_bits_and_another_does_not(host, networks, photos, detector_file):
    first, other, again = (encode(host, networks, photos[i])[0][0] for i in (0, 1, 0))
    assert torch.equal(first.vectors, again.vectors) and first.image_sha256 == again.image_sha256
    assert (first.vectors - other.vectors).abs().max() > 0.1 and first.image_sha256 != other.image_sha256


def test_pictures_with_alpha_or_in_half_precision_work(host, networks, photos, detector_file):
    (plain,), _, _ = encode(host, networks, photos[0])
    rgba = torch.cat([photos[0], torch.ones_like(photos[0][..., :1])], dim=-1)
    assert torch.equal(encode(host, networks, rgba)[0][0].vectors, plain.vectors)
    half = encode(host, networks, photos[0].half())[0][0]
    assert torch.cosine_similarity(half.v_id, plain.v_id, dim=0) > 0.999


@pytest.fixture(scope="module")
def group(photos):
    """A picture of three people side by side; the one in the middle is enlarged."""
    big = torch.nn.functional.interpolate(photos[1].permute(0, 3, 1, 2), scale_factor=1.5, mode="bilinear")
    canvas = torch.zeros(1, 768, 512 + 768 + 512, 3)
    canvas[:, :512, :512], canvas[:, :, 512:1280] = photos[0], big.permute(0, 2, 3, 1).clamp(0, 1)
    canvas[:, :512, 1280:] = photos[2]
    return canvas


def test_choosing_in_a_group(host, networks, photos, group, detector_file):
    alone = [encode(host, networks, photo)[0][0].v_id for photo in photos]

    def who(**choice):
        v_id = encode(host, networks, group, **choice)[0][0].v_id
        return int(torch.stack([torch.cosine_similarity(v_id, a, dim=0) for a in alone]).argmax())

    assert who() == who(order="largest") == 1
    assert [who(order="left-right", index=i) for i in range(3)] == [0, 1, 2]
    assert who(bounding_box=[[{"x": 1300, "y": 50, "width": 450, "height": 450}]]) == 2
    assert who(bounding_box={"x": 0, "y": 0, "width": 500, "height": 500}) == 0
    faces, _, count, report = host.run("F2DDetectFaces", image=group, order="left-right")
    assert count == 3 and "3 faces (yunet" in report
    assert who(faces=faces, order="left-right", index=2) == 2


def test_the_numbered_preview_marks_every_face(host, group, detector_file):
    outputs = host.run("F2DDetectFaces", image=group, order="left-right")
    preview = outputs[1]
    assert preview.shape == group.shape
    changed = ((preview - group).abs().sum(-1) > 0.1)[0]
    for left in (0, 512, 1280):
        assert changed[:, left : left + 512].sum() > 500
    assert outputs.ui["images"]


def test_an_index_that_is_not_there_says_how_many_there_are(host, networks, photos, detector_file, errors):
    with pytest.raises(errors.NoFaceError, match="the only index is 0"):
        encode(host, networks, photos[0], index=3)


def blank():
    return torch.full((1, 512, 512, 3), 0.5)


def test_no_face(host, networks, photos, detector_file, errors):
    with pytest.raises(errors.NoFaceError, match="No face was found"):
        encode(host, networks, blank())
    batch = torch.cat([blank(), photos[0], blank(), photos[1]])
    with pytest.raises(errors.NoFaceError, match=r"2 of 4 pictures \(number 0, 2"):
        encode(host, networks, batch)
    skipped, crops, report = encode(host, networks, batch, on_missing="skip")
    assert len(skipped) == len(crops) == 2 and "0: no usable face" in report and "2: no usable face" in report
    filled, crops, report = encode(host, networks, batch, on_missing="previous")
    assert len(filled) == len(crops) == 4 and "0: no usable face" in report and "2: no usable face" in report
    for i, j in ((0, 0), (1, 0), (2, 0), (3, 1)):
        assert torch.allclose(filled[i].vectors, skipped[j].vectors, atol=1e-5)
    with pytest.raises(errors.NoFaceError):
        encode(host, networks, torch.cat([blank(), blank()]), on_missing="skip")


def test_the_mean_of_several_photos(host, networks, photos, detector_file):
    each = encode(host, networks, torch.cat(photos))[0]
    (mean,) = encode(host, networks, torch.cat(photos), combine="mean")[0]
    assert torch.allclose(mean.v_id, torch.stack([p.v_id for p in each]).mean(0), atol=1e-5)


def test_expression_reference(golden, host, networks, photos, landmarks):
    arrays = np.load(golden / "recon.npz")
    expression, crop, _ = host.run(
        "F2DExpressionReference",
        expression_encoder=networks[2],
        image=torch.cat(photos),
        face_landmarks=landmarks(0, 1, 2),
    )
    assert crop.shape == (3, 224, 224, 3)
    assert np.abs(expression.v_exp.numpy() - arrays["exp"][:3]).max() < 5e-5
    golden_words = np.load(golden / "mapping.npz")
    people = encode(host, networks, torch.cat(photos), face_landmarks=landmarks(0, 1, 2), expression=expression)[0]
    for i, person in enumerate(people):
        assert np.abs(person.vectors[0].numpy() - golden_words["recon_first"][i]).max() < 5e-3
        assert torch.equal(person.v_exp, expression.v_exp[i])


def test_expression_strength_zero_is_no_expression(host, networks, photos, landmarks):
    expression, *_ = host.run(
        "F2DExpressionReference",
        expression_encoder=networks[2],
        image=photos[1],
        face_landmarks=landmarks(1),
        strength=0.0,
    )
    none = encode(host, networks, photos[0], face_landmarks=landmarks(0))[0][0]
    zero = encode(host, networks, photos[0], face_landmarks=landmarks(0), expression=expression)[0][0]
    assert torch.allclose(none.vectors, zero.vectors, atol=1e-6)


def test_save_and_load_give_the_same_person(host, run_node, networks, photos, landmarks, clip):
    labels = {"name": "Änna", "marker": "anna"}
    people, *_ = encode(host, networks, torch.cat(photos[:2]), face_landmarks=landmarks(0, 1), **labels)
    (names,) = run_node("F2DSaveSStar", s_star=people, filename="Änna")
    assert names.split("\n") == ["Änna.safetensors", "Änna_2.safetensors"]
    (again,) = run_node("F2DLoadSStar", file="Änna_2.safetensors")
    assert again[0].name == "Änna" and torch.equal(again[0].thumbnail, people[1].thumbnail)
    prompt = {"clip": clip(), "text": "a photo of anna"}
    ours = run_node("F2DInject", s_star=(people[1],), **prompt)[0]
    reloaded = run_node("F2DInject", s_star=again, **prompt)[0]
    assert torch.equal(ours[0][0], reloaded[0][0])
    (renamed,) = run_node("F2DLoadSStar", file="Änna_2.safetensors", marker="T*")
    assert renamed[0].marker == "T*"
    (private,) = run_node("F2DSaveSStar", s_star=people[:1], filename="private", thumbnail=False)
    assert run_node("F2DLoadSStar", file=private)[0][0].thumbnail is None


@pytest.mark.parametrize("name", ["../x", "a/b", "", "c:\\x"])
@pytest.mark.parametrize("node", ["F2DSaveSStar", "F2DExportEmbedding"])
def test_names_cannot_leave_their_folder(host, run_node, node, name, errors):
    s_star = host.pack_module("f2d_core.s_star").SStar(torch.zeros(2, 768), injection="token")
    before = sorted(path for path in host.base.rglob("*.safetensors"))
    with pytest.raises(errors.SettingsError, match="cannot be a file name"):
        run_node(node, s_star=(s_star,), filename=name)
    assert sorted(path for path in host.base.rglob("*.safetensors")) == before


def test_a_file_name_from_a_widget_cannot_leave_the_folder(host, run_node, errors):
    secret = host.base / "models" / "secret.safetensors"
    secret.write_bytes(b"x")
    for node, file in (("F2DLoadSStar", "../../secret.safetensors"), ("F2DLoadMSIDEncoder", "../secret.safetensors")):
        with pytest.raises(errors.WeightsError, match="is not in"):
            run_node(node, file=file)
        assert "is not in" in host.mappings[node].validate_inputs(file=file)


def test_a_missing_weight_file_says_where_it_belongs_and_where_it_is_published(host):
    for node, words in (
        ("F2DLoadMSIDEncoder", ("msid.pt", "NC-SA", "drive.google")),
        ("F2DLoadMapping", ("mapping.pt", "NC-SA", "drive.google")),
        ("F2DLoadExpressionEncoder", ("epoch_20.pth", "Deep3DFaceRecon")),
    ):
        message = host.mappings[node].validate_inputs(file="nothing.pt")
        assert "\n" not in message and "models/face2diffusion" in message
        assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("node", "file", "words"),
    [
        ("F2DLoadMSIDEncoder", "mapping.pt", "is a mapping network, expected an MSID encoder"),
        ("F2DLoadMapping", "msid.pt", "is an MSID encoder, expected a mapping network"),
        ("F2DLoadExpressionEncoder", "msid.pt", "expected a Deep3DFaceRecon expression encoder"),
        ("F2DLoadMSIDEncoder", "cut.pt", "damaged, incomplete"),
    ],
)
def test_the_wrong_file_in_a_loader(host, run_node, stand_ins, node, file, words, errors):
    (stand_ins / "cut.pt").write_bytes((stand_ins / "msid.pt").read_bytes()[:1_000_000])
    with pytest.raises(errors.WeightsError, match=words):
        run_node(node, file=file)


def test_inputs_of_different_lengths_are_refused(host, networks, photos, landmarks, detector_file, errors):
    faces, *_ = host.run("F2DDetectFaces", image=photos[0])
    for extra in ({"faces": faces}, {"face_landmarks": landmarks(0)}, {"bounding_box": [[], [], []]}):
        with pytest.raises(errors.MismatchError, match="Connect the same pictures"):
            encode(host, networks, torch.cat(photos[:2]), **extra)
    for extra in ({"faces": faces}, {"face_landmarks": landmarks(0)}):
        with pytest.raises(
            errors.MismatchError, match="1 pictures of 512 x 512 px, the image input has 1 pictures of 256"
        ):
            encode(host, networks, photos[0][:, :256, :256], **extra)


def test_a_small_face_is_found_by_looking_closer_in_the_box(host, networks, photos, detector_file):
    small = torch.nn.functional.interpolate(photos[0].permute(0, 3, 1, 2), size=(64, 64), mode="area").permute(
        0, 2, 3, 1
    )
    scene = torch.zeros(1, 2048, 2048, 3)
    scene[:, 1500:1564, 200:264] = small
    box = {"x": 200, "y": 1500, "width": 64, "height": 64}
    (person,), _, report = encode(host, networks, scene, bounding_box=box)
    alone = encode(host, networks, photos[0])[0][0]
    assert torch.cosine_similarity(person.v_id, alone.v_id, dim=0) > 0.9, report


@pytest.mark.parametrize("node", ["F2DEncodeFace", "F2DExpressionReference"])
def test_the_frontend_draws_no_box_of_its_own(host, node):
    """It would for this type, and send a box with every prompt, unless the input is said to be a socket."""
    _, options = host.mappings[node].INPUT_TYPES()["optional"]["bounding_box"]
    assert options["forceInput"] is True
