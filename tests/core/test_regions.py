"""Parts of the picture: whose is which pixel, soft edges, what is left for the background."""

import numpy as np
import pytest
import torch

from f2d_core.errors import MismatchError, SettingsError
from f2d_core.regions import around_faces, background, draw_regions, require_masks, side_by_side, soften


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_columns_share_the_picture(count):
    masks = side_by_side(count)
    assert masks.shape == (count, 512, 512) and torch.equal(masks.sum(0), torch.ones(512, 512))
    widths = masks[:, 0].sum(dim=1)
    assert widths.max() - widths.min() <= 1
    assert [int(mask[0].argmax()) for mask in masks] == sorted(int(mask[0].argmax()) for mask in masks)


def test_a_face_gets_its_box_and_the_margin():
    (mask,) = around_faces([(40, 20, 60, 50)], 100, 200, 0.5, False)
    rows, columns = torch.where(mask > 0)
    # 20 x 30 px, and half of that on every side; pixel centres at whole numbers.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 65, 30, 70)
    assert mask.sum() == 61 * 41


def test_to_the_bottom():
    (mask,) = around_faces([(40, 20, 60, 50)], 100, 200, 0.5, True)
    rows, columns = torch.where(mask > 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 99, 30, 70)


def test_where_two_meet_a_pixel_goes_to_the_nearer_face_in_its_own_size():
    small, large = (10, 40, 20, 50), (40, 30, 80, 70)
    masks = around_faces([small, large], 100, 100, 3.0, False)
    assert masks.sum(0).max() == 1
    # Centres at x = 15 and 60, sizes 10 and 40: equally far, in sizes, at 15 + 45 * 10 / 50 = 24.
    assert [int(masks[:, 45, x].argmax()) for x in (15, 23, 25, 60)] == [0, 0, 1, 1]


def test_large_pictures_give_small_masks_of_the_same_places():
    masks = around_faces([(400, 200, 600, 500)], 1000, 4000, 0.0, False)
    assert masks.shape == (1, 128, 512)
    rows, columns = torch.where(masks[0] > 0)
    scale = 4000 / 512
    assert abs(rows.min() * scale - 200) < scale and abs(columns.max() * scale - 600) < scale


def test_a_face_beyond_the_edge_still_has_a_region():
    masks = around_faces([(-30, -20, 20, 40)], 100, 100, 0.0, False)
    assert masks[0, :40, :20].all() and masks.sum() == 41 * 21


def test_softening_keeps_a_whole_whole_and_the_middle_of_an_edge_at_half():
    masks = soften(side_by_side(2), 0.05)
    assert torch.allclose(masks.sum(0), torch.ones(512, 512), atol=1e-5)
    assert masks[0, 100, 255] == pytest.approx(0.5, abs=0.01)
    assert masks[0, 0, 0] == pytest.approx(1) and masks[0, 0, 511] == pytest.approx(0)
    sigma = 0.05 * 512  # a step through a Gaussian: 84 % one sigma away
    assert masks[0, 100, round(255.5 - sigma)] == pytest.approx(0.841, abs=0.01)


def test_no_feather_changes_nothing():
    masks = side_by_side(3)
    assert torch.equal(soften(masks, 0.0), masks)


def test_the_background_is_the_rest_and_a_part_of_the_inside():
    masks = torch.tensor([[[1.0, 0.5, 0.0]], [[0.0, 0.5, 0.0]]])
    assert torch.equal(background(masks, 0.0), torch.tensor([[0.0, 0.0, 1.0]]))
    assert torch.allclose(background(masks, 0.25), torch.tensor([[0.25, 0.25, 1.0]]))
    overlapping = torch.ones(3, 2, 2)
    assert torch.equal(background(overlapping, 1.0), torch.ones(2, 2))


def test_masks_for_everybody():
    given = torch.rand(2, 4, 5) * 2
    assert torch.equal(require_masks(given, 2), given.clamp(0, 1))
    assert require_masks(torch.ones(4, 5), 1).shape == (1, 4, 5)
    large = torch.zeros(1, 1024, 2048)
    large[:, :, 1024:] = 1
    assert torch.equal(require_masks(large, 1)[0], (torch.arange(512) >= 256).float().expand(256, 512))
    with pytest.raises(MismatchError, match="2 masks for 3 people"):
        require_masks(given, 3)
    with pytest.raises(MismatchError, match="number 1 .* is empty"):
        require_masks(torch.stack([torch.ones(4, 5), torch.zeros(4, 5)]), 2)


@pytest.mark.parametrize("call", [lambda: soften(torch.ones(1, 4, 4), 0.6), lambda: soften(torch.ones(1, 4, 4), -1),
                                  lambda: background(torch.ones(1, 4, 4), 1.1),
                                  lambda: around_faces([(0, 0, 1, 1)], 4, 4, -0.1, False)])  # fmt: skip
def test_settings_out_of_range(call):
    with pytest.raises(SettingsError, match="expected 0"):
        call()


def test_the_drawing_has_a_colour_for_each_person():
    picture = draw_regions(side_by_side(3))
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    colours = [tuple(picture[0, x]) for x in (10, 256, 500)]
    assert len(set(colours)) == 3 and colours[0] == (255, 190, 0)
    assert tuple(draw_regions(torch.zeros(1, 2, 2))[0, 0]) == (50, 50, 55)
