"""RecordIO without mxnet: split records, headers or none, damage that is named."""

import struct

import numpy as np
import pytest

from f2d_core.data.recordio import MAGIC, RecordFile, RecordSource, record_file, split_labels
from f2d_core.errors import DataError
from tests.support.identities import encoded, faces, insightface_set, labelled, record, write_records

MAGIC_BYTES = struct.pack("<I", MAGIC)
PICTURES = [encoded(picture) for picture in faces(3, 4)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"a",
        b"abcd",
        MAGIC_BYTES,
        MAGIC_BYTES * 3,
        b"abcd" + MAGIC_BYTES + b"ef",
        MAGIC_BYTES + b"abcd" + MAGIC_BYTES + MAGIC_BYTES + b"e",
        b"ab" + MAGIC_BYTES + b"cd",  # not at a multiple of 4: not split
    ],
)
def test_payloads_come_back_whatever_is_in_them(tmp_path, payload):
    path = write_records(tmp_path / "a.rec", [b"before", payload, b"after"])
    file = RecordFile(path)
    offsets = [int(line.split()[1]) for line in path.with_suffix(".idx").read_text().splitlines()]
    assert [file.record(offset) for offset in offsets] == [b"before", payload, b"after"]
    assert [file.following(offset) for offset in offsets] == [*offsets[1:], path.stat().st_size]


def test_the_writer_of_these_tests_splits_as_dmlc_does():
    """dmlc-core src/recordio.cc: parts with flags 1, 2, 3, without the magic numbers between them."""
    found = record(b"abcd" + MAGIC_BYTES + b"efgh" + MAGIC_BYTES + b"i")
    heads = [struct.unpack_from("<II", found, at) for at in (0, 12, 24)]
    assert heads == [(MAGIC, 1 << 29 | 4), (MAGIC, 2 << 29 | 4), (MAGIC, 3 << 29 | 1)]
    assert len(found) == 36  # padded to a multiple of 4


def test_labels_stand_in_the_header_or_behind_it():
    one, several = split_labels(labelled(b"data", 7)), split_labels(labelled(b"data", 7, 8, 9))
    assert (one[0].tolist(), one[1]) == ([7], b"data") and (several[0].tolist(), several[1]) == ([7, 8, 9], b"data")
    with pytest.raises(ValueError, match="5 labels"):
        split_labels(struct.pack("<IfQQ", 5, 0, 0, 0) + b"1234")


def test_an_insightface_set(tmp_path):
    source = RecordSource(write_records(tmp_path / "train.rec", insightface_set(PICTURES, 4)))
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [source.encoded(i) for i in range(12)] == PICTURES
    assert source.title == "train.rec (12 pictures of 3 people, RecordIO)"
    assert source.name(0).startswith("train.rec at byte ")


@pytest.mark.parametrize("index", [True, False])
def test_a_set_without_header_and_without_index(tmp_path, index):
    payloads = [labelled(picture, [5, 9, 700][i // 4]) for i, picture in enumerate(PICTURES)]
    source = RecordSource(write_records(tmp_path / "a.rec", payloads, index))
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.encoded(7) == PICTURES[7]


def test_labels_of_the_pictures_where_people_are_missing(tmp_path):
    payloads = insightface_set(PICTURES, 4)[:-1]
    payloads[0] = labelled(b"", 13, 15)
    assert RecordSource(write_records(tmp_path / "a.rec", payloads)).labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_keys_in_any_order(tmp_path):
    path = write_records(tmp_path / "a.rec", insightface_set(PICTURES, 4))
    index = path.with_suffix(".idx")
    index.write_text("\n".join(reversed(index.read_text().splitlines())))
    assert RecordSource(path).encoded(3) == PICTURES[3]


def test_the_fingerprint_tells_sets_apart(tmp_path):
    one, same, other = (
        RecordSource(write_records(tmp_path / f"{name}.rec", insightface_set(pictures, 4))).fingerprint
        for name, pictures in (("a", PICTURES), ("b", PICTURES), ("c", PICTURES[:8]))
    )
    assert one == same != other


def test_a_cut_off_file_is_named_with_the_place(tmp_path):
    path = write_records(tmp_path / "a.rec", insightface_set(PICTURES, 4))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.rec has [\d,]+ bytes and a\.idx names byte [\d,]+"):
        RecordSource(path)
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"a\.rec is damaged or cut off: at byte [\d,]+ there is a record that ends at"):
        RecordSource(path)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 0x12345678, "0x12345678, expected the magic number 0xced7230a"),
        (4, 0x1FFFFFFF, "a record that ends at"),
        (4, 2 << 29 | 4, "a part with flag 2, expected the beginning of a record"),
        (4, None, "a part with flag 0 inside a record of several parts"),
        (4, 4, "a record with 4 bytes, expected a header of 24"),
    ],
)
def test_damage_is_named_with_the_place(tmp_path, at, value, message):
    path = write_records(tmp_path / "a.rec", insightface_set(PICTURES, 4))
    source = RecordSource(path)
    offset = int(source._offsets[5])
    content = bytearray(path.read_bytes())
    if value is None:  # the same length, as if it were a first part
        value = 1 << 29 | struct.unpack_from("<I", content, offset + 4)[0]
    content[offset + at : offset + at + 4] = struct.pack("<I", value)
    path.write_bytes(content)
    source._file._map = None
    with pytest.raises(DataError, match=message) as caught:
        source.encoded(5)
    assert f"at byte {offset:,}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0\t0\n1", "0\tx\n", "0\t99999999999999999999999\n"])
def test_a_damaged_index(tmp_path, text):
    path = write_records(tmp_path / "a.rec", insightface_set(PICTURES, 4))
    path.with_suffix(".idx").write_text(text)
    with pytest.raises(DataError, match=r"a\.idx"):
        RecordSource(path)


@pytest.mark.parametrize("label", [float("nan"), float("inf"), -1.0, 1e30])
def test_labels_that_count_nothing(tmp_path, label):
    people = insightface_set(PICTURES, 4)
    plain = [labelled(picture, label) for picture in PICTURES]
    for payloads in ([labelled(b"", 13, label), *people[1:]], [*people[:-1], labelled(b"", label, 13)], plain):
        path = write_records(tmp_path / "a.rec", payloads)
        with pytest.raises(DataError, match=r"a\.rec is damaged or cut off: .* expected whole numbers"):
            RecordSource(path)


def test_keys_that_fp32_rounds_are_not_believed(tmp_path, monkeypatch):
    """Glint360K has more than 2^24 records: the ends of its people are rounded, the pictures' own labels are not."""
    payloads = insightface_set(PICTURES, 4)
    payloads[-2] = labelled(b"", 5, 10)  # one too many
    path = write_records(tmp_path / "a.rec", payloads)
    assert RecordSource(path).labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4  # the next one's begin right again
    payloads[-1] = labelled(b"", 10, 13)
    path = write_records(tmp_path / "a.rec", payloads)
    assert RecordSource(path).labels.tolist()[8] == 1
    monkeypatch.setattr("f2d_core.data.recordio._EXACT", 15)
    assert RecordSource(path).labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_an_empty_file(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(DataError, match="Cannot read"):
        RecordSource(tmp_path / "a.rec")


def test_which_file_is_meant(tmp_path):
    assert record_file(tmp_path) is None
    one = write_records(tmp_path / "a.rec", PICTURES)
    assert record_file(tmp_path) == record_file(one) == record_file(tmp_path / "a.idx") == one
    write_records(tmp_path / "b.rec", PICTURES)
    with pytest.raises(DataError, match=r"several \.rec files \(a.rec, b.rec\)"):
        record_file(tmp_path)
    train = write_records(tmp_path / "train.rec", PICTURES)
    assert record_file(tmp_path) == train


def test_records_are_read_by_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    source = RecordSource(write_records(tmp_path / "train.rec", insightface_set(PICTURES, 4)))
    order = np.random.RandomState(0).randint(0, 12, 200).tolist()
    with ThreadPoolExecutor(4) as workers:
        assert list(workers.map(source.encoded, order)) == [PICTURES[i] for i in order]
