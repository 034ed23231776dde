"""What the page asks about weights: which are there, fetching one on a click, and the doctor's report
(web/js/fetch.mjs, web/js/doctor.mjs)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..f2d_core import __version__
from ..f2d_core.catalogue import PUBLISHED, Published
from ..f2d_core.doctor import Report, examine, find_weights
from ..f2d_core.errors import SettingsError
from ..f2d_core.fetches import Fetches
from ..f2d_core.ports import Progress
from ..f2d_core.published import how_checked, judge_kinds
from . import host


@cache
def fetches() -> Fetches:
    return Fetches()


def listed(_query: Mapping[str, str]) -> dict[str, Any]:
    """{folder, files: of every published file what it is and whether one is there, under any name}."""
    found = {kind for kind, _ in find_weights(host.model_folders()).values()}
    rows = [_row(entry, entry.kind in found or _has_its_name(entry)) for entry in PUBLISHED.values()]
    return {"folder": str(host.model_folders()[0]), "files": rows}


def _has_its_name(entry: Published) -> bool:
    """Is there a file that a node takes by this name, though damaged? Judges count by what is in them alone: their
    names, such as model.safetensors, are those of many files."""
    return entry.kind not in judge_kinds() and host.find_file(entry.file) is not None


def _row(entry: Published, here: bool) -> dict[str, Any]:
    return {
        **{name: getattr(entry, name) for name in ("kind", "title", "file", "megabytes", "licence", "commercial")},
        "where": entry.where,
        "sha256": entry.sha256,
        "checked": how_checked(entry),
        "fetchable": bool(entry.download),
        "mirrored": entry.mirrored,
        "here": here,
    }


def fetch_states(_query: Mapping[str, str]) -> dict[str, Any]:
    return {"fetches": [state.as_dict() for state in fetches().states()]}


def fetch_start(body: Mapping[str, Any]) -> dict[str, Any]:
    """{kind, mirror} -> the state of the fetch that this begins."""
    return fetches().start(_text(body, "kind"), host.model_folders()[0], _text(body, "mirror").strip()).as_dict()


def fetch_stop(body: Mapping[str, Any]) -> dict[str, Any]:
    state = fetches().stop(_text(body, "kind"))
    return {} if state is None else state.as_dict()


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise SettingsError(f"{key} is {type(value).__name__}, expected a text.")
    return value


def report(progress: Progress | None = None) -> Report:
    """Reads every weight file, which can take a while the first time."""
    return examine(host.model_folders(), [f"Face2Diffusion {__version__}", *host.versions()], progress)


def examined(query: Mapping[str, str]) -> dict[str, Any]:
    """{text, passed, picture, found: [{kind, file, megabytes, sha256, as_published, licence}], files: as `listed`}."""
    found = report()
    return {
        "text": found.text,
        "passed": found.test.problem is None,
        "picture": _data_url(found.test.picture),
        "found": [
            {
                "kind": item.kind,
                "file": item.path.name,
                "megabytes": round(item.megabytes, 1),
                "sha256": item.sha256,
                "as_published": item.sha256 == PUBLISHED[item.kind].sha256,
                "licence": item.licence,
            }
            for item in found.found
        ],
        **listed(query),
    }


def _data_url(rgb: np.ndarray) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgb).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
