"""`verify-msid`: figures of any encoder file on pair sets and folders."""

import json
import pickle

import pytest
import torch

from f2d_core.msid import MSIDConfig
from f2d_core.testing import tiny_msid_state_dict
from f2d_core.weights import write_safetensors
from tests.support.identities import SIDE, encoded, faces, write_folders


@pytest.fixture
def encoder(tmp_path):
    config = MSIDConfig(SIDE, 8, 32, 12, 1, 64, (2, 5, 8, 11))
    return write_safetensors(tmp_path / "msid.safetensors", tiny_msid_state_dict(config))


@pytest.fixture
def pairs(tmp_path):
    pictures = [encoded(picture) for picture in faces(20, 1)]
    order = [i for pair in range(20) for i in ((pair, pair) if pair % 2 else (pair, 19 - pair))]
    (tmp_path / "lfw.bin").write_bytes(
        pickle.dumps(([pictures[i] for i in order], [pair % 2 == 1 for pair in range(20)]))
    )
    return tmp_path / "lfw.bin"


def test_pairs_and_people_with_the_papers_figures_beside(f2d, encoder, pairs, tmp_path):
    write_folders(tmp_path / "strangers", people=5, each=3)
    out_folder = tmp_path / "out"
    code, out, err = f2d("verify-msid", "--msid", encoder, "--pairs", pairs, "--folder", tmp_path / "strangers",
                         "--draws", 2, "--out", out_folder, "--device", "cpu")  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "multi-scale encoder, 12 blocks, normalised after 3, 6, 9, 12"
    assert lines[1].startswith("lfw: accuracy 100.00 +- 0.00 % on 20 pairs (threshold 0.0")
    assert lines[2] == "  layer  3: AUC 100.00   normalised"
    assert lines[6] == "strangers: 5 triplets"
    assert lines[7].startswith("  layer  3: AUC ") and lines[7].endswith("(Face2Diffusion, VGGFace2: 99.46)")
    assert sorted(path.name for path in out_folder.iterdir()) == [
        *sorted(f"strangers_layer_{layer}.png" for layer in (3, 6, 9, 12)), "verification.json"]  # fmt: skip


def test_a_plain_encoder_and_json(f2d, tmp_path):
    config = MSIDConfig(SIDE, 8, 32, 12, 1, 64, (11,))
    file = write_safetensors(tmp_path / "plain.safetensors", tiny_msid_state_dict(config))
    write_folders(tmp_path / "a" / "faces", people=3, each=2)
    write_folders(tmp_path / "b" / "faces", people=3, each=2)
    folders = ("--folder", tmp_path / "a" / "faces", "--folder", tmp_path / "b" / "faces")
    code, out, _ = f2d("verify-msid", "--msid", file, *folders, "--json", "--device", "cpu")
    assert code == 0 and set(json.loads(out)) == {
        f"{name}_auc_{i}" for name in ("faces", "faces_2") for i in (3, 6, 9, 12)
    }
    code, out, _ = f2d("verify-msid", "--msid", file, *folders, "--device", "cpu")
    assert "plain ArcFace encoder" in out and re_line(out, 3).endswith(
        "raw class token   (Face2Diffusion, VGGFace2: 93.99)"
    )
    assert re_line(out, 12).endswith("normalised   (Face2Diffusion, VGGFace2: 99.97)")


def re_line(text, layer):
    return next(line for line in text.splitlines() if line.startswith(f"  layer {layer:>2}:"))


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_malicious_files_run_nothing(refused, encoder, pairs, tmp_path):
    canary = tmp_path / "canary"
    torch.save({"state_dict": Canary(canary)}, tmp_path / "evil.pt")
    assert "was not loaded" in refused("verify-msid", "--msid", tmp_path / "evil.pt", "--pairs", pairs)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Canary(canary)))
    assert "evil.pth" in refused("verify-msid", "--msid", tmp_path / "evil.pth", "--pairs", pairs)
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(([b"", b""], [Canary(canary)])))
    assert "was not run" in refused("verify-msid", "--msid", encoder, "--pairs", tmp_path / "evil.bin")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "There is nothing to verify on"),
        (("--pairs", "nowhere.bin"), "Cannot read nowhere.bin"),
        (("--folder", "nowhere"), "nowhere does not exist"),
        (("--folder", ".", "--draws", "0"), "numbers from 1 upwards"),
    ],
)
def test_mistakes_are_one_line(refused, encoder, options, message):
    assert message in refused("verify-msid", "--msid", encoder, "--device", "cpu", *options)
