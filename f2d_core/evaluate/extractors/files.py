"""Reading the weight files of judging networks, and telling them apart by what is in them, never by their names."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...catalogue import PUBLISHED
from ...errors import WeightsError
from ...state_dict import check_state_dict, expected_shapes
from ...weights import describe, read_tensors, tensors_sha256

FOLDER = "a folder of your choice"
_CONTAINERS = ("state_dict", "model")
Place = Callable[[nn.Module], Callable[..., torch.Tensor]]


def _nothing(name: str) -> type:
    """A class without content that stands for one of a package that is not asked for."""
    module, _, own = name.rpartition(".")
    return type(own, (), {"__module__": module})


# What checkpoints of PyTorch Lightning name besides tensors: not imported, not called, and not looked at.
_LIGHTNING = [
    _nothing("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    _nothing("pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor"),
    _nothing("pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
    _nothing("pytorch_lightning.utilities.parsing.AttributeDict"),
    _nothing("argparse.Namespace"),
]


@dataclass(frozen=True)
class StateFile:
    """The tensors of a file, as they are there, and where it lies."""

    tensors: dict[str, torch.Tensor]
    path: Path

    def part(self, sign: str) -> dict[str, torch.Tensor] | None:
        """The network whose key `sign` is in the file, below any prefix, with bare keys; None if it is not there."""
        key = next((key for key in self.tensors if key == sign or key.endswith(f".{sign}")), None)
        if key is None:
            return None
        prefix = key.removesuffix(sign)
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def read_state(path: str | Path, kind: str = "") -> StateFile:
    """The tensors of a .safetensors, .pt, .pth, .bin or .ckpt file. Raises WeightsError.

    kind: an entry of the catalogue, named where the file is missing.
    """
    path = Path(path)
    help_text = PUBLISHED[kind].how_to_get(FOLDER) if kind in PUBLISHED else "Check the path."
    with _lightning_names():
        content, _ = read_tensors(path, missing_help=help_text)
    return StateFile(_tensors(content), path)


def peek_state(path: Path) -> StateFile | None:
    """The same without reading the values before they are asked for; None for what is no file of tensors."""
    try:
        if _is_safetensors(path):
            return read_state(path)
        with _lightning_names(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever it is, it is not what is looked for; loading it by name says what is wrong
        return None
    return StateFile(_tensors(content), path) if isinstance(content, Mapping) else None


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"  # eight bytes of header length, then JSON


def _tensors(content: Mapping) -> dict[str, torch.Tensor]:
    """The state dict inside a training checkpoint, or the content itself."""
    inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
    return {str(key): value for key, value in inner.items() if isinstance(value, torch.Tensor)}


@contextlib.contextmanager
def _lightning_names() -> Iterator[None]:
    """Inside, torch's safe reader takes the names of _LIGHTNING for classes without content."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    with safe_globals(_LIGHTNING) if safe_globals else contextlib.nullcontext():  # torch before 2.5 refuses such files
        yield


def plain(value: torch.Tensor) -> torch.Tensor:
    """fp32 in memory of its own: CPU kernels round differently by the alignment of a file's buffer."""
    value = value.detach()
    return value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone()


def fill(
    make: Callable[[], nn.Module], state: Mapping[str, torch.Tensor], unread: tuple[str, ...], what: str
) -> tuple[nn.Module, str]:
    """(network, sha256 of its tensors): `make()` with the weights of `state`, frozen, in eval mode.

    unread: prefixes of keys that serve training only and are passed over. Counters of batch norms may be absent.
    Raises WeightsError naming a key.
    """
    expected = expected_shapes(make)
    own = {key: plain(value) for key, value in state.items() if not (unread and key.startswith(unread))}
    counters = {key: torch.tensor(0) for key in expected if key.endswith("num_batches_tracked")}
    check_state_dict(own, expected, counters, what)
    with torch.device("meta"):
        network = make()
    network.load_state_dict({**counters, **own}, assign=True)
    read = {key: value for key, value in own.items() if key not in counters}
    return network.requires_grad_(False).eval(), tensors_sha256(read)


def unknown(file: StateFile, wanted: str) -> WeightsError:
    """The error for a file that is none of those wanted."""
    found = describe(file.tensors)
    return WeightsError(f"{file.path.name} is {found}, expected {wanted}. Choose such a file.")


def placed(module: nn.Module, device: str | torch.device, place: Place | None) -> Callable[..., torch.Tensor]:
    """The network as a function of CPU tensors that gives CPU tensors, run on `device`, or wherever `place` says."""
    if place is not None:
        return place(module)
    module.to(device)

    @torch.inference_mode()
    def run(*inputs: torch.Tensor) -> torch.Tensor:
        with _full_precision():
            return module(*(value.to(device) for value in inputs)).cpu()

    return run


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """cuDNN rounds the inputs of fp32 convolutions to 10 bits unless told not to; elsewhere this changes nothing."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def in_batches(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, batch: int) -> torch.Tensor:
    """run(inputs), a batch at a time; (0, …) inputs are not allowed."""
    return torch.cat([run(part) for part in inputs.split(batch)])


def batch_for(device: str | torch.device, asked: int, on_cpu: int, on_gpu: int) -> int:
    """How many pictures at a time: what was asked for, or what suits the device (0)."""
    return asked or (on_cpu if torch.device(device).type == "cpu" else on_gpu)
