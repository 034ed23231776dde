"""Pictures by a running ComfyUI, over its HTTP API: `evaluate.servers.Server` with graphs of this pack's nodes.

The one file of the core that opens connections, and only to addresses that the user names.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..constants import DDIM, DEFAULT_CLASS_WORD, DEFAULT_MARKER, EULER_ANCESTRAL, NOISE_TIMESTEPS
from ..delayed import class_steps, even_timesteps, switch_percent
from ..errors import NoFaceError, SettingsError
from ..evaluate.servers import Interrupted, MemoryFull, Unreachable
from ..image import image_from_bytes, read_image
from ..ports import PictureRequest, Sampling
from ..prompt import find_markers, replace_markers

TIMEOUT_S = 30.0
UPLOADS = "f2d_evaluate"  # folder of reference photos in the server's input folder
MAX_ANSWER_BYTES = 1 << 28
LOOK_EVERY_S = 2.0  # whether the server still knows its work
# ComfyUI's names: sampler, scheduler. `ddim_uniform` begins one step earlier than diffusers' DDIM.
_SAMPLERS = {EULER_ANCESTRAL: ("euler_ancestral", "normal"), DDIM: ("ddim", "ddim_uniform")}
_STOCK = (
    *("LoadImage", "CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode"),
    *("PreviewImage", "ConditioningSetTimestepRange", "ConditioningCombine"),
)
_OURS = ("F2DLoadMSIDEncoder", "F2DLoadMapping", "F2DEncodeFace", "F2DInject")
_RESULT = "shown"  # the node that shows the picture

Graph = dict[str, dict[str, Any]]  # ComfyUI's API form: node id -> {class_type, inputs}


@dataclass(frozen=True)
class Files:
    """File names as the server's loaders list them; empty: the only one there is."""

    checkpoint: str = ""
    msid: str = ""
    mapping: str = ""


@dataclass(frozen=True)
class Job:
    """One picture: whose photo (a local file), what is asked for, and the files to use."""

    photo: Path
    request: PictureRequest  # without people: the photo's person stands at S*
    sampling: Sampling
    files: Files
    strength: float = 1.0


class ComfyUIServer:
    """One ComfyUI. job_of(work): what an item of work means. client: tells our prompts from those of other people."""

    def __init__(self, address: str, job_of: Callable[[Any], Job], client: str = "f2d"):
        self.address = require_address(address)
        self._job_of = job_of
        self._client = client
        self._uploaded: dict[Path, str] = {}
        self._choices: dict[str, list[str]] = {}
        self._photos: dict[str, Path] = {}  # of each ticket
        self._looked_at = 0.0

    # --- evaluate.servers.Server ---

    def connect(self) -> None:
        """Raises Unreachable; SettingsError for an address that is no ComfyUI, or one without our nodes."""
        self._uploaded.clear()
        if "system" not in self._json("/system_stats"):
            raise SettingsError(f"{self.address} is not a ComfyUI server. Check the address.")
        self._require_nodes()
        self._drop_own()

    def submit(self, work: Any) -> str:
        job = self._job_of(work)
        graph = graph_of(self._upload(job.photo), job, self.files(job.files))
        body = {"prompt": graph, "client_id": self._client, "prompt_id": str(uuid.uuid4())}
        try:
            ticket = self._json("/prompt", body)["prompt_id"]
        except _Refused as error:
            raise SettingsError(f"{self.address} refused the work: {_refusal(error.answer)}.") from error
        self._photos[ticket] = job.photo
        return ticket

    def result(self, ticket: str) -> np.ndarray | None:
        entry = self._json(f"/history/{ticket}").get(ticket)
        if entry is None:
            self._require_known(ticket)
            return None
        for kind, event in entry.get("status", {}).get("messages", []):
            if kind == "execution_error":
                raise self._failure(event, self._photos[ticket])
            if kind == "execution_interrupted":
                raise Interrupted(f"stopped on {self.address}")
        shown = entry.get("outputs", {}).get(_RESULT, {}).get("images", [])
        if not shown:
            raise Interrupted(f"{self.address} gave no picture")
        name = {key: shown[0][key] for key in ("filename", "subfolder", "type")}
        return image_from_bytes(self._bytes(f"/view?{urllib.parse.urlencode(name)}"), shown[0]["filename"])

    def free_memory(self) -> None:
        self._bytes("/free", {"unload_models": True, "free_memory": True})

    def cancel(self, tickets: Sequence[str]) -> None:
        self._bytes("/queue", {"delete": list(tickets)})
        for ticket in tickets:
            self._bytes("/interrupt", {"prompt_id": ticket})

    # --- what the server has ---

    def files(self, wanted: Files) -> Files:
        """The names that are meant, as the server lists them; only when connected. Raises SettingsError."""
        return Files(*(self._choice(kind, getattr(wanted, kind)) for kind in ("checkpoint", "msid", "mapping")))

    def _require_nodes(self) -> None:
        known = self._json("/object_info")
        missing = [name for name in (*_STOCK, *_OURS) if name not in known]
        if missing:
            advice = "Install this pack there" if any(name in _OURS for name in missing) else "Update ComfyUI"
            raise SettingsError(f"{self.address} has no node {', '.join(missing)}. {advice}, and restart it.")
        loaders = {
            "checkpoint": ("CheckpointLoaderSimple", "ckpt_name"),
            "msid": ("F2DLoadMSIDEncoder", "file"),
            "mapping": ("F2DLoadMapping", "file"),
        }
        self._choices = {kind: _options(known[node], name) for kind, (node, name) in loaders.items()}

    def _choice(self, kind: str, wanted: str) -> str:
        """The wanted file, or the only one there is. Raises SettingsError that lists those that are there."""
        there = self._choices[kind]
        found = [name for name in there if name == wanted or Path(name.replace("\\", "/")).name == wanted]
        if wanted and found:
            return found[0]
        if not wanted and len(there) == 1:
            return there[0]
        listed = f"it has {', '.join(there[:10])}" if there else "it has none"
        problem = (
            f'has no {kind} "{wanted}"' if wanted else f"has several files for {kind}" if there else f"has no {kind}"
        )
        raise SettingsError(
            f"{self.address} {problem}; {listed}. Name one of them with --{kind}, or add the file there."
        )

    def _drop_own(self) -> None:
        """Take back what an earlier run of ours, killed perhaps, has left in the queue."""
        own = [entry[1] for entry in self._queue() if entry[3].get("client_id") == self._client]
        if own:
            self.cancel(own)

    def _require_known(self, ticket: str) -> None:
        """Now and then, raise Unreachable when the server knows nothing of the ticket: it was started anew."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        known = [entry[1] for entry in self._queue()]
        if ticket not in known and ticket not in self._json(f"/history/{ticket}"):  # done in between, or lost
            raise Unreachable(f"{self.address} was restarted")

    def _queue(self) -> list[list]:
        """What the server works on and what waits: [number, ticket, graph, further facts, …] each."""
        queue = self._json("/queue")
        return [entry for part in ("queue_running", "queue_pending") for entry in queue.get(part, [])]

    def _upload(self, photo: Path) -> str:
        """The photo in the server's input folder, upright and as RGB -> its name there."""
        if photo not in self._uploaded:
            from PIL import Image

            file = io.BytesIO()
            Image.fromarray(read_image(photo)).save(file, format="PNG")
            name = f"{hashlib.sha256(file.getvalue()).hexdigest()[:32]}.png"
            body, kind = _form({"subfolder": UPLOADS, "type": "input", "overwrite": "true"}, name, file.getvalue())
            answer = self._parsed(self._bytes("/upload/image", body, kind))
            self._uploaded[photo] = f"{answer['subfolder']}/{answer['name']}"
        return self._uploaded[photo]

    def _failure(self, event: Mapping[str, Any], photo: Path) -> Exception:
        message = " ".join(str(event.get("exception_message", "")).split())
        kind = str(event.get("exception_type", ""))
        if "OutOfMemory" in kind or re.search(r"out of memory|Allocation on device", message, re.IGNORECASE):
            return MemoryFull(message[:200])
        where = f"{photo.name}, on {self.address}, node {event.get('node_type')}"
        return (NoFaceError if kind.endswith("NoFaceError") else SettingsError)(f"{where}: {message[:500]}")

    # --- HTTP ---

    def _json(self, path: str, body: Any = None) -> Any:
        return self._parsed(self._bytes(path, body))

    def _parsed(self, data: bytes) -> Any:
        try:
            found = json.loads(data)
        except ValueError as error:
            raise SettingsError(
                f"{self.address} answers, but not as ComfyUI does. Check the address and the port."
            ) from error
        if not isinstance(found, dict):
            raise SettingsError(f"{self.address} answers, but not as ComfyUI does. Check the address and the port.")
        return found

    def _bytes(self, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        """GET, or POST with a body (JSON, or bytes of the given kind). Raises Unreachable, _Refused, SettingsError."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, {"Content-Type": kind} if data else {})
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                found = answer.read(MAX_ANSWER_BYTES)
                if answer.length:  # reading a bounded part does not tell when the server goes away in the middle
                    raise Unreachable(f"{self.address} broke off its answer")
                return found
        except urllib.error.HTTPError as error:
            raise self._told(error, path) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Unreachable(f"{self.address} does not answer ({' '.join(str(reason).split())[:120]})") from error

    def _told(self, error: urllib.error.HTTPError, path: str) -> Exception:
        if error.code == 400 and path == "/prompt":
            return _Refused(error.read(MAX_ANSWER_BYTES))
        if error.code >= 500:
            return Unreachable(f"{self.address} has trouble (HTTP {error.code})")
        page = path.partition("?")[0]
        return SettingsError(
            f"{self.address}{page} answers HTTP {error.code}; expected ComfyUI's API. Check the address."
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another address than the user's is not asked."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


class _Refused(Exception):
    """The server did not accept a graph; `answer` says why."""

    def __init__(self, answer: bytes):
        super().__init__("refused")
        self.answer = answer


def files_there(servers: Sequence[ComfyUIServer], wanted: Mapping[str, Files]) -> dict[str, Files]:
    """The files that are meant, by the first server that answers; as they are wanted where none does.

    Raises SettingsError.
    """
    for one in servers:
        try:
            one.connect()
        except Unreachable:
            continue
        return {name: one.files(files) for name, files in wanted.items()}
    return dict(wanted)


def require_address(text: str) -> str:
    """ "host:8188" or a URL -> a URL without a slash at the end. Raises SettingsError."""
    address = text.strip()
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    try:
        parts = urllib.parse.urlsplit(address)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # a port that is no number
        fits = False
    if not fits or re.search(r"[\s\x00-\x1f]", address) or parts.query or parts.fragment:
        raise SettingsError(f"--server {text} is no address; expected for example 127.0.0.1:8188.")
    return address


def graph_of(image: str, job: Job, files: Files) -> Graph:
    """The graph of one picture. image: the photo's name on the server."""
    request, sampling = job.request, job.sampling
    sampler, scheduler = _SAMPLERS[sampling.sampler]
    face = {"detector": "auto", "order": "largest", "index": 0, "on_missing": "error", "combine": "each"}
    face |= {"marker": DEFAULT_MARKER, "name": "", "thumbnail": False}
    graph = {
        "photo": _node("LoadImage", image=image),
        "msid": _node("F2DLoadMSIDEncoder", file=files.msid),
        "mapping": _node("F2DLoadMapping", file=files.mapping),
        "face": _node("F2DEncodeFace", msid=["msid", 0], mapping=["mapping", 0], image=["photo", 0], **face),
        "model": _node("CheckpointLoaderSimple", ckpt_name=files.checkpoint),
        "person": _node("F2DInject", clip=["model", 1], text=request.prompt, s_star=["face", 0], strength=job.strength),
        "away": _node("CLIPTextEncode", clip=["model", 1], text=request.negative),
        "noise": _node("EmptyLatentImage", width=sampling.width, height=sampling.height, batch_size=1),
        "sampled": _node(
            "KSampler",
            **{"model": ["model", 0], "positive": ["person", 0], "negative": ["away", 0], "latent_image": ["noise", 0]},
            **{"seed": request.seed, "steps": sampling.steps, "cfg": sampling.cfg, "denoise": 1.0},
            **{"sampler_name": sampler, "scheduler": scheduler},
        ),
        "picture": _node("VAEDecode", samples=["sampled", 0], vae=["model", 2]),
        _RESULT: _node("PreviewImage", images=["picture", 0]),
    }
    timesteps = _timesteps(sampling)
    switch = switch_percent(timesteps, class_steps(request.subject_steps, len(timesteps)))
    if switch > 0:
        graph |= _delayed(request.prompt, switch)
        graph["sampled"]["inputs"]["positive"] = ["both", 0]
    return graph


def _delayed(prompt: str, switch: float) -> Graph:
    """The class prompt up to `switch`, the person from there on."""
    text = replace_markers(prompt, find_markers(prompt, [DEFAULT_MARKER]), [DEFAULT_CLASS_WORD])
    return {
        "class": _node("CLIPTextEncode", clip=["model", 1], text=text),
        "early": _node("ConditioningSetTimestepRange", conditioning=["class", 0], start=0.0, end=switch),
        "late": _node("ConditioningSetTimestepRange", conditioning=["person", 0], start=switch, end=1.0),
        "both": _node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["late", 0]),
    }


def _timesteps(sampling: Sampling) -> list[float]:
    """Of every step that ComfyUI's scheduler makes, from the noise to the picture."""
    if sampling.sampler == DDIM:
        return [float(t) for t in range(1, NOISE_TIMESTEPS, max(NOISE_TIMESTEPS // sampling.steps, 1))][::-1]
    return even_timesteps(sampling.steps)


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _options(node: Mapping[str, Any], name: str) -> list[str]:
    """The choices of a combo input, in the old and in the new form of /object_info."""
    found = node["input"]["required"][name]
    if isinstance(found[0], list):
        return found[0]
    return list(found[1].get("options", [])) if len(found) > 1 else []


def _form(fields: Mapping[str, str], name: str, data: bytes) -> tuple[bytes, str]:
    """(body, content type) of an upload (RFC 7578)."""
    border = uuid.uuid4().hex
    parts = [f'--{border}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'
    body = "".join(parts) + f"--{border}\r\n{head}"
    return body.encode() + data + f"\r\n--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"


def _refusal(answer: bytes) -> str:
    """What /prompt said against the graph, in one line."""
    try:
        found = json.loads(answer)
        errors = [
            f"{node['class_type']}: {error['details'] or error['message']}"
            for node in found.get("node_errors", {}).values()
            for error in node["errors"]
        ]
        return "; ".join(errors) or str(found["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(answer.decode("utf-8", "replace").split())[:300]
