"""What judging asks of ComfyUI: its weight files, text on a node, its own CLIP vision with the text encoder of it."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.ops
import folder_paths
import numpy as np
import torch
import torch.nn.functional as F

from ..f2d_core.errors import MismatchError
from . import host, sockets

_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx")
# The standard deviation of a text projection that was loaded (published ones: about 0.03). One that the file did not
# hold is memory as it was found: zeros, or anything.
_LOADED = (1e-3, 1.0)
_VISION_HELP = (
    'Load a CLIP vision model such as CLIP-ViT-H-14 with "Load CLIP Vision", and the text encoder of the same CLIP: '
    'for ViT-H that of an SD 2.1 checkpoint, for ViT-L/14 OpenAI\'s model.safetensors with "Load CLIP".'
)


def judge_files() -> list[str]:
    """Weight files to choose from, saved identities left out."""
    names = folder_paths.get_filename_list(host.FOLDER)
    return [name for name in names if name.lower().endswith(_ENDINGS) and not _is_identity(name)]


def _is_identity(name: str) -> bool:
    return name.replace("\\", "/").split("/")[0] == host.IDENTITIES


def show_text(text: str, node_id: str | None) -> None:
    """Write a text on a node's own box, where there is somebody to look at it."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id, server.client_id)


class VisionJudge:
    """ports.ImageTextExtractor over a CLIP_VISION and a CLIP of the same training.

    Raises MismatchError where the two do not give features of one space.
    """

    kind = "clip_vision"
    sha256 = ""  # of which file they come, the host does not say
    logit_scale, logit_bias = 100.0, 0.0  # of a CLIP

    def __init__(self, clip_vision, clip):
        self._vision, self._clip = clip_vision, clip
        self._text = _pooling_encoder(clip)
        width = _picture_width(clip_vision)
        words = self._projection.weight.shape[0]
        if width != words:
            raise MismatchError(
                f"The CLIP vision model gives {width} features, the text encoder {words}: expected the two halves of "
                f"one CLIP. {_VISION_HELP}"
            )
        _require_loaded(self._projection)
        self.name = f"CLIP vision of ComfyUI ({width} features)"

    @property
    def _projection(self) -> torch.nn.Module:
        return self._text.transformer.text_projection

    def image_features(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, n) fp32 of length 1; the middle square of each picture, as the host cuts it."""
        alike = len({rgb.shape for rgb in pictures}) == 1  # only pictures of one size make a batch
        batches = [pictures] if alike else [[rgb] for rgb in pictures]
        rows = [self._vision.encode_image(sockets.image(batch), crop=True)["image_embeds"] for batch in batches]
        return F.normalize(torch.cat(rows).to("cpu", torch.float32), dim=1)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """(B, n) fp32 of length 1; what is beyond the first 77 tokens does not count, as in CLIP."""
        return F.normalize(torch.cat([self._pooled(text) for text in texts]), dim=1)

    def _pooled(self, text: str) -> torch.Tensor:
        _, pooled = self._clip.encode_from_tokens(self._clip.tokenize(text), return_pooled=True)
        pooled = pooled.to("cpu", torch.float32)
        if self._text.options_default[-1]:  # the host has projected it already
            return pooled
        weight = comfy.ops.cast_to_input(self._projection.weight, pooled)
        return F.linear(pooled, weight)


def _pooling_encoder(clip) -> torch.nn.Module:
    """The encoder whose pooled output a CLIP gives: the only one, or `g` of SDXL's two."""
    encoders = host.encoders_of(clip)
    key = "g" if "g" in encoders else next(iter(encoders))
    encoder = getattr(clip.cond_stage_model, host.attribute_of(clip, key), None)
    if not hasattr(getattr(encoder, "transformer", None), "text_projection"):
        raise MismatchError(f"The text encoder ({', '.join(encoders)}) is not that of a CLIP. {_VISION_HELP}")
    return encoder


def _picture_width(clip_vision) -> int:
    projection = getattr(clip_vision.model, "visual_projection", None)
    if not hasattr(projection, "weight"):
        raise MismatchError(f"The CLIP vision model gives no features that texts can be compared with. {_VISION_HELP}")
    return projection.weight.shape[0]


def _require_loaded(projection: torch.nn.Module) -> None:
    weight = projection.weight
    spread = float(weight.detach().float().std()) if weight is not None and not weight.is_meta else 0.0
    if not _LOADED[0] < spread < _LOADED[1]:  # NaN is not
        raise MismatchError(
            "The text encoder has no text projection, which compares texts with pictures (those in SD 1.x checkpoints "
            f"have none). {_VISION_HELP}"
        )
