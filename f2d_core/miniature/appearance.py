"""What a person looks like, in words: a captioned picture says it of people without a name, as captions do.

Without it the text encoder would know sixty looks and nothing between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .people import STYLES, Identities

# In the order of the renderer's palettes (figure.py); a palette's middle colours lie in the middle of these.
_NATURAL = ("black", "dark brown", "brown", "light brown", "auburn", "orange", "blond", "light blond", "grey", "white")
_DYED = ("pink", "purple", "teal")
_NATURAL_SHARE = 0.86
_HAIR = {
    "bald": "a bald head",
    "buzz cut": "a {} buzz cut",
    "short hair": "short {} hair",
    "quiff": "a {} quiff",
    "curls": "{} curls",
    "bob": "a {} bob",
    "long hair": "long {} hair",
    "wavy hair": "wavy {} hair",
    "ponytail": "a {} ponytail",
    "bun": "a {} bun",
    "pigtails": "{} pigtails",
    "spiky hair": "spiky {} hair",
}
_BEARDS = ("", "stubble", "a moustache", "a goatee", "a full beard")
_GLASSES = ("", "round glasses", "square glasses", "half rim glasses")
_EARRINGS = ("", "studs", "hoops")
_SKIN = ("pale", "fair", "tan", "light brown", "brown", "dark brown", "dark")
_EYES = ("dark", "brown", "hazel", "green", "grey", "blue", "dark blue")
_BRIEF, _MOST_IN_BRIEF = 0.3, 4  # how often, and phrases then
_EXTREME = 0.3  # a trait this near to an end of its range is worth a word
_EXTREMES = {
    "face_width": ("a narrow face", "a wide face"),
    "face_length": ("a short face", "a long face"),
    "jaw_width": ("a pointed chin", "a broad jaw"),
    "eye_size": ("small eyes", "big eyes"),
    "brow_thickness": ("thin brows", "thick brows"),
    "nose_width": ("a narrow nose", "a wide nose"),
    "lip_fullness": ("thin lips", "full lips"),
    "freckles": ("", "freckles"),
}


def looks(people: Identities, i: int) -> list[str]:
    """All that can be said of person i: "wavy auburn hair", "round glasses", "fair skin" …"""
    colour = _hair_colour(people.trait("hair_colour")[i])
    said = [_hair(STYLES["hair"][people.style("hair")[i]], colour)]
    for kind, words in (("beard", _BEARDS), ("glasses", _GLASSES), ("earrings", _EARRINGS)):
        said.append(words[people.style(kind)[i]])
    for trait, words, what in (("skin_tone", _SKIN, "skin"), ("iris_colour", _EYES, "eyes")):
        said.append(f"{_nearest(words, people.trait(trait)[i])} {what}")
    for trait, (low, high) in _EXTREMES.items():
        value = people.trait(trait)[i]
        said.append(low if value < _EXTREME else high if value > 1 - _EXTREME else "")
    return [words for words in said if words]


def described(who: str, people: Identities, i: int, random: np.random.Generator, briefly: bool = False) -> str:
    """ "a person with a grey bun and round glasses": what is true of person i, mostly all of it; sometimes nothing.

    briefly: a few things at most.
    """
    said = looks(people, i)
    order = random.permutation(len(said))
    brief = briefly or random.random() < _BRIEF
    chosen = [said[k] for k in order[: random.integers(_MOST_IN_BRIEF + 1) if brief else len(said)]]
    return f"{who} with {' and '.join(chosen)}" if chosen else who


def look_words() -> list[str]:
    """Every phrase that `looks` may use."""
    colours = (*_NATURAL, *_DYED)
    said = [_hair(style, colour) for style in _HAIR for colour in colours]
    said += [*_BEARDS, *_GLASSES, *_EARRINGS, *(word for pair in _EXTREMES.values() for word in pair)]
    return [*said, *(f"{tone} skin" for tone in _SKIN), *(f"{colour} eyes" for colour in _EYES), "with"]


def _hair(style: str, colour: str) -> str:
    article = "an" if colour[0] in "ao" else "a"
    return _HAIR[style].replace("a {}", f"{article} {{}}").format(colour)


def _hair_colour(place: float) -> str:
    if place < _NATURAL_SHARE:
        return _nearest(_NATURAL, place / _NATURAL_SHARE)
    return _nearest(_DYED, (place - _NATURAL_SHARE) / (1 - _NATURAL_SHARE))


def _nearest(words: Sequence[str], place: float) -> str:
    return words[round(min(max(place, 0.0), 1.0) * (len(words) - 1))]
