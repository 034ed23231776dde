"""What changes from picture to picture of the same person: expression, pose, light, clothes and role, scene, a prop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .draws import SITUATION, uniforms

EXPRESSION = ("smile", "open", "wide", "eyes", "brows", "frown", "gaze_x", "gaze_y", "wink", "tears", "tongue")
# Each coefficient is about in [-1, 1]: corners of the mouth up; mouth open (from 0); mouth broad, or pursed; eyes open
# further, or closed at -1; brows up; brows drawn together and down inside, or up inside (worry); where the eyes look;
# the eye at the right of the picture closed, or the other one; tears, and the tongue out (from 0).
EXPRESSIONS = {
    "neutral": (0.12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "smiling": (0.95, 0.12, 0.35, -0.05, 0.15, 0, 0, 0, 0, 0, 0),
    "laughing": (1, 0.85, 0.5, -0.55, 0.35, 0, 0, 0, 0, 0, 0),
    "sad": (-0.85, 0, -0.15, -0.3, -0.05, -0.95, 0, 0.45, 0, 0, 0),
    "angry": (-0.6, 0.12, 0.15, 0.1, -0.5, 1, 0, 0, 0, 0, 0),
    "surprised": (0, 0.9, -0.75, 0.85, 1, -0.1, 0, 0, 0, 0, 0),
    "crying": (-0.95, 0.45, 0.1, -0.4, 0, -1, 0, 0.3, 0, 1, 0),
    "winking": (0.75, 0.05, 0.25, 0.05, 0.25, 0, 0, 0, 1, 0, 0),
    "kissing": (0.25, 0.12, -1, -0.55, 0.4, 0, 0, 0, 0, 0, 0),
    "sleeping": (0.15, 0, -0.1, -1, -0.1, 0, 0, 0, 0, 0, 0),
    "silly": (0.7, 0.55, 0.2, 0.45, 0.5, 0, 0, 0, 0, 0, 1),
}
_OWN = (0.3, 0.1, 0.25, 0.2, 0.3, 0.2, 1.2, 0.5, 0, 0, 0)  # how far a face strays from the named expression
POSE = ("yaw", "pitch", "roll", "scale", "shift_x", "shift_y")
# yaw, pitch, roll in degrees: the face turned to the right of the picture, up, and leaning clockwise; half the height
# of the head, and the middle of the head from the middle of the picture, in sides of the picture.
PORTRAIT = (0, 0, 0, 0.39, 0, 0.03)
ROLES = (
    *("none", "chef", "king", "firefighter", "wizard", "builder", "santa", "cowboy", "graduate", "doctor"),
    *("astronaut", "pirate"),
)
BAREHEADED = (0, 9, 10)  # of the roles; the astronaut's helmet has room
SCENES = (
    *("studio", "snowy forest", "beach", "city", "library", "desert", "mountains", "meadow", "night sky", "kitchen"),
    *("autumn forest", "sunset"),
)
LIGHT = ("from_x", "from_y", "strength", "warmth", "brightness")
PROPS = (
    *("none", "balloon", "book", "parrot", "cup", "guitar", "flowers", "ice cream", "cat", "trophy", "umbrella"),
    "microphone",
)
_HELD_LOW = ("book", "cup", "guitar", "flowers", "ice cream", "cat", "trophy", "microphone")
_MIDDLE = np.array((0, 0, 0, 0.33, 0, 0.03))  # of the poses
_LIGHT_MIDDLE = np.array((0, -0.45, 0.16, 0, 1.0))
_IN_COSTUME = 0.3  # how many of the photos of a collection show somebody in a role
_STEADY, _LAYOUTS_SEED = 1 / 3, 5200
VARIATION = 12  # numbers in [0, 1) for what has no name: which shirt, where the trees stand


@dataclass(frozen=True)
class Situations:
    """n situations. expression (n, 11), pose (n, 6), light (n, 5), variation (n, 12): float64. role, scene, prop, mood:
    (n,) int64, places in ROLES, SCENES, PROPS and EXPRESSIONS.
    """

    expression: np.ndarray
    pose: np.ndarray
    light: np.ndarray
    role: np.ndarray
    scene: np.ndarray
    prop: np.ndarray
    mood: np.ndarray
    variation: np.ndarray

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def numbers(self) -> np.ndarray:
        """(n, coefficients + roles + scenes + props): the expression, and 1 for the role, scene and prop that it is."""
        kinds = ((self.role, ROLES), (self.scene, SCENES), (self.prop, PROPS))
        return np.concatenate([self.expression, *(np.eye(len(names))[chosen] for chosen, names in kinds)], axis=1)

    @property
    def framing(self) -> np.ndarray:
        """(n, 6): the pose as it is drawn. Whoever holds something is a little further away, which leaves room."""
        low = np.isin(self.prop, [PROPS.index(name) for name in _HELD_LOW])[:, None]
        return np.where(low, self.pose * (1, 1, 1, 0.86, 1, 1) + (0, 0, 0, 0, 0, -0.055), self.pose)

    @property
    def steady(self) -> Situations:
        """The same with less left to chance: heads turn and move a third as far, the light changes half as much, and a
        scene, with what has no name in it, looks the same every time. So much can a small model learn in an hour."""
        shares = (*[_STEADY] * 3, 0.5, *[_STEADY] * 2)
        layouts = uniforms(_LAYOUTS_SEED, SITUATION, 0, len(SCENES), VARIATION)
        return replace(
            self,
            pose=_MIDDLE + (self.pose - _MIDDLE) * shares,
            light=_LIGHT_MIDDLE + (self.light - _LIGHT_MIDDLE) / 2,
            variation=layouts[self.scene],
        )

    @property
    def photographed(self) -> Situations:
        """As collections of portraits show people: few in costume, which would hide their hair, with empty hands."""
        costume = self.variation[:, 0] < _IN_COSTUME
        return replace(self, role=np.where(costume, self.role, 0), prop=np.zeros_like(self.prop))

    def take(self, rows: Sequence[int] | np.ndarray) -> Situations:
        """The situations `rows`, in that order."""
        return Situations(**{name: values[rows] for name, values in vars(self).items()})

    def named(
        self, mood: str | None = None, role: str | None = None, scene: str | None = None, prop: str | None = None
    ) -> Situations:
        """The same with a mood, role, scene or prop by its name, for all; a mood looks a little different each time."""
        changed = {}
        if mood is not None:
            changed["mood"] = np.full(len(self), list(EXPRESSIONS).index(mood))
            own = self.variation[:, : len(EXPRESSION)]
            changed["expression"] = expression_of(changed["mood"], np.ones(len(self)), own)
        if role is not None:
            changed["role"] = np.full(len(self), ROLES.index(role))
        if scene is not None:
            changed["scene"] = np.full(len(self), SCENES.index(scene))
        if prop is not None:
            changed["prop"] = np.full(len(self), PROPS.index(prop))
        return replace(self, **changed)


def side_by_side(left: Situations, right: Situations) -> tuple[Situations, Situations]:
    """Two people in one picture: smaller, one at each side, in the scene and the light of the first."""
    shares = (1, 1, 1, 0.72, 0.4, 0.6)
    placed = [
        np.minimum(s.pose, (90, 90, 90, 0.3, 1, 1)) * shares + np.array((0, 0, 0, 0, x, 0.10))
        for s, x in ((left, -0.235), (right, 0.235))
    ]
    return replace(left, pose=placed[0]), replace(right, pose=placed[1], light=left.light, scene=left.scene)


def shared(situations: Sequence[Situations]) -> Situations:
    """The first ones, with the mood, role and prop of those that have none where not all have the same."""
    first, *others = situations
    same = {
        name: np.array([getattr(s, name) == getattr(first, name) for s in others]) for name in ("mood", "role", "prop")
    }
    return replace(
        first, **{name: np.where(equal.all(axis=0), getattr(first, name), 0) for name, equal in same.items()}
    )


def sample_situations(seed: int, n: int, start: int = 0) -> Situations:
    """Situations number start to start + n of this seed. One in eight is a portrait: large, from the front, calm."""
    parts = (8, len(EXPRESSION), 2 * len(POSE), len(LIGHT), VARIATION)
    drawn = uniforms(seed, SITUATION, start, n, sum(parts))
    choice, expression, pose, light, variation = np.split(drawn, np.cumsum(parts)[:-1], axis=1)
    portrait = choice[:, 0] < 0.125
    mood = np.where(portrait, 0, _pick(choice[:, 1], len(EXPRESSIONS)))
    return Situations(
        expression=expression_of(mood, 0.7 + 0.4 * choice[:, 2], expression),
        pose=np.where(portrait[:, None], _pose(pose) * (0.15, 0.2, 0.2, 0, 0.3, 0.3) + PORTRAIT, _pose(pose)),
        light=_light(light),
        role=np.where(choice[:, 3] < 0.35, 0, 1 + _pick(choice[:, 4], len(ROLES) - 1)),
        scene=_pick(choice[:, 5], len(SCENES)),
        prop=np.where((choice[:, 6] < 0.45) | portrait, 0, 1 + _pick(choice[:, 7], len(PROPS) - 1)),
        mood=mood,
        variation=variation,
    )


def _pick(uniform: np.ndarray, kinds: int) -> np.ndarray:
    return (uniform * kinds).astype(np.int64)


def expression_of(mood: np.ndarray, strength: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """(n, 11): the coefficients of EXPRESSIONS[mood], more or less strongly and each a little its own way."""
    named = np.array(list(EXPRESSIONS.values()), np.float64)[mood] * strength[:, None]
    drawn = named + (uniform - 0.5) * _OWN
    drawn[:, 1] = np.maximum(drawn[:, 1], 0)
    asleep = mood == list(EXPRESSIONS).index("sleeping")
    drawn[asleep, EXPRESSION.index("eyes")] = -1
    return np.clip(drawn, -1, 1)


def _pose(uniform: np.ndarray) -> np.ndarray:
    """The sum of two uniform numbers: the middle is the most frequent."""
    middling = uniform[:, : len(POSE)] + uniform[:, len(POSE) :] - 1
    return _MIDDLE + middling * (34, 18, 16, 0.045, 0.07, 0.035)


def _light(uniform: np.ndarray) -> np.ndarray:
    return (-0.9, -0.9, 0.06, -1, 0.92) + uniform * (1.8, 0.9, 0.20, 2, 0.16)
