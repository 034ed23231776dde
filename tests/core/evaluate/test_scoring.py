"""Scores of pictures on disk against the formulas by hand; reading each picture once; folders as people have them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from f2d_core.errors import ImageError, NoFaceError, SettingsError
from f2d_core.evaluate.distance import distances, real_pictures
from f2d_core.evaluate.features import FeatureCache
from f2d_core.evaluate.fid import frechet_distance, moments
from f2d_core.evaluate.judges import Judges
from f2d_core.evaluate.plan import plan_from, with_images
from f2d_core.evaluate.reading import Reader
from f2d_core.evaluate.scoring import averaged, columns_of, score_method
from f2d_core.evaluate.work import find_photos
from f2d_core.image import read_image, write_png
from tests.support.evaluate_process import PHOTO_PX, POINTS, FakeDetector, judges
from tests.support.extractors import FakeIdentity, FakeImageText, FakeInception

PLAN = {
    "pictures": 2,
    "methods": {"a": {}},
    "prompts": {"job": {"chef": "S* as a chef"}, "scene": {"sea": "S* at sea"}},
}
FACES = ("anna", "ben")


def noise(seed, px=64, level=130):
    return np.random.RandomState(seed).randint(level - 100, level + 100, (px, px, 3)).astype(np.uint8)


@pytest.fixture
def world(tmp_path):
    """(plan, photos, folder with the pictures of method a); one picture of ben is too dark to show a face."""
    for i, face in enumerate(FACES):
        write_png(tmp_path / "faces" / f"{face}.png", noise(i, PHOTO_PX))
        for j, prompt in enumerate(("_reference", "chef", "sea")):
            for n in range(2):
                level = 101 if (face, prompt, n) == ("ben", "sea", 1) else 140
                write_png(
                    tmp_path / "pictures" / "a" / face / prompt / f"{n}.png",
                    noise(100 + i * 9 + j * 2 + n, level=level),
                )
    return plan_from(PLAN), find_photos(tmp_path / "faces"), tmp_path


def all_judges():
    found = judges()
    return Judges(tuple(found.identity.values()), tuple(found.image_text.values()))


class Opposite(FakeIdentity):
    """Finds pictures to be the contrary of photos."""

    def features(self, pictures, points):
        sign = torch.tensor([1.0 if len(rgb) == PHOTO_PX else -1.0 for rgb in pictures])
        return super().features(pictures, points) * sign[:, None]


def reader_of(judges_, folder=None, detector=None, **options):
    return Reader(FeatureCache(folder), judges_, detector or FakeDetector(), **options)


def score(world, judges_=None, plan=None, method="a", reader=None):
    base, photos, folder = world
    plan, judges_ = plan or base, judges_ or all_judges()
    return score_method(plan, plan.method(method), photos, folder, reader or reader_of(judges_), judges_)


def cos(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_scores_are_the_formulas(world):
    found = score(world)
    folder = world[2]
    row = found.keys.index(("ben", "chef", 1))
    rgb, photo = read_image(folder / "pictures/a/ben/chef/1.png"), read_image(folder / "faces/ben.png")
    reference = read_image(folder / "pictures/a/ben/_reference/1.png")
    (identity,) = FakeIdentity().features([rgb], [POINTS * 64])
    (own,) = FakeIdentity().features([photo], [POINTS * PHOTO_PX])
    picture, before = FakeImageText().image_features([rgb, reference])
    text, start = FakeImageText().text_features(["a person as a chef", "A photo of a person"])
    expected = {
        "adaface": max(cos(identity, own), 0),
        "clip": max(cos(picture, text), 0),
        "dclip": max(cos(picture.double() - before.double(), text.double() - start.double()), 0),
        "siglip": 1 / (1 + np.exp(-(10 * cos(picture, text) - 3))),
    }
    for metric, value in expected.items():
        assert found.columns[metric][row] == pytest.approx(value, abs=1e-6), metric
    six = [found.columns[metric][row] for metric in ("adaface", "sphereface", "facenet", "clip", "dclip", "siglip")]
    assert found.columns["hmean"][row] == pytest.approx(6 / sum(1 / v for v in six) if min(six) > 0 else 0)
    assert found.columns["gmean"][row] == pytest.approx(np.prod(six) ** (1 / 6))
    assert len(found) == 8 and found.missing == 0 and found.groups[row] == "job"


def test_without_a_face_identity_and_means_are_0(world):
    found = score(world)
    row = found.keys.index(("ben", "sea", 1))
    assert not found.found[row] and found.found.sum() == 7
    assert [found.columns[metric][row] for metric in ("adaface", "sphereface", "facenet", "hmean", "gmean")] == [0] * 5
    assert found.columns["clip"][row] > 0


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_make_no_difference(world, batch):
    one, other = score(world), score(world, reader=reader_of(all_judges(), batch=batch))
    for metric, values in one.columns.items():
        assert np.allclose(values, other.columns[metric], atol=1e-6)


def test_nothing_is_read_searched_or_judged_twice(world):
    found = judges()
    kept = Judges(tuple(found.identity.values()), tuple(found.image_text.values()))
    reader = reader_of(kept, world[2] / "features")
    score(world, kept, reader=reader)
    counts = dict(reader.counts)
    pictures, photos = 12, 2
    assert counts["decoded"] == counts["searched"] == pictures + photos
    assert found.image_text["clip_h14"].read == ["a person as a chef", "a person at sea", "A photo of a person"]
    assert found.image_text["clip_h14"].seen == pictures + photos
    assert found.identity["facenet"].seen == pictures + photos - 1  # one has no face
    score(world, kept, reader=reader)
    assert dict(reader.counts) == counts
    later = reader_of(kept, world[2] / "features")
    score(world, kept, reader=later)
    assert not later.counts


def test_columns_follow_what_is_there():
    found = judges()
    adaface = found.identity["adaface_ir50"]
    other = FakeIdentity("IR-101", "adaface_ir101", "9" * 64)
    clip = found.image_text["clip_h14"]
    names = [(c.metric, c.judge) for c in columns_of(Judges((adaface, other), (clip,)))]
    assert names == [("adaface", adaface.name), ("clip", clip.name), ("dclip", clip.name), ("adaface_ir101", "IR-101")]
    assert averaged(columns_of(Judges((adaface, other), (clip,)))) == ["adaface", "clip", "dclip"]
    assert averaged(columns_of(Judges((adaface,), ()))) == [] == averaged(columns_of(Judges((), (clip,))))
    assert [c.metric for c in columns_of(Judges((other,), ()))] == ["adaface"]


def test_text_alone_is_scored_without_a_detector(world):
    clip = FakeImageText()
    found = score(world, Judges((), (clip,)), reader=Reader(FeatureCache(None), Judges((), (clip,)), None))
    assert set(found.columns) == {"clip", "dclip"}


def test_dreamidentitys_metrics_are_cosines_as_they_are(world):
    plan = plan_from({**PLAN, "paper": "dreamidentity"})
    kept = Judges((Opposite(kind="arcface"),), (FakeImageText(),))
    found = score(world, kept, plan)
    assert list(found.columns)[:2] == ["text_alignment", "face_similarity"]
    assert (found.columns["face_similarity"][found.found] < 0).all()  # not cut off at 0
    assert np.allclose(found.columns["text_alignment"].clip(0), found.columns["clip"])


def test_pictures_of_others_numbered_from_1_without_references(world, tmp_path):
    plan, _, folder = world
    for path in sorted((folder / "pictures" / "a").rglob("*.png")):
        if path.parent.name != "_reference":
            target = tmp_path / "theirs" / path.parent.relative_to(folder / "pictures" / "a")
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / f"{int(path.stem) + 1:03}.png")
    (tmp_path / "theirs" / "ben" / "sea" / "002.png").unlink()
    (tmp_path / "theirs" / "notes.txt").write_text("x")
    plan = with_images(plan, "theirs", tmp_path / "theirs")
    own, found = score(world), score(world, plan=plan, method="theirs")
    assert found.keys == [key for key in own.keys if key != ("ben", "sea", 1)] and found.missing == 1
    assert found.columns["clip"].tolist() == own.columns["clip"][: len(found)].tolist()
    assert np.isnan(found.columns["dclip"]).all() and np.isnan(found.columns["hmean"]).all()


def test_a_lacking_picture_leaves_the_others_their_references(world, tmp_path):
    """Others count from 1; their number 1 of one scene is lacking, and one reference too."""
    plan, _, folder = world
    own = score(world)
    for path in sorted((folder / "pictures" / "a").rglob("*.png")):
        target = tmp_path / "theirs" / path.parent.relative_to(folder / "pictures" / "a")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / f"{int(path.stem) + 1}.png")
    shutil.copy(tmp_path / "theirs/anna/sea/1.png", tmp_path / "theirs/anna/sea/01.png")  # the same number twice
    (tmp_path / "theirs/anna/chef/1.png").unlink()
    (tmp_path / "theirs/ben/_reference/1.png").unlink()
    found = score(world, plan=with_images(plan, "theirs", tmp_path / "theirs"), method="theirs")
    assert found.keys == [key for key in own.keys if key != ("anna", "chef", 0)] and found.missing == 1
    dclip = dict(zip(own.keys, own.columns["dclip"], strict=True))
    for key, value in zip(found.keys, found.columns["dclip"], strict=True):
        assert np.isnan(value) if (key[0], key[2]) == ("ben", 0) else value == dclip[key], key


class Doubtful(FakeDetector):
    """Sees faces in photos only when the threshold is lowered."""

    def detect(self, rgb, threshold):
        if len(rgb) == PHOTO_PX:
            return [replace(face, score=0.4) for face in super().detect(rgb, threshold) if threshold <= 0.4]
        return super().detect(rgb, threshold) if len(rgb) == 64 else []


def test_a_photo_from_which_s_star_was_made_can_be_judged(world):
    """Its face was found with a lowered threshold there, too; in pictures such faces do not count."""
    found = score(world, reader=reader_of(all_judges(), detector=Doubtful()))
    assert found.columns["adaface"].tolist() == score(world).columns["adaface"].tolist()
    write_png(world[2] / "pictures/a/anna/chef/0.png", noise(5, PHOTO_PX, level=140))
    again = score(world, reader=reader_of(all_judges(), detector=Doubtful()))
    assert not again.found[again.keys.index(("anna", "chef", 0))]


def test_folders_without_pictures(world, tmp_path):
    plan = world[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match='"empty" has no pictures in .*; expected FACE/PROMPT/N.png'):
        score(world, plan=with_images(plan, "empty", tmp_path / "empty"), method="empty")
    with pytest.raises(SettingsError, match="is no folder"):
        score(world, plan=with_images(plan, "x", tmp_path / "x"), method="x")


def test_a_photo_without_a_face(world):
    write_png(world[2] / "faces" / "ben.png", np.zeros((PHOTO_PX, PHOTO_PX, 3), np.uint8))
    with pytest.raises(NoFaceError, match=r"No face was found in ben\.png: identity cannot be judged"):
        score(world)


def test_a_damaged_picture_is_named(world):
    (world[2] / "pictures/a/anna/chef/0.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match="0.png is not a picture"):
        score(world)


def test_fid_and_kid_against_real_pictures(world, tmp_path):
    for i in range(5):
        write_png(tmp_path / "real" / "deep" / f"{i}.png", noise(50 + i))
    kept = all_judges()
    reader = reader_of(kept, inception=FakeInception())
    found = score(world, kept, reader=reader)
    assert reader.counts["decoded"] == 12 + 2
    (near,) = distances(real_pictures(tmp_path / "real"), [found], reader)
    assert reader.counts["decoded"] == 12 + 2 + 5  # each once, for all networks
    features = [FakeInception().features([read_image(path) for path in paths]) for paths in
                (found.paths, sorted((tmp_path / "real").rglob("*.png")))]  # fmt: skip
    assert near.fid == pytest.approx(frechet_distance(*map(moments, features)))
    assert np.isfinite(near.kid)
    with pytest.raises(SettingsError, match="has 0 pictures; expected at least 2 real ones"):
        real_pictures(tmp_path / "nothing")


def test_a_face_whose_points_cannot_be_aligned_is_none(world):
    class Flat(FakeDetector):
        def detect(self, rgb, threshold):
            faces = super().detect(rgb, threshold)
            return faces if len(rgb) == PHOTO_PX else [replace(face, points=np.zeros((5, 2))) for face in faces]

    found = score(world, reader=reader_of(all_judges(), detector=Flat()))
    assert not found.found.any() and not found.columns["adaface"].any()


def test_batches_without_any_face_have_rows_of_zeros(world):
    kept = all_judges()
    dark = [write_png(world[2] / f"dark{i}.png", np.full((64, 64, 3), i, np.uint8)) for i in range(3)]
    light = [photo.path for photo in world[1]]
    found = reader_of(kept, batch=3).pictures([*dark, *light])
    assert found.found.tolist() == [False] * 3 + [True] * 2
    assert all(torch.equal(rows[:3], torch.zeros(3, 16)) for rows in found.identity.values())
    nothing = reader_of(kept).pictures(dark)
    assert not nothing.found.any() and all(len(rows) == 3 for rows in nothing.identity.values())
