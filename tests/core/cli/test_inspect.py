"""What `inspect` says of every kind of file."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

from f2d_core.cli.inspect import lines
from f2d_core.testing import TINY_MSID, tiny_msid_state_dict
from f2d_core.weights import write_safetensors


@pytest.fixture
def facts(f2d):
    def run(path):
        code, out, err = f2d("inspect", path, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def test_an_identity(facts, identity):
    found = facts(identity(licence="test only", v_id=torch.zeros(1536), marker="T*"))
    assert (found["kind"], found["what"]) == ("identity", "a saved identity (S*) of anna")
    assert (found["words"], found["width"], found["identity_features"], found["expression_features"]) == (
        2,
        768,
        1536,
        None,
    )
    assert (found["marker"], found["injection"], found["licence"], found["thumbnail"]) == (
        "T*",
        "sum",
        "test only",
        False,
    )


def test_the_networks(facts, weights):
    msid, mapping, recon = (facts(weights / f"{kind}.safetensors") for kind in ("msid", "mapping", "recon"))
    assert msid["gives"] == {"msid": 256} and "gives" not in mapping
    assert (msid["kind"], msid["sizes"]["depth"], msid["sizes"]["levels"]) == ("msid", 4, [0, 1, 2, 3])
    assert (mapping["sizes"]["words"], mapping["sizes"]["word_width"], mapping["licence"]) == (2, 768, "test only")
    assert mapping["taken_as"]["injection"] == "sum" and mapping["metadata"] == {"licence": "test only"}
    assert (recon["kind"], sum(recon["sizes"]["parts"])) == ("recon", 257)


def test_a_plain_arcface_encoder_has_both_kinds_of_features_to_offer(facts, f2d, tmp_path):
    state = tiny_msid_state_dict(replace(TINY_MSID, levels=(3,)))
    file = write_safetensors(tmp_path / "arcface.safetensors", state)
    found = facts(file)
    assert found["gives"] == {"dreamidentity": 320, "msid": 64} and found["what"] == "plain ArcFace encoder"
    assert "gives:\n  dreamidentity: 320\n  msid: 64" in f2d("inspect", file)[1]


def test_a_published_checkpoint(facts, golden_weights, tmp_path):
    torch.save(golden_weights("msid"), tmp_path / "msid.pt")
    found = facts(tmp_path / "msid.pt")
    assert (found["tensors"], found["parameters"], found["sizes"]["width"]) == (178, 21_450_624, 384)
    assert found["file_sha256"] == hashlib.sha256((tmp_path / "msid.pt").read_bytes()).hexdigest()
    assert "CC BY-NC-SA 4.0" in found["licence"]


def test_strangers_are_described(facts, tmp_path):
    torch.save({f"layer.{i}": torch.zeros(i + 1) for i in range(20)}, tmp_path / "other.pt")
    found = facts(tmp_path / "other.pt")
    assert found["kind"] == "other" and found["entries"] == 20
    assert found["tensors"]["layer.0"] == "(1,) float32" and found["tensors"]["…"] == "8 more"


def test_text_for_people(f2d, identity):
    _, out, _ = f2d("inspect", identity())
    assert "what: a saved identity (S*) of anna\n" in out and "encoder key: l\n" in out
    assert "expression features" not in out  # there are none


def test_text_keeps_foreign_names_and_groups_numbers():
    shown = list(lines({"some_size": 12345, "none": None, "tensors": {"a_b.weight": "(1,)"}, "sizes": {"in_width": 4}}))
    assert shown == ["some size: 12,345", "tensors:", "  a_b.weight: (1,)", "sizes:", "  in width: 4"]


def test_a_file_that_is_none_of_these(refused, tmp_path):
    (tmp_path / "x.pt").write_text("hello")
    assert "damaged, incomplete or not a weight file" in refused("inspect", tmp_path / "x.pt")
    assert "Cannot read" in refused("inspect", tmp_path / "nowhere.pt")


def test_code_in_a_file_is_not_run(refused, tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("the code in the file ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    assert "code" in refused("inspect", tmp_path / "evil.pt")
