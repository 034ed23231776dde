"""The judges: those that can be loaded, the encoder as one of them, faces to judge by, work in batches."""

import numpy as np
import pytest
import torch

from f2d_core.detect import Face
from f2d_core.errors import MissingPackageError, NoFaceError
from f2d_core.evaluate.judges import BATCH, EncoderJudge, Judges, Portraits, Work, in_batches, load_each, portraits
from f2d_core.evaluate.likeness import compare
from f2d_core.locate import Located
from f2d_core.networks import load_network
from f2d_core.testing import tiny_msid_state_dict
from tests.support.protractor import POINTS, Protractor, picture


def test_the_msid_encoder_can_judge(tmp_path):
    torch.save(tiny_msid_state_dict(), tmp_path / "msid.pt")
    judge = EncoderJudge(load_network(tmp_path / "msid.pt", "msid"))
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (130, 120, 3), dtype=np.uint8) for _ in range(3)]
    features = judge.features(pictures, [POINTS] * 3)

    assert features.norm(dim=1).numpy() == pytest.approx(np.ones(3))
    assert "not independent" in judge.name
    same = compare(Portraits((pictures[0],), (POINTS,)), Portraits((pictures[0],), (POINTS,)), [judge])
    assert same.scores[0, 0] == pytest.approx(1)


def test_what_can_be_loaded_is_used_and_the_rest_is_said():
    def damaged():
        raise MissingPackageError("It is not installed.")

    loaded, problems = load_each([lambda: 1, damaged, lambda: 2])

    assert loaded == (1, 2)
    assert problems == ("It is not installed.",)


def test_judges_add_up_without_doubles():
    one, two = Protractor("one"), Protractor("two")
    both = Judges((one,), (), ("a",)) + Judges((two, one), (one,), ("b",))

    assert both == Judges((one, two), (one,), ("a", "b"))


def test_points_that_cannot_be_aligned_count_as_no_face():
    good, bad = Face((0, 0, 9, 9), POINTS, 0.9), Face((0, 0, 9, 9), POINTS[[1, 0, 2, 4, 3]], 0.9)
    given = portraits([picture(0)] * 3, [Located(good, ""), Located(bad, ""), NoFaceError("none")])

    assert given.found.tolist() == [True, False, False]


def test_work_is_done_in_batches_and_told():
    told, work = [], Work(50, lambda *at: told.append(at))
    rows = in_batches(2 * BATCH + 1, lambda part: torch.arange(part.start, part.stop)[:, None], work)

    assert rows[:, 0].tolist() == list(range(2 * BATCH + 1))
    assert told == [(BATCH, 50), (2 * BATCH, 50), (2 * BATCH + 1, 50)]
    assert in_batches(0, None, work).shape == (0, 0)
