"""What the pack asks of ComfyUI: its node API, folders, devices, progress and text encoder.

Only this file and the others named host_*.py name ComfyUI. Written against ComfyUI 0.9.2 to 0.33.0; what differs
between them is dealt with here. Fulfils f2d_core/ports.py.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management as devices
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.samplers
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyExtension as ComfyExtension  # handed on to nodes/__init__.py
from comfy_api.latest import io
from comfy_api.latest import ui as ui  # handed on to the nodes

from ..f2d_core.catalogue import PUBLISHED
from ..f2d_core.chunks import Slot, Word
from ..f2d_core.constants import IDENTITIES, WEIGHT_ENDINGS
from ..f2d_core.errors import MismatchError, SettingsError, WeightsError
from ..f2d_core.prompt import (
    Person,
    check_encoder,
    find_markers,
    near_misses,
    replace_markers,
    require_markers,
    require_people,
    slot_vectors,
)

if TYPE_CHECKING:
    from ..f2d_core.networks import Network

log = logging.getLogger("face2diffusion")

FOLDER = "face2diffusion"
_NEWER_KEYWORDS = ("advanced", "search_aliases")  # of inputs since 0.10, of schemas since 0.11: only for show
_TEXT_ENCODERS = ("checkpoints", "text_encoders")  # folders of files that have one
REPLACES_NODES = hasattr(io, "NodeReplace")  # since 0.14
# Where one range of steps ends: this part of the way (in the logarithm of the noise level) before the next step; and
# how often the model's time is halved to find that place.
_BEFORE_NEXT, _HALVINGS = 0.1, 40


# --- node API ---


def newer(make: Callable, *args, **kwargs):
    """`make(*args, **kwargs)` without those keywords of _NEWER_KEYWORDS that this version of the host does not know."""
    known = inspect.signature(make).parameters
    return make(*args, **{key: value for key, value in kwargs.items() if key in known or key not in _NEWER_KEYWORDS})


def schema(**kwargs) -> io.Schema:
    """A node's schema in our category."""
    return newer(io.Schema, category="face2diffusion", **kwargs)


async def replace_node(old: str, node: type[io.ComfyNode]) -> None:
    """Have the host put `node` in the place of the node `old`, inputs and outputs as they are. Needs REPLACES_NODES.

    It takes every input out of the old node: one that is not there is a KeyError, so `node` may have no optional ones.
    """
    from comfy_api.latest import ComfyAPI

    schema = node.GET_SCHEMA()
    inputs = [{"new_id": item.id, "old_id": item.id} for item in schema.inputs]
    outputs = [{"new_idx": place, "old_idx": place} for place in range(len(schema.outputs))]
    widgets = [item.id for item in schema.inputs if isinstance(item, io.WidgetInput)]
    await ComfyAPI().node_replacement.register(io.NodeReplace(schema.node_id, old, widgets, inputs, outputs))


def progress(total: int) -> Callable[[int, int], None]:
    """A progress bar on the running node, as ports.Progress; raises when the user cancels."""
    bar = comfy.utils.ProgressBar(total)

    def report(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        devices.throw_exception_if_processing_interrupted()

    return report


# --- folders ---


def register_folders() -> None:
    """Make models/face2diffusion a model folder, beside those extra_model_paths.yaml has already added."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def model_folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]


def model_files(kind: str) -> list[str]:
    """Weight files to choose from; the published name where there is none, so that running says what is missing."""
    return _files(lambda name: not _is_identity(name)) or [PUBLISHED[kind].file]


def identity_files() -> list[str]:
    """Saved identities, without the folder in front."""
    return [Path(*Path(name).parts[1:]).as_posix() for name in _files(_is_identity)] or ["anna.safetensors"]


def _files(wanted: Callable[[str], bool]) -> list[str]:
    names = folder_paths.get_filename_list(FOLDER)
    return [name for name in names if name.lower().endswith(WEIGHT_ENDINGS) and wanted(name)]


def _is_identity(name: str) -> bool:
    return Path(name.replace("\\", "/")).parts[0] == IDENTITIES


def find_file(name: str | None) -> Path | None:
    """The file of that name in one of our model folders; None where it is not there (the host confines the name)."""
    found = None if name is None else folder_paths.get_full_path(FOLDER, name)
    return None if found is None else Path(found)


def file_message(name: str | None, kind: str) -> str | None:
    """What to tell a user who chose a weight file that is not there; None when it is, or not known yet."""
    if name is None or find_file(name) is not None:
        return None
    folder = model_folders()[0]
    return f'The file "{name}" is not in {folder}. {PUBLISHED[kind].how_to_get(str(folder))} Then press R to refresh.'


def identities_folder() -> Path:
    return model_folders()[0] / IDENTITIES


def identities_folders() -> list[Path]:
    """All places of identities; new ones go into the first."""
    return [folder / IDENTITIES for folder in model_folders()]


def find_identity(name: str | None) -> Path | None:
    """The identity of that name; None where it is not there, or leads to other files of the model folder."""
    leaves = name is None or ".." in name.replace("\\", "/").split("/")
    return None if leaves else find_file(f"{IDENTITIES}/{name}")


def identity_message(name: str | None) -> str | None:
    """What to tell a user who chose an identity that is not there; None when it is, or not known yet."""
    if name is None or find_identity(name) is not None:
        return None
    return (
        f'The identity "{name}" is not in {identities_folder()}. Make one with "Save S*", or copy the file there. '
        "Then press R to refresh."
    )


def temporary_folder() -> Path:
    """Emptied when the host starts; the page may read it."""
    return Path(folder_paths.get_temp_directory())


def embeddings_folder() -> Path:
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def text_encoder_files() -> list[str]:
    """Files that may hold a text encoder, with the kind of folder in front."""
    return [f"{kind}/{name}" for kind in _TEXT_ENCODERS for name in folder_paths.get_filename_list(kind)]


def find_text_encoder(name: str) -> Path | None:
    """One of text_encoder_files; None where it is not there (the host confines the name)."""
    kind, _, file = name.partition("/")
    found = folder_paths.get_full_path(kind, file) if kind in _TEXT_ENCODERS and file else None
    return None if found is None else Path(found)


def versions() -> list[str]:
    """Of the host, for reports."""
    from importlib.metadata import PackageNotFoundError, version

    from comfyui_version import __version__

    try:
        return [f"ComfyUI {__version__}, frontend {version('comfyui-frontend-package')}"]
    except PackageNotFoundError:
        return [f"ComfyUI {__version__}"]


# --- devices ---


def load(name: str, kind: str) -> Network:
    """Load "msid", "mapping" or "recon" from our model folder, to run where and when the host says."""
    from ..f2d_core.networks import load_network  # when one is loaded, not when ComfyUI starts

    path = find_file(name)
    if path is None:
        raise WeightsError(file_message(name, kind))
    return load_network(path, kind, comfy.ops.manual_cast, managed)


def managed(module: torch.nn.Module) -> Callable[..., torch.Tensor]:
    """The module behind a model patcher: moved to the GPU before use, offloaded when the host needs the memory."""
    from ..f2d_core.packed import pack_for_cpu

    # Looked up now and not at import: the host replaces it after its start-up checks (0.12 and later).
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    device = devices.text_encoder_device()
    patcher = patcher_class(module, load_device=device, offload_device=devices.text_encoder_offload_device())
    network = pack_for_cpu(module) if devices.is_device_cpu(device) else module

    def run(*inputs: torch.Tensor | str | None) -> torch.Tensor:
        devices.load_model_gpu(patcher)
        on_device = [value.to(patcher.load_device) if torch.is_tensor(value) else value for value in inputs]
        with torch.inference_mode(), _full_precision():
            return network(*on_device).to("cpu", torch.float32)

    return run


@contextmanager
def _full_precision():
    """cuDNN rounds the inputs of fp32 convolutions to 10 bits unless told not to; elsewhere this changes nothing."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def intermediate(tensor: torch.Tensor) -> torch.Tensor:
    """Where the host keeps what travels between nodes."""
    return tensor.to(devices.intermediate_device())


# --- text encoder ---


class ClipTextEncoder:
    """ports.TextEncoder over a ComfyUI CLIP with a single encoder."""

    def __init__(self, clip, key: str, width: int):
        self.key, self.width = key, width
        self._clip, self._attribute = clip, attribute_of(clip, key)

    @property
    def _transformer(self):
        return getattr(self._clip.cond_stage_model, self._attribute).transformer

    def position_embedding(self) -> torch.Tensor:
        table = self._transformer.text_model.embeddings.position_embedding
        return _rows(table, torch.arange(table.weight.shape[0]))

    def word_embeddings(self, text: str) -> torch.Tensor:
        tokenizer = getattr(self._clip.tokenizer, self._attribute)
        end = -1 if tokenizer.tokenizer_adds_end_token else None
        ids = tokenizer.tokenizer(text)["input_ids"][tokenizer.tokens_start : end]
        return _rows(self._transformer.get_input_embeddings(), torch.tensor(ids, dtype=torch.long))


def _rows(table: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return table(ids.to(table.weight.device), out_dtype=torch.float32).to("cpu", torch.float32)


def attribute_of(clip, key: str) -> str:
    """Under which name a CLIP keeps the encoder of a token key: `clip_l` for `l`, but `t5xxl` for `t5xxl`."""
    return f"clip_{key}" if hasattr(clip.tokenizer, f"clip_{key}") else key


def encoders_of(clip) -> dict[str, int]:
    """Token key -> word width of every text encoder in a CLIP."""
    if clip is None:
        raise MismatchError(
            "No CLIP is connected: the checkpoint holds no text encoder. Use a complete SD 1.x checkpoint, or load the "
            'text encoder with "Load CLIP".'
        )
    widths = {}
    for key in clip.tokenize(""):
        widths[key] = getattr(getattr(clip.tokenizer, attribute_of(clip, key), None), "embedding_size", 0)
    return widths


def text_encoder(clip) -> ClipTextEncoder:
    ((key, width),) = encoders_of(clip).items()
    return ClipTextEncoder(clip, key, width)


def position_embedding(clip, s_star) -> torch.Tensor:
    """(77, width) fp32, after checking that the S* was made for this CLIP."""
    check_encoder(s_star, encoders_of(clip))
    return text_encoder(clip).position_embedding()


class PeopleTokenizer:
    """A copy of one of the host's tokenizers that understands markers.

    A marker is handed to the host as a virtual embedding, so that weights, chunk borders and everything else stay
    the host's business; the vectors are put in afterwards, when the position of every word is known.
    """

    def __init__(self, base, people: Sequence[Person], encoder: ClipTextEncoder):
        self.base, self.people, self.encoder = base, people, encoder
        self.markers = [person.s_star.marker for person in people]
        self.names = [f"f2dperson{i}x" for i in range(len(people))]
        # Stand-ins that travel through the host's tokenizer; told apart by the memory they lie in.
        self.stand_ins = [person.s_star.vectors.clone() for person in people]
        self.tokenizer = copy.copy(base)
        self.tokenizer.f2d = self
        self.tokenizer.tokenize_with_weights = self._tokenize_for_host
        self.virtual = copy.copy(base)
        self.virtual._try_get_embedding = self._embedding
        if base.embedding_directory is None:  # the host looks embeddings up only when it has a folder for them
            self.virtual.embedding_directory = []
        self.fields = _embedding_fields(base)

    def _tokenize_for_host(self, text: str, *args, **kwargs):
        return self.tokenize(text, *args, **kwargs)[0]

    def tokenize(self, text: str, *args, **kwargs) -> tuple[list[list[tuple]], list[Slot]]:
        """The host's chunks of (token, weight, …) with the people's vectors in place, and where they are."""
        found = find_markers(text, self.markers)
        for miss in near_misses(text, self.markers):
            log.warning(
                '"%s" looks like a marker (%s) but is spelled differently, so it is read as plain text.',
                miss,
                ", ".join(self.markers),
            )
        if not found:
            return self.base.tokenize_with_weights(text, *args, **kwargs), []
        virtual = replace_markers(text, found, [f" embedding:{name} " for name in self.names])
        chunks = self.virtual.tokenize_with_weights(virtual, *args, **kwargs)
        slots = [
            Slot(word, i, j)
            for i, chunk in enumerate(chunks)
            for j, token in enumerate(chunk)
            if (word := self._word(token[0]))
        ]
        self._place(chunks, slots)
        return chunks, slots

    def _embedding(self, name_and_rest: str) -> tuple:
        """What the host asks for after "embedding:": (vectors, rest), in newer hosts (vectors, name, rest)."""
        name, *rest = name_and_rest.split(maxsplit=1)
        if name not in self.names:
            return self.base._try_get_embedding(name_and_rest)
        vectors, rest = self.stand_ins[self.names.index(name)], rest[0] if rest else ""
        return (vectors, rest) if self.fields == 2 else (vectors, name, rest)

    def _word(self, token) -> Word | None:
        if not torch.is_tensor(token):
            return None
        for i, stand_in in enumerate(self.stand_ins):
            if token.untyped_storage().data_ptr() == stand_in.untyped_storage().data_ptr():
                return Word(i, token.storage_offset() // stand_in.shape[1])
        return None

    def _place(self, chunks: list[list[tuple]], slots: list[Slot]) -> None:
        """Put every S* into its slots. Words of one S* follow each other in `slots`."""
        at = 0
        while at < len(slots):
            person = self.people[slots[at].word.person]
            own = slots[at : at + person.s_star.words]
            vectors = slot_vectors(person, [slot.position for slot in own], self.encoder)
            for slot, vector in zip(own, vectors, strict=True):
                chunk = chunks[slot.chunk]
                chunk[slot.position] = (vector, *chunk[slot.position][1:])
            at += len(own)


def _embedding_fields(base) -> int:
    probe = copy.copy(base)
    probe.embedding_directory = []  # nothing to search
    return len(probe._try_get_embedding("none"))


def with_people(clip, people: Sequence[Person]):
    """A clone of `clip` whose tokenizer understands the people's markers; `clip` itself is not touched.

    People applied before stay. Raises MismatchError for another text encoder, PromptError for a marker used twice.
    """
    for person in people:
        check_encoder(person.s_star, encoders_of(clip))
    encoder = text_encoder(clip)
    attribute = attribute_of(clip, encoder.key)
    base = getattr(clip.tokenizer, attribute)
    earlier = getattr(base, "f2d", None)
    if earlier is not None:
        base, people = earlier.base, [*earlier.people, *people]
    require_people(people)
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    setattr(clone.tokenizer, attribute, PeopleTokenizer(base, people, encoder).tokenizer)
    return clone


def encode_prompt(clip, text: str, people: Sequence[Person]) -> tuple[list, list[Slot], Sequence[Person]]:
    """(CONDITIONING, where every word vector stands, all people of the clip). PromptError when a marker is missing."""
    require_markers(text, people)
    clip = with_people(clip, people)
    tokenizer = getattr(clip.tokenizer, attribute_of(clip, people[0].s_star.encoder_key)).f2d
    _, slots = tokenizer.tokenize(text)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text)), slots, tokenizer.people


def batch_conditioning(conditionings: Sequence[list]) -> list:
    """Several CONDITIONINGs as one whose batch has an entry for each; a single one is handed on as it is.

    The host gives entry i to picture i of the latent batch. Prompts of unequal length are repeated to their least
    common multiple, as the host does for positive and negative prompts: attention over repeats is the same.
    """
    if len(conditionings) == 1:
        return conditionings[0]
    batch = []
    for entries in zip(*conditionings, strict=True):  # one entry per scheduled hook keyframe
        length = math.lcm(*(cond.shape[1] for cond, _ in entries))
        cond = torch.cat([cond.repeat(1, length // cond.shape[1], 1) for cond, _ in entries])
        extra = dict(entries[0][1])
        if extra.get("pooled_output") is not None:
            extra["pooled_output"] = torch.cat([other["pooled_output"] for _, other in entries])
        batch.append([cond, extra])
    return batch


def encode_text(clip, text: str) -> list:
    """CONDITIONING of a plain prompt, or one with people whom the CLIP already knows."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def during(conditioning: list, start: float, end: float) -> list:
    """The same CONDITIONING for a part of model time, from 0 (noise) to 1; the one given is not changed."""
    return [[cond, {**extra, "start_percent": start, "end_percent": end}] for cond, extra in conditioning]


def masked(conditioning: list, mask: torch.Tensor) -> list:
    """The same CONDITIONING for a part of the picture; mask: (h, w), 0..1. The one given is not changed."""
    values = {"mask": mask[None], "mask_strength": 1.0, "set_area_to_bounds": False}
    return [[cond, {**extra, **values}] for cond, extra in conditioning]


# --- steps of the sampler ---


def schedulers() -> list[str]:
    """The schedulers that KSampler offers, those of other packs included."""
    return list(comfy.samplers.KSampler.SCHEDULERS)


class Steps:
    """The steps of a sampler, and where in the model's time each of them is.

    sigmas: what the sampler gets, the last one being where it ends; without it those of KSampler for this scheduler,
    count and denoise. model: whose noise schedule it is; without it SD 1.x's own. A sampler's look-ahead inside a step
    (heun, dpm_2 and others) belongs to the step, except where it looks at the very beginning of the next.
    """

    def __init__(self, model, sigmas: torch.Tensor | None, scheduler: str, count: int, denoise: float = 1.0):
        default = comfy.model_sampling.ModelSamplingDiscrete
        self._schedule = default() if model is None else model.get_model_object("model_sampling")
        if sigmas is None:
            whole = count if denoise > 0.9999 else int(count / denoise)  # as KSampler
            sigmas = comfy.samplers.calculate_sigmas(self._schedule, scheduler, whole)
            sigmas = sigmas if whole == count else sigmas[-(count + 1) :]
        self.sigmas = [float(sigma) for sigma in sigmas][:-1]
        if not self.sigmas:
            raise SettingsError("The sigmas hold no step: expected at least two, where the first step begins and ends.")

    def __len__(self) -> int:
        return len(self.sigmas)

    def percent(self, count: int) -> float:
        """Where in model time the first `count` steps end, 0 to 1, for `during`. Raises SettingsError.

        Just before the next step: nearer to it than any look-ahead of the step before.
        """
        if count <= 0:
            return 0.0
        if count >= len(self):
            return 1.0
        before, after = self.sigmas[count - 1], self.sigmas[count]
        wanted = before**_BEFORE_NEXT * after ** (1 - _BEFORE_NEXT)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._schedule.percent_to_sigma(middle) > wanted:
                low = middle
            else:
                high = middle
        if not after < self._schedule.percent_to_sigma(high) < before:
            raise SettingsError(
                f"Steps {count} and {count + 1} of the sampler have the noise levels {before:.4g} and {after:.4g}, "
                "between which this model's time has no place. Connect the model that is sampled to model, or use "
                "another scheduler."
            )
        return high
