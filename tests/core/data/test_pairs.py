"""Pair sets: every way they were ever written, and none of what else a pickle can do."""

import pickle
import tracemalloc

import numpy as np
import pytest

from f2d_core.data.pairs import _all_encoded, read_pairs
from f2d_core.errors import DataError
from tests.support.identities import SIDE, encoded, faces

PICTURES = [encoded(picture) for picture in faces(2, 3)]
SAME = [True, False, True]
# pickle.dump(([bytes, …], [True, False]), file, 2) of Python 2: text of 8 bits, here two pictures of four bytes.
PYTHON_2 = b"\x80\x02]q\x00(U\x04\xff\xd8\xff\xe0q\x01U\x04\xff\xd8\xff\xe1q\x02e]q\x03\x88a\x86q\x04."
PYTHON_2_TEXT = b"((lp0\nS'\\xff\\xd8\\xff\\xe0'\np1\naS'\\xff\\xd8\\xff\\xe1'\np2\na(lp3\nI01\nat."


def write(path, content, protocol=pickle.HIGHEST_PROTOCOL):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bytes", "arrays", "truths"])
def test_all_protocols_bytes_and_arrays(tmp_path, protocol, kind):
    pictures = [np.frombuffer(data, np.uint8) for data in PICTURES] if kind == "arrays" else PICTURES
    same = {"bytes": SAME, "arrays": np.array(SAME), "truths": [np.bool_(value) for value in SAME]}[kind]
    found = read_pairs(write(tmp_path / "lfw.bin", (pictures, same), protocol), SIDE)
    assert (found.name, list(found.pictures), found.same.tolist(), len(found)) == ("lfw", PICTURES, SAME, 3)
    assert np.array_equal(found.decoded([1, 4]), faces(2, 3)[[1, 4]])


@pytest.mark.parametrize("content", [PYTHON_2, PYTHON_2_TEXT])
def test_files_of_python_2(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    found = read_pairs(tmp_path / "a.bin")
    assert list(found.pictures) == [b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1"] and found.same.tolist() == [True]


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


ATTACKS = {
    "open": lambda path: pickle.dumps((PICTURES, [Canary(path)])),
    "os.system": lambda path: b"cposix\nsystem\n(S'touch " + str(path).encode() + b"'\ntR.",
    "os.system, opcode i": lambda path: b"(S'touch " + str(path).encode() + b"'\niposix\nsystem\n.",
    "eval": lambda path: b"c__builtin__\neval\n(S'open(\"" + str(path).encode() + b"\", \"w\")'\ntR.",
    "numpy.load": lambda path: b"cnumpy\nload\n(S'" + str(path).encode() + b"'\ntR.",
    "stack global": lambda path: b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(b"touch ") + len(str(path))])
    + b"touch " + str(path).encode() + b"\x85R.",
    "a submodule": lambda path: b"cnumpy._core.multiarray\nfrombuffer\n(S'" + str(path).encode() + b"'\ntR.",
    "a codec": lambda path: b"c_codecs\nencode\n(VQ\nS'zlib'\ntR.",
    "extension": lambda path: b"\x82\x01.",
    "persistent": lambda path: b"Pposix.system\n.",
    "objects": lambda path: b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_file_is_run(tmp_path, attack):
    canary = tmp_path / "canary"
    (tmp_path / "evil.bin").write_bytes(ATTACKS[attack](canary))
    with pytest.raises(DataError, match=r"evil\.bin asks for .*was not run") as caught:
        read_pairs(tmp_path / "evil.bin")
    assert not canary.exists() and "\n" not in str(caught.value)


def test_the_attacks_would_work(tmp_path):
    """Keeps the test above honest."""
    for attack in ("open", "os.system", "stack global", "eval"):
        canary = tmp_path / attack.replace(" ", "")
        made = pickle.loads(ATTACKS[attack](canary))
        getattr(made[1][0] if isinstance(made, tuple) else made, "close", lambda: None)()
        assert canary.exists()


def test_attributes_cannot_be_set_on_what_a_name_stands_for(tmp_path):
    """BUILD sets attributes from a dict; `_codecs.encode` here is an object without any."""
    (tmp_path / "evil.bin").write_bytes(b"c_codecs\nencode\n(S'__call__'\nI1\ndb.")
    with pytest.raises(DataError, match="damaged"):
        read_pairs(tmp_path / "evil.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pair set or damaged"),
        (b"no pickle at all", "no pair set or damaged"),
        (pickle.dumps((PICTURES, SAME))[:200], "no pair set or damaged"),
        (pickle.dumps((PICTURES, SAME[:2])), "6 pictures for 2 pairs"),
        (pickle.dumps(([], [])), "0 pictures for 0 pairs"),
        (pickle.dumps(((1, 2), [True])), "a int in the place of an encoded picture"),
        (pickle.dumps({"a": 1}), "no pair set or damaged"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "no pair set or damaged"),  # bytes of 2^63 bytes
        (b"\x80\x02r\xff\xff\xff\x7f.", "no pair set or damaged"),  # memo number 2^31
    ],
)
def test_damage_is_one_line(tmp_path, content, message):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)


def test_a_promised_length_reserves_no_memory(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x80\x05\x96" + (1 << 29).to_bytes(8, "little") + b"abc.")
    tracemalloc.start()
    with pytest.raises(DataError, match="no pair set or damaged"):
        read_pairs(tmp_path / "a.bin")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 22


def test_a_bytearray_is_a_picture(tmp_path):
    found = read_pairs(write(tmp_path / "a.bin", ([bytearray(data) for data in PICTURES], SAME), 5), SIDE)
    assert list(found.pictures) == PICTURES


def test_one_picture_named_many_times_is_kept_once(tmp_path):
    picture = np.frombuffer(PICTURES[0], np.uint8)
    found = read_pairs(write(tmp_path / "a.bin", ([picture] * 1000, [True] * 500)), SIDE).pictures

    assert len(found) == 1000 and found[0] == PICTURES[0]
    assert len({id(data) for data in found}) == 1


def test_pictures_that_are_made_to_fill_the_memory_are_refused():
    views = [np.frombuffer(b"x" * 100, np.uint8) for _ in range(4)]
    with pytest.raises(ValueError, match="more than the file's 300 bytes"):
        _all_encoded(views, 300)


def test_missing_or_of_another_size(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        read_pairs(tmp_path / "a.bin")
    found = read_pairs(write(tmp_path / "a.bin", (PICTURES, SAME)), 2 * SIDE)
    with pytest.raises(DataError, match="a picture 3 is 16 x 16 px, expected 32 x 32"):
        found.decoded([3])
    broken = read_pairs(write(tmp_path / "b.bin", ([b"x"] * 6, SAME)), SIDE)
    with pytest.raises(DataError, match="b picture 0 is not a picture"):
        broken.decoded([0])
