"""Photos of invented people in a folder, with the masks and the faces that their renderer knows of."""

import numpy as np

from f2d_core.image import read_image
from f2d_core.miniature.people import STYLES
from f2d_core.miniature.photos import MASKS, PHOTOS, KnownFaces, PhotoSet, write_photos

SMALL = PhotoSet(seed=77, count=6)


def test_photos_and_masks_lie_side_by_side(tmp_path):
    folder = write_photos(SMALL, tmp_path)

    for i in range(SMALL.count):
        assert np.array_equal(read_image(folder / PHOTOS / f"{i:05}.png"), SMALL.rendered.pixels[i])
        mask = read_image(folder / MASKS / f"{i:05}.png")[..., 1]
        assert np.abs(mask / 255 - SMALL.heads[i]).max() < 0.003


def test_heads_are_faces_and_hair():
    """Of the bald little more than the face (brows lie in it); of long hair much more, and never the whole picture."""
    many = PhotoSet(79, 120, calm=True)
    face, head = (mask.mean(axis=(1, 2)) for mask in (many.rendered.mask, many.heads))
    style = [STYLES["hair"][kind] for kind in many.people.style("hair")]
    more = {
        name: np.mean([h / f for f, h, own in zip(face, head, style, strict=True) if own == name]) for name in style
    }

    assert (many.heads >= many.rendered.mask).all() and head.max() < 0.7
    assert more["bald"] < 1.1 and more["long hair"] > 1.4 and more["curls"] > 1.4


def test_what_is_there_is_not_written_again(tmp_path):
    write_photos(SMALL, tmp_path)
    first = tmp_path / PHOTOS / "00000.png"
    before = first.stat().st_mtime_ns
    write_photos(SMALL, tmp_path)

    assert first.stat().st_mtime_ns == before


def test_the_renderer_knows_the_faces_of_its_photos_alone():
    detector = KnownFaces(SMALL)
    (face,) = detector.detect(SMALL.rendered.pixels[2], 0.5)

    assert np.array_equal(face.points, SMALL.rendered.points[2]) and face.score == 1
    x0, y0, x1, y1 = face.box
    assert x0 < face.points[:, 0].min() and x1 > face.points[:, 0].max() and y1 - y0 > 10
    assert detector.detect(np.zeros((64, 64, 3), np.uint8), 0.5) == []


def test_calm_photos_show_the_face_alone():
    many, calm = PhotoSet(78, 200).situations, PhotoSet(78, 200, calm=True).situations

    assert 0.1 < (many.role > 0).mean() < 0.35 and not many.prop.any()
    assert not calm.role.any() and not calm.prop.any()
