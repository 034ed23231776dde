"""Every word of the world is one token, and the tokenizer is CLIP's own kind."""

import pytest

from f2d_core.backends.diffusers import load_tokenizer
from f2d_core.miniature.captions import CHOICE_PROMPTS, NAMES, PROMPTS, WORDS
from f2d_core.miniature.tokenizer import learn_merges, write_word_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_word_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS))


def test_every_word_is_one_token_of_its_own(tokenizer):
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]

    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(WORDS)


@pytest.mark.parametrize("text", [*PROMPTS[::7], *CHOICE_PROMPTS[::5], f"a photo of {NAMES[3]} and {NAMES[4]}"])
def test_texts_come_back_as_they_were(tokenizer, text):
    ids = tokenizer(text)["input_ids"]

    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_other_words_are_spelled(tokenizer):
    assert len(tokenizer("zebra", add_special_tokens=False)["input_ids"]) > 1


def test_the_same_files_every_time(tmp_path):
    first, second = (write_word_tokenizer(tmp_path / name, words) for name, words in (("a", WORDS), ("b", WORDS[::-1])))

    for name in ("vocab.json", "merges.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_merges_begin_with_the_most_frequent_pair():
    assert learn_merges(["aab", "aac"])[0] == ("a", "a")
