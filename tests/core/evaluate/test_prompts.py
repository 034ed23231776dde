"""The papers' prompts: how many, which group, which of them are what."""

from f2d_core.evaluate.prompts import DREAMIDENTITY_PROMPTS, F2D_GROUPS, F2D_PROMPTS, plain_text


def test_forty_prompts_in_four_groups_of_ten():
    assert list(F2D_GROUPS) == ["job", "activity", "expression", "location"]
    assert [len(prompts) for prompts in F2D_GROUPS.values()] == [10] * 4
    assert len(set(F2D_PROMPTS)) == 40
    assert all(prompt.startswith("A photo of S* ") and prompt.count("S*") == 1 for prompt in F2D_PROMPTS)
    # Table 7 is one list; where a group begins and ends
    ends = [(prompts[0], prompts[-1]) for prompts in F2D_GROUPS.values()]
    assert ends == [
        ("A photo of S* as a firefighter", "A photo of S* as a pilot"),
        ("A photo of S* walking in a city under an umbrella", "A photo of S* knitting in a comfortable armchair"),
        ("A photo of S* yawning during a study session", "A photo of S* wearing an oversized sweater"),
        ("A photo of S* at the Great Wall of China", "A photo of S* in front of Niagara Falls"),
    ]


def test_eight_editing_prompts():
    assert len(set(DREAMIDENTITY_PROMPTS)) == 8
    assert all(prompt.count("S*") == 1 for prompt in DREAMIDENTITY_PROMPTS)


def test_text_encoders_read_of_a_person():
    assert plain_text("A photo of S* as a chef") == "A photo of a person as a chef"
    assert plain_text("S1 and S1", "S1", "a man") == "a man and a man"
