"""Judges for tests: fakes that need no weights, and small stand-ins of the published weight files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from f2d_core.align import align_face
from f2d_core.evaluate.extractors.adaface import AdaFace
from f2d_core.image import scaled
from f2d_core.state_dict import expected_shapes
from f2d_core.testing import filled

# IR-50 with few channels: recognised by its depth, under 1 MB instead of 175.
_UNITS, _WIDTHS = (3, 4, 14, 3), (2, 4, 6, 8)


def _projected(values: np.ndarray, width: int, seed: int) -> torch.Tensor:
    """(B, n) -> (B, width) of length 1, by a fixed random matrix."""
    matrix = np.random.RandomState(seed).standard_normal((values.shape[1], width))
    return F.normalize(torch.from_numpy(values @ matrix).float(), dim=1)


@dataclass
class FakeIdentity:
    """ports.IdentityExtractor: what the face crop looks like at 8 x 8. seen: pictures so far."""

    name: str = "Fake identity"
    kind: str = "adaface_ir50"
    sha256: str = "0" * 64
    seen: int = 0

    def features(self, pictures: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> torch.Tensor:
        self.seen += len(pictures)
        crops = [scaled(align_face(rgb, five), 8, 8) for rgb, five in zip(pictures, points, strict=True)]
        return _projected(np.stack(crops).reshape(len(crops), -1) / 255 - 0.5, 16, 1)


@dataclass
class FakeImageText:
    """ports.ImageTextExtractor: what the picture looks like at 8 x 8; a text is a number drawn by its letters."""

    name: str = "Fake CLIP"
    kind: str = "clip_h14"
    sha256: str = "1" * 64
    logit_scale: float = 100.0
    logit_bias: float = 0.0
    seen: int = 0
    read: list[str] = field(default_factory=list)

    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        self.seen += len(pictures)
        small = np.stack([scaled(picture, 8, 8) for picture in pictures])
        return _projected(small.reshape(len(small), -1) / 255, 16, 2)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        self.read += texts
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") for text in texts]
        return _projected(np.stack([np.random.RandomState(seed).uniform(0, 1, 192) for seed in seeds]), 16, 2)


@dataclass
class FakeInception:
    """Features of FID: what the picture looks like at 4 x 4."""

    name: str = "Fake Inception"
    kind: str = "inception_fid"
    sha256: str = "2" * 64

    def features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        small = np.stack([scaled(picture, 4, 4) for picture in pictures])
        return torch.from_numpy(small.reshape(len(small), -1) / 255).float()


def residual_widths(units: Sequence[int], widths: Sequence[int]) -> list[tuple[int, int]]:
    """Channels that enter and leave each block of a residual network."""
    leaving = [width for count, width in zip(units, widths, strict=True) for _ in range(count)]
    return list(zip([widths[0], *leaving[:-1]], leaving, strict=True))


def tiny_adaface_state_dict(seed: int = 0, units: Sequence[int] = _UNITS) -> dict[str, torch.Tensor]:
    """AdaFace IR-50 with few channels."""
    return filled(expected_shapes(lambda: AdaFace(residual_widths(units, _WIDTHS), 32)), seed)


def write_tiny_adaface(path: Path, seed: int = 0) -> Path:
    """A stand-in of adaface_ir50_ms1mv2.ckpt in its layout: a checkpoint with the classes of training beside it."""
    state = {f"model.{key}": value for key, value in tiny_adaface_state_dict(seed).items()}
    torch.save({"epoch": 25, "state_dict": {**state, "head.kernel": torch.zeros(32, 7)}}, path)
    return path


# --- CLIP and SigLIP of a size that open_clip does not have ---

TINY_CLIP, TINY_SIGLIP = "tiny-CLIP", "tiny-SigLIP"
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
TINY_MODELS = {
    TINY_CLIP: {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": _TEXT,
    },
    f"{TINY_CLIP}-quickgelu": {
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": _TEXT,
    },
    TINY_SIGLIP: {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": TINY_SIGLIP,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 64,
            "vocab_size": 32000,
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    },
}


def add_tiny_models(monkeypatch, folder: Path) -> None:
    """Make open_clip, timm and our recognition know TINY_MODELS for the length of a test."""
    import open_clip
    import timm

    from f2d_core.evaluate.extractors import image_text

    for name, config in TINY_MODELS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {**open_clip.factory._MODEL_CONFIGS})
    open_clip.add_model_config(folder)
    real = timm.create_model

    def create_model(name, **kwargs):
        if name != TINY_SIGLIP:
            return real(name, **kwargs)
        sizes = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2}
        return timm.models.VisionTransformer(**sizes, class_token=False, global_pool="map", num_classes=0)

    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setitem(image_text._CLIP_MODELS, (16, 16, 5), TINY_CLIP)
    monkeypatch.setitem(image_text._SIGLIP_MODELS, (16, 64, 16), TINY_SIGLIP)
    monkeypatch.setattr(image_text, "_BY_OPENAI", (*image_text._BY_OPENAI, TINY_CLIP))
    monkeypatch.setattr(image_text, "MODELS", (*image_text.MODELS, *TINY_MODELS))


def tiny_model(name: str, seed: int = 0) -> torch.nn.Module:
    """open_clip's own network with random weights, biases and gains among them; 16-bit values for -quickgelu."""
    import open_clip

    config = open_clip.get_model_config(name)
    make = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(**config).eval()
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.1 * torch.randn(value.shape) if value.dim() == 1 else 0)
                value.copy_(value.half() if name.endswith("-quickgelu") else value)
    return model


def write_tokenizer(path: Path) -> Path:
    """A stand-in of SigLIP's tokenizer.json: a few words, </s> at its place."""
    import tokenizers

    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *"a photo of person as the chef".split()])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path
