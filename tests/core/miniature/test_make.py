"""The order in which the weights are made, and that what is there is not made again."""

import pytest

from f2d_core.miniature import make
from f2d_core.miniature.judging import JUDGES


@pytest.fixture
def made(monkeypatch):
    """What was begun, stage by stage: a list for each call of side_by_side, then what has all cores for itself."""
    stages, begun = [], []
    monkeypatch.setattr(make, "judge_files", lambda names, *_: begun.extend(names))
    for name in ("make_latents", "make_decoder", "make_recon", "make_stable_diffusion", "encoder", "mapping"):
        monkeypatch.setattr(make, name, lambda *_, name=name: begun.append(name))

    monkeypatch.setattr(make, "halved", lambda *_: None)

    def side_by_side(lanes):
        begun.clear()
        for lane in lanes:
            lane()
        stages.append(list(begun))
        begun.clear()

    monkeypatch.setattr(make, "side_by_side", side_by_side)
    return stages, begun


def test_the_decoder_waits_for_the_autoencoder_and_the_denoiser_has_the_machine(made, tmp_path):
    stages, alone = made
    make.make(tmp_path / "work", tmp_path)

    first, second = stages
    assert first[0] == "make_latents" and set(second) >= {"make_decoder", "make_recon", "encoder"}
    assert sorted([*first[1:], *(name for name in second if name in JUDGES)]) == sorted(JUDGES)
    assert alone == ["make_stable_diffusion", "mapping"]
    assert (tmp_path / make.RECORD_FILE).is_file()


def test_a_model_that_is_there_is_kept(made, tmp_path):
    stages, alone = made
    (tmp_path / make.MODEL).mkdir()
    (tmp_path / make.MODEL / "model_index.json").touch()
    make.make(tmp_path / "work", tmp_path)

    assert "make_latents" not in stages[0] and alone == ["mapping"]
