"""People called by words of their own: what the base model learns from is what the method later puts into prompts."""

import numpy as np
import pytest
import torch

from f2d_core.backends.diffusers import load_tokenizer
from f2d_core.backends.diffusers_training import DiffusersTrainableText
from f2d_core.constants import INJECTION_TOKEN
from f2d_core.miniature.calling import CALLED, MOST_NOISE, NAME_WORDS, Calls, caption_encoder, inexact
from f2d_core.miniature.captions import WORDS
from f2d_core.miniature.models import WORD_WIDTH as WIDTH
from f2d_core.miniature.models import new_text_encoder
from f2d_core.miniature.people import sample_identities
from f2d_core.miniature.tokenizer import write_word_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_word_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS))


def ids_of(tokenizer, *texts):
    return torch.tensor(tokenizer(list(texts), padding="max_length", max_length=77)["input_ids"])


def test_words_stand_where_the_method_puts_them(tokenizer):
    """For one person and for the second of two, against the encoder that mappings are trained with."""
    encoder = caption_encoder(new_text_encoder(tokenizer, 1).requires_grad_(False).eval(), tokenizer, 1)
    people = torch.from_numpy(sample_identities(1, 6).numbers).float().unflatten(0, (3, 2))
    noise = torch.randn(3, 2, NAME_WORDS, WIDTH, generator=torch.Generator().manual_seed(0))
    called = ["a photo of s s, wearing a chef hat", "a photo of a person and t t in a studio", "a photo of a person"]

    with torch.no_grad():
        found = encoder.states(ids_of(tokenizer, *called), people, noise)
        words = encoder.calls(people, noise)
    product = DiffusersTrainableText(encoder.text_encoder, tokenizer)
    first = product.encode_words("a photo of S*, wearing a chef hat", "S*", words[:1, 0], INJECTION_TOKEN)
    second = product.encode_words("a photo of a person and S* in a studio", "S*", words[1:2, 1], INJECTION_TOKEN)

    torch.testing.assert_close(found[:2], torch.cat([first, second]))
    torch.testing.assert_close(found[2:], product.encode_text("a photo of a person"))
    assert not encoder.text_encoder.get_input_embeddings()._forward_hooks


def test_letters_stand_for_nobody_else(tokenizer):
    letters = caption_encoder(new_text_encoder(tokenizer, 1), tokenizer, 1).letters
    found = [ids_of(tokenizer, text)[0].tolist().count(letter) for text, letter in zip(CALLED, letters, strict=True)]

    assert found == [NAME_WORDS, NAME_WORDS] and not {text.split()[0] for text in CALLED} & set(WORDS)
    assert not np.isin(tokenizer(" ".join(WORDS))["input_ids"], letters).any()


def test_everybody_has_words_of_their_own_near_those_of_their_like():
    torch.manual_seed(0)
    calls = Calls(WIDTH)
    numbers = torch.from_numpy(np.stack([sample_identities(1, 6).numbers] * 2, axis=1)).float()
    like = numbers.clone()
    like[:, :, 0] += 0.02
    exact = torch.zeros(6, 2, 2, WIDTH)
    words, near = calls(numbers, exact), calls(like, exact)

    distances = torch.cdist(words[:, 0].flatten(1), words[:, 0].flatten(1)) + 9 * torch.eye(6)
    assert (words - near).flatten(1).norm(dim=1).max() < 0.1 * distances.min()
    torch.testing.assert_close(words[:, 0], words[:, 1])  # the second person's words are made the same way


def test_words_are_a_little_inexact():
    random = np.random.Generator(np.random.Philox(1))
    sizes = [np.sqrt(np.mean(inexact(random, WIDTH) ** 2)) for _ in range(200)]
    assert min(sizes) < 0.1 * MOST_NOISE and 0.9 * MOST_NOISE < max(sizes) < 1.1 * MOST_NOISE

    calls = Calls(WIDTH)
    numbers = torch.from_numpy(sample_identities(1, 2).numbers).float()[None]
    words = calls(numbers, torch.zeros(1, 2, 2, WIDTH))
    moved = calls(numbers, torch.ones(1, 2, 2, WIDTH)) - words
    torch.testing.assert_close(moved.mean(dim=(2, 3)), words.square().mean(dim=(2, 3)).sqrt())
