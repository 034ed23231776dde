"""Files are judged by what is in them, under any name."""

import pytest
import torch

from f2d_core.catalogue import PUBLISHED
from f2d_core.errors import WeightsError
from f2d_core.published import KEYS, SIZE, check_file, how_checked, most_bytes
from f2d_core.testing import tiny_mapping_state_dict, tiny_msid_state_dict, tiny_recon_state_dict
from tests.support.extractors import write_tiny_adaface

STATES = {"msid": tiny_msid_state_dict, "mapping": tiny_mapping_state_dict, "recon": tiny_recon_state_dict}


@pytest.mark.parametrize("kind", STATES)
def test_networks_are_told_apart_by_keys_and_shapes(kind, tmp_path):
    file = tmp_path / ".any.part"
    torch.save(STATES[kind](), file)
    check_file(PUBLISHED[kind], file)

    for other in STATES.keys() - {kind}:
        with pytest.raises(WeightsError):
            check_file(PUBLISHED[other], file)


def test_a_half_file_is_no_network(tmp_path):
    file = tmp_path / ".msid.pt.part"
    torch.save(tiny_msid_state_dict(), file)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match="damaged"):
        check_file(PUBLISHED["msid"], file)


def test_judges_are_told_apart(tmp_path):
    file = write_tiny_adaface(tmp_path / ".adaface.ckpt.part")
    check_file(PUBLISHED["adaface_ir50"], file)
    with pytest.raises(WeightsError, match=r"adaface\.ckpt is adaface_ir50, expected FaceNet"):
        check_file(PUBLISHED["facenet"], file)


def test_detectors_are_judged_by_their_size(tmp_path):
    file = tmp_path / ".det_10g.onnx.part"
    file.write_bytes(b"\x08" * 1000)
    with pytest.raises(WeightsError, match=r"det_10g\.onnx has 0\.0 MB, expected 16\.9 MB"):
        check_file(PUBLISHED["insightface"], file)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_how_a_file_is_checked_is_said(kind, tmp_path):
    """A file of the right size without any content passes where nothing but the size can be checked."""
    entry = PUBLISHED[kind]
    file = tmp_path / entry.file
    with open(file, "wb") as stream:
        stream.truncate(round(entry.megabytes * 1e6))  # a hole, which takes no place on the disk

    if how_checked(entry) == SIZE:
        check_file(entry, file)
    else:
        assert how_checked(entry) == KEYS
        with pytest.raises(WeightsError):
            check_file(entry, file)


def test_a_file_may_be_a_tenth_larger_than_published():
    assert most_bytes(PUBLISHED["mapping"]) == 52_800_000
