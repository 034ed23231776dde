"""The judges: what they are shown, that a lesson lowers its loss, and that they fulfil the ports."""

import numpy as np
import pytest
import torch

from f2d_core.align import align_face
from f2d_core.backends.diffusers import load_tokenizer
from f2d_core.miniature.captions import WORDS
from f2d_core.miniature.convnet import Pooled
from f2d_core.miniature.finder import CELL_PX, Finder, FinderLesson, FinderNet, targets
from f2d_core.miniature.job import seeded
from f2d_core.miniature.judges import (
    CROP_PX,
    Geometry,
    GeometryLesson,
    Likeness,
    LikenessLesson,
    LikenessNet,
    Reader,
    ReaderLesson,
    ReaderNet,
    upright_square,
)
from f2d_core.miniature.pictures import PictureSet
from f2d_core.miniature.tokenizer import write_word_tokenizer


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn():
    return PictureSet(9, together=False).render(range(24))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_word_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS))


def learn(lesson, steps, rate=2e-3):
    """The mean losses of the first and the last step, always on the same samples."""
    parameters = [p for module in lesson.modules.values() for p in module.parameters()]
    optimiser, losses = torch.optim.AdamW(parameters, rate), []
    for _ in range(steps):
        loss = lesson.measure(lesson.rows(0, range(8)))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_the_finder_learns_where_faces_are(drawn):
    pair = PictureSet(9).render(range(64))
    faces = [points[~np.isnan(points[:, 0, 0])] for points in pair.points]
    both = [i for i, points in enumerate(faces) if len(points) == 2][:4]
    one = [i for i, points in enumerate(faces) if len(points) == 1][:4]

    def marked(numbers):
        chosen = [*both, *one]
        return pair.pixels[chosen], [faces[i] for i in chosen]

    net = seeded(FinderNet, 1)
    first, last = learn(FinderLesson(net, marked, 8), 120)
    assert last < first / 8

    found = Finder(net).detect(pair.pixels[both[0]], 0.5)
    assert len(found) == 2
    for face in found:
        nearest = min(np.abs(face.points - points).max() for points in faces[both[0]])
        assert nearest < 3 and 0.5 <= face.score <= 1


def test_a_face_between_two_cells_is_one_face():
    """Neither cell alone is sure enough."""
    found = torch.full((1, 11, 8, 8), -9.0)
    found[0, 0, 3, 4], found[0, 0, 3, 5] = 0.1, -0.1
    found[0, 1:, 3, 4] = torch.linspace(-0.5, 0.5, 10)

    (face,) = Finder(Always(found)).detect(np.zeros((64, 64, 3), np.uint8), 0.9)
    assert face.score == pytest.approx(1, abs=0.01)
    assert face.points.mean() == pytest.approx((4 * CELL_PX + 3 * CELL_PX) / 2 + 3.5)
    assert not Finder(Always(torch.full((1, 11, 8, 8), -9.0))).detect(np.zeros((64, 64, 3), np.uint8), 0.5)


class Always(torch.nn.Module):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def forward(self, pixels):
        return self.found


def test_the_finders_targets_lie_in_the_cell_of_the_middle():
    points = np.array([[10, 20], [18, 20], [14, 26], [11, 30], [17, 30]], float)
    there, offsets = targets([points[None], np.empty((0, 5, 2))], 64 // CELL_PX)

    (cell,) = there[0].nonzero().tolist()
    assert cell == [3, 1] and there[1].sum() == 0  # the middle is (14, 25.2)
    assert offsets[0, :2, 3, 1].tolist() == pytest.approx([(10 - 11.5) / 16, (20 - 27.5) / 16])


def test_likeness_learns_to_tell_people_apart(drawn):
    points = drawn.points[:, 0]
    crops = np.stack([align_face(drawn.pixels[i], points[i], CROP_PX) for i in range(8)])
    net = seeded(lambda: LikenessNet(4), 1)
    lesson = LikenessLesson(net, lambda numbers: (crops, np.arange(8) % 4), 8)

    first, last = learn(lesson, 25)
    assert last < first / 2
    features = Likeness(net, "abc").features(list(drawn.pixels[:3]), list(points[:3]))
    assert features.shape == (3, 128) and features.norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_the_reader_learns_which_caption_goes_with_which_picture(drawn, tokenizer):
    captions = PictureSet(9, together=False).captions(range(8))
    net = seeded(lambda: ReaderNet(len(tokenizer), tokenizer.eos_token_id), 1)
    lesson = ReaderLesson(net, lambda numbers: (drawn.pixels[:8], captions), tokenizer, 8)

    first, last = learn(lesson, 25, 1e-3)
    assert last < first / 2
    reader = Reader(net, tokenizer)
    scores = reader.image_features(list(drawn.pixels[:8])) @ reader.text_features(captions).T
    assert (scores.argmax(dim=1) == torch.arange(8)).float().mean() > 0.7


def test_a_longer_batch_does_not_change_how_a_text_is_read(tokenizer):
    net = seeded(lambda: ReaderNet(len(tokenizer), tokenizer.eos_token_id), 1)
    reader = Reader(net, tokenizer)
    short, long = "a photo of a person", "a photo of a person reading a book in a snowy forest, wearing a crown"

    torch.testing.assert_close(reader.text_features([short]), reader.text_features([short, long])[:1])


def test_geometry_learns_pose_and_expression(drawn):
    points, scales = drawn.points[:, 0], np.array([15.0, 8, 8, *[0.5] * 11])
    values = np.concatenate([drawn.pose[:8, :3], drawn.expression[:8]], axis=1)
    crops = np.stack([upright_square(drawn.pixels[i], points[i]) for i in range(8)])
    net = seeded(lambda: Pooled((16, 32, 48), CROP_PX, 14), 1)
    lesson = GeometryLesson(net, lambda numbers: (crops, values), scales, 8)

    first, last = learn(lesson, 25)
    assert last < first / 2
    measured = Geometry(net, scales).measure(list(drawn.pixels[:8]), list(points[:8]))
    assert np.corrcoef(measured[:, 0], values[:, 0])[0, 1] > 0.7


def test_the_square_is_around_the_face_and_not_turned():
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[38:43, 28:33] = 255  # a white spot whose middle is (30, 40)
    points = np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], float)

    crop = upright_square(picture, points)
    rows, columns = np.nonzero(crop[..., 0] > 128)
    assert rows.mean() == pytest.approx(31.5, abs=1) and columns.mean() == pytest.approx(31.5, abs=1)
