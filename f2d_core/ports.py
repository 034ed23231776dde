"""What the core asks of the world around it. Hosts and back ends fulfil these protocols.

`Detector` is fulfilled by f2d_core/detectors/, `TextEncoder` by nodes/host.py (ComfyUI) and
f2d_core/backends/diffusers.py, `Progress` by a ComfyUI progress bar or the command line's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

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


class Progress(Protocol):
    """Told after every finished unit of work; may raise to stop the work."""

    def __call__(self, done: int, total: int) -> None: ...


def every(items: Sequence, progress: Progress | None):
    """Iterate over `items`, reporting each one to `progress` when it is done."""
    for i, item in enumerate(items):
        yield item
        if progress is not None:
            progress(i + 1, len(items))
