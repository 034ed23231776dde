"""Prompts, seeds and places of pictures: what they depend on, and what they do not."""

import pytest

from f2d_core.augment.plan import Shard, check_prompts, edit_jobs, face_jobs, slug, with_subject
from f2d_core.augment.settings import AugmentSettings
from f2d_core.errors import PromptError, SettingsError
from f2d_core.evaluate.prompts import DREAMIDENTITY_PROMPTS
from f2d_core.ports import Sampling

NAMES = ("Ada Lovelace", "Léon Foucault")


def test_the_papers_prompts_are_made_for_each_name():
    settings = AugmentSettings(faces_per_name=2)
    faces = face_jobs(NAMES, settings)
    edits = edit_jobs(faces[0], DREAMIDENTITY_PROMPTS, settings)

    assert [(f.name, f.number) for f in faces] == [(name, number) for number in (0, 1) for name in NAMES]
    assert faces[1].prompt == "Léon Foucault face, looking at the camera"
    assert edits[4].prompt == "S* as a wizard, looking at the camera" and len(edits) == 8
    assert edits[4].request == "Ada Lovelace as a wizard, looking at the camera"
    assert edits[4].path == f"edited/{faces[0].slug}/4_0.png" and faces[0].path == f"faces/{faces[0].slug}.png"


def test_the_defaults_are_the_papers():
    settings = AugmentSettings()
    assert settings.sampling == Sampling("ddim", 30, 7.5, 512, 512)
    assert (settings.keep, settings.min_face_px) == (0.25, 128)


def test_seeds_and_places_are_all_different_and_do_not_depend_on_the_rest():
    settings = AugmentSettings(faces_per_name=2, edits_per_prompt=2)
    faces = face_jobs(NAMES, settings)
    jobs = [*faces, *(edit for face in faces for edit in edit_jobs(face, ("S* a", "S* b"), settings))]
    known = {job.path: job for job in jobs}

    assert len(known) == len({job.seed for job in jobs}) == 4 + 16
    assert all(0 <= job.seed < 2**32 for job in jobs)
    more = AugmentSettings(faces_per_name=5, edits_per_prompt=3, keep=0.5)
    later = face_jobs(("Mark Twain", *NAMES), more)
    again = [*later, *(edit for face in later for edit in edit_jobs(face, ("S* a", "S* b", "S* c"), more))]
    assert {job.path: job for job in again if job.path in known} == known
    assert face_jobs(NAMES, AugmentSettings(seed=1))[0].seed != faces[0].seed


def test_shares_are_all_faces_once():
    faces = face_jobs([f"Name {letter}" for letter in "abcdefg"], AugmentSettings(faces_per_name=3))
    shares = [Shard(i, 4).of(faces) for i in range(4)]

    assert sorted(face.path for share in shares for face in share) == sorted(face.path for face in faces)
    assert {len(share) for share in shares} == {5, 6}
    for index, count in ((4, 4), (-1, 2), (0, 0)):
        with pytest.raises(SettingsError, match="expected a number from 0"):
            Shard(index, count)


def test_file_names_are_plain_and_tell_people_apart():
    names = ("Ada Lovelace", "ADA LOVELACE", "Ада Лавлейс", "山田 太郎", "../../etc", "con", "a" * 80, "a" * 79)
    slugs = [slug(name) for name in names]

    assert len(set(slugs)) == len(names)
    assert all(set(s) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and 9 < len(s) <= 49 for s in slugs)
    assert slug("Léon Foucault") == slug("Léon Foucault") and slugs[0].startswith("ada-lovelace-")


def test_prompts_are_checked_and_each_taken_once():
    assert check_prompts([" S*  as a chef", "S* as a chef", "", "a hat on S*"]) == ("S* as a chef", "a hat on S*")
    for wrong in ("a chef", "S** as a chef", "(S*:1.2) as a chef", "S* " + "x" * 300):
        with pytest.raises(PromptError, match="cannot be used: expected S\\* as a word of its own"):
            check_prompts(["S* as a chef", wrong])
    with pytest.raises(SettingsError, match="no editing prompt"):
        check_prompts([" "])


def test_every_marker_is_replaced():
    assert with_subject("S* in front of a portrait of S*", "a person") == "a person in front of a portrait of a person"


@pytest.mark.parametrize(
    "setting",
    [{"faces_per_name": 0}, {"steps": 0}, {"face_prompt": "a face"}, {"sampler": "x"}, {"cfg": float("nan")},
     {"size": 60}, {"crop": "x"}, {"min_face_px": 512}, {"keep": 0}, {"keep": 1.1},
     {"subject": " "}, {"threshold": 0}, {"seed": -1}, {"held_out_similarity": 2}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(SettingsError, match=f"{next(iter(setting))} is .*expected"):
        AugmentSettings(**setting)
