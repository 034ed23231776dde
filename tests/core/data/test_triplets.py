"""From a folder of editing triplets to samples: the values, the rejects, hostile lists, folders that change."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.align import align_face, mirror_points
from f2d_core.data import triplets as module
from f2d_core.data import writer as writer_module
from f2d_core.data.cache import JOURNAL, MANIFEST, REPORT, Cache, Triplets
from f2d_core.data.prepare import prepare
from f2d_core.data.settings import PrepareSettings, TripletSettings
from f2d_core.data.triplets import KEPT, TripletModels, prepare_triplets, read_triplets
from f2d_core.encode import identity_features
from f2d_core.errors import CacheError, ImageError, MismatchError, NoFaceError, SettingsError
from f2d_core.image import read_image
from f2d_core.networks import load_network
from f2d_core.testing import TINY_MSID, tiny_msid_state_dict
from f2d_core.weights import write_safetensors

SIZE = 64
SETTINGS = TripletSettings(size=SIZE)
PROMPTS = ("Oil painting style, S* face", "S* as a chef, looking at the camera")


def picture(path, seed, size=96):
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.RandomState(seed).randint(40, 216, (9, 9, 3)).astype(np.uint8)
    pixels = np.array(Image.fromarray(colours).resize((size, size), 3))
    pixels[:4, :4], pixels[:4, -4:] = 20, 230  # how the fake detector knows a mirrored picture
    Image.fromarray(pixels).save(path)


def write_list(folder, entries):
    lines = [json.dumps(entry, ensure_ascii="\\ud" in json.dumps(entry)) + "\n" for entry in entries]
    (folder / KEPT).write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def entries():
    """Two people, two edited pictures each."""
    return [
        {"face": f"faces/{who}.png", "image": f"edited/{who}/{i}_0.png", "prompt": prompt, "name": who.title()}
        for who in ("änne", "bob")
        for i, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture
def folder(tmp_path, entries):
    made = tmp_path / "aug"
    for i, entry in enumerate(entries):
        picture(made / entry["image"], i)
        picture(made / entry["face"], 10 + i // 2, size=120)
    write_list(made, entries)
    return made


@pytest.fixture
def triplet_models(models):
    return TripletModels(models.msid, models.codec, models.codec_sha256, lambda: models.detector)


@pytest.fixture
def cache(folder, tmp_path, triplet_models):
    return prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS, batch=3)


def test_every_triplet_becomes_a_sample_in_the_order_of_the_edited_pictures(cache, entries):
    assert [photo.name for photo in cache.photos] == [entry["image"] for entry in entries[2:] + entries[:2]]
    assert [photo.face for photo in cache.photos] == ["faces/bob.png"] * 2 + ["faces/änne.png"] * 2
    assert cache.prompts == PROMPTS and cache.caption(1) == PROMPTS[1]
    assert (len(cache), cache.id_width, cache.expression_width) == (4, 256, 0)


def test_sample_is_what_the_parts_give(cache, folder, models):
    samples = cache.batch([1, 1], [False, True])

    rgb, face = read_image(folder / cache.photos[1].name), read_image(folder / "faces/bob.png")
    points = models.detector.detect(face, 0.5)[0].points
    views = [align_face(face, points), align_face(np.ascontiguousarray(face[:, ::-1]), mirror_points(points, 120))]
    assert torch.allclose(samples.v_id, identity_features(views, models.msid), atol=1e-5)
    small = torch.from_numpy(np.array(Image.fromarray(rgb).resize((8, 8), Image.Resampling.BOX))) / 127.5 - 1
    found = samples.latent_mean[:, :3] - torch.linspace(0, 1, 8)
    assert torch.allclose(found[0], small.permute(2, 0, 1), atol=0.05)
    assert torch.allclose(found[1], small.permute(2, 0, 1).flip(2), atol=0.05)
    assert samples.mask.eq(1).all() and samples.mask.shape == (2, 1, 8, 8) and samples.v_exp.shape == (2, 0)
    assert samples.prompts == (PROMPTS[1],) * 2


def test_points_that_are_given_are_used_and_nothing_is_detected(folder, tmp_path, entries, triplet_models):
    points = [[40.0, 45.0], [70.0, 44.0], [55.0, 60.0], [43.0, 80.0], [68.0, 79.0]]
    write_list(folder, [{**entry, "points": points} for entry in entries])
    blind = replace(triplet_models, detector=lambda: pytest.fail("asked for a detector"))

    cache = prepare_triplets(folder, tmp_path / "cache", blind, SETTINGS)

    face = read_image(folder / "faces/bob.png")
    expected = identity_features([align_face(face, np.array(points))], triplet_models.msid)
    assert torch.allclose(cache.batch([0], [False]).v_id, expected, atol=1e-5)
    assert cache.photos[0].how == "points given" and cache.manifest.made.models["detector"] == ""
    write_list(folder, [{**entry, "points": (np.array(points) + 3).tolist()} for entry in entries])
    again = prepare_triplets(folder, tmp_path / "cache", blind, SETTINGS)
    assert not torch.allclose(again.batch([0], [False]).v_id, expected, atol=1e-3)


def test_a_face_is_looked_for_once_however_many_pictures_it_has(folder, tmp_path, models, triplet_models):
    class Counting(type(models.detector)):
        seen = 0

        def detect(self, rgb, threshold):
            Counting.seen += 1
            return super().detect(rgb, threshold)

    counted = replace(triplet_models, detector=Counting)
    prepare_triplets(folder, tmp_path / "cache", counted, SETTINGS, workers=1)
    assert Counting.seen == 2


def test_a_plain_encoder_gives_dreamidentitys_features(folder, photos, tmp_path, triplet_models, models):
    state = tiny_msid_state_dict(replace(TINY_MSID, levels=(3,)))
    plain = load_network(write_safetensors(tmp_path / "plain.safetensors", state), "msid")
    cache = prepare_triplets(folder, tmp_path / "t", replace(triplet_models, msid=plain), SETTINGS)
    own = prepare(photos, tmp_path / "p", replace(models, msid=plain), PrepareSettings(size=SIZE))

    face = read_image(folder / "faces/bob.png")
    crop = align_face(face, models.detector.detect(face, 0.5)[0].points)
    expected = identity_features([crop], plain, features="dreamidentity")
    assert cache.id_width == own.id_width == 320 and own.facts["features"] == cache.facts["features"] == "dreamidentity"
    assert torch.allclose(cache.batch([0], [False]).v_id, expected, atol=1e-5)
    assert Cache.open(own.folder).settings == own.settings == replace(own.settings, features="dreamidentity")
    settings = TripletSettings(size=SIZE, features="msid")
    assert prepare_triplets(folder, tmp_path / "m", replace(triplet_models, msid=plain), settings).id_width == 64
    with pytest.raises(MismatchError, match="expected a plain ArcFace encoder"):
        prepare_triplets(folder, tmp_path / "n", triplet_models, TripletSettings(size=SIZE, features="dreamidentity"))


def test_what_cannot_be_used_is_left_out_with_the_reason(folder, tmp_path, entries, triplet_models):
    (folder / entries[0]["image"]).unlink()
    (folder / entries[1]["image"]).write_bytes(b"no picture")
    Image.new("RGB", (96, 64)).save(folder / entries[2]["image"])
    small = {**entries[0], "image": "edited/small.png"}
    picture(folder / "edited/small.png", 5, size=20)
    Image.new("RGB", (120, 120)).save(folder / "faces/dark.png")
    dark, gone = (
        {**entries[3], "face": f"faces/{name}.png", "image": f"edited/{name}.png"} for name in ("dark", "gone")
    )
    for entry in (dark, gone):
        picture(folder / entry["image"], 7)
    write_list(folder, [*entries, small, dark, gone])

    cache = prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS, batch=2)

    assert [photo.name for photo in cache.photos] == [entries[3]["image"]]
    reasons = {photo.name: photo.reason for photo in cache.rejected}
    for entry, words in (
        (entries[0], "The file 0_0.png cannot be read: No such file"),
        (entries[1], "1_0.png is not a picture"),
        (entries[2], "96 x 64 px"),
        (small, "too small: 20 px wide, expected at least 32"),
        (dark, "Its face picture faces/dark.png: No face was found"),
        (gone, "The file gone.png cannot be read"),
    ):
        assert words in reasons[entry["image"]], entry
    page = read_image(cache.folder / REPORT)
    assert page.shape[0] > 400 and (page.astype(int) < 8).all(axis=2).sum() > 0


def test_none_that_can_be_used_is_an_error_with_the_first_reason(folder, tmp_path, entries, triplet_models):
    for who in ("änne", "bob"):
        Image.new("RGB", (120, 120)).save(folder / "faces" / f"{who}.png")
    with pytest.raises(NoFaceError, match=r"None of the 4 triplets .* edited/bob/0_0.png: Its face picture"):
        prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS)
    assert (tmp_path / "cache" / REPORT).exists()


def test_changed_triplets_are_noticed(folder, tmp_path, entries, triplet_models, cache):
    picture(folder / "faces/bob.png", 99, size=120)
    new = {**entries[1], "prompt": "S* in the rain"}
    write_list(folder, [new, *entries[2:]])
    again = prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS)
    fresh = prepare_triplets(folder, tmp_path / "fresh", triplet_models, SETTINGS)

    assert len(again) == 3 and again.caption(2) == "S* in the rain"
    assert again.fingerprint == fresh.fingerprint != cache.fingerprint
    found, expected = again.batch([0, 1, 2], [False] * 3), fresh.batch([0, 1, 2], [False] * 3)
    assert torch.allclose(found.v_id, expected.v_id, atol=1e-5)
    assert torch.equal(found.latent_mean, expected.latent_mean) and found.prompts == expected.prompts


def test_a_prompt_counts_in_the_fingerprint(folder, tmp_path, entries, triplet_models, cache):
    write_list(folder, [{**entry, "prompt": entry["prompt"] + "!"} for entry in entries])
    again = prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS)
    assert again.fingerprint != cache.fingerprint and again.caption(0) == PROMPTS[0] + "!"


def test_nothing_is_read_again_when_nothing_has_changed(folder, tmp_path, triplet_models, cache, monkeypatch):
    before = (cache.folder / MANIFEST).read_bytes()
    monkeypatch.setattr(module, "read_image", lambda path: pytest.fail("read a picture again"))
    prepare_triplets(folder, tmp_path / "cache", triplet_models, SETTINGS)
    assert (cache.folder / MANIFEST).read_bytes() == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [1, 3, 6, 9, 14])
def test_stopped_at_any_write_it_goes_on_to_the_same_triplets(
    folder, tmp_path, triplet_models, cache, monkeypatch, moment
):
    left = [moment]
    plain = writer_module._write_all

    def dying(file, data):
        left[0] -= 1
        if left[0] == 0:
            plain(file, data[: len(data) // 2])
            raise Killed
        plain(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "_write_all", dying)
        with pytest.raises(Killed):
            prepare_triplets(folder, tmp_path / "other", triplet_models, SETTINGS, batch=1)
    with pytest.raises(CacheError, match="is not finished"):
        Triplets.open(tmp_path / "other")
    other = prepare_triplets(folder, tmp_path / "other", triplet_models, SETTINGS, batch=1)
    assert other.fingerprint == cache.fingerprint and not (other.folder / JOURNAL).exists()
    found, expected = (c.batch([0, 1, 2, 3], [False, True] * 2) for c in (other, cache))
    assert torch.allclose(found.v_id, expected.v_id, atol=1e-5) and found.prompts == expected.prompts


def test_photos_and_triplets_are_not_taken_for_each_other(folder, photos, tmp_path, triplet_models, models, cache):
    own = prepare(photos, tmp_path / "photos_cache", models, PrepareSettings(size=SIZE))
    with pytest.raises(CacheError, match="holds editing triplets: expected prepared photos"):
        Cache.open(cache.folder)
    with pytest.raises(CacheError, match="holds prepared photos: expected editing triplets"):
        Triplets.open(own.folder)
    with pytest.raises(CacheError, match="holds prepared photos: expected editing triplets"):
        prepare_triplets(folder, own.folder, triplet_models, SETTINGS)
    with pytest.raises(CacheError, match="holds editing triplets: expected prepared photos"):
        prepare(photos, cache.folder, models, PrepareSettings(size=SIZE))


def test_other_settings_and_models_are_refused(folder, tmp_path, triplet_models, cache):
    with pytest.raises(CacheError, match="max_enlargement: 2.0, now 3.0"):
        prepare_triplets(folder, cache.folder, triplet_models, replace(SETTINGS, max_enlargement=3.0))
    with pytest.raises(CacheError, match="autoencoder: cdcdcdcdcdcd…, now efefefefefef…"):
        prepare_triplets(folder, cache.folder, replace(triplet_models, codec_sha256="ef" * 32), SETTINGS)
    with pytest.raises(SettingsError, match="batch is 0 triplets"):
        prepare_triplets(folder, cache.folder, triplet_models, SETTINGS, batch=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image": "../other/a.png"}, 'names "../other/a.png": expected a path that stays in the folder'),
     ({"face": "/etc/passwd"}, 'names "/etc/passwd"'), ({"face": "C:/faces/a.png"}, "C:/faces"),
     ({"image": "edited\\a.png"}, "stays in the folder"), ({"image": "a\0b.png"}, "stays in the folder"),
     ({"image": ""}, "stays in the folder"), ({"image": "link/a.png"}, "stays in the folder"),
     ({"image": 5}, "as texts"), ({"prompt": None}, "as texts"), ({"prompt": "a chef"}, r'"a chef": expected S\*'),
     ({"points": [[1, 2]]}, "is damaged"), ({"points": [[float("nan"), 1]] * 5}, "is damaged"),
     ({"image": "\ud800.png"}, "is damaged"),
        ({"prompt": "S* \udfff"}, "is damaged"),
        ({"points": "12345"}, "is damaged")],
)  # fmt: skip
def test_a_hostile_or_damaged_line_is_refused_by_number(folder, tmp_path, entries, change, message):
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    write_list(folder, [entries[0], {**entries[1], **change}])
    with pytest.raises(ImageError, match=message) as caught:
        read_triplets(folder)
    assert "Line 2 of" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b"null\n", b'{"face": "a"}\n', b"[" * 100_000, b"\xff\xfe\n"])
def test_a_damaged_list_is_refused_in_one_line(folder, content):
    (folder / KEPT).write_bytes(content)
    with pytest.raises(ImageError, match=r"is damaged|cannot be read") as caught:
        read_triplets(folder)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_missing_or_names_a_picture_twice(folder, entries, tmp_path):
    write_list(folder, [entries[0], entries[0]])
    with pytest.raises(ImageError, match="Line 2 of .* lists edited/änne/0_0.png again"):
        read_triplets(folder)
    with pytest.raises(ImageError, match="kept.jsonl cannot be read .*No such file"):
        read_triplets(tmp_path / "nowhere")


def test_line_separators_of_unicode_may_stand_in_a_prompt(folder, entries):
    write_list(folder, [{**entries[0], "prompt": "S*\u2028as a chef"}])
    assert read_triplets(folder)[entries[0]["image"]].prompt == "S*\u2028as a chef"
