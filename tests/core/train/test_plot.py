"""The loss curve: what is drawn, and where."""

import numpy as np
import pytest
from PIL import Image

from f2d_core.train.plot import HEIGHT, WIDTH, curves_of, plot_losses


def rows(count):
    train = [{"kind": "train", "step": i + 1, "loss": 1 - i / count, "foreground": 2.0, "background": 0.0}
             for i in range(count)]  # fmt: skip
    return [*train, {"kind": "validation", "step": count, "loss": 0.5}]


def test_curves_are_the_figures():
    found = curves_of(rows(3))
    assert found["loss"] == [(1, 1.0), (2, pytest.approx(2 / 3)), (3, pytest.approx(1 / 3))]
    assert found["foreground"] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert found["validation loss"] == [(3, 0.5)]


def test_long_runs_are_averaged_over_stretches():
    curve = curves_of(rows(4000))["loss"]
    assert len(curve) == 400
    assert curve[0] == (pytest.approx(5.5), pytest.approx(1 - 4.5 / 4000))


def test_a_falling_loss_falls(tmp_path):
    with Image.open(plot_losses(rows(50), tmp_path / "loss.png")) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    y, x = np.nonzero((pixels == (0x1F, 0x6F, 0xB4)).all(axis=2) & (np.arange(HEIGHT) > 40)[:, None])
    left, right = y[x < WIDTH * 0.3].mean(), y[x > WIDTH * 0.8].mean()
    assert right > left + 50  # pixels count from the top


@pytest.mark.parametrize("given", [[], rows(1)])
def test_little_or_nothing_to_draw(tmp_path, given):
    assert plot_losses(given, tmp_path / "loss.png").stat().st_size > 100


def test_a_figure_that_some_steps_lack_has_fewer_points():
    given = [{"kind": "train", "step": 1, "loss": 1.0}, {"kind": "train", "step": 2, "loss": 2.0, "edited": 5.0}]
    assert curves_of(given, ("loss", "edited"))["edited"] == [(2, 5.0)]
