"""CLIP and SigLIP as judges (ports.ImageTextExtractor): open_clip's networks, filled from local files.

A file is recognised by the shapes in it. Both layouts are read: open_clip's (open_clip_model.safetensors,
open_clip_pytorch_model.bin) and transformers' (model.safetensors). SigLIP needs its tokenizer's `tokenizer.json`
beside the weights; CLIP's vocabulary comes with open_clip. Nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...errors import ImageError, MissingPackageError, PromptError, SettingsError, WeightsError
from ...state_dict import check_state_dict, shape_of
from ...weights import tensors_sha256
from .files import Place, StateFile, batch_for, in_batches, placed, plain, read_state
from .layouts import from_transformers, is_transformers
from .preprocess import CLIP_MEAN, CLIP_STD, SIGLIP_MEAN, SIGLIP_STD, Preprocess

# (px of a patch, width, places of the vision tower) -> open_clip's name. Names that end in -quickgelu are networks of
# OpenAI, whose rectifier is x * sigmoid(1.702 x); open_clip's own networks of the same shape lack it.
_QUICK = "-quickgelu"
_CLIP_MODELS = {
    (32, 768, 50): "ViT-B-32",
    (16, 768, 197): "ViT-B-16",
    (14, 1024, 257): "ViT-L-14",
    (14, 1024, 577): "ViT-L-14-336",
    (14, 1280, 257): "ViT-H-14",
    (14, 1664, 257): "ViT-bigG-14",
}
_BY_OPENAI = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336")
_SIGLIP_MODELS = {
    (16, 768, 196): "ViT-B-16-SigLIP",
    (16, 768, 256): "ViT-B-16-SigLIP-256",
    (16, 768, 576): "ViT-B-16-SigLIP-384",
    (16, 1024, 256): "ViT-L-16-SigLIP-256",
    (16, 1024, 576): "ViT-L-16-SigLIP-384",
    (14, 1152, 256): "ViT-SO400M-14-SigLIP",
    (14, 1152, 729): "ViT-SO400M-14-SigLIP-384",
}
MODELS = (*_CLIP_MODELS.values(), *(name + _QUICK for name in _BY_OPENAI), *_SIGLIP_MODELS.values())
KINDS = {
    "ViT-H-14": "clip_h14",
    "ViT-L-14-quickgelu": "clip_l14",
    "ViT-SO400M-14-SigLIP-384": "siglip_so400m",
    "ViT-B-16-SigLIP": "siglip_b16",
}
CLIP_SIGN, SIGLIP_SIGN = "visual.conv1.weight", "visual.trunk.patch_embed.proj.weight"
_TEXT_SIZES = {"text.token_embedding.weight": 2}
_CLIP_SIZES = {
    CLIP_SIGN: 4,
    "visual.positional_embedding": 2,
    "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,
    **_TEXT_SIZES,
}
_SIGLIP_SIZES = {SIGLIP_SIGN: 4, "visual.trunk.pos_embed": 3, **_TEXT_SIZES}
_SIGLIP_WORDS = 32000
_WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
_TOKENIZER = "tokenizer.json"
_SIGLIP_END = 1  # the end token </s> also fills the text up


@dataclass(frozen=True)
class PictureTextJudge:
    """Fulfils ports.ImageTextExtractor. kind: an entry of the catalogue, or "" for a size that has none there."""

    kind: str
    name: str
    sha256: str
    logit_scale: float
    logit_bias: float
    preprocess: Preprocess
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    batch: int
    see: Callable[[torch.Tensor], torch.Tensor]
    read: Callable[[torch.Tensor], torch.Tensor]

    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, n) fp32 on the CPU, of length 1. pictures: (H, W, 3) uint8 RGB, any sizes. ImageError for none."""
        if not len(pictures):
            raise ImageError(f"{self.name} was given no picture: expected at least one.")
        parts = [pictures[i : i + self.batch] for i in range(0, len(pictures), self.batch)]
        return F.normalize(torch.cat([self.see(self.preprocess(part)) for part in parts]), dim=1)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """(B, n) fp32 on the CPU, of length 1; what does not fit into the context is cut off. PromptError for none."""
        if not len(texts):
            raise PromptError(f"{self.name} was given no text: expected at least one.")
        return F.normalize(in_batches(self.read, self.tokenize(texts), self.batch), dim=1)


def image_text_from(
    path: Path, device: str | torch.device, model: str, batch: int, place: Place | None
) -> PictureTextJudge:
    """The judge in a file or folder. model: one of MODELS where the shapes do not tell; empty: recognised.

    Raises WeightsError, MissingPackageError without open_clip, SettingsError for an unknown model.
    """
    path = weight_file(path)
    file = read_state(path, "clip_h14")
    state, model = _recognised(file, model)
    open_clip = _open_clip()
    config = open_clip.get_model_config(model)
    tokenize = _tokenizer(open_clip, model, path, config["text_cfg"]["context_length"])
    network = _network(open_clip, model, config, state, path)
    return PictureTextJudge(
        KINDS.get(model, ""),
        _title(model),
        tensors_sha256(state),
        math.exp(float(state["logit_scale"])),
        float(state["logit_bias"]) if "logit_bias" in state else 0.0,
        _preprocess(model, config),
        tokenize,
        batch_for(device, batch, 8, 64),
        placed(network.visual, device, place),
        placed(network.text, device, place),
    )


def weight_file(path: Path) -> Path:
    """The weight file itself, or the one in a folder of a published model. Raises WeightsError."""
    if not path.is_dir():
        return path
    for name in _WEIGHT_FILES:
        if (path / name).is_file():
            return path / name
    raise WeightsError(
        f"{path} holds no weights of CLIP or SigLIP: expected one of {', '.join(_WEIGHT_FILES)}. Choose such a folder."
    )


def has_towers(keys: Mapping[str, object]) -> bool:
    """Whether a file with these keys holds both towers of CLIP or SigLIP."""
    text = "token_embedding.weight" in keys or "text.token_embedding.weight" in keys
    return is_transformers(keys) or (text and (CLIP_SIGN in keys or SIGLIP_SIGN in keys))


def image_text_kind(file: StateFile) -> str:
    """An entry of the catalogue, "" for anything that has none. Raises WeightsError for a size that is not known."""
    if not has_towers(file.tensors):
        return ""
    return KINDS.get(_by_shape(_open_clip_layout(file), file.path), "")


def _recognised(file: StateFile, model: str) -> tuple[dict[str, torch.Tensor], str]:
    """(state dict with the text tower below `text.`, open_clip's name of the network)."""
    if model and model not in MODELS:
        raise SettingsError(f'The model is "{model}": expected one of {", ".join(MODELS)}, or nothing.')
    if not has_towers(file.tensors):
        raise WeightsError(_not_both_towers(file))
    tensors = _open_clip_layout(file)
    return {key: plain(value) for key, value in tensors.items()}, model or _by_shape(tensors, file.path)


def _open_clip_layout(file: StateFile) -> dict[str, torch.Tensor]:
    """The file's tensors by open_clip's names, those that sizes are read from among them. Raises WeightsError."""
    try:
        tensors = from_transformers(file.tensors) if is_transformers(file.tensors) else _text_below(file.tensors)
        needed = _SIGLIP_SIZES if SIGLIP_SIGN in tensors else _CLIP_SIZES
        for key, dimensions in needed.items():
            shape_of(tensors, key, dimensions, "CLIP or SigLIP")
    except KeyError as error:
        raise WeightsError(
            f"{file.path.name}: key {error} is missing, expected a whole model; copy it again"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{file.path.name}: {error}") from error
    return tensors


def _not_both_towers(file: StateFile) -> str:
    only_vision = any(key.startswith(("vision_model.", "visual.")) for key in file.tensors)
    found = "the picture tower of CLIP alone" if only_vision else "no CLIP or SigLIP"
    return (
        f"{file.path.name} holds {found}, expected a whole model that sees pictures and reads texts, for example "
        "open_clip_model.safetensors. Choose such a file."
    )


def _text_below(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's older layout has the text tower at the top."""
    if "text.token_embedding.weight" in tensors:
        return dict(tensors)
    apart = ("visual.", "logit_")
    unread = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    return {k if k.startswith(apart) else f"text.{k}": v for k, v in tensors.items() if k not in unread}


def _by_shape(tensors: Mapping[str, torch.Tensor], path: Path) -> str:
    """open_clip's name of the network that has these shapes. Raises WeightsError."""
    siglip = SIGLIP_SIGN in tensors
    patches = tensors[SIGLIP_SIGN if siglip else CLIP_SIGN]
    places = tensors["visual.trunk.pos_embed" if siglip else "visual.positional_embedding"].shape[-2]
    shape = (patches.shape[-1], patches.shape[0], places)
    words = tensors["text.token_embedding.weight"].shape[0]
    name = (_SIGLIP_MODELS if siglip else _CLIP_MODELS).get(shape, "")
    if not name or (siglip and words != _SIGLIP_WORDS):
        raise WeightsError(
            f"{path.name} is {'SigLIP' if siglip else 'CLIP'} of a size that is not known here (patches of {shape[0]} "
            f"px, width {shape[1]}, {shape[2]} places, {words} words): expected one of {', '.join(MODELS)}. Choose "
            "such a file."
        )
    return name + _QUICK if name in _BY_OPENAI and _is_openai(tensors) else name


def _is_openai(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether the values are of 16 bits: OpenAI published them so, and open_clip's own networks are of 32."""
    layer = tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"]
    return layer.dtype == torch.float16 or torch.equal(layer.to(torch.float16).to(layer.dtype), layer)


def _open_clip() -> Any:
    try:
        import open_clip
    except Exception as error:  # a broken installation raises anything
        raise MissingPackageError(
            f"CLIP and SigLIP need the package open_clip, which cannot be used here ({type(error).__name__}): "
            "pip install open_clip_torch (extra: eval). The judges of identity work without it."
        ) from error
    return open_clip


def _network(open_clip: Any, model: str, config: dict, state: dict[str, torch.Tensor], path: Path) -> torch.nn.Module:
    """open_clip's two towers with these weights, frozen, in eval mode; no random weights are made on the way."""
    settings = {key: value for key, value in config.items() if key != "custom_text"}
    with torch.device("meta"):
        network = open_clip.CustomTextCLIP(**settings)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    try:
        check_state_dict(state, expected, (), _title(model))
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    network.load_state_dict(state, assign=True)
    if getattr(network.text, "attn_mask", None) is not None:  # not among the weights, so still without values
        network.text.attn_mask = network.text.build_causal_mask()
    return network.requires_grad_(False).eval()


def _title(model: str) -> str:
    """ "ViT-H-14" -> "CLIP ViT-H-14", "ViT-L-14-quickgelu" -> "CLIP ViT-L-14 (OpenAI)", SigLIP as it is called."""
    if model in _SIGLIP_MODELS.values():
        return model
    return f"CLIP {model.removesuffix(_QUICK)} (OpenAI)" if model.endswith(_QUICK) else f"CLIP {model}"


def _preprocess(model: str, config: dict) -> Preprocess:
    size = config["vision_cfg"]["image_size"]
    if model in _SIGLIP_MODELS.values():
        return Preprocess(size, SIGLIP_MEAN, SIGLIP_STD, squash=True)
    return Preprocess(size, CLIP_MEAN, CLIP_STD, squash=False)


def _tokenizer(open_clip: Any, model: str, path: Path, context: int) -> Callable[[Sequence[str]], torch.Tensor]:
    """texts -> (B, context) token ids."""
    if model in _SIGLIP_MODELS.values():
        return _siglip_tokenizer(open_clip, path.with_name(_TOKENIZER), context)
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=context)
    return lambda texts: tokenizer(list(texts))


def _siglip_tokenizer(open_clip: Any, path: Path, context: int) -> Callable[[Sequence[str]], torch.Tensor]:
    """Small letters without punctuation, words of the C4 vocabulary, ended and filled up with </s> (big_vision)."""
    words = _word_pieces(path)
    clean = open_clip.tokenizer.get_clean_fn("canonicalize")

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        ids = torch.full((len(texts), context), _SIGLIP_END)
        for row, text in zip(ids, texts, strict=True):
            pieces = words.encode(clean(text), add_special_tokens=False).ids[: context - 1]
            row[: len(pieces)] = torch.tensor(pieces, dtype=torch.long)
        return ids

    return tokenize


def _word_pieces(path: Path) -> Any:
    """The tokenizer in a tokenizer.json. Raises WeightsError, MissingPackageError."""
    try:
        import tokenizers
    except Exception as error:
        raise MissingPackageError(
            f"SigLIP needs the package tokenizers, which cannot be used here ({type(error).__name__}): "
            "pip install transformers. CLIP works without it."
        ) from error
    try:
        words = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror or error}): SigLIP needs its tokenizer beside its weights. "
            f"Put {_TOKENIZER} of the same repository there."
        ) from error
    except Exception as error:  # the package raises bare Exception for a file that is no tokenizer
        raise WeightsError(f"{path} is no tokenizer: expected {_TOKENIZER} of SigLIP. Copy it again.") from error
    if words.token_to_id("</s>") != _SIGLIP_END or words.get_vocab_size() > _SIGLIP_WORDS:
        raise WeightsError(f"{path} is another tokenizer: expected SigLIP's, with 32,000 words. Copy it again.")
    words.no_truncation()
    words.no_padding()
    return words
