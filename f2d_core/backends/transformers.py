"""Prompts with S* without ComfyUI: `ports.TextEncoder` over transformers' CLIP text encoder (4.40 to 5.x).

The model handed in is never changed: it runs through a shallow copy whose embedding layer returns our rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..chunks import (
    CLIP_SPECIAL,
    Chunk,
    Slot,
    SpecialTokens,
    Word,
    apply_weights,
    empty_chunk,
    find_slots,
    has_weights,
    prompt_chunks,
)
from ..constants import CHUNK_TOKENS, WORD_WIDTHS
from ..errors import SettingsError
from ..prompt import Person, check_encoder, require_markers, slot_vectors


@dataclass(frozen=True, eq=False)
class Conditioning:
    """An encoded prompt. hidden: (1, 77 n, width) fp32. slots: where the word vectors stand."""

    hidden: torch.Tensor
    slots: tuple[Slot, ...] = ()

    @property
    def chunks(self) -> int:
        return self.hidden.shape[1] // CHUNK_TOKENS


class DiffusersTextEncoder:
    """`ports.TextEncoder` over a transformers `CLIPTextModel` (4.40 to 5.x) and its `CLIPTokenizer`.

    Without a tokenizer only `encode_chunks` works.
    """

    def __init__(self, model: torch.nn.Module, tokenizer: Any = None):
        self._model = model
        self._tokenizer = tokenizer
        self._special = CLIP_SPECIAL if tokenizer is None else _special_tokens(tokenizer)
        self.width: int = self._text_module().embeddings.token_embedding.weight.shape[1]
        self.key = _encoder_key(self.width)

    def position_embedding(self) -> torch.Tensor:
        table = self._text_module().embeddings.position_embedding.weight
        return table.detach()[:CHUNK_TOKENS].to("cpu", torch.float32)

    def word_embeddings(self, text: str) -> torch.Tensor:
        return self._look_up(self._tokenize(text))

    def encode(self, text: str, people: Sequence[Person] = ()) -> Conditioning:
        """The prompt with every person at their marker.

        Raises PromptError when a marker is missing, MismatchError for an S* of another text encoder.
        """
        for person in people:
            check_encoder(person.s_star, {self.key: self.width})
        words = [person.s_star.words for person in people]
        chunks = prompt_chunks(text, require_markers(text, people), words, self._tokenize, self._special)
        return self.encode_chunks(chunks, people)

    @torch.no_grad()
    def encode_chunks(self, chunks: Sequence[Chunk], people: Sequence[Person] = ()) -> Conditioning:
        """Like `encode`, from tokens: chunks of 77 (id or Word, weight); no tokenizer is needed."""
        slots = find_slots(chunks)
        rows = torch.stack([self._look_up([_plain_id(entry.token) for entry in chunk]) for chunk in chunks])
        for group in _groups(slots, people):
            vectors = slot_vectors(people[group[0].word.person], [slot.position for slot in group], self)
            for slot, vector in zip(group, vectors, strict=True):
                rows[slot.chunk, slot.position] = vector
        hidden = self._run(rows)
        if has_weights(chunks):
            weights = torch.tensor([[entry.weight for entry in chunk] for chunk in chunks])
            hidden = apply_weights(hidden, self._empty(), weights)
        return Conditioning(hidden.reshape(1, -1, self.width), tuple(slots))

    def padded(self, conditioning: Conditioning, chunks: int) -> Conditioning:
        """`conditioning` with empty chunks behind it, so that it has `chunks` of them."""
        missing = chunks - conditioning.chunks
        if missing <= 0:
            return conditioning
        return Conditioning(torch.cat([conditioning.hidden, *[self._empty()] * missing], dim=1), conditioning.slots)

    @torch.no_grad()
    def _empty(self) -> torch.Tensor:
        """(1, 77, width): the empty prompt."""
        return self._run(self._look_up([entry.token for entry in empty_chunk(self._special)])[None])

    def _run(self, rows: torch.Tensor) -> torch.Tensor:
        """rows: (n, 77, width) fp32 token embeddings -> (n, 77, width) fp32, after the final layer norm."""
        embedded = (rows + self.position_embedding()).to(self._text_module().final_layer_norm.weight)
        return self._context(embedded).to("cpu", torch.float32)

    def _context(self, embedded: torch.Tensor) -> torch.Tensor:
        """embedded: (n, 77, width), token + position, where the model is -> the same after the final layer norm."""
        model = _with_embeddings(self._model, _Rows(embedded))
        ids = torch.zeros(embedded.shape[:2], dtype=torch.long, device=embedded.device)  # only their shape is used
        return model(input_ids=ids).last_hidden_state

    def _look_up(self, ids: Sequence[int]) -> torch.Tensor:
        table = self._text_module().embeddings.token_embedding.weight
        return table.detach()[torch.tensor(ids, dtype=torch.long, device=table.device)].to("cpu", torch.float32)

    def _tokenize(self, text: str) -> list[int]:
        if self._tokenizer is None:
            raise SettingsError("This text encoder was built without a tokenizer; expected one to read text. Pass it.")
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _text_module(self) -> torch.nn.Module:
        """What holds `embeddings`: transformers 5 has no `text_model` between."""
        return getattr(self._model, "text_model", self._model)


class _Rows(torch.nn.Module):
    """Stands in for the embedding layer and returns rows that are ready."""

    def __init__(self, rows: torch.Tensor):
        super().__init__()
        self.rows = rows

    def forward(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return self.rows


def _with_embeddings(model: torch.nn.Module, embeddings: torch.nn.Module) -> torch.nn.Module:
    """A copy of `model` that shares all its weights and has another embedding layer; `model` stays as it is."""
    inner = getattr(model, "text_model", None)
    if inner is None:
        return _with_child(model, "embeddings", embeddings)
    return _with_child(model, "text_model", _with_child(inner, "embeddings", embeddings))


def _with_child(module: torch.nn.Module, name: str, child: torch.nn.Module) -> torch.nn.Module:
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {**module._modules, name: child}
    twin.__dict__.pop("forward", None)  # set by offloading hooks, bound to the original
    return twin


def _groups(slots: Sequence[Slot], people: Sequence[Person]) -> Iterator[Sequence[Slot]]:
    """The slots of one occurrence at a time; they follow one another in prompt order."""
    at = 0
    while at < len(slots):
        count = people[slots[at].word.person].s_star.words
        yield slots[at : at + count]
        at += count


def _plain_id(token: int | Word) -> int:
    return 0 if isinstance(token, Word) else token  # a Word's row is overwritten


def _special_tokens(tokenizer: Any) -> SpecialTokens:
    return SpecialTokens(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def _encoder_key(width: int) -> str:
    """The name of the family of text encoders; one that ComfyUI has no name for is named after its width."""
    return next((key for key, known in WORD_WIDTHS.items() if known == width), f"w{width}")
