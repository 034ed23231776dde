"""The report for people: all of it, and nothing of where things lie on this machine."""

from pathlib import Path

import pytest
import torch

from f2d_core import doctor
from f2d_core.catalogue import PUBLISHED
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from f2d_core.weights import file_sha256, write_safetensors
from tests.support.extractors import write_tiny_adaface


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


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".bin", ".CKPT"])
def test_what_the_loaders_offer_is_found(folder, ending):
    """In folders below, and by every ending; of the saved people nothing."""
    (folder / "identities").mkdir()
    for place in ("mine/deep", "identities"):
        (folder / place).mkdir(exist_ok=True)
        torch.save({"net_recon": tiny_recon_state_dict()}, folder / place / f"renamed{ending}")
    write_safetensors(folder / "mine" / "b.safetensors", tiny_mapping_state_dict(), {"licence": "mine"})

    found = {item.path: (item.kind, item.licence) for item in doctor.found_weights([folder])}

    assert {path.relative_to(folder).as_posix(): kind for path, (kind, _) in found.items()} == {
        "msid.pt": "msid",
        "mapping.pt": "mapping",
        f"mine/deep/renamed{ending}": "recon",
        "mine/b.safetensors": "mapping",
    }
    assert found[folder / "mine" / "b.safetensors"] == ("mapping", "mine")


def test_files_in_torchs_older_format_are_found(folder):
    torch.save(tiny_msid_state_dict(), folder / "mine" / "old.pth", _use_new_zipfile_serialization=False)
    assert doctor.find_weights([folder])[folder / "mine" / "old.pth"][0] == "msid"


def test_a_file_in_two_folders_that_overlap_is_one(folder):
    assert set(doctor.find_weights([folder, folder.parent])) == {folder / "msid.pt", folder / "mapping.pt"}


def test_other_files_are_neither_read_nor_found(folder, monkeypatch):
    """Checkpoints of gigabytes lie there, too."""
    torch.save({"model.diffusion_model.x": torch.zeros(9)}, folder / "mine" / "sd15.ckpt")
    (folder / "mine" / "half.pt").write_bytes((folder / "msid.pt").read_bytes()[:-2000])
    monkeypatch.setattr(doctor, "load_parser", lambda file: pytest.fail(f"{file} was read"))

    assert set(doctor.find_weights([folder])) == {folder / "msid.pt", folder / "mapping.pt"}


def test_a_judge_that_comes_or_goes_is_noticed(folder):
    judge = write_tiny_adaface(folder / "mine" / "any.bin")
    assert doctor.find_weights([folder])[judge][0] == "adaface_ir50"
    judge.unlink()
    assert judge not in doctor.find_weights([folder])
