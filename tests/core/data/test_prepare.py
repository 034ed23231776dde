"""From a folder of photos to samples: the values, the rejects, and folders that change."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.align import align_expression, align_face, mirror_points
from f2d_core.data import prepare as module
from f2d_core.data.cache import JOURNAL, MANIFEST, REPORT, Cache
from f2d_core.data.crop import crop_face, ffhq_square
from f2d_core.data.masks import face_region, to_latent
from f2d_core.data.prepare import prepare
from f2d_core.data.settings import PrepareSettings
from f2d_core.detect import Face
from f2d_core.detectors import build_detector
from f2d_core.encode import expression_features, identity_features
from f2d_core.errors import CacheError, ImageError, MismatchError, NoFaceError, OutputError, SettingsError
from f2d_core.image import read_image
from f2d_core.weights import file_sha256

SIZE = 64


@pytest.fixture
def cache(photos, tmp_path, models, settings) -> Cache:
    return prepare(photos, tmp_path / "cache", models, settings, batch=2)


def cropped(photos: Path, name: str, models, settings):
    rgb = read_image(photos / name)
    face = models.detector.detect(rgb, 0.5)[0]
    return crop_face(rgb, face, ffhq_square(face.points), settings.size)


def names(cache: Cache) -> list[str]:
    return [photo.name for photo in cache.photos]


def test_every_photo_with_a_face_becomes_a_sample_in_the_order_of_names(cache):
    assert names(cache) == ["0.png", "1.png", "2.png", "3.png", "more/5.jpg"]
    assert [photo.name for photo in cache.rejected] == ["nobody.png"]
    assert "No face was found" in cache.rejected[0].reason
    assert len(cache) == 5 and cache.id_width == 256 and cache.expression_width == 64


def test_sample_is_what_the_parts_give(cache, photos, models, settings):
    crop = cropped(photos, "2.png", models, settings)
    pixels = torch.from_numpy(crop.pixels).permute(2, 0, 1)[None] / 127.5 - 1
    mean, logvar = models.codec.encode(pixels)
    region = face_region(
        models.masks.labels(crop.pixels[None])[0], "face", tuple((b + 0.5) * 8 - 0.5 for b in crop.box)
    )

    sample = cache.batch([2], [False])

    assert torch.equal(sample.latent_mean, mean.half().float())
    assert torch.equal(sample.latent_logvar, logvar.half().float())
    v_id = identity_features([align_face(crop.pixels, crop.points)], models.msid)
    v_exp = expression_features([align_expression(crop.pixels, crop.points)], models.recon)
    assert torch.allclose(sample.v_id, v_id, atol=1e-5) and torch.allclose(sample.v_exp, v_exp, atol=1e-5)
    assert torch.equal(sample.mask[0, 0], torch.from_numpy(to_latent(region, (8, 8), False)) / 255)
    assert 0.2 < sample.mask.mean() < 0.5


def test_flip_is_the_mirrored_photo_and_not_the_mirrored_features(photos, tmp_path, models, settings, cache):
    """The photos mirrored on disk, with the face found in the mirrored place, give the flips of the first cache."""
    mirrored = tmp_path / "mirrored"
    for photo in cache.photos:
        path = (mirrored / photo.name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_image(photos / photo.name)[:, ::-1]).save(path)
    other = prepare(mirrored, tmp_path / "mirrored_cache", models, settings)

    flipped, plain = cache.batch(range(5), [True] * 5), other.batch(range(5), [False] * 5)

    for name, tolerance in (
        ("latent_mean", 0.01),
        ("latent_logvar", 0.01),
        ("v_id", 0.05),
        ("v_exp", 0.02),
        ("mask", 0),
    ):
        assert torch.allclose(getattr(flipped, name), getattr(plain, name), atol=tolerance), name
    unflipped = cache.batch(range(5), [False] * 5)
    assert torch.equal(flipped.mask, unflipped.mask.flip(3))
    assert not torch.allclose(flipped.latent_mean, unflipped.latent_mean.flip(3), atol=0.1)


def test_flip_aligns_again(cache, photos, models, settings):
    crop = cropped(photos, "0.png", models, settings)
    mirrored, points = crop.pixels[:, ::-1], mirror_points(crop.points, SIZE)
    aligned = identity_features([align_face(mirrored, points)], models.msid)
    lazy = identity_features([np.ascontiguousarray(align_face(crop.pixels, crop.points)[:, ::-1])], models.msid)

    found = cache.batch([0], [True]).v_id

    assert torch.allclose(found, aligned, atol=1e-5) and not torch.allclose(found, lazy, atol=1e-3)


def test_manifest_says_what_everything_was_made_with(cache, photos, models):
    content = json.loads((cache.folder / MANIFEST).read_text())

    assert content["models"] == {
        "msid": models.msid.sha256,
        "expression_encoder": models.recon.sha256,
        "autoencoder": "cd" * 32,
        "detector": "fake",
        "parser": "ab" * 32,
    }
    assert content["settings"]["size"] == SIZE and content["settings"]["mask"] == "face"
    assert content["photos"][0]["sha256"] == file_sha256(photos / "0.png")
    assert content["rejected"][0]["sha256"] == file_sha256(photos / "nobody.png")
    assert not (cache.folder / JOURNAL).exists() and (cache.folder / REPORT).exists()
    assert cache.facts["msid_sha256"] == models.msid.sha256


def test_captions_are_the_texts_beside_the_photos(photos, tmp_path, models, settings):
    (photos / "1.txt").write_text("a photo of S* in a garden\n", encoding="utf-8")
    out = tmp_path / "cache"
    cache = prepare(photos, out, models, settings)
    assert [cache.caption(i) for i in range(3)] == ["A photo of S*", "a photo of S* in a garden", "A photo of S*"]

    (photos / "1.txt").write_text("S* smiles", encoding="utf-8")
    again = prepare(photos, out, models, settings)

    assert again.caption(1) == "S* smiles" and again.fingerprint == cache.fingerprint


def test_without_an_expression_encoder_there_are_no_expressions(photos, tmp_path, models, settings):
    cache = prepare(photos, tmp_path / "cache", replace(models, recon=None), settings)

    assert cache.batch([0, 1], [False, True]).v_exp.shape == (2, 0) and cache.expression_width == 0
    assert not (cache.folder / "v_exp.npy").exists()


def test_latents_are_as_large_as_the_autoencoder_makes_them(photos, tmp_path, models, settings):
    class Small(type(models.codec)):
        reduction = 4

        def encode(self, pixels):
            return super().encode(torch.nn.functional.interpolate(pixels, scale_factor=2))

    cache = prepare(photos, tmp_path / "cache", replace(models, codec=Small()), settings)
    samples = cache.batch([0], [False])
    assert samples.latent_mean.shape == (1, 4, 16, 16) and samples.mask.shape == (1, 1, 16, 16)


def test_photos_that_are_cropped_already_are_taken_whole(photos, tmp_path, models):
    settings = PrepareSettings(size=SIZE, already_cropped=True)
    cache = prepare(photos, tmp_path / "cache", models, settings)

    assert "200 x 180 px" in next(photo.reason for photo in cache.rejected if photo.name == "more/5.jpg")
    small = np.asarray(Image.open(photos / "0.png").resize((8, 8), Image.Resampling.BOX)) / 127.5 - 1
    mean = cache.batch([0], [False]).latent_mean[0, 0] - torch.linspace(0, 1, 8)
    assert torch.allclose(mean, torch.from_numpy(small[..., 0]).float(), atol=0.05)


def test_ready_masks_are_cut_as_the_photos_are(photos, tmp_path, models, settings):
    masks = tmp_path / "masks"
    for name, size in (("0.png", (160, 160)), ("1.jpg", (160, 160)), ("2.png", (80, 80)), ("more/5.png", (200, 180))):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((size[1], size[0]), np.uint8)
        mask[:, : size[0] // 2] = 0 if name == "more/5.png" else 255
        Image.fromarray(mask).save(masks / name)
    cache = prepare(photos, tmp_path / "cache", replace(models, masks=masks), settings)

    assert names(cache) == ["0.png", "1.png"]
    reasons = {photo.name: photo.reason for photo in cache.rejected}
    assert "80 x 80 px, expected 160 x 160" in reasons["2.png"] and "no ready mask" in reasons["3.png"]
    assert "mask is empty" in reasons["more/5.jpg"]
    mask = cache.batch([0], [False]).mask[0, 0]
    edge = (79.5 - 0.5 - cache.photos[0].square[0]) / cache.photos[0].square[2] * 4 + 4  # latents, about upright
    assert (mask[:, : int(edge) - 1] > 0.99).all() and (mask[:, int(edge) + 2 :] == 0).all()

    Image.fromarray(np.full((160, 160), 255, np.uint8)).save(masks / "3.png")
    assert names(prepare(photos, tmp_path / "cache", replace(models, masks=masks), settings)) == [
        "0.png",
        "1.png",
        "3.png",
    ]


def test_small_faces_and_faces_at_the_edge_are_left_out(photos, tmp_path, models):
    settings = PrepareSettings(size=512, max_enlargement=3)
    with pytest.raises(
        NoFaceError, match=r"None of the 6 photos.*0\.png: The face is too small.*expected at least 171"
    ):
        prepare(photos, tmp_path / "cache", models, settings)
    read = read_image(photos / "0.png")
    shutil.rmtree(photos)
    photos.mkdir()
    Image.fromarray(read).save(photos / "0.png")
    models.detector.detect = lambda rgb, threshold: [face_at_the_left_edge(rgb)]
    with pytest.raises(NoFaceError, match="too near the edge: 37% of its square"):
        prepare(photos, tmp_path / "edge", models, PrepareSettings(size=SIZE))


def face_at_the_left_edge(rgb):
    points = np.array([(0, 70), (32, 70), (16, 86), (3, 102), (29, 102)], np.float64)
    return Face((0.0, 40.0, 40.0, 120.0), points, 0.9)


# --- bad input ---


def test_a_folder_without_photos(tmp_path, models, settings):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.md").write_text("nothing")
    with pytest.raises(ImageError, match="has no photos"):
        prepare(tmp_path / "photos", tmp_path / "cache", models, settings)
    with pytest.raises(ImageError, match="is no folder"):
        prepare(tmp_path / "missing", tmp_path / "cache", models, settings)
    assert not (tmp_path / "cache").exists()


def test_unreadable_photos_are_rejects(photos, tmp_path, models, settings):
    (photos / "a_text.jpg").write_text("no picture")
    (photos / "b_cut.png").write_bytes((photos / "0.png").read_bytes()[:2000])
    (photos / "c_gone.png").symlink_to(photos / "nowhere.png")
    cache = prepare(photos, tmp_path / "cache", models, settings)

    reasons = {photo.name: photo.reason for photo in cache.rejected}
    assert "is not a picture" in reasons["a_text.jpg"] and "damaged or incomplete" in reasons["b_cut.png"]
    assert "cannot be read" in reasons["c_gone.png"] and len(cache) == 5


def test_all_rejected_says_why_and_leaves_a_report(photos, tmp_path, models, settings):
    models.detector.detect = lambda rgb, threshold: []
    out = tmp_path / "cache"
    with pytest.raises(NoFaceError, match=r"None of the 6 photos .* No face was found.*report\.png"):
        prepare(photos, out, models, settings)

    assert (out / REPORT).exists() and not (out / MANIFEST).exists()
    with pytest.raises(CacheError, match="is not finished"):
        Cache.open(out)


def test_a_cache_made_otherwise_is_refused_with_the_differences(cache, photos, models, settings):
    other = replace(settings, mask="head", size=128)
    with pytest.raises(CacheError, match="size: 64, now 128; mask: face, now head") as caught:
        prepare(photos, cache.folder, models, other)
    assert "\n" not in str(caught.value)
    with pytest.raises(CacheError, match="autoencoder: cdcdcdcdcdcd…, now ffffffffffff…"):
        prepare(photos, cache.folder, replace(models, codec_sha256="f" * 64), settings)
    with pytest.raises(CacheError, match="expression_encoder: .*, now none"):
        prepare(photos, cache.folder, replace(models, recon=None), settings)
    assert len(Cache.open(cache.folder, settings, models.hashes)) == 5


def test_a_folder_of_other_files_is_not_written_to(photos, tmp_path, models, settings):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "diary.txt").write_text("dear")
    with pytest.raises(CacheError, match=r"holds other files \(diary.txt"):
        prepare(photos, out, models, settings)
    assert [path.name for path in out.iterdir()] == ["diary.txt"]


def test_a_place_that_cannot_be_written(photos, tmp_path, models, settings):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((OutputError, CacheError), match="file"):
        prepare(photos, tmp_path / "file" / "cache", models, settings)


def test_values_that_are_not_numbers_stop_with_the_photo_named(photos, tmp_path, models, settings):
    encode = models.codec.encode
    models.codec.encode = lambda pixels: tuple(value * 1e6 for value in encode(pixels))
    with pytest.raises(MismatchError, match=r"latent_mean of 0\.png has values.*fp32"):
        prepare(photos, tmp_path / "cache", models, settings)


def test_autoencoders_of_other_latents_are_refused(photos, tmp_path, models, settings):
    encode = models.codec.encode
    models.codec.encode = lambda pixels: tuple(value[:, :, ::2, ::2] for value in encode(pixels))
    with pytest.raises(MismatchError, match="latents of 4 x 4 for 64 px, expected 8 x 8"):
        prepare(photos, tmp_path / "cache", models, settings)


def test_settings_out_of_range():
    for wrong in ({"size": 100}, {"size": 0}, {"max_outside": 1.0}, {"mask": "nose"}, {"max_enlargement": 0.5}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            PrepareSettings(**wrong)


def test_a_caption_that_is_no_text(photos, tmp_path, models, settings):
    (photos / "0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImageError, match=r"caption .*0\.txt cannot be read"):
        prepare(photos, tmp_path / "cache", models, settings)


# --- folders that change ---


def test_nothing_to_do_does_nothing(cache, photos, models, settings, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    monkeypatch.setattr(module, "file_sha256", lambda path: pytest.fail("read a photo again"))

    again = prepare(photos, cache.folder, models, settings)

    assert {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == before
    assert again.fingerprint == cache.fingerprint


def test_touched_but_equal_photos_are_not_prepared_again(cache, photos, models, settings):
    shutil.copy(photos / "0.png", photos / "copy")
    (photos / "copy").replace(photos / "0.png")
    models.codec.encode = lambda pixels: pytest.fail("prepared again")

    assert prepare(photos, cache.folder, models, settings).fingerprint == cache.fingerprint


def test_added_removed_and_changed_photos(cache, photos, tmp_path, models, settings):
    kept = cache.batch([3], [True])
    (photos / "0.png").unlink()
    shutil.copy(photos / "2.png", photos / "nobody.png")
    shutil.copy(photos / "3.png", photos / "1.png")

    again = prepare(photos, cache.folder, models, settings)

    assert names(again) == ["1.png", "2.png", "3.png", "more/5.jpg", "nobody.png"] and not again.rejected
    fresh = prepare(photos, tmp_path / "fresh", models, settings)
    assert again.fingerprint == fresh.fingerprint != cache.fingerprint
    order = [0, 1, 2, 3, 4]
    for flips in ([False] * 5, [True] * 5):
        for name in ("latent_mean", "latent_logvar", "v_id", "v_exp", "mask"):
            value = getattr(again.batch(order, flips), name)
            assert torch.allclose(value, getattr(fresh.batch(order, flips), name), atol=1e-5), name
    assert torch.equal(again.batch([2], [True]).latent_mean, kept.latent_mean)


def test_nothing_of_a_removed_photo_is_left(cache, photos, models, settings):
    row = cache.photos[1].row
    assert np.load(cache.folder / "latent_mean.npy")[row].any()
    (photos / "1.png").unlink()

    again = prepare(photos, cache.folder, models, settings)

    assert names(again) == ["0.png", "2.png", "3.png", "more/5.jpg"]
    for array in cache.folder.glob("*.npy"):
        assert not np.load(array)[row].any()
    (photos / "more" / "5.jpg").unlink()  # the last row
    prepare(photos, cache.folder, models, settings)
    assert all(len(np.load(array)) == 4 for array in cache.folder.glob("*.npy"))


def test_an_old_reader_keeps_its_samples_while_photos_are_added(cache, photos, models, settings):
    before = cache.batch(range(5), [False] * 5)
    shutil.copy(photos / "0.png", photos / "00.png")
    prepare(photos, cache.folder, models, settings)

    assert torch.equal(cache.batch(range(5), [False] * 5).latent_mean, before.latent_mean)


def test_cache_and_masks_inside_the_folder_are_not_photos(photos, models, settings):
    first = prepare(photos, photos / "cache", models, settings)
    second = prepare(photos, photos / "cache", models, settings)

    assert names(first) == names(second) and len(second.rejected) == 1


def test_progress_counts_photos_and_may_stop_the_work(photos, tmp_path, models, settings):
    class Stop(Exception):
        pass

    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        prepare(photos, tmp_path / "cache", models, settings, batch=2, progress=progress)
    assert seen == [(2, 6), (4, 6)]

    seen.clear()
    cache = prepare(photos, tmp_path / "cache", models, settings, batch=2, progress=lambda *x: seen.append(x))
    assert seen == [(2, 2)] and len(cache) == 5


def test_number_of_threads_and_batches_do_not_matter(photos, tmp_path, models, settings, cache):
    other = prepare(photos, tmp_path / "other", models, settings, batch=3, workers=5)

    assert other.fingerprint == cache.fingerprint
    assert torch.allclose(other.batch([4], [True]).v_id, cache.batch([4], [True]).v_id, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of OpenCV's Python bindings on import
def test_a_real_detector_finds_the_face_that_is_cropped(golden, yunet_file, tmp_path, models):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("0.jpg", "1.jpg"):
        shutil.copy(golden / "images" / name, folder)
    real = replace(models, detector=build_detector("yunet", yunet_file))

    cache = prepare(folder, tmp_path / "cache", real, PrepareSettings(size=128))

    assert names(cache) == ["0.jpg", "1.jpg"]
    for photo in cache.photos:  # these pictures are FFHQ crops themselves: nearly the whole is cut out
        assert np.allclose(photo.square, (255.5, 255.5, 256, 0), atol=40)
