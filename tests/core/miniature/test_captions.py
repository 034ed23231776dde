"""What is said of a picture, and what can be said at all."""

import re

import numpy as np
import pytest

from f2d_core.miniature.captions import (
    CHOICE_PROMPTS,
    GROUPS,
    MOOD_WORDS,
    NAMES,
    PROMPTS,
    PROP_WORDS,
    ROLE_WORDS,
    SCENE_WORDS,
    WORDS,
    caption,
    captions,
    celebrity_identities,
    situation_for,
)
from f2d_core.miniature.situations import EXPRESSIONS, PROPS, ROLES, SCENES, sample_situations


def words(text):
    return re.findall(r"[\w*]+|,", text.lower())


def random(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def true_phrases(situations, i):
    """All that may be said of picture i."""
    mood, role = list(EXPRESSIONS)[situations.mood[i]], ROLES[situations.role[i]]
    found = {MOOD_WORDS[mood], SCENE_WORDS[SCENES[situations.scene[i]]], *ROLE_WORDS[role]}
    return {*found, PROP_WORDS[PROPS[situations.prop[i]]]} - {""}


def test_everything_that_happens_has_words():
    assert list(MOOD_WORDS) == list(EXPRESSIONS)
    assert list(ROLE_WORDS) == list(ROLES) and list(PROP_WORDS) == list(PROPS) and list(SCENE_WORDS) == list(SCENES)


def test_a_full_caption_names_everything():
    drawn = sample_situations(0, 1).named(mood="smiling", role="chef", scene="snowy forest", prop="none")

    assert captions(drawn) == ["a photo of a person smiling in a snowy forest, wearing a chef hat"]
    assert captions(drawn, ["Orso Kaldimer"])[0].startswith("a photo of Orso Kaldimer smiling")


def test_captions_are_true():
    drawn, generator = sample_situations(1, 300), random()
    phrases = {p for table in (MOOD_WORDS, SCENE_WORDS, PROP_WORDS) for p in table.values()} - {""}
    phrases |= {p for ways in ROLE_WORDS.values() for p in ways} - {""}

    for i in range(len(drawn)):
        said = caption(drawn, i, "a person", generator)
        rest = said.removeprefix("a photo of a person")
        while rest and rest != said:
            rest = rest.removeprefix(",").removeprefix(" ")
            phrase = max((p for p in phrases if rest.startswith(p)), key=len)
            assert phrase in true_phrases(drawn, i), said
            rest = rest.removeprefix(phrase)
        assert not rest or said == "a person face, looking at the camera", said


def test_captions_differ_and_repeat_by_the_generator():
    drawn = sample_situations(2, 1).named(mood="sad", role="pirate", prop="cup")

    assert len({caption(drawn, 0, "a person", random(seed)) for seed in range(40)}) > 10
    assert caption(drawn, 0, "a person", random(3)) == caption(drawn, 0, "a person", random(3))


def test_every_word_is_known():
    drawn, generator = sample_situations(3, 400), random()
    said = [caption(drawn, i, f"{NAMES[i % 60]} and a person", generator) for i in range(400)]
    said += [prompt.replace("S*", "a person") for prompt in (*PROMPTS, *CHOICE_PROMPTS)]

    assert {word for text in said for word in words(text)} <= set(WORDS)
    assert len(set(WORDS)) == len(WORDS)


def test_names_are_sixty_and_share_no_word():
    parts = [word for name in NAMES for word in name.split()]

    assert len(NAMES) == len(celebrity_identities()) == 60
    assert all(len(name.split()) == 2 for name in NAMES)
    assert len(set(parts)) == 120
    assert not {part.lower() for part in parts} & {word for text in PROMPTS for word in words(text)}


def test_prompts_are_forty_in_four_groups_and_apart_from_those_for_choices():
    assert len(GROUPS) == 4 and len(PROMPTS) == 40 and len(set(PROMPTS)) == 40
    assert len(CHOICE_PROMPTS) == 12 and not set(PROMPTS) & set(CHOICE_PROMPTS)
    assert all(text.count("S*") == 1 for text in (*PROMPTS, *CHOICE_PROMPTS))
    assert [PROMPTS[10 * i] for i in range(4)] == [
        "a photo of S* wearing a chef hat",
        "a photo of S* holding a balloon",
        "a photo of S* smiling",
        "a photo of S* in a snowy forest",
    ]


@pytest.mark.parametrize("choices, prompts", [(False, PROMPTS), (True, CHOICE_PROMPTS)])
def test_situations_show_their_prompt(choices, prompts):
    for number, prompt in enumerate(prompts):
        drawn = situation_for(number, 2, seed=5, choices=choices)
        said = prompt.removeprefix("a photo of S* ")
        for i in range(2):
            rest = said
            for phrase in sorted(true_phrases(drawn, i), key=len, reverse=True):
                rest = rest.replace(phrase, "", 1)
            assert not rest.strip(", "), (prompt, rest)


def test_situations_of_a_prompt_differ_otherwise_and_show_no_other_prompt():
    drawn = situation_for(0, 50, seed=5)

    assert drawn.pose[:, 0].std() > 3 and drawn.light[:, 0].std() > 0.2
    assert not drawn.prop.any() and not drawn.mood.any() and set(drawn.scene) == {SCENES.index("studio")}
    assert np.array_equal(situation_for(0, 10, seed=5, start=20).pose, drawn.pose[20:30])
