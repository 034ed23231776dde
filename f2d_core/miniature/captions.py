"""What a picture shows, in words: a small language of its own, and sixty invented celebrities who have names in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .appearance import look_words
from .people import Identities, sample_identities
from .situations import EXPRESSIONS, POSE, PROPS, ROLES, SCENES, Situations, sample_situations

PERSON, MARKER = "a person", "S*"
MOOD_WORDS = {
    "neutral": "",
    "smiling": "smiling",
    "laughing": "laughing",
    "sad": "looking sad",
    "angry": "looking angry",
    "surprised": "looking surprised",
    "crying": "crying",
    "winking": "winking",
    "kissing": "kissing",
    "sleeping": "sleeping",
    "silly": "sticking out the tongue",
}
SCENE_WORDS = {
    "studio": "in a studio",
    "snowy forest": "in a snowy forest",
    "beach": "at the beach",
    "city": "in the city",
    "library": "in a library",
    "desert": "in the desert",
    "mountains": "in the mountains",
    "meadow": "in a flower meadow",
    "night sky": "under the night sky",
    "kitchen": "in a kitchen",
    "autumn forest": "in an autumn forest",
    "sunset": "at sunset",
}
ROLE_WORDS = {
    "none": ("", ""),
    "chef": ("wearing a chef hat", "as a chef"),
    "king": ("wearing a crown", "as a king"),
    "firefighter": ("wearing a red helmet", "as a firefighter"),
    "wizard": ("wearing a wizard hat", "as a wizard"),
    "builder": ("wearing a yellow helmet", "as a builder"),
    "santa": ("wearing a santa hat", "as santa"),
    "cowboy": ("wearing a cowboy hat", "as a cowboy"),
    "graduate": ("wearing a graduation cap", "as a graduate"),
    "doctor": ("wearing a white coat", "as a doctor"),
    "astronaut": ("wearing a space suit", "as an astronaut"),
    "pirate": ("wearing a pirate hat", "as a pirate"),
}
PROP_WORDS = {
    "none": "",
    "balloon": "holding a balloon",
    "book": "reading a book",
    "parrot": "with a parrot on the shoulder",
    "cup": "drinking a cup of coffee",
    "guitar": "playing the guitar",
    "flowers": "holding flowers",
    "ice cream": "eating ice cream",
    "cat": "holding a cat",
    "trophy": "holding a trophy",
    "umbrella": "under an umbrella",
    "microphone": "singing into a microphone",
}

# Each made of two words that stand for nobody else; people of these names are invented.
NAMES = (
    *("Abrin Tolvik", "Adessa Quorn", "Almo Brackit", "Anvel Soriq", "Arlo Zemnik", "Belka Drovane", "Bentho Lirsk"),
    *(
        "Brisa Valtuun",
        "Caldo Fennwyr",
        "Cemile Oskrat",
        "Corvin Hadluk",
        "Dalia Pryzmo",
        "Darro Gelfint",
        "Dorika Umbell",
    ),
    *("Edvin Sparlo", "Elka Morvath", "Enzo Trillick", "Esmiro Vandak", "Fadri Kolmen", "Fenna Jurvis", "Filko Adramo"),
    *(
        "Gavra Nelstrom",
        "Gilmo Ructer",
        "Greta Yolvin",
        "Hadro Simbley",
        "Helka Orvane",
        "Ibro Castwin",
        "Ilvy Marrenko",
    ),
    *(
        "Ismo Dunvarg",
        "Jarla Pethwin",
        "Jovik Ansgrel",
        "Junra Beltova",
        "Kalle Drimsow",
        "Kesia Romvald",
        "Korvo Lintzen",
    ),
    *(
        "Lamira Foswick",
        "Lenko Artuval",
        "Lioba Cresk",
        "Lurin Havdal",
        "Maddo Petrusk",
        "Marvi Eskwold",
        "Milva Tarrone",
    ),
    *("Nadro Willem", "Nelka Fiorsk", "Obin Graskel", "Olvira Denn", "Orso Kaldimer", "Paskal Ubrix", "Perla Nordvin"),
    *(
        "Quilla Hestor",
        "Ravko Ilmenes",
        "Rinda Sovarek",
        "Rommo Vick",
        "Salka Bremond",
        "Sivo Terrano",
        "Tamsa Okelund",
    ),
    *("Tovin Merrax", "Ulva Chandrel", "Vesko Palmbry", "Zarina Holt"),
)
_NAMES_SEED = 60_000
_SAID = 0.9  # how often a caption names something that is there

# Forty prompts for tables: ten roles, ten props and doings, ten expressions, ten scenes.
GROUPS = ("roles", "props", "expressions", "scenes")
_NAMED = {
    "roles": ("chef", "king", "firefighter", "wizard", "builder", "santa", "cowboy", "graduate", "astronaut", "pirate"),
    "props": ("balloon", "book", "parrot", "cup", "guitar", "flowers", "ice cream", "cat", "trophy", "umbrella"),
    "expressions": tuple(EXPRESSIONS)[1:],
    "scenes": tuple(name for name in SCENES if name not in ("studio", "sunset")),
}
_FIELDS = {"roles": "role", "props": "prop", "expressions": "mood", "scenes": "scene"}
# Twelve for choices (settings, checkpoints), never in a table: each names two or three things.
_CHOICES = (
    {"role": "doctor", "scene": "city"},
    {"prop": "microphone", "mood": "smiling"},
    {"role": "chef", "mood": "angry"},
    {"prop": "cat", "scene": "sunset"},
    {"role": "pirate", "scene": "beach", "mood": "laughing"},
    {"prop": "umbrella", "scene": "autumn forest"},
    {"role": "wizard", "prop": "book"},
    {"mood": "surprised", "scene": "library"},
    {"role": "santa", "scene": "snowy forest"},
    {"prop": "ice cream", "mood": "winking"},
    {"role": "astronaut", "scene": "desert"},
    {"prop": "guitar", "scene": "mountains", "mood": "sleeping"},
)


def celebrity_identities() -> Identities:
    """The sixty people whom NAMES names, in that order."""
    return sample_identities(_NAMES_SEED, len(NAMES))


def captions(situations: Situations, names: Sequence[str] | None = None) -> list[str]:
    """Everything that is shown: "a photo of a person smiling in a snowy forest, wearing a chef hat, reading a book".

    names: who it is, if not "a person".
    """
    who = names if names is not None else [PERSON] * len(situations)
    return [_sentence(name, [part for part in _phrases(situations, i, 0) if part]) for i, name in enumerate(who)]


def caption(situations: Situations, i: int, who: str, random: np.random.Generator) -> str:
    """A description of picture i as people give them: most of what there is, in any order, always true.

    who: "a person", a name, a marker, or two people joined with "and".
    """
    calm_portrait = situations.mood[i] == 0 and situations.pose[i, POSE.index("scale")] > 0.38
    if calm_portrait and random.random() < 0.5:
        return f"a photo of {who}, looking at the camera" if " with " in who else f"{who} face, looking at the camera"
    phrases = _phrases(situations, i, int(random.random() < 0.5))
    order = np.argsort(random.random(len(phrases)))
    return _sentence(who, [phrases[k] for k in order if phrases[k] and random.random() < _SAID])


def _phrases(situations: Situations, i: int, way: int) -> list[str]:
    """Mood, scene, role and prop of picture i; "" for what is not there."""
    mood = MOOD_WORDS[list(EXPRESSIONS)[situations.mood[i]]]
    role = ROLE_WORDS[ROLES[situations.role[i]]][way]
    return [mood, SCENE_WORDS[SCENES[situations.scene[i]]], role, PROP_WORDS[PROPS[situations.prop[i]]]]


def _sentence(who: str, phrases: Sequence[str]) -> str:
    """The first phrase follows the person; places follow what is before them; a comma comes before all others."""
    text = f"a photo of {who}"
    for i, phrase in enumerate(phrases):
        joined = i == 0 or (phrase in SCENE_WORDS.values() and phrases[i - 1] not in SCENE_WORDS.values())
        text += f" {phrase}" if joined else f", {phrase}"
    return text


def _prompt(named: dict[str, str]) -> str:
    words: dict[str, Callable[[str], str]] = {
        "mood": MOOD_WORDS.__getitem__,
        "prop": PROP_WORDS.__getitem__,
        "scene": SCENE_WORDS.__getitem__,
        "role": lambda name: ROLE_WORDS[name][0],
    }
    return _sentence(MARKER, [say(named[field]) for field, say in words.items() if field in named])


_TABLE = [{_FIELDS[group]: name} for group in GROUPS for name in _NAMED[group]]
PROMPTS = tuple(_prompt(named) for named in _TABLE)  # ten of each of GROUPS, in that order
CHOICE_PROMPTS = tuple(_prompt(named) for named in _CHOICES)


def situation_for(prompt: int, n: int, seed: int, start: int = 0, choices: bool = False) -> Situations:
    """n situations that show PROMPTS[prompt] (choices: CHOICE_PROMPTS[prompt]) and nothing else that has a word; pose,
    light and the place of things are as they come."""
    named = (_CHOICES if choices else _TABLE)[prompt]
    return sample_situations(seed, n, start).named(**{**_UNNAMED, **named})


_UNNAMED = {"mood": "neutral", "role": "none", "scene": "studio", "prop": "none"}  # none of which a table asks for


def _words() -> tuple[str, ...]:
    said = ["a photo of and", PERSON, "face looking at the camera", *MOOD_WORDS.values(), *SCENE_WORDS.values()]
    said += [phrase for ways in ROLE_WORDS.values() for phrase in ways]
    said += [*PROP_WORDS.values(), *NAMES, *look_words()]
    return tuple(sorted({word.lower() for phrase in said for word in phrase.split()} | {","}))


WORDS = _words()  # all that can be said, in lower case, and the comma
