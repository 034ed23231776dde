"""f_exp of the small world: the published layout computes what was trained, and it learns the renderer's numbers."""

import numpy as np
import pytest
import torch

from f2d_core.align import expression_input
from f2d_core.expression import build_expression
from f2d_core.miniature.recon import CONFIG, ReconLesson, _new, as_published, factors
from f2d_core.miniature.situations import EXPRESSION


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_published_layout_computes_the_same():
    torch.manual_seed(0)
    net = _new().eval()
    for value in net.parameters():
        value.data += 0.05 * torch.randn_like(value)
    faces = torch.rand(2, 3, 224, 224)

    loaded = build_expression(as_published(net))
    with torch.no_grad():
        torch.testing.assert_close(loaded(faces), net(faces), rtol=1e-4, atol=1e-5)


def test_the_factors_are_the_renderers_and_depend_on_the_number_alone():
    found = factors(5, start=3)

    assert found.shape == (5, sum(CONFIG.parts)) and np.abs(found).max() < 4
    assert np.array_equal(found[2:], factors(3, start=5))
    start = CONFIG.parts[0]
    assert CONFIG.parts[1] == len(EXPRESSION)
    assert np.abs(found[:, start : start + len(EXPRESSION)]).max() <= 1


def test_it_learns():
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    lesson = ReconLesson(_new(), crops, factors(4), 4, 3)
    optimiser = torch.optim.AdamW(lesson.modules["recon"].parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = lesson.measure(lesson.rows(0, range(4)))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < losses[0] / 2
    rows = lesson.rows(0, range(4))
    torch.testing.assert_close(rows["faces"], expression_input(np.stack([crops[n] for n in rows.images])))
