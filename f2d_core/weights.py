"""The only reader and writer of weight files.

Files are told apart by their keys and shapes, never by their names. Only tensors are read: a file that would need
to run code is refused. Facts about the published files: github.com/mapooon/Face2Diffusion (msid.pt, mapping.pt),
github.com/sicxu/Deep3DFaceRecon_pytorch (epoch_20.pth).
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .catalogue import PUBLISHED
from .constants import WEIGHTS_FORMAT, WEIGHTS_FORMAT_VERSION
from .errors import WeightsError
from .files import write_atomically

# Names under which state dicts are commonly wrapped, and key prefixes that wrappers add.
# "backbone." is part of the published names of the expression encoder and is not among them.
_CONTAINERS = ("state_dict", "model", "net_recon")
_PREFIXES = ("module.", "_orig_mod.")

# What torch raises for bytes that are no whole file of its own.
_TORN = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError),
    *(AssertionError, struct.error),
)

# kind -> (keys that must all be there, what it is in words)
_SIGNS = {
    "msid": (("cls_token", "pos_embed", "patch_embed.proj.weight"), "an MSID encoder"),
    "mapping": (("i2t_first.fc_out.weight",), "a mapping network"),
    "recon": (("backbone.conv1.weight", "final_layers.1.weight"), "a Deep3DFaceRecon expression encoder"),
}
# What people pick by mistake. First match wins.
_STRANGERS = (
    (lambda k: k.startswith("model.diffusion_model."), "a Stable Diffusion checkpoint"),
    (lambda k: "lora_" in k or ".lora" in k, "a LoRA"),
    (lambda k: k == "s_star", "a saved identity (S*)"),
    (lambda k: k.startswith("clip_") or k in ("emb_params", "string_to_param"), "a textual-inversion embedding"),
    (lambda k: k.startswith(("text_model.", "vision_model.", "embeddings.token_embedding.")), "a CLIP model"),
    (lambda k: k in ("fc.weight", "layer1.0.conv1.weight"), "a plain ResNet without the expression layers"),
    (lambda k: k.startswith("cp.resnet."), "a face parser (BiSeNet)"),
    (lambda k: k.startswith("blocks."), "a vision transformer without multi-scale levels"),
)


@dataclass(frozen=True)
class Weights:
    """A recognised weight file.

    state_dict: fp32 on the CPU, published key names. sha256: of the tensors (names, shapes, values), so it is the
    same for a .pt file and its safetensors conversion. metadata: what a safetensors file says of itself.
    """

    kind: str
    state_dict: dict[str, torch.Tensor]
    metadata: dict[str, str]
    sha256: str
    path: Path


def read_weights(path: str | Path, expect: str | None = None) -> Weights:
    """Read any weight file of this project or a published checkpoint.

    expect: "msid", "mapping" or "recon" when only that will do. Raises WeightsError for a file that is missing,
    damaged, carries code, or is something else; the message names what was found.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path, missing_help=_missing_help(expect))
    tensors = _unwrap(tensors)
    kind = recognise(tensors)
    if kind is None or (expect is not None and kind != expect):
        raise WeightsError(_wrong_file(path, kind, expect, tensors))
    state = {key: _plain(value) for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    return Weights(kind, state, metadata, tensors_sha256(state), path)


def read_tensors(
    path: str | Path, missing_help: str = "", wanted: Callable[[str], bool] = lambda key: True
) -> tuple[dict, dict[str, str]]:
    """(content, metadata) of a safetensors or torch file; torch files may nest dicts. Tensors stay on the CPU.

    wanted: of a safetensors file, which keys to read; torch files are read whole. Raises WeightsError.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror or error}. {missing_help}".rstrip()) from error
    if len(head) == 9 and head[8:] == b"{":  # eight bytes of header length, then JSON
        return _read_safetensors(path, wanted)
    return _read_torch(path), {}


def peek_tensors(path: str | Path) -> tuple[dict, dict[str, str]]:
    """(content without containers and wrappers' prefixes, metadata) of any such file. Raises WeightsError.

    No value is read before it is asked for, so a large file costs no more than a small one; but for files in the format
    that torch had before 1.6.
    """
    path = Path(path)
    mapped = _map_torch(path)
    tensors, metadata = read_tensors(path) if mapped is None else (mapped, {})
    return _unwrap(tensors), metadata


def _map_torch(path: Path) -> dict | None:
    """The content of a torch file, its values left there; None for what cannot be mapped: reading it says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        return None
    return dict(content) if isinstance(content, Mapping) else None


def _read_safetensors(path: Path, wanted: Callable[[str], bool]) -> tuple[dict, dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(_damaged(path)) from error


def _read_torch(path: Path) -> dict:
    try:
        with warnings.catch_warnings():  # of odd pickles; what matters of them is raised
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_unsafe_or_damaged(path, error)) from error
    except _TORN as error:
        raise WeightsError(_damaged(path)) from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path.name} holds a {type(content).__name__}, expected a state dict (names and tensors). Choose a "
            "weight file."
        )
    return dict(content)


def _unsafe_or_damaged(path: Path, error: Exception) -> str:
    if "GLOBAL" in str(error):  # torch names the pickle instruction that asked for a class or function
        return (
            f"{path.name} carries Python objects or code besides tensors and was not loaded. Expected tensors only: "
            "get the file again from where it is published, or a safetensors version."
        )
    return _damaged(path)


def _damaged(path: Path) -> str:
    size = path.stat().st_size
    return (
        f"{path.name} ({size:,} bytes) is damaged, incomplete or not a weight file. "
        "Expected a complete .safetensors, .pt or .pth file: copy or download it again."
    )


def _missing_help(expect: str | None) -> str:
    return PUBLISHED[expect].how_to_get("the model folder") if expect in PUBLISHED else "Check the path."


def _unwrap(content: dict) -> dict:
    """The state dict inside a training checkpoint, without the prefixes that wrappers add to every key."""
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = dict(content[name])
            break
    while prefix := _common_prefix(content):
        content = {key[len(prefix) :]: value for key, value in content.items()}
    return content


def _common_prefix(content: dict) -> str:
    """The wrapper prefix that every key has, or nothing."""
    prefixes = (p for p in _PREFIXES if content and all(isinstance(key, str) and key.startswith(p) for key in content))
    return next(prefixes, "")


def recognise(tensors: Mapping[str, object]) -> str | None:
    """The kind of a state dict by its keys: "msid", "mapping", "recon", or None."""
    for kind, (signs, _) in _SIGNS.items():
        if all(sign in tensors for sign in signs):
            if kind == "msid" and not any(str(key).startswith("norms.layer_") for key in tensors):
                continue
            return kind
    return None


def describe(tensors: Mapping[str, object]) -> str:
    """What a state dict seems to be, in words, for messages."""
    kind = recognise(tensors)
    if kind:
        return _SIGNS[kind][1]
    for matches, words in _STRANGERS:
        if any(matches(str(key)) for key in tensors):
            return words
    first = ", ".join(str(key) for key in list(tensors)[:3])
    return f"something unknown with {len(tensors)} entries ({first} …)" if tensors else "an empty file"


def _wrong_file(path: Path, kind: str | None, expect: str | None, tensors: Mapping) -> str:
    wanted = " or ".join(words for k, (_, words) in _SIGNS.items() if expect in (None, k))
    hint = PUBLISHED[expect].file if expect else "msid.pt, mapping.pt or epoch_20.pth"
    return f"{path.name} is {describe(tensors)}, expected {wanted}. Choose such a file, for example {hint}."


def _plain(value: torch.Tensor) -> torch.Tensor:
    """fp32 in memory of its own: a file's buffer begins anywhere, and CPU kernels round differently by alignment."""
    value = value.detach()
    return value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone()


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and values in the order of the names; independent of the file format."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(memoryview(value.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as published hashes are given."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_safetensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, object] | None = None
) -> Path:
    """Write tensors and metadata to one safetensors file, whole or not at all. Values that are not text become JSON.

    Raises OutputError.
    """
    plain = {key: value.detach().to("cpu").contiguous().clone() for key, value in tensors.items()}
    text = {key: v if isinstance(v, str) else json.dumps(v) for key, v in (metadata or {}).items()}
    return write_atomically(path, lambda temporary: _save(plain, temporary, text))


def _save(tensors: dict, path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, str(path), metadata=metadata)
    except SafetensorError as error:  # its way of passing on a full disk
        raise OSError(str(error)) from error


def convert(path: str | Path, out: str | Path) -> Path:
    """Write a published checkpoint (msid.pt, mapping.pt, epoch_20.pth) as safetensors; only the network is kept.

    The converted file says what it is, where it comes from and under which licence. Raises WeightsError, OutputError.
    """
    weights = read_weights(path)
    metadata = {
        "format": WEIGHTS_FORMAT,
        "format_version": WEIGHTS_FORMAT_VERSION,
        "kind": weights.kind,
        "converted_from": weights.path.name,
        "source_file_sha256": file_sha256(path),
        "licence": weights.metadata.get("licence", PUBLISHED[weights.kind].licence),
    }
    return write_safetensors(out, weights.state_dict, {**weights.metadata, **metadata})
