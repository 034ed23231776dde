"""Plans: the shipped ones say what the papers say; a mistake is named with its key and its line."""

from collections import Counter

import pytest

from f2d_core.errors import SettingsError
from f2d_core.evaluate.plan import SHIPPED, chosen_methods, read_plan, with_images
from f2d_core.evaluate.prompts import DREAMIDENTITY_PROMPTS, F2D_GROUPS, F2D_PROMPTS
from f2d_core.ports import Sampling

SMALL = '[prompts.job]\nchef = "S* as a chef"\n'


@pytest.fixture
def plan(tmp_path):
    """plan(text) -> the plan in a file with that text."""

    def make(text, **changes):
        file = tmp_path / "plan.toml"
        file.write_text(text, encoding="utf-8")
        return read_plan(file, changes)

    return make


def test_face2diffusion_is_the_papers_protocol():
    found = read_plan("face2diffusion")
    assert [prompt.text for prompt in found.prompts] == list(F2D_PROMPTS)
    assert {group: [p.text for p in found.prompts if p.group == group] for group in found.groups} == {
        group: list(prompts) for group, prompts in F2D_GROUPS.items()
    }
    assert found.sampling == Sampling("euler_ancestral", 30, 7.0, 512, 512)
    assert (found.pictures, found.seed, found.reference, found.negative) == (4, 0, "A photo of S*", "")
    assert found.method("delayed").subject_steps == 0.8
    assert [method.name for method in chosen_methods(found)] == ["face2diffusion"]


def test_dreamidentity_is_its_protocol():
    found = read_plan("dreamidentity")
    assert [prompt.text for prompt in found.prompts] == list(DREAMIDENTITY_PROMPTS)
    assert found.sampling == Sampling("ddim", 30, 7.5, 512, 512)
    assert found.pictures == 4


@pytest.mark.parametrize("name", SHIPPED)
def test_keys_of_shipped_prompts_are_plain_and_differ(name):
    keys = Counter(prompt.key for prompt in read_plan(name).prompts)
    assert max(keys.values()) == 1
    assert all(key.isascii() and key.replace("_", "").isalnum() for key in keys)


def test_a_file_beside_the_command_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face2diffusion").write_text(SMALL)
    assert len(read_plan("face2diffusion").prompts) == 1


def test_a_folder_of_a_shipped_name_does_not(tmp_path, monkeypatch):
    """The clone of this pack, for example."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "face2diffusion").mkdir()
    assert len(read_plan("face2diffusion").prompts) == 40


def test_everything_in_a_plan(plan, tmp_path):
    found = plan(
        'title = "Ünï"\nfaces = "people"\npictures = 2\nseed = 5\ncfg = 3\nsteps = 4\n'
        'sampler = "ddim"\nrun = ["late"]\n'
        '[methods.early]\n[methods.late]\nsubject_steps = 0.5\nstrength = 0.9\nmapping = "b.safetensors"\n'
        '[prompts]\nscene = ["S* on a hill", "a S*, in the rain"]\n[prompts.job]\nchef = "S* as a chef"\n'
    )
    assert (found.title, found.pictures, found.seed, found.cfg, found.steps) == ("Ünï", 2, 5, 3.0, 4)
    assert found.path(found.faces) == tmp_path / "people"
    assert [(p.key, p.group) for p in found.prompts] == [
        ("on_a_hill", "scene"),
        ("a_in_the_rain", "scene"),
        ("chef", "job"),
    ]
    assert [method.name for method in chosen_methods(found)] == ["late"]
    assert [method.name for method in chosen_methods(found, ["early", "late", "early"])] == ["early", "late"]
    assert (found.method("late").strength, found.method("late").mapping) == (0.9, "b.safetensors")


def test_changes_from_the_command_line_stand_above_the_file(plan):
    assert plan("steps = 4\n" + SMALL, steps=9).steps == 9
    with pytest.raises(SettingsError, match="steps is 0"):
        plan(SMALL, steps=0)


def test_a_plan_without_methods_has_the_plain_one(plan):
    (method,) = plan(SMALL).methods
    assert (method.name, method.subject_steps, method.strength) == ("face2diffusion", 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3\n" + SMALL, r'plan.toml: There is no key "stepz"; expected one of: title, .* Line 1: stepz = 3'),
        ("\nsteps = 0\n" + SMALL, r"steps is 0; expected 1 to 1000\. Line 2: steps = 0"),
        ('steps = "3"\n' + SMALL, r"steps is '3'; expected a whole number\. Line 1"),
        ("cfg = nan\n" + SMALL, r"cfg is nan; expected above 0.* Line 1: cfg = nan"),
        ("width = 65\n" + SMALL, r"width is 65; expected a multiple of 8"),
        ("pictures = 0\n" + SMALL, r"pictures is 0"),
        ("seed = 4294967295\n" + SMALL, r"seed is 4294967295"),
        ('sampler = "lms"\n' + SMALL, r"sampler is lms; expected euler_ancestral or ddim"),
        ('run = "x"\n' + SMALL, r"run is 'x'; expected a list of names"),
        ('run = ["x"]\n' + SMALL, r'run names "x"; expected names of methods\. Line 1'),
        ('reference = "a photo"\n' + SMALL, r'The prompt "reference" is .* expected text with the marker S\*'),
        ("steps = [\n", r"plan.toml is not TOML"),
        ("steps = 3 4\n" + SMALL, r"not TOML: .*line 1.* The line is: steps = 3 4"),
        ("steps = 3\n", r"There are no prompts; expected \[prompts.GROUP\]"),
        ("prompts = 3\n", r'"prompts" is no table'),
        ("[prompts.job]\n", r'The prompts of "job" are no table'),
        ('[prompts.job]\nchef = "a s* chef"\n', r'"chef" is .* marker S\*. "s\*" is spelled differently\. Line 2'),
        ('[prompts.job]\nchef = 7\n', r'The prompt "chef" is 7'),
        ('[prompts.job]\n"a/b" = "S*"\n', r'The prompt "a/b" names a folder and cannot; .* "a_b"\. Line 2'),
        ('[prompts.job]\n_reference = "S*"\n', r'"_reference" names a folder and cannot'),
        ('[prompts.a]\nchef = "S*"\n[prompts.b]\nChef = "S*"\n', r'Two prompts are called "chef"'),
        ("methods = 3\n" + SMALL, r'"methods" is no table'),
        (SMALL + "[methods]\nx = 3\n", r'The method "x" is 3; expected a table, \[methods.x\]'),
        (SMALL + "[methods.x]\nsubjct = 1\n", r'The method "x" has no key "subjct"; .* Line 4: subjct = 1'),
        (SMALL + "[methods.x]\nsubject_steps = 1.5\n", r"subject_steps is 1.5; expected 0 to 1.* Line 4"),
        (SMALL + "[methods.x]\nstrength = 3\n", r"strength is 3.0; expected 0 to 2"),
        (SMALL + '[methods."../x"]\n', r'The method "../x" names a folder and cannot'),
    ],
)  # fmt: skip
def test_mistakes(plan, text, message):
    with pytest.raises(SettingsError, match=message):
        plan(text)


def test_plans_that_are_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"Cannot read the plan nope: .*one of: face2diffusion, dreamidentity"):
        read_plan("nope")
    with pytest.raises(SettingsError, match="Cannot read the plan"):
        read_plan(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="Cannot read the plan"):
        read_plan(tmp_path / "binary.toml")


def test_pictures_made_otherwise_are_a_method(plan, tmp_path):
    found = with_images(plan(SMALL), "other", tmp_path)
    assert found.method("other").images == str(tmp_path)
    assert [method.name for method in chosen_methods(found)] == ["face2diffusion", "other"]
    with pytest.raises(SettingsError, match='has a method "other" already'):
        with_images(found, "other", tmp_path)
    with pytest.raises(SettingsError, match='no method "x"; expected one of: face2diffusion, other'):
        found.method("x")


def test_pictures_made_otherwise_join_the_methods_that_run(plan, tmp_path):
    found = with_images(plan('run = ["a"]\n[methods.a]\n[methods.b]\n' + SMALL), "other", tmp_path)
    assert [method.name for method in chosen_methods(found)] == ["a", "other"]
