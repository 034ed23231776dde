"""`fetch`: size and licence first, then a question, then the file."""

import pytest
import torch

from f2d_core.testing import tiny_mapping_state_dict
from tests.support.mirror import serving, write_mirror


@pytest.fixture
def mirror(tmp_path):
    with serving(write_mirror(tmp_path / "mirror")) as address:
        yield address


def test_size_and_licence_are_shown_and_the_file_is_fetched(f2d, mirror, tmp_path):
    code, out, err = f2d("fetch", "msid", "--to", tmp_path / "models", "--mirror", mirror, "--yes")

    assert code == 0, err
    assert "85.8 MB" in out and "CC BY-NC-SA 4.0" in out and "Commercial use: no" in out and "keys and shapes" in out
    assert (tmp_path / "models" / "msid.pt").read_bytes() == (tmp_path / "mirror" / "msid.pt").read_bytes()


def test_where_only_the_size_can_be_checked_it_says_so(f2d, mirror, tmp_path):
    with open(tmp_path / "mirror" / "det_10g.onnx", "wb") as file:
        file.truncate(16_900_000)

    code, out, err = f2d("fetch", "insightface", "--to", tmp_path / "models", "--mirror", mirror, "--yes")

    assert code == 0, err
    assert "its makers published none; of the content only the size could be checked" in out
    assert "keys and shapes" not in out


def test_nothing_is_fetched_unasked(refused, mirror, tmp_path):
    assert "--yes" in refused("fetch", "msid", "--to", tmp_path / "models", "--mirror", mirror)
    assert not (tmp_path / "models").exists()


def test_a_wrong_file_is_refused(refused, mirror, tmp_path):
    message = refused("fetch", "mapping", "--to", tmp_path / "models", "--mirror", mirror, "--yes")

    assert "an MSID encoder, expected a mapping network" in message
    assert list((tmp_path / "models").iterdir()) == []


def test_the_mirror_of_the_environment(f2d, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("F2D_MIRROR", mirror)
    torch.save(tiny_mapping_state_dict(), tmp_path / "mirror" / "mapping.pt")

    code, _, err = f2d("fetch", "mapping", "--to", tmp_path, "--yes")
    assert code == 0, err
    assert (tmp_path / "mapping.pt").is_file()


def test_a_list_and_unknown_names(f2d, refused):
    code, out, _ = f2d("fetch")
    assert code == 0 and "epoch_20.pth" in out and "by hand" in out
    assert 'no published file "sd"' in refused("fetch", "sd")
