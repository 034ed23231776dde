"""Captioned pictures as latents and tokens, computed once before the denoiser is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..constants import CHUNK_TOKENS
from ..files import write_atomically
from ..ports import Progress
from .autoencoder import to_tensor
from .job import fast
from .pictures import PictureSet

PART = 512  # pictures in a file
ENCODED_AT_ONCE = 64


class LatentSet:
    """n captioned pictures."""

    def __init__(self, arrays: Mapping[str, np.ndarray], empty: np.ndarray):
        """arrays: what `_encoded` gives. empty: the token ids of the empty caption."""
        self._arrays, self._empty = arrays, empty

    def __len__(self) -> int:
        return len(self._arrays["mean"])

    def posterior(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, logvar) in the denoiser's scale, (B, 4, h, w) fp32 each."""
        mean, logvar = (torch.from_numpy(self._arrays[name][numbers]).float() for name in ("mean", "logvar"))
        return mean, logvar

    def faces(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, h, w) fp32 in [0, 1]: how much of each latent is face."""
        return torch.from_numpy(self._arrays["faces"][numbers]).float() / 255

    def people(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, 2, numbers of a person) fp32: see `PictureSet.people`."""
        return torch.from_numpy(self._arrays["people"][numbers]).float()

    def tokens(self, numbers: Sequence[int], without: Sequence[bool]) -> torch.Tensor:
        """(B, 77) token ids of the captions; of the empty caption where `without`."""
        ids = np.where(np.asarray(without)[:, None], self._empty, self._arrays["tokens"][numbers])
        return torch.from_numpy(ids.astype(np.int64))


def latent_set(
    folder: Path,
    count: int,
    pictures: PictureSet,
    vae: Any,
    tokenizer: Any,
    progress: Progress | None = None,
) -> LatentSet:
    """Encode pictures 0 .. count - 1 into `folder`, in parts; what is there already is kept."""
    parts = [range(start, min(start + PART, count)) for start in range(0, count, PART)]
    files = [folder / f"latents_{i:04}_{len(numbers)}.npz" for i, numbers in enumerate(parts)]
    for numbers, file in zip(parts, files, strict=True):
        if not file.is_file():
            values = _encoded(numbers, pictures, vae, tokenizer)
            write_atomically(file, lambda path, values=values: _save(path, values))
        if progress is not None:
            progress(numbers.stop, count)
    loaded = [np.load(file) for file in files]
    arrays = {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0].files}
    return LatentSet(arrays, token_ids(tokenizer, [""])[0])


def token_ids(tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """(n, 77) int16, as the text encoder takes them."""
    filled = tokenizer(list(texts), padding="max_length", max_length=CHUNK_TOKENS, truncation=True)
    return np.array(filled["input_ids"], dtype=np.int16)


@torch.no_grad()
def _encoded(numbers: range, pictures: PictureSet, vae: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    scale, drawn = vae.config.scaling_factor, pictures.render(numbers)
    found = []
    for pixels in torch.split(to_tensor(drawn.pixels), ENCODED_AT_ONCE):
        with fast():
            posterior = vae.encode(pixels).latent_dist
        found.append((posterior.mean.float() * scale, posterior.logvar.float() + 2 * float(np.log(scale))))
    mean, logvar = (torch.cat(values).to(torch.float16).numpy() for values in zip(*found, strict=True))
    faces = F.interpolate(torch.from_numpy(drawn.mask)[:, None], mean.shape[-2:], mode="area")[:, 0]
    told = token_ids(tokenizer, pictures.captions(numbers))
    people, faces = pictures.people(numbers).astype(np.float16), (faces * 255).round().byte().numpy()
    return {"mean": mean, "logvar": logvar, "tokens": told, "people": people, "faces": faces}


def _save(path: Path, values: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # numpy would add an extension to a path
        np.savez(file, **values)
