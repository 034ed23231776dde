"""The renderer: the same bytes again, every factor to be seen, and what is said of a picture true of its pixels."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from f2d_core.errors import SettingsError
from f2d_core.miniature.people import STYLES, TRAITS, Identities, sample_identities
from f2d_core.miniature.render import SIZE, render, render_together
from f2d_core.miniature.situations import EXPRESSION, POSE, PROPS, ROLES, SCENES, sample_situations, side_by_side

# sha256 of the pixels of 48 pictures, and of two pairs: a change of the drawing makes trained weights stale.
RECORDED = "cb8d3a50a97ab756bc7a0723f4525579b051fed67738b1a706404965e2831052"
RECORDED_PAIRS = "58512bbb56f81c2360b6e9224057fbef90a03befc112db9b5699ab857aa2778b"
LARGE = 192  # px: where places in the picture are measured

POSES = {
    "front": (0, 0, 0, 0.28, 0, 0),
    "right": (28, 0, 0, 0.28, 0, 0),
    "left": (-28, 0, 0, 0.28, 0, 0),
    "up": (0, 15, 0, 0.28, 0, 0),
    "down": (0, -15, 0, 0.28, 0, 0),
    "leaning": (10, 5, 15, 0.28, 0, 0),
    "small, aside": (-12, -6, -14, 0.23, 0.06, -0.03),
}


def plain_person():
    """Glasses, beard and earrings to none, short hair, everything else in the middle."""
    return Identities(np.full((1, len(TRAITS)), 0.5), np.array([[STYLES["hair"].index("short hair"), 0, 0, 0, 0]]))


def plain_situation(pose="front"):
    calm = sample_situations(3, 1).named(mood="neutral", role="none", scene="studio", prop="none")
    still = np.zeros((1, len(EXPRESSION)))
    return replace(calm, pose=np.array([POSES[pose]], np.float64), expression=still)


def with_style(person, **styles):
    chosen = person.styles.copy()
    for name, kind in styles.items():
        chosen[:, list(STYLES).index(name)] = STYLES[name].index(kind)
    return replace(person, styles=chosen)


def with_expression(situation, **values):
    expression = situation.expression.copy()
    for name, value in values.items():
        expression[:, EXPRESSION.index(name)] = value
    return replace(situation, expression=expression)


def changed(a, b, more_than=24):
    """(B, S, S) bool: pixels that differ clearly."""
    return np.abs(a.pixels.astype(int) - b.pixels).sum(axis=3) > more_than


def middle(cover):
    """(x, y) px of the middle of a (S, S) picture of weights."""
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]]
    return np.array([(cover * x).sum(), (cover * y).sum()]) / cover.sum()


def digest(pixels):
    return hashlib.sha256(pixels.tobytes()).hexdigest()


# --- the same bytes ---


def test_the_recorded_pictures():
    drawn = render(sample_identities(11, 48), sample_situations(12, 48))
    pairs = side_by_side(sample_situations(13, 2), sample_situations(14, 2))
    together = render_together([sample_identities(15, 2), sample_identities(16, 2)], pairs)

    assert drawn.pixels.shape == (48, SIZE, SIZE, 3) and drawn.pixels.dtype == np.uint8
    assert (digest(drawn.pixels), digest(together.pixels)) == (RECORDED, RECORDED_PAIRS)


def test_a_picture_does_not_depend_on_its_batch():
    people, situations = sample_identities(21, 60), sample_situations(22, 60)
    whole = render(people, situations)

    for i in (0, 7, 31, 59):
        alone = render(people.take([i]), situations.take([i]))
        assert np.array_equal(alone.pixels[0], whole.pixels[i])
        assert np.array_equal(alone.mask[0], whole.mask[i])
        assert np.allclose(alone.points[0], whole.points[i], atol=1e-9)
        assert alone.captions == [whole.captions[i]]


def test_a_pair_does_not_depend_on_its_batch():
    people = [sample_identities(23, 24), sample_identities(24, 24)]
    situations = side_by_side(sample_situations(25, 24), sample_situations(26, 24))
    whole = render_together(people, situations)

    for i in (0, 5, 11, 23):
        alone = render_together([p.take([i]) for p in people], [s.take([i]) for s in situations])
        assert np.array_equal(alone.pixels[0], whole.pixels[i])


def test_people_are_not_changed_by_drawing():
    people, situations = sample_identities(1, 3), sample_situations(1, 3)
    before = [array.copy() for array in (people.traits, people.styles, *vars(situations).values())]
    render(people, situations)

    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, (people.traits, people.styles, *vars(situations).values()), strict=True)
    )


def test_another_size_is_the_same_picture():
    people, situations = sample_identities(31, 6), sample_situations(32, 6)
    small, large = render(people, situations), render(people, situations, 256)
    shrunk = large.pixels.reshape(6, SIZE, 4, SIZE, 4, 3).mean(axis=(2, 4))

    assert np.abs(shrunk - small.pixels).mean() < 4
    assert np.allclose((small.points + 0.5) * 4, large.points + 0.5)


# --- every factor is seen ---


@pytest.mark.parametrize("name", TRAITS)
def test_every_trait_changes_the_picture(name):
    person = with_style(plain_person(), glasses="round", earrings="hoops")
    low, high = (render(person.changed(**{name: value}), plain_situation("leaning"), 96) for value in (0.02, 0.98))

    assert changed(low, high, 5).sum() > 12


@pytest.mark.parametrize("name", STYLES)
def test_every_kind_of_every_style_looks_different(name):
    kinds = [render(with_style(plain_person(), **{name: kind}), plain_situation(), 96) for kind in STYLES[name]]

    for i, one in enumerate(kinds):
        assert all(changed(one, other).sum() > 4 for other in kinds[:i]), STYLES[name][i]


@pytest.mark.parametrize("name", EXPRESSION)
def test_every_expression_coefficient_changes_the_face_alone(name):
    situation = plain_situation()
    still, moved = (render(plain_person(), with_expression(situation, **{name: value}), 96) for value in (0.0, 0.9))
    difference = changed(still, moved)

    assert difference.sum() > 8
    assert still.mask[difference].min() > 0.5


@pytest.mark.parametrize("field, kinds", [("role", ROLES), ("scene", SCENES), ("prop", PROPS)])
def test_every_role_scene_and_prop_looks_different_and_leaves_the_face(field, kinds):
    drawn = [render(plain_person(), plain_situation().named(**{field: kind})) for kind in kinds]

    for i, one in enumerate(drawn):
        assert all(changed(one, other).sum() > 60 for other in drawn[:i]), kinds[i]
        left, right, nose, *mouth = np.rint(one.points[0]).astype(int)
        assert all(one.mask[0, y, x] > 0.9 for x, y in (left, right, nose, *mouth)), kinds[i]


@pytest.mark.parametrize("number", range(5))
def test_light_changes_the_picture(number):
    situation = plain_situation()
    shifted = replace(situation, light=situation.light + 0.3 * (np.arange(5) == number))
    one, other = render(plain_person(), situation), render(plain_person(), shifted)

    assert (one.pixels != other.pixels).any()


# --- landmarks ---


@pytest.mark.parametrize("pose", POSES)
def test_eyes_close_around_their_points(pose):
    situation = plain_situation(pose)
    drawn, shut = (render(plain_person(), with_expression(situation, eyes=e), LARGE) for e in (0.0, -1.0))
    eyes = changed(drawn, shut)[0]
    first, second = drawn.points[0, :2]
    x = np.arange(LARGE)
    for point, side in ((first, x < (first + second)[0] / 2), (second, x >= (first + second)[0] / 2)):
        assert np.abs(middle(eyes * side) - point).max() < 0.022 * LARGE


@pytest.mark.parametrize("pose", POSES)
def test_the_mouth_reaches_from_corner_to_corner(pose):
    situation = plain_situation(pose)
    bare = plain_person().changed(lip_colour=0.0), plain_person().changed(lip_colour=1.0)
    drawn, painted = (render(person, with_expression(situation, open=0.4), LARGE) for person in bare)
    lips = changed(drawn, painted)[0]
    left, right = drawn.points[0, 3:]
    along = (right - left) / np.linalg.norm(right - left)
    y, x = np.nonzero(lips)
    places = np.stack((x, y), axis=1) @ along

    assert abs(places.min() - left @ along) < 0.025 * LARGE
    assert abs(places.max() - right @ along) < 0.025 * LARGE


@pytest.mark.parametrize("pose", POSES)
def test_the_nose_is_around_its_point(pose):
    narrow, wide = (plain_person().changed(nose_width=value) for value in (0.0, 1.0))
    drawn, other = (render(person, plain_situation(pose), LARGE) for person in (narrow, wide))
    difference = changed(drawn, other)[0]

    assert np.abs(middle(difference) - drawn.points[0, 2]).max() < 0.04 * LARGE


def test_points_are_the_five_of_the_project_and_lie_like_a_face():
    from f2d_core.align import similarity_transform

    drawn = render(sample_identities(41, 100), sample_situations(42, 100))

    for points in drawn.points:
        assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]
        similarity_transform(points)


def test_turning_moves_points_by_their_depth():
    points = {pose: render(plain_person(), plain_situation(pose)).points[0] for pose in POSES}

    for pose, sign in (("right", 1), ("left", -1)):
        shift = sign * (points[pose] - points["front"])[:, 0]
        assert shift[2] > shift[:2].max() + 1 > 1  # the nose more than the eyes, both to that side
    nod = points["down"] - points["up"]
    assert nod[2, 1] > nod[:2, 1].max() + 0.5 > 1


def test_expressions_move_the_corners_of_the_mouth():
    still = render(plain_person(), plain_situation(), LARGE).points[0]
    smile = render(plain_person(), with_expression(plain_situation(), smile=1.0), LARGE).points[0]
    sad = render(plain_person(), with_expression(plain_situation(), smile=-1.0), LARGE).points[0]
    wide = render(plain_person(), with_expression(plain_situation(), wide=1.0), LARGE).points[0]

    assert (smile[3:, 1] < still[3:, 1] - 2).all() and (sad[3:, 1] > still[3:, 1] + 2).all()
    assert wide[4, 0] - wide[3, 0] > 1.2 * (still[4, 0] - still[3, 0])
    assert np.array_equal(smile[:3], still[:3])


def test_a_wink_closes_one_eye():
    still, wink = (render(plain_person(), with_expression(plain_situation(), wink=w), LARGE) for w in (0.0, 1.0))
    x, _ = middle(changed(still, wink)[0])

    assert abs(x - still.points[0, 1, 0]) < 3


# --- the mask ---


@pytest.mark.parametrize("pose", POSES)
def test_the_mask_is_what_the_skin_colours(pose):
    fair, dark = (render(plain_person().changed(skin_tone=value), plain_situation(pose), LARGE) for value in (0.0, 0.9))
    inner = fair.mask[0] > 0.99
    difference = changed(fair, dark, 60)[0]
    neck = np.arange(LARGE)[:, None] > fair.points[0, 3:, 1].max() + 0.08 * LARGE

    assert inner.sum() > 0.1 * LARGE**2
    assert difference[inner].mean() > 0.85  # all but eyes, brows, teeth
    assert fair.mask[0][difference & ~neck].mean() > 0.9
    assert fair.mask.min() >= 0 and fair.mask.max() <= 1


def test_the_mask_moves_with_the_face():
    situation = plain_situation()
    shifted = replace(situation, pose=situation.pose + (np.array(POSE) == "shift_x") * 0.125)
    first, second = (render(plain_person(), s, SIZE) for s in (situation, shifted))

    assert np.allclose(second.mask[0, :, 8:], first.mask[0, :, :-8], atol=1e-3)
    assert np.allclose(second.points - first.points, (8, 0))


def test_hair_and_hats_are_not_face():
    bald, hairy = (with_style(plain_person(), hair=kind) for kind in ("bald", "bob"))
    drawn = [render(person, plain_situation()).mask.sum() for person in (bald, hairy)]
    hat = render(bald, plain_situation().named(role="santa")).mask.sum()

    assert drawn[1] < 0.85 * drawn[0] and hat < 0.85 * drawn[0]


# --- several people, and mistakes ---


def test_two_people_are_both_there():
    left, right = side_by_side(plain_situation(), plain_situation())
    pair = render_together([plain_person(), plain_person()], [left, right])

    assert pair.points.shape == (1, 2, 5, 2)
    for x, y in np.rint(pair.points[0].reshape(-1, 2)).astype(int):
        assert pair.mask[0, y, x] > 0.9
    assert pair.points[0, 0, :, 0].max() < SIZE / 2 < pair.points[0, 1, :, 0].min()
    assert pair.captions == ["a photo of a person and a person in a studio"]


def test_captions_of_pairs_say_what_is_true_of_both():
    left, right = (s.named(role="chef", prop="none") for s in side_by_side(plain_situation(), plain_situation()))
    people = [plain_person(), plain_person()]

    both = render_together(people, [left, right]).captions
    one = render_together(people, [left, right.named(role="king")]).captions

    assert both == ["a photo of a person and a person in a studio, wearing a chef hat"]
    assert one == ["a photo of a person and a person in a studio"]


def test_captions_name_whom_they_are_given():
    drawn = render(sample_identities(0, 2), sample_situations(0, 2), names=["Orso Kaldimer", "a person"])

    assert drawn.captions[0].startswith("a photo of Orso Kaldimer")
    assert drawn.expression.shape == (2, len(EXPRESSION)) and drawn.pose.shape == (2, len(POSE))


@pytest.mark.parametrize("people, situations", [(2, 3), (0, 0)])
def test_numbers_that_do_not_match_are_refused(people, situations):
    with pytest.raises(SettingsError, match="as many of each"):
        render(sample_identities(0, people), sample_situations(0, situations))


def test_tiny_pictures_are_refused():
    with pytest.raises(SettingsError, match="16 px or more"):
        render(sample_identities(0, 1), sample_situations(0, 1), 8)
