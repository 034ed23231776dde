"""Invented people as an ordinary identity set."""

from dataclasses import replace

import numpy as np

from f2d_core.constants import FACE_CROP_SIZE_PX, FACE_TEMPLATE_PX
from f2d_core.data.identities import open_identities
from f2d_core.miniature.identity_set import IdentitySet, write_identity_set
from f2d_core.miniature.people import sample_identities
from f2d_core.miniature.situations import sample_situations

SET = IdentitySet(seed=7, people=3, pictures=4, side=32)


def test_the_trainer_reads_it(tmp_path):
    data = open_identities(write_identity_set(SET, tmp_path), side=32)

    assert data.people == 3 and len(data) == 12
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.array_equal(data.pictures(range(4, 8)), SET.crops(1))


def test_crops_of_a_person_differ_and_do_not_depend_on_the_others():
    crops = SET.crops(2)

    assert crops.shape == (4, 32, 32, 3) and crops.dtype == np.uint8
    assert all((a != b).mean() > 0.5 for i, a in enumerate(crops) for b in crops[:i])
    assert np.array_equal(IdentitySet(seed=7, people=9, pictures=4, side=32).crops(2), crops)


def test_people_who_are_photographed_seldom_hide_their_hair():
    often, seldom = (
        np.stack([replace(SET, pictures=12, photographed=p).crops(i) for i in range(3)]) for p in (False, True)
    )
    situations = sample_situations(7, 400)

    assert (situations.photographed.role > 0).mean() < 0.3 < 0.5 < (situations.role > 0).mean()
    assert not situations.photographed.prop.any() and (often != seldom).any(axis=(2, 3, 4)).mean() > 0.3


def test_faces_lie_on_the_template():
    """Both eyes of the mean pale face are darker than the cheek below them."""
    wanted = IdentitySet(seed=7, people=30, pictures=3, side=56)
    pale = np.flatnonzero(sample_identities(wanted.seed, wanted.people).trait("skin_tone") < 0.4)
    mean = np.concatenate([wanted.crops(i) for i in pale]).mean(axis=(0, 3))
    eyes = np.rint(np.array(FACE_TEMPLATE_PX[:2]) * 56 / FACE_CROP_SIZE_PX).astype(int)

    for x, y in eyes:
        assert mean[y, x] < mean[y + 8, x] - 20


def test_what_is_there_is_not_drawn_again(tmp_path):
    write_identity_set(SET, tmp_path)
    (tmp_path / "0001" / "003.png").unlink()
    (tmp_path / "0002" / "000.png").write_bytes(b"kept")
    seen = []
    write_identity_set(SET, tmp_path, lambda done, total: seen.append((done, total)))

    assert (tmp_path / "0001" / "003.png").is_file()
    assert (tmp_path / "0002" / "000.png").read_bytes() == b"kept"
    assert seen == [(1, 3), (2, 3), (3, 3)]
