"""What the core asks of the world around it. Hosts and back ends fulfil these protocols.

`Detector` is fulfilled by f2d_core/detectors/, `TextEncoder` by nodes/host.py (ComfyUI) and
f2d_core/backends/diffusers.py, `Progress` by a ComfyUI progress bar or the command line's. What training asks for
(`TrainableTextEncoder`, `Denoiser`, `LatentCodec`) is fulfilled by ComfyUI's own models and by
f2d_core/backends/diffusers_training.py, `TrainingData` by f2d_core/data/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch

    from .data.samples import Samples
    from .detect import Face


class Detector(Protocol):
    """Finds faces in one picture. Built from explicit local files, never from the network."""

    name: str

    def detect(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        """rgb: (H, W, 3) uint8. Faces with a score of at least `threshold` (0..1), any order."""
        ...


class TextEncoder(Protocol):
    """The part of a text encoder that S* needs to know about."""

    key: str  # "l" for SD 1.x, "h" for SD 2.x
    width: int  # of a word vector

    def position_embedding(self) -> torch.Tensor:
        """(77, width) fp32 on the CPU: what the encoder adds to the word at each position."""
        ...

    def word_embeddings(self, text: str) -> torch.Tensor:
        """(n, width) fp32 on the CPU: the token embeddings of `text`, no start or end token."""
        ...


class TrainableTextEncoder(TextEncoder, Protocol):
    """A frozen text encoder that passes gradients on to the words put into it. Never changes the host's own model.

    Contexts are (B, tokens, width) on the encoder's device, at least fp32: they carry the whole gradient.
    """

    def encode_words(self, template: str, marker: str, words: torch.Tensor, injection: str) -> torch.Tensor:
        """words: (B, k, width), at the place of `marker` in `template`, for example "A photo of S*".

        Differentiable in words. injection: "token" replaces the token embedding, "sum" token + position embedding.
        Raises PromptError when the marker is not in the template or the words do not fit.
        """
        ...

    def encode_text(self, text: str) -> torch.Tensor:
        """(1, tokens, width): a plain prompt, as long as what `encode_words` gives."""
        ...


class Denoiser(Protocol):
    """A frozen diffusion model. Latents are (B, 4, h, w), t is (B,) int64 in 0 .. steps - 1.

    Tensors come and go on `device`, in any float type; the model computes in `dtype` inside.
    """

    steps: int  # of the noise schedule, 1000
    device: torch.device
    dtype: torch.dtype

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t, with the float type of z_0."""
        ...

    def predict_noise(self, z_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """eps_pred: (B, 4, h, w), with the float type of z_t, also of models that predict v or the picture.

        context: (B, tokens, width). Differentiable in context alone.
        """
        ...


class LatentCodec(Protocol):
    """Pictures to latents in the denoiser's scale, and back. pixels: (B, 3, H, W) RGB in [-1, 1]."""

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, logvar) of the posterior, (B, 4, H / 8, W / 8) each."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, 3, 8 h, 8 w) RGB in [-1, 1]."""
        ...


class TrainingData(Protocol):
    """Prepared photos, both flips of each."""

    fingerprint: str  # changes whenever any sample does
    facts: Mapping[str, str]  # for the mapping file: msid_sha256, features, … as far as they are known

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        """The samples at `indices`; True takes the mirrored version, prepared from the mirrored photo."""
        ...


class Progress(Protocol):
    """Told after every finished unit of work; may raise to stop the work."""

    def __call__(self, done: int, total: int) -> None: ...


def every(items: Sequence, progress: Progress | None):
    """Iterate over `items`, reporting each one to `progress` when it is done."""
    for i, item in enumerate(items):
        yield item
        if progress is not None:
            progress(i + 1, len(items))
