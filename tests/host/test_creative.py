"""Blend, Average Faces, Expression Sweep and Region per Person through the nodes: exact ends, own tokens, own masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import base_directory


@pytest.fixture(scope="module")
def networks(host):
    """(msid, mapping, expression encoder): small ones."""
    folder = host.base / "models" / "face2diffusion" / "small"
    base_directory.write_stand_ins(folder, base_directory.tiny_weights)
    files = {"MSIDEncoder": "msid.pt", "Mapping": "mapping.pt", "ExpressionEncoder": "epoch_20.pth"}
    return [host.run(f"F2DLoad{node}", file=f"small/{file}")[0] for node, file in files.items()]


@pytest.fixture(scope="module")
def photos(host, golden, yunet_file):
    """Three photos of three people, as IMAGE batches of one; the detector's file is in the model folder."""
    target = host.base / "models" / "face2diffusion" / "detectors" / yunet_file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(yunet_file.read_bytes())
    files = [golden / "images" / f"{i}.jpg" for i in range(3)]
    return [torch.from_numpy(np.array(Image.open(file))).float()[None] / 255 for file in files]


@pytest.fixture(scope="module")
def encode(host, networks):
    """encode(number, …) -> a batch of one S*: a face crop of random pixels through the small networks."""
    module = host.pack_module("f2d_core.encode")

    def make(number, name="", marker="S*", expression=None):
        pixels = np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8)
        crops, labels = [module.Crop(pixels, f"picture{number}", "given")], module.Labels(name, marker)
        return tuple(module.encode_faces(crops, networks[0], networks[1], expression, labels))

    return make


@pytest.fixture(scope="module")
def people(encode):
    """Anna (S*), Ben (T*) and Carl (U*)."""
    return encode(0, "anna", "S*"), encode(1, "ben", "T*"), encode(2, "carl", "U*")


@pytest.fixture(scope="module")
def errors(host):
    return host.pack_module("f2d_core.errors")


def same(one, other):
    return torch.equal(one.vectors, other.vectors)


# --- blend ---


@pytest.mark.parametrize("space", ["identity", "words"])
def test_weights_1_and_0_give_exactly_one_person(space, host, people, networks):
    mapping = {"mapping": networks[1]} if space == "identity" else {}
    for weights, expected in (((1.0, 0.0), people[0]), ((0.0, 1.0), people[1])):
        (blended,), report = host.run(
            "F2DBlend", s_star=people[0], s_star_2=people[1], weight=weights[0], weight_2=weights[1], **mapping
        )
        assert same(blended, expected[0]) and blended.marker == "S*"
        assert report.endswith("identity features" if mapping else "words")


def test_a_sweep_begins_and_ends_with_the_people_bit_for_bit(host, people, networks):
    inputs = {"s_star": people[0], "s_star_2": people[1], "mapping": networks[1], "sweep": 5}
    swept, _ = host.run("F2DBlend", **inputs)
    again, _ = host.run("F2DBlend", **inputs)
    assert same(swept[0], people[0][0]) and same(swept[4], people[1][0])
    assert {person.marker for person in swept} == {"S*"}
    assert all(same(a, b) for a, b in zip(swept, again, strict=True))
    (middle,), _ = host.run("F2DBlend", s_star=people[0], s_star_2=people[1], mapping=networks[1])
    assert same(swept[2], middle)
    assert middle.name == "anna 50% + ben 50%" and len(middle.image_sha256.split()) == 2


def test_a_b_a_gives_equal_bytes_and_leaves_the_inputs_alone(host, people, networks):
    before = [person[0].vectors.clone() for person in people]

    def run(weight):
        return host.run("F2DBlend", s_star=people[0], s_star_2=people[1], weight=weight, mapping=networks[1])[0][0]

    first, other, again = run(0.3), run(0.8), run(0.3)
    assert same(first, again) and not same(first, other)
    assert all(torch.equal(person[0].vectors, vectors) for person, vectors in zip(people, before, strict=True))


def test_up_to_eight_people_a_name_and_a_marker(host, people, networks):
    more = {f"s_star_{n}": people[n % 3] for n in range(3, 9)}
    (blended,), report = host.run(
        "F2DBlend", s_star=people[0], s_star_2=people[1], mapping=networks[1], marker=" V* ", name="all", **more
    )
    assert (blended.name, blended.marker) == ("all", "V*")
    assert report.splitlines()[0].count("12%") == 8


def test_batches_are_blended_row_by_row(host, people):
    blended, _ = host.run("F2DBlend", s_star=(*people[0], *people[1]), s_star_2=people[2])
    (alone,), _ = host.run("F2DBlend", s_star=people[1], s_star_2=people[2])
    assert len(blended) == 2 and same(blended[1], alone)


def test_a_blend_reaches_the_conditioning(host, clip, people, networks):
    swept, _ = host.run("F2DBlend", s_star=people[0], s_star_2=people[1], mapping=networks[1], sweep=3)
    batch, _ = host.run("F2DInject", clip=clip(), text="a photo of S*", s_star=swept)
    (alone,), _ = host.run("F2DInject", clip=clip(), text="a photo of S*", s_star=people[0])
    (other,), _ = host.run("F2DInject", clip=clip(), text="a photo of T*", s_star=people[1])
    assert torch.equal(batch[0][0][0], alone[0][0]) and torch.equal(batch[0][0][2], other[0][0])


def test_people_of_other_conventions_are_refused_with_advice(host, people, errors):
    token = (replace(people[1][0], injection="token"),)
    with pytest.raises(errors.MismatchError, match="do not mix.*connect a mapping"):
        host.run("F2DBlend", s_star=people[0], s_star_2=token)


# --- average ---


def test_photos_of_any_size_become_one_person_and_the_stranger_is_named(host, networks, photos):
    """The same photo four times, brighter, smaller and mirrored, and somebody else's."""
    image = photos[0]
    smaller = torch.nn.functional.interpolate(image.movedim(-1, 1), (400, 400), mode="area").movedim(1, -1)
    inputs = {"image": image, "image_2": (image * 1.02).clamp(0, 1), "image_3": smaller, "image_4": photos[2]}
    (person,), crops, report = host.run("F2DAverageFaces", msid=networks[0], mapping=networks[1], name="anna", **inputs)
    assert crops.shape == (4, 112, 112, 3) and person.name == "anna"
    assert ["DISAGREES" in line for line in report.splitlines()] == [False] * 3 + [True]
    (alone,), *_ = host.run("F2DAverageFaces", msid=networks[0], mapping=networks[1], image=image)
    (encoded,), *_ = host.run("F2DEncodeFace", msid=networks[0], mapping=networks[1], image=image)
    assert same(alone, encoded)
    cosine = torch.nn.functional.cosine_similarity
    (mean,), *_ = host.run("F2DAverageFaces", msid=networks[0], mapping=networks[1], method="mean", **inputs)
    assert cosine(person.v_id, encoded.v_id, dim=0) > cosine(mean.v_id, encoded.v_id, dim=0)


def test_photos_without_a_face_and_weights(host, networks, photos, errors):
    nothing = torch.full((1, 64, 64, 3), 0.5)
    inputs = {"msid": networks[0], "mapping": networks[1], "image": photos[0], "image_2": nothing, "image_3": photos[1]}
    with pytest.raises(errors.NoFaceError, match="photo 1 .of 3.*skip"):
        host.run("F2DAverageFaces", **inputs)
    _, crops, report = host.run("F2DAverageFaces", on_missing="skip", method="mean", weights="3, 1, 1", **inputs)
    assert crops.shape[0] == 2 and report.splitlines() == [
        "0: share 75%",
        "1: no usable face, left out",
        "2: share 25%",
    ]
    for weights in ("1, 2", "1, x, 1"):
        with pytest.raises(errors.SettingsError, match="expected 3 numbers"):
            host.run("F2DAverageFaces", weights=weights, **inputs)


# --- expressions ---


@pytest.fixture(scope="module")
def expressions(host, networks):
    """Two references of one face each."""
    v_exp = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))
    return [host.pack_module("f2d_core.encode").Expression(one, networks[2].sha256) for one in v_exp]


def test_an_expression_grows_from_none_to_the_reference(host, networks, people, encode, expressions):
    batch, report = host.run(
        "F2DExpressionSweep", s_star=people[0], mapping=networks[1], expression=expressions[0], steps=3
    )
    (full,) = encode(0, expression=expressions[0])
    assert same(batch[0], people[0][0]) and same(batch[2], full) and not same(batch[1], full)
    assert report == "0: strength 0.00\n1: strength 0.50\n2: strength 1.00"


def test_from_one_expression_to_another(host, networks, people, expressions):
    inputs = {"s_star": people[0], "mapping": networks[1], "steps": 2}
    first, second = host.run("F2DExpressionSweep", expression=expressions[0], expression_to=expressions[1], **inputs)[0]
    for person, expression in ((first, expressions[0]), (second, expressions[1])):
        assert same(person, host.run("F2DExpressionSweep", expression=expression, **inputs)[0][1])


# --- regions ---


@pytest.fixture(scope="module")
def both(host, clip, people):
    """A CLIP that knows two people, and a way to encode with it through a stock node."""
    (applied,) = host.run("F2DApplyToClip", clip=clip(), s_star=people[0], s_star_2=people[1])
    return lambda text: host.run("CLIPTextEncode", clip=applied, text=text)[0]


def test_two_people_in_two_regions_have_their_own_tokens_and_masks(host, clip, people, both):
    behind, left, right = both("two people in a park"), both("a photo of S*"), both("a photo of T*")
    conditioning, regions, preview = host.run(
        "F2DRegions", background=behind, person=left, person_2=right, feather=0.0, background_inside=0.25
    )
    assert len(conditioning) == 3 and regions.shape == (2, 512, 512) and preview.shape == (1, 512, 512, 3)
    for entry, person, marker in ((conditioning[1], people[0], "S*"), (conditioning[2], people[1], "T*")):
        (alone,), _ = host.run("F2DInject", clip=clip(), text=f"a photo of {marker}", s_star=person)
        assert torch.equal(entry[0], alone[0])
    masks = [entry[1]["mask"][0] for entry in conditioning]
    assert masks[1][:, :256].eq(1).all() and masks[1][:, 256:].eq(0).all()
    assert torch.equal(masks[2], 1 - masks[1]) and masks[0].eq(0.25).all()
    assert torch.equal(regions, torch.stack(masks[1:]))
    assert "mask" not in left[0][1]  # the one given is not changed


def test_regions_from_detected_faces(host, photos, both):
    group = torch.cat([photos[0], photos[1]], dim=2)  # two portraits side by side, 1024 x 512
    faces, *_ = host.run("F2DDetectFaces", image=group, detector="auto", threshold=0.6, order="left-right")
    found = sorted(faces.detections[0].faces, key=lambda face: face.box[0])
    assert len(found) == 2
    _, regions, _ = host.run(
        "F2DRegions", background=both(""), person=both("S*"), person_2=both("T*"), faces=faces, margin=0.0, feather=0.0
    )
    for mask, face in zip(regions, found, strict=True):
        rows, columns = torch.where(mask > 0)
        x0, y0, x1, _ = (value / 2 for value in face.box)  # masks are half as large
        assert (columns.min(), columns.max(), rows.min()) == pytest.approx((x0, x1, y0), abs=1)
        assert rows.max() == 255


def test_regions_from_masks_with_soft_edges(host, both):
    masks = torch.zeros(2, 64, 96)
    masks[0, :, :40] = masks[1, 20:, 50:] = 1
    conditioning, regions, _ = host.run(
        "F2DRegions", background=both(""), person=both("S*"), person_2=both("T*"), masks=masks, feather=0.05,
        background_inside=0.0,
    )  # fmt: skip
    assert regions.shape == (2, 64, 96) and 0 < regions[0, 30, 41] < 1
    total = sum(entry[1]["mask"][0] for entry in conditioning)
    assert torch.allclose(total, torch.ones(64, 96), atol=1e-5)


def test_every_part_of_a_scheduled_prompt_gets_the_mask(host, clip, people, both):
    delayed, _ = host.run("F2DDelayedSubject", clip=clip(), text="S*", s_star=people[0])
    conditioning, *_ = host.run("F2DRegions", background=both(""), person=delayed, person_2=both("T*"))
    assert len(delayed) == 2 and len(conditioning) == 4
    assert [entry[1].get("start_percent") for entry in conditioning] == [
        None,
        0.0,
        delayed[1][1]["start_percent"],
        None,
    ]
    assert torch.equal(conditioning[1][1]["mask"], conditioning[2][1]["mask"])


def test_the_sampler_keeps_people_to_their_regions(host, small_models, people):
    """With no background inside, the left half of a picture does not depend on the prompt of the right."""
    model, clip, _ = small_models
    (applied,) = host.run("F2DApplyToClip", clip=clip, s_star=people[0], s_star_2=people[1])

    def encode(text):
        return host.run("CLIPTextEncode", clip=applied, text=text)[0]

    def noise_left(text):
        placed, *_ = host.run(
            "F2DRegions", background=encode("a park"), person=encode("S*"), person_2=encode(text), feather=0.0,
            background_inside=0.0,
        )  # fmt: skip
        latents = {"samples": torch.zeros(1, 4, 8, 16)}
        (out,) = host.run("KSampler", model=model, positive=placed, negative=encode(""), latent_image=latents, steps=1,
                          cfg=1.0, sampler_name="euler", scheduler="normal")  # fmt: skip
        return out["samples"]

    ben, chef = noise_left("T*"), noise_left("T* as a chef")
    assert torch.equal(ben[..., :8], chef[..., :8])
    assert (ben[..., 8:] - chef[..., 8:]).abs().max() > 1e-3


def test_what_does_not_fit(host, photos, both, errors):
    inputs = {"background": both(""), "person": both("S*"), "person_2": both("T*")}
    with pytest.raises(errors.MismatchError, match="3 masks for 2 people"):
        host.run("F2DRegions", masks=torch.ones(3, 8, 8), **inputs)
    faces, *_ = host.run("F2DDetectFaces", image=photos[0], detector="auto", threshold=0.6, order="largest")
    with pytest.raises(errors.NoFaceError, match="1 face was found for 2 people"):
        host.run("F2DRegions", faces=faces, **inputs)
    batch, *_ = host.run("F2DDetectFaces", image=torch.cat(photos[:2]), detector="auto", threshold=0.6, order="largest")
    with pytest.raises(errors.MismatchError, match="faces are of 2 pictures"):
        host.run("F2DRegions", faces=batch, **inputs)
