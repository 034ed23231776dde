"""What the self-test shows. That wrong numbers fail it, tests/core/cli/test_doctor.py checks."""

import numpy as np

from f2d_core import self_test
from f2d_core.errors import WeightsError


def test_it_passes_and_shows_the_picture_the_crop_and_the_words():
    result = self_test.self_test()

    assert result.problem is None
    assert result.picture.dtype == np.uint8 and result.picture.shape == (224, 3 * 224 + 2 * 8, 3)
    source, crop, words = result.picture[:, :224], result.picture[:, 232:456], result.picture[:, 464:]
    assert (source != self_test.synthetic_picture()).any(axis=-1).sum() < 5 * 81 + 1  # five marks, nothing else
    assert abs(crop.mean() / self_test.EXPECTED_CROP_MEAN - 1) < 1e-4
    assert (words[:112] == words[0]).all() and (words[112:] == words[112]).all()  # a band for each word
    assert (words[0] != words[-1]).any()


def test_a_failure_is_told_and_drawn_without_words(monkeypatch):
    def broken(*_arguments):
        raise WeightsError("no such file")

    monkeypatch.setattr(self_test, "_encoded", broken)

    result = self_test.self_test()
    assert result.problem == "no such file" and (result.picture[:, 464:] == 96).all()
