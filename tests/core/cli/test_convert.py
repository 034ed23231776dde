"""Published files as safetensors."""

import torch

from f2d_core.testing import tiny_msid_state_dict
from f2d_core.weights import read_weights


def test_a_checkpoint_becomes_safetensors(f2d, tmp_path):
    torch.save(tiny_msid_state_dict(), tmp_path / "msid.pt")
    code, out, err = f2d("convert", tmp_path / "msid.pt", "--out", tmp_path / "msid.safetensors")
    assert code == 0, err
    old, new = read_weights(tmp_path / "msid.pt"), read_weights(tmp_path / "msid.safetensors")
    assert new.sha256 == old.sha256 and new.sha256 in out and "CC BY-NC-SA 4.0" in out


def test_mistakes(refused, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    assert "expected an MSID encoder or a mapping network" in refused(
        "convert", tmp_path / "a.pt", "--out", tmp_path / "b.safetensors"
    )
    assert "ends in .safetensors" in refused("convert", tmp_path / "a.pt", "--out", tmp_path / "b.pt")
    assert not (tmp_path / "b.safetensors").exists()
