"""A check with the real file, which is not ours to ship: the similarities that AdaFace's makers publish.

Put adaface_ir50_ms1mv2.ckpt and the repository's three sample pictures (face_alignment/test_images/img1.jpeg to
img3.jpeg) into one folder and name it in F2D_ADAFACE_CHECK. Their README gives 0.7334, -0.0655 and -0.0277 with MTCNN's
points; other points move them a little.
"""

import os
from pathlib import Path

import pytest

from f2d_core.detect import find_faces
from f2d_core.detectors import build_detector
from f2d_core.evaluate.extractors import find_extractors, load_identity_extractor
from f2d_core.image import read_image

FOLDER = os.environ.get("F2D_ADAFACE_CHECK", "")
PUBLISHED = {(0, 1): 0.7334, (0, 2): -0.0655, (1, 2): -0.0277}


@pytest.mark.skipif(not FOLDER, reason="the published AdaFace file is needed: see F2D_ADAFACE_CHECK in this file")
def test_the_similarities_that_are_published(yunet_file):
    folder = Path(FOLDER)
    judge = load_identity_extractor(find_extractors([folder])["adaface_ir50"])
    pictures = [read_image(folder / f"img{i}.jpeg") for i in (1, 2, 3)]
    detector = build_detector("yunet", yunet_file)
    points = [find_faces(detector, picture).faces[0].points for picture in pictures]

    features = judge.features(pictures, points)

    for (i, j), similarity in PUBLISHED.items():
        assert float(features[i] @ features[j]) == pytest.approx(similarity, abs=0.05), (i, j)
