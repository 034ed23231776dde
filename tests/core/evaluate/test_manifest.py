"""The manifest lets a plan grow, and refuses one that would mix two kinds of pictures."""

import json

import pytest

from f2d_core.errors import SettingsError
from f2d_core.evaluate import manifest
from f2d_core.evaluate.plan import plan_from

BASE = {"steps": 4, "methods": {"a": {}}, "prompts": {"job": {"chef": "S* as a chef"}}}
FACES = {"anna": "1" * 64}


def facts(changes=(), faces=FACES, model="m", networks=("x", "y")):
    plan = plan_from({**BASE, **dict(changes)})
    known = (
        None
        if networks is None
        else {m.name: dict(zip(("msid", "mapping"), networks, strict=True)) for m in plan.methods}
    )
    return manifest.facts_of(plan, plan.methods, faces, model, known)


def make(folder, faces=("anna",), prompts=("chef", "_reference")):
    """A picture of each face in each prompt."""
    for place in (folder / "pictures" / "a" / face / prompt for face in faces for prompt in prompts):
        place.mkdir(parents=True, exist_ok=True)
        (place / "0.png").write_bytes(b"")


def test_the_same_plan_is_accepted_again(tmp_path):
    manifest.keep(tmp_path, facts())
    written = (tmp_path / "manifest.json").read_bytes()
    manifest.keep(tmp_path, facts())
    assert (tmp_path / "manifest.json").read_bytes() == written


def test_a_plan_may_grow_and_shrink(tmp_path):
    manifest.keep(tmp_path, facts())
    more = {
        "methods": {"a": {}, "b": {"subject_steps": 0.8}},
        "prompts": {"job": {"chef": "S* as a chef", "king": "S*"}},
    }
    manifest.keep(tmp_path, facts(more, faces={**FACES, "ben": "2" * 64}))
    make(tmp_path, ("anna", "ben"))
    manifest.keep(tmp_path, facts())
    known = json.loads((tmp_path / "manifest.json").read_text())
    assert set(known["methods"]) == {"a", "b"} and set(known["faces"]) == {"anna", "ben"}
    with pytest.raises(SettingsError, match="method b subject_steps: 0.8 -> 0.5"):
        manifest.keep(tmp_path, facts({**more, "methods": {"b": {"subject_steps": 0.5}}}))


def test_another_detector_is_refused(tmp_path):
    """It decides about the crop, and so about S*."""
    plan = plan_from(BASE)
    found, other = (manifest.facts_of(plan, plan.methods, FACES, "m", None, name) for name in ("yunet", "insightface"))
    manifest.keep(tmp_path, found)
    make(tmp_path)
    manifest.keep(tmp_path, facts(networks=None))  # not known where nothing is to be made
    with pytest.raises(SettingsError, match="detector: yunet -> insightface"):
        manifest.keep(tmp_path, other)


def test_what_is_not_known_because_nothing_is_made_is_not_compared(tmp_path):
    manifest.keep(tmp_path, facts(model=None, networks=None))
    manifest.keep(tmp_path, facts())
    manifest.keep(tmp_path, facts(model=None, networks=None))
    known = json.loads((tmp_path / "manifest.json").read_text())
    assert known["settings"]["model"] == "m" and known["methods"]["a"]["mapping"] == "y"
    with pytest.raises(SettingsError, match="model: m -> n"):
        manifest.keep(tmp_path, facts(model="n"))


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (facts({"steps": 5}), "steps: 4 -> 5"),
        (facts({"cfg": 3.0}), "cfg: 7.0 -> 3.0"),
        (facts({"seed": 1}), "seed: 0 -> 1"),
        (facts({"sampler": "ddim"}), "sampler: euler_ancestral -> ddim"),
        (facts({"negative": "x"}), "negative:  -> x"),
        (facts({"reference": "S*"}), r"prompt _reference: A photo of S\* -> S\*"),
        (facts({"prompts": {"job": {"chef": "S* as a cook"}}}), r"prompt chef: S\* as a chef -> S\* as a cook"),
        (facts({"methods": {"a": {"strength": 0.5}}}), "method a strength: 1.0 -> 0.5"),
        (facts(networks=("x", "z")), "method a mapping: y -> z"),
        (facts(faces={"anna": "2" * 64}), "face anna: 1+ -> 2+"),
        (facts(model="n"), "model: m -> n"),
    ],
)
def test_what_was_made_otherwise_is_refused(tmp_path, changed, difference):
    manifest.keep(tmp_path, facts())
    make(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(SettingsError, match=f"made with other settings: {difference}. Go on with the old settings"):
        manifest.keep(tmp_path, changed)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_many_differences_are_counted(tmp_path):
    plan = {"prompts": {"job": {f"p{i}": f"S* {i}" for i in range(20)}}}
    manifest.keep(tmp_path, facts(plan))
    make(tmp_path, prompts=[f"p{i}" for i in range(20)])
    with pytest.raises(SettingsError, match="p7: .* and 12 more"):
        manifest.keep(tmp_path, facts({"prompts": {"job": {f"p{i}": f"S* x{i}" for i in range(20)}}}))


def test_faces_and_prompts_without_pictures_may_change(tmp_path):
    """Photo b[1] showed no face, so it is replaced; nobody has to begin again for that."""
    manifest.keep(tmp_path, facts(faces={**FACES, "b[1]": "2" * 64}))
    make(tmp_path, prompts=("_reference",))
    manifest.keep(tmp_path, facts({"prompts": {"job": {"chef": "S* as a cook"}}}, faces={**FACES, "b[1]": "3" * 64}))
    make(tmp_path, ("b[1]",), ("chef",))
    with pytest.raises(SettingsError, match=r"face b\[1\]: 3+ -> 4+. Go on"):
        manifest.keep(tmp_path, facts({"prompts": {"job": {"chef": "S* as a cook"}}}, faces={"b[1]": "4" * 64}))


def test_checking_writes_nothing(tmp_path):
    assert manifest.check(tmp_path / "new", facts()) == {} and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": "other"}', '{"format": "f2d-evaluation", "version": 99}']
)
def test_another_file_of_that_name(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SettingsError, match="Choose another --out"):
        manifest.keep(tmp_path, facts())
