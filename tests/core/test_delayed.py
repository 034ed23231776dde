"""Delayed subject conditioning: FastComposer's count, and the same steps found again in model time."""

import pytest
import torch

from f2d_core.delayed import class_prompt, class_steps, even_timesteps, switch_percent
from f2d_core.errors import PromptError, SettingsError
from f2d_core.prompt import Person
from f2d_core.s_star import SStar


def person(marker="S*", class_word="a person"):
    return Person(SStar(torch.zeros(2, 768), marker=marker, class_word=class_word))


@pytest.mark.parametrize(("alpha", "steps", "count"), [(0.8, 30, 6), (0.5, 50, 26), (0.0, 30, 30), (1.0, 30, 0),
                                                       (0.6, 50, 21), (0.5, 1, 1)])  # fmt: skip
def test_known_counts(alpha, steps, count):
    assert class_steps(alpha, steps) == count


def test_the_count_is_that_of_the_public_loop():
    for steps in range(1, 60):
        for alpha in [i / 40 for i in range(40)]:
            start = (1 - alpha) * steps
            assert class_steps(alpha, steps) == sum(i <= start for i in range(steps))


@pytest.mark.parametrize("alpha", [-0.1, 1.01, float("nan")])
def test_parts_outside_0_to_1_are_refused(alpha):
    with pytest.raises(SettingsError, match="expected 0 to 1"):
        class_steps(alpha, 30)


def test_official_timesteps():
    assert even_timesteps(4) == [999, 666, 333, 0]
    assert even_timesteps(1) == [999]


@pytest.mark.parametrize("timesteps", [even_timesteps(30), list(range(958, 0, -33)), [999, 998, 3, 1]])
def test_the_switch_lies_between_the_steps(timesteps):
    percents = [1 - t / 999 for t in timesteps]
    for count in range(1, len(timesteps)):
        switch = switch_percent(timesteps, count)
        assert [percent < switch for percent in percents] == [i < count for i in range(len(timesteps))]
        assert switch - percents[count - 1] == pytest.approx(percents[count] - switch)


def test_ends_of_the_switch():
    assert switch_percent(even_timesteps(30), 0) == 0
    assert switch_percent(even_timesteps(30), 30) == 1


def test_class_prompt():
    people = [person(), person("T*", "a cat")]
    assert class_prompt("(S*:1.2) and T* near S*", people) == "(a person:1.2) and a cat near a person"
    assert class_prompt("S*", [person(class_word="")]) == "a person"
    with pytest.raises(PromptError, match=r'"S\*"'):
        class_prompt("a chef", [person()])
