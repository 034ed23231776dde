"""The pixels that CLIP and SigLIP get, against open_clip's own transforms."""

import numpy as np
import pytest
import torch
from PIL import Image

from f2d_core.evaluate.extractors.preprocess import CLIP_MEAN, CLIP_STD, SIGLIP_MEAN, SIGLIP_STD, Preprocess

open_clip = pytest.importorskip("open_clip", reason="the extra `eval` is not installed")

SIZES = [(512, 512), (300, 517), (517, 300), (100, 60), (224, 224), (225, 224), (1000, 999)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("squash", [False, True])
def test_the_pixels_of_open_clip(size, squash):
    rgb = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype(np.uint8)
    mean, std = (SIGLIP_MEAN, SIGLIP_STD) if squash else (CLIP_MEAN, CLIP_STD)
    theirs = open_clip.image_transform(
        224, is_train=False, mean=mean, std=std, resize_mode="squash" if squash else "shortest"
    )

    ours = Preprocess(224, mean, std, squash)([rgb])[0]

    assert torch.allclose(ours, theirs(Image.fromarray(rgb)), atol=1e-6)
