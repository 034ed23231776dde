"""The report for people: all of it, and nothing of where things lie on this machine."""

from pathlib import Path

import pytest
import torch

from f2d_core import doctor
from f2d_core.catalogue import PUBLISHED
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict
from f2d_core.weights import file_sha256


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "secret-user" / "models" / "face2diffusion"
    (folder / "mine").mkdir(parents=True)
    torch.save(tiny_msid_state_dict(), folder / "msid.pt")
    torch.save(tiny_mapping_state_dict(), folder / "mapping.pt")
    return folder


def test_the_report_has_every_part_and_no_place_of_this_machine(folder):
    report = doctor.examine([folder, folder / "absent"], ["ComfyUI 1.2.3"])

    lines = report.text.splitlines()
    assert lines[0] == "ComfyUI 1.2.3" and lines[1].startswith("Python ") and "Optional packages" in lines
    assert f"  MSID encoder (Face2Diffusion): face2diffusion/msid.pt ({report.found[1].megabytes:.1f} MB)" in lines
    assert f"    sha256 {file_sha256(folder / 'msid.pt')}" in lines
    assert any(
        line.startswith("  YuNet face detector: not found. Put yunet") and "Apache-2.0" in line for line in lines
    )
    assert lines[-1].startswith("Self-test: passed")
    assert "secret-user" not in report.text and str(Path.home()) not in report.text


def test_what_was_found(folder):
    found = {item.kind: item for item in doctor.found_weights([folder])}

    assert set(found) == {"msid", "mapping"}
    assert found["msid"].path == folder / "msid.pt" and found["msid"].licence == PUBLISHED["msid"].licence


def test_a_changed_file_has_another_hash(folder):
    before = {item.kind: item.sha256 for item in doctor.found_weights([folder])}
    torch.save({**tiny_msid_state_dict(), "more": torch.zeros(3)}, folder / "msid.pt")
    after = {item.kind: item.sha256 for item in doctor.found_weights([folder])}

    assert after["msid"] == file_sha256(folder / "msid.pt") != before["msid"]
    assert after["mapping"] == before["mapping"]
