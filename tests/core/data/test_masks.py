"""Which pixels are the face, and what becomes of them at latent size."""

import numpy as np
import pytest

from f2d_core.constants import MASK_PRESETS
from f2d_core.data.masks import connected_to, face_region, to_latent
from f2d_core.errors import ImageError

EVERYWHERE = (0.0, 0.0, 1000.0, 1000.0)


def flooded(region: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The same by flooding, pixel by pixel."""
    reached, stack = np.zeros_like(region), list(zip(*np.nonzero(region & seed), strict=True))
    while stack:
        y, x = stack.pop()
        if 0 <= y < region.shape[0] and 0 <= x < region.shape[1] and region[y, x] and not reached[y, x]:
            reached[y, x] = True
            stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return reached


@pytest.mark.parametrize("density", [0.1, 0.35, 0.45, 0.7])
def test_connected_parts_equal_flooding(density):
    random = np.random.RandomState(int(density * 100))
    region, seed = random.rand(41, 57) < density, random.rand(41, 57) < 0.01

    assert np.array_equal(connected_to(region, seed), flooded(region, seed))


def test_connected_parts_follow_a_long_way():
    spiral = np.zeros((31, 31), bool)
    for ring in range(0, 15, 2):
        spiral[ring, ring : 31 - ring] = spiral[30 - ring, ring : 31 - ring] = True
        spiral[ring : 31 - ring, 30 - ring] = spiral[ring + 2 : 31 - ring, ring] = True
    spiral[2::4, 1] = True
    seed = np.zeros_like(spiral)
    seed[0, 0] = True

    assert np.array_equal(connected_to(spiral, seed), flooded(spiral, seed))


def test_nothing_is_connected_to_nothing():
    assert not connected_to(np.zeros((4, 4), bool), np.ones((4, 4), bool)).any()


def test_presets_are_those_of_the_paper_and_its_variants():
    face = {1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13}

    assert MASK_PRESETS == {
        "face": face,
        "face_no_glasses": face - {6},
        "face_hair": face | {17},
        "head": face | {9, 14, 17, 18},
    }


@pytest.mark.parametrize("preset", MASK_PRESETS)
def test_region_holds_the_labels_of_its_preset(preset):
    labels = np.arange(19, dtype=np.uint8)[None].repeat(3, axis=0)

    region = face_region(labels, preset, EVERYWHERE)

    assert region.dtype == np.float32
    assert set(np.flatnonzero(region[1])) == MASK_PRESETS[preset]


def test_a_bystander_does_not_count():
    labels = np.zeros((60, 60), np.uint8)
    labels[10:40, 5:25] = 1  # the main face
    labels[20:50, 40:58] = 1  # somebody else
    labels[38:44, 20:30] = 17  # hair of the main face, out of its box

    region = face_region(labels, "face_hair", (5, 10, 25, 35))

    assert region[10:40, 5:25].all() and region[42, 28] and not region[:, 35:].any()


def test_a_face_that_the_parser_does_not_see_is_an_error():
    labels = np.zeros((60, 60), np.uint8)
    labels[0:10, 0:10] = 1

    with pytest.raises(ImageError, match='nothing of the mask "face"'):
        face_region(labels, "face", (30, 30, 50, 50))


def test_latent_mask_is_the_mean_over_each_area():
    region = np.zeros((512, 512), np.float32)
    region[:12, :8] = 1

    mask = to_latent(region, (64, 64), hard=False)

    assert mask.dtype == np.uint8 and mask.shape == (64, 64)
    assert mask[0, 0] == 255 and mask[1, 0] == 128 and mask.astype(int).sum() == 255 + 128


def test_hard_masks_are_cut_at_one_half():
    region = np.zeros((512, 512), np.float32)
    region[:12, :8] = 1
    region[0, 16] = 1

    mask = to_latent(region, (64, 64), hard=True)

    assert mask[0, 0] == 255 and mask[1, 0] == 255 and mask[0, 2] == 0


def test_mirroring_commutes_with_the_reduction():
    region = (np.random.RandomState(0).rand(512, 512) < 0.3).astype(np.float32)

    assert np.array_equal(
        to_latent(region, (64, 64), False)[:, ::-1], to_latent(region[:, ::-1].copy(), (64, 64), False)
    )


def test_empty_masks_are_refused():
    with pytest.raises(ImageError, match="mask is empty"):
        to_latent(np.zeros((64, 64), np.float32), (8, 8), hard=False)
