"""Bars where the values are."""

import numpy as np
from PIL import Image

from f2d_core.miniature.histograms import HEIGHT, WIDTH, Panel, draw_panels


def columns(picture, channel):
    """The middle of the columns that are coloured in `channel` more than in the others, in parts of the width."""
    bars = np.asarray(picture, int)[60 : HEIGHT - 30]
    others = [c for c in (0, 1, 2) if c != channel]
    coloured = (bars[..., channel] - bars[..., others].max(axis=2) > 20).sum(axis=0)
    return (coloured * np.arange(len(coloured))).sum() / coloured.sum() / len(coloured)


def test_two_kinds_of_pairs_stand_apart(tmp_path):
    random = np.random.RandomState(0)
    panel = Panel("level 1", same=0.8 + 0.05 * random.randn(500), other=-0.1 + 0.05 * random.randn(500))
    with Image.open(draw_panels(tmp_path / "a.png", [panel])) as picture:
        red, blue = columns(picture, 0), columns(picture, 2)

    assert picture.size == (WIDTH, HEIGHT)
    assert red < 0.3 and blue > 0.7


def test_panels_stand_side_by_side_and_bear_equal_values(tmp_path):
    equal = Panel("all the same", same=np.ones(5), other=np.ones(5))
    with Image.open(draw_panels(tmp_path / "a.png", [equal, equal, equal])) as picture:
        assert picture.size == (3 * WIDTH, HEIGHT)
