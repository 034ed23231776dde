"""What the core asks of the world around it. Hosts and back ends fulfil these protocols.

`Detector` is fulfilled by f2d_core/detectors/, `TextEncoder` by nodes/host.py (ComfyUI) and
f2d_core/backends/diffusers.py, `Progress` by a ComfyUI progress bar or the command line's. What training asks for
(`TrainableTextEncoder`, `Denoiser`, `LatentCodec`) is fulfilled by ComfyUI's own models and by
f2d_core/backends/diffusers_training.py, `TrainingData` by f2d_core/data/. `IdentityExtractor` and
`ImageTextExtractor` are fulfilled by f2d_core/evaluate/extractors/, `PictureMaker` by f2d_core/backends/ and ComfyUI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch

    from .data.samples import Samples
    from .detect import Face
    from .prompt import Person


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

    def encode_words(
        self, template: str | Sequence[str], marker: str, words: torch.Tensor, injection: str
    ) -> torch.Tensor:
        """words: (B, k, width), at the place of `marker` in `template`, for example "A photo of S*".

        template: one for all, or B of them. Differentiable in words. injection: "token" replaces the token embedding,
        "sum" token + position embedding. Raises PromptError when the marker is not in a template, the words do not
        fit, or the templates are not equally long (in chunks of tokens).
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

    reduction: int  # px per latent, 8 for Stable Diffusion

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, logvar) of the posterior, (B, 4, H / reduction, W / reduction) each."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, 3, reduction h, reduction w) RGB in [-1, 1]."""
        ...


class TrainingData(Protocol):
    """Prepared photos, both flips of each."""

    fingerprint: str  # changes whenever any sample does
    facts: Mapping[str, str]  # for the mapping file: msid_sha256, features, … as far as they are known

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Samples:
        """The samples at `indices`; True takes the mirrored version, prepared from the mirrored photo."""
        ...


class TripletData(TrainingData, Protocol):
    """Prepared editing triplets, both flips of each; their samples have prompts."""

    prompts: Sequence[str]  # the different ones, with DEFAULT_MARKER for the person


class IdentityExtractor(Protocol):
    """A face recognition network that judges; owns its alignment, size, channel order and normalisation."""

    name: str
    sha256: str  # of its weights

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, n) fp32 on the CPU, of length 1. pictures: (H, W, 3) uint8 RGB, any sizes. points: (5, 2) px, (x, y)."""
        ...


class ImageTextExtractor(Protocol):
    """A network that sees pictures and reads texts (CLIP, SigLIP); owns its resizing and its tokenizer.

    Features are (B, n) fp32 on the CPU, of length 1.
    """

    name: str
    sha256: str
    logit_scale: float  # what a cosine is multiplied with before the sigmoid of SigLIP
    logit_bias: float  # and what is added then; 0 for CLIP

    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """pictures: (H, W, 3) uint8 RGB, any sizes."""
        ...

    def text_features(self, texts: Sequence[str]) -> torch.Tensor: ...


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled; the defaults are Face2Diffusion's (4.1). sampler: "euler_ancestral" or "ddim"."""

    sampler: str = "euler_ancestral"
    steps: int = 30
    cfg: float = 7.0
    width: int = 512  # px
    height: int = 512


@dataclass(frozen=True)
class PictureRequest:
    """One picture. prompt: with the marker of every person. subject_steps: the fraction of the steps that see the
    people; the first steps see their class words (delayed subject conditioning; 1.0: all steps see the people)."""

    prompt: str
    seed: int
    people: tuple[Person, ...] = ()
    negative: str = ""
    subject_steps: float = 1.0


class PictureMaker(Protocol):
    """Makes pictures from prompts with one diffusion model."""

    key: str  # names model and settings that the picture depends on; goes into manifests

    def make(self, request: PictureRequest, sampling: Sampling, progress: Progress | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB. progress counts steps. The same request gives the same picture on the same machine."""
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
