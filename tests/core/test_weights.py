"""Reading and writing weight files: recognition, containers, refusal of anything but tensors, atomic writing."""

import pickle
import re
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from f2d_core.errors import OutputError, WeightsError
from f2d_core.weights import (
    convert,
    describe,
    peek_tensors,
    read_tensors,
    read_weights,
    tensors_sha256,
    write_safetensors,
)


@pytest.fixture
def mapping_state():
    generator = torch.Generator().manual_seed(0)
    shapes = {"null_exp": (4,), "i2t_first.fc_out.weight": (6, 8), "i2t_first.layers.0.0.weight": (8, 12)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.fixture
def mapping_file(tmp_path, mapping_state):
    torch.save(mapping_state, tmp_path / "mapping.pt")
    return tmp_path / "mapping.pt"


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd, "epoch": 3},
        lambda sd: {"model": sd},
        lambda sd: {f"module.{k}": v for k, v in sd.items()},
        lambda sd: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in sd.items()}},
    ],
)
def test_containers_and_prefixes_are_taken_off(tmp_path, mapping_state, wrap):
    torch.save(wrap(mapping_state), tmp_path / "x.bin")
    weights = read_weights(tmp_path / "x.bin", expect="mapping")
    assert weights.kind == "mapping"
    assert same(weights.state_dict, mapping_state)


def test_the_expression_encoder_keeps_its_backbone_prefix(tmp_path):
    state = {"backbone.conv1.weight": torch.ones(2, 3, 7, 7), "final_layers.1.weight": torch.ones(64, 2, 1, 1)}
    torch.save({"net_recon": state, "opt_00": {"state": {}}}, tmp_path / "epoch_20.pth")
    weights = read_weights(tmp_path / "epoch_20.pth")
    assert weights.kind == "recon"
    assert same(weights.state_dict, state)


def test_half_precision_files_become_fp32(tmp_path, mapping_state):
    save_file({k: v.half() for k, v in mapping_state.items()}, tmp_path / "m.safetensors")
    state = read_weights(tmp_path / "m.safetensors").state_dict
    assert {v.dtype for v in state.values()} == {torch.float32}
    assert torch.equal(state["null_exp"], mapping_state["null_exp"].half().float())


def test_a_conversion_keeps_bits_and_hash_and_says_where_it_comes_from(mapping_file, tmp_path, mapping_state):
    before = read_weights(mapping_file)
    after = read_weights(convert(mapping_file, tmp_path / "mapping.safetensors"))
    assert same(after.state_dict, mapping_state)
    assert after.sha256 == before.sha256
    assert after.metadata["converted_from"] == "mapping.pt"
    assert "CC BY-NC-SA" in after.metadata["licence"]


def test_the_hash_depends_on_names_shapes_and_values():
    a = {"x": torch.zeros(2, 3)}
    variants = [{"y": torch.zeros(2, 3)}, {"x": torch.zeros(3, 2)}, {"x": torch.ones(2, 3)}, {}]
    assert len({tensors_sha256(v) for v in [a, *variants]}) == 5


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self):
            return open, (str(canary), "w")

    torch.save({"null_exp": Payload()}, tmp_path / "evil.pt")
    (tmp_path / "evil_2.pt").write_bytes(pickle.dumps({"a": Payload()}, protocol=2))
    (tmp_path / "evil_4.pt").write_bytes(pickle.dumps({"a": Payload()}, protocol=4))
    for name, words in (
        ("evil.pt", "carries Python"),
        ("evil_2.pt", "carries Python"),
        ("evil_4.pt", "not a weight file"),
    ):
        with pytest.raises(WeightsError, match=words):
            read_weights(tmp_path / name)
    assert not canary.exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.99])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_truncated_file_is_called_damaged(tmp_path, mapping_file, ending, share):
    whole = mapping_file if ending == ".pt" else convert(mapping_file, tmp_path / "m.safetensors")
    cut = tmp_path / f"cut{ending}"
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="damaged, incomplete"):
        read_weights(cut)


def test_other_rubbish_is_called_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (tmp_path / "text.pt").write_text("<!DOCTYPE html><title>Google Drive - Virus scan warning</title>" * 20)
    (tmp_path / "huge_header.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    for name in ("zip.pt", "text.pt", "huge_header.safetensors"):
        with pytest.raises(WeightsError, match="damaged"):
            read_weights(tmp_path / name)


def test_a_missing_file_says_where_it_is_published(tmp_path):
    with pytest.raises(WeightsError, match=r"msid\.pt.*85\.8 MB.*NC-SA.*drive\.google"):
        read_weights(tmp_path / "msid.pt", expect="msid")
    with pytest.raises(WeightsError, match="Is a directory"):
        read_weights(tmp_path, expect="msid")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "Stable Diffusion checkpoint"),
        (["lora_te_x.lora_up.weight"], "LoRA"),
        (["s_star"], "saved identity"),
        (["clip_l"], "embedding"),
        (["fc.weight", "layer1.0.conv1.weight"], "ResNet"),
        (["blocks.0.attn.qkv.weight", "cls_token"], "vision transformer without multi-scale levels"),
        ([], "empty"),
        (["what"], "unknown"),
        (["i2t_first.fc_out.weight"], "mapping network"),
    ],
)
def test_what_people_pick_by_mistake_is_named(tmp_path, keys, words):
    state = {key: torch.zeros(1) for key in keys}
    assert words in describe(state)
    torch.save(state, tmp_path / "picked.pt")
    with pytest.raises(WeightsError, match=f"{words}.*expected an MSID encoder.*msid.pt"):
        read_weights(tmp_path / "picked.pt", expect="msid")


def test_a_file_that_holds_no_state_dict_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(WeightsError, match="holds a Tensor"):
        read_tensors(tmp_path / "tensor.pt")


def test_metadata_survives_and_other_values_become_json(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"name": "Ünal", "k": 2})
    tensors, metadata = read_tensors(path)
    assert torch.equal(tensors["x"], torch.ones(2))
    assert metadata == {"name": "Ünal", "k": "2"}


def test_tensors_that_share_memory_or_are_strided_are_written(tmp_path):
    x = torch.arange(6.0).reshape(2, 3)
    tensors, _ = read_tensors(write_safetensors(tmp_path / "a.safetensors", {"x": x, "t": x.T}))
    assert torch.equal(tensors["t"], x.T)


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Choose a folder that can be written"):
        write_safetensors(tmp_path / "file" / "a.safetensors", {"x": torch.ones(1)})


@pytest.mark.parametrize(
    "content", [b"\x80\x02X\x01", b"\x80\x02G\x00\x00", b"\x80\x02" + b"\xff" * 40, b"nothing of the kind", b""]
)
def test_bytes_of_any_kind_are_called_damaged(content, tmp_path):
    file = tmp_path / "odd.bin"
    file.write_bytes(content)
    for read in (read_tensors, peek_tensors):
        with pytest.raises(WeightsError, match=r"odd\.bin .* is damaged"):
            read(file)


def test_an_older_file_whose_tensor_is_gone_is_called_damaged(tmp_path):
    file = tmp_path / "odd.pth"
    torch.save({"a": torch.zeros(3)}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    at = list(re.finditer(rb"\d{5,}", content))[-1].start()  # its name in the list of what is there
    file.write_bytes(content[:at] + b"x" + content[at + 1 :])

    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(file)


def test_a_file_is_peeked_into_without_reading_it(tmp_path):
    wrapped = {"net_recon": {"module.a": torch.arange(3.0)}}
    for name, zipped in (("new.pt", True), ("old.pt", False)):
        torch.save(wrapped, tmp_path / name, _use_new_zipfile_serialization=zipped)
        tensors, metadata = peek_tensors(tmp_path / name)
        assert list(tensors) == ["a"] and tensors["a"].tolist() == [0, 1, 2] and metadata == {}
    write_safetensors(tmp_path / "a.safetensors", {"a": torch.ones(2)}, {"licence": "mine"})
    tensors, metadata = peek_tensors(tmp_path / "a.safetensors")
    assert tensors["a"].tolist() == [1, 1] and metadata == {"licence": "mine"}
