"""How judges are made and kept: what they are shown, and that their files give the same judges."""

import numpy as np
import pytest
import torch

from f2d_core.backends.diffusers import load_tokenizer
from f2d_core.miniature import judging
from f2d_core.miniature.captions import NAMES, WORDS
from f2d_core.miniature.job import Settings
from f2d_core.miniature.judging import HELPERS, JUDGES, load_helpers, load_judges, make_judge
from f2d_core.miniature.tokenizer import write_word_tokenizer
from f2d_core.miniature.watching import silent


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_word_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS))


def test_all_are_made_and_read_again(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(
        judging, "SETTINGS", {n: Settings(steps=2, batch=4, seed=i) for i, n in enumerate(judging.SETTINGS)}
    )
    for name in (*JUDGES, *HELPERS):
        make_judge(name, tmp_path / "work", tmp_path / "out", tokenizer, silent)
    judges, helpers = load_judges(tmp_path / "out", tokenizer), load_helpers(tmp_path / "out", tokenizer)

    pictures, points = judging._marked(5, range(8))
    face = next(p[0] for p in points if len(p))
    features = judges.likeness.features([pictures[0]], [face])
    assert features.norm().item() == pytest.approx(1, abs=1e-3)
    assert judges.geometry.measure([pictures[0]], [face]).shape == (1, 14)
    assert judges.reader.sha256 != helpers.reader.sha256 and len(judges.likeness.sha256) == 64
    assert judges.finder.name != helpers.finder.name
    with torch.no_grad():
        kept = judges.finder._net(torch.zeros(1, 3, 64, 64))
    assert kept.shape == (1, 11, 8, 8)


def test_some_pictures_show_nobody():
    pictures, points = judging._marked(5, range(60))
    nobody = [i for i, faces in enumerate(points) if not len(faces)]

    assert 4 <= len(nobody) <= 24
    assert {len(faces) for faces in points} == {0, 1, 2}
    assert pictures.shape == (60, 64, 64, 3)


def test_disorder_keeps_the_pixels_and_breaks_the_face():
    picture = np.arange(64 * 64 * 3, dtype=np.uint64).reshape(64, 64, 3).astype(np.uint8)
    mixed = judging._in_disorder(picture, np.random.default_rng(1))

    assert np.array_equal(np.sort(mixed.ravel()), np.sort(picture.ravel())) and not np.array_equal(mixed, picture)


def test_judges_read_no_names_and_no_looks():
    _, captions = judging._captioned(5, range(60))

    assert not any(name in text for text in captions for name in NAMES)
    assert not any("hair" in text or "skin" in text or "eyes" in text for text in captions)


def test_people_return_in_other_situations():
    crops, labels = judging._faces_of_people(5, range(40))

    assert crops.shape == (40, 64, 64, 3) and len(set(labels)) > 30
    again, _ = judging._faces_of_people(5, range(20, 40))
    assert np.array_equal(again, crops[20:])
