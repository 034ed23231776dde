"""What the identity library in the page asks for (web/js/library.mjs); the work is in f2d_core/library.py."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..f2d_core.constants import INJECTION_SUM
from ..f2d_core.errors import SettingsError, WeightsError
from ..f2d_core.files import fresh_path, require_plain_name
from ..f2d_core.library import ENDING, Entry, Library
from ..f2d_core.position_table import read_position_table
from ..f2d_core.s_star import SStar, embedding_file_name, export_embedding
from . import host


def listed(_query: Mapping[str, str]) -> dict[str, Any]:
    """{entries, left_off, text_encoders}; a thumbnail is a data URL, or empty."""
    entries, left_off = _library().entries()
    return {
        "entries": [_entry(entry) for entry in entries],
        "left_off": left_off,
        "text_encoders": host.text_encoder_files(),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    picture = base64.b64encode(entry.thumbnail).decode()
    needs_position = entry.injection == INJECTION_SUM
    return {
        **entry.as_dict(),
        "thumbnail": picture and f"data:image/jpeg;base64,{picture}",
        "needs_position": needs_position,
    }


def renamed(body: Mapping[str, Any]) -> dict[str, str]:
    """{file, name} -> {file}: what it is called now."""
    return {"file": _library().rename(_text(body, "file"), _text(body, "name"))}


def deleted(body: Mapping[str, Any]) -> dict[str, str]:
    """{file} -> {file}: what is gone."""
    file = _text(body, "file")
    _library().delete(file)
    return {"file": file}


def added(body: Mapping[str, Any]) -> dict[str, str]:
    """{name, data: base64} -> {file}: what it is called here."""
    try:
        data = base64.b64decode(_text(body, "data"), validate=True)
    except binascii.Error:
        raise SettingsError("data is not base64. Send the bytes of the file in base64.") from None
    return {"file": _library().add(_text(body, "name"), data)}


def data(query: Mapping[str, str]) -> dict[str, str]:
    """{file} -> {name, data: base64}: the file as it is, for keeping elsewhere."""
    file = _text(query, "file")
    return {"name": file.rpartition("/")[2], "data": base64.b64encode(_library().data(file)).decode()}


def exported(body: Mapping[str, Any]) -> dict[str, Any]:
    """{file, name, position, text_encoder} -> {embedding, exact_at}: written as a plain embedding, under a new name.

    position and text_encoder (one of those listed) count for the convention "sum" only; exact_at is null elsewhere.
    """
    person = _library().load(_text(body, "file"))
    stem = embedding_file_name(require_plain_name(_text(body, "name"), "The embedding name"))
    table, position = _place(person, body) if person.injection == INJECTION_SUM else (None, None)
    path = export_embedding(person, fresh_path(host.embeddings_folder(), stem, ENDING), table, position)
    return {"embedding": path.stem, "exact_at": position}


def _place(person: SStar, body: Mapping[str, Any]) -> tuple[Any, int]:
    position = body.get("position")
    if type(position) is not int:
        raise SettingsError(
            f"position is {position!r}, expected which token of the prompt the word will be, such as 4."
        )
    return read_position_table(_text_encoder(body), person), position


def _text_encoder(body: Mapping[str, Any]) -> Path:
    name = _text(body, "text_encoder")
    path = None if "\0" in name else host.find_text_encoder(name)
    if path is None:
        raise WeightsError(
            f'The text encoder "{name[:60]}" is not there. Choose a checkpoint that the embedding will be used with.'
        )
    return path


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise SettingsError(f"{key} is {type(value).__name__}, expected a text.")
    return value


def _library() -> Library:
    return Library(host.identities_folders())
