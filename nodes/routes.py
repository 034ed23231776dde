"""What the page may ask of the server, under /f2d/. The work is done elsewhere, and imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .host_routes import Route, serve

# How, where, and which function of which file beside this one answers.
_ANSWERS = (
    ("POST", "/f2d/tokens", "page", "tokens"),
    ("GET", "/f2d/training", "page", "training"),
    ("GET", "/f2d/identities", "identities", "listed"),
    ("GET", "/f2d/identities/data", "identities", "data"),
    ("POST", "/f2d/identities/rename", "identities", "renamed"),
    ("POST", "/f2d/identities/delete", "identities", "deleted"),
    ("POST", "/f2d/identities/import", "identities", "added"),
    ("POST", "/f2d/identities/export", "identities", "exported"),
    ("GET", "/f2d/weights", "upkeep", "listed"),
    ("GET", "/f2d/doctor", "upkeep", "examined"),
    ("GET", "/f2d/fetch", "upkeep", "fetch_states"),
    ("POST", "/f2d/fetch", "upkeep", "fetch_start"),
    ("POST", "/f2d/fetch/stop", "upkeep", "fetch_stop"),
)


def _route(method: str, path: str, module: str, function: str) -> Route:
    def answer(values: Mapping[str, Any]) -> Any:
        return getattr(import_module(f".{module}", __package__), function)(values)

    return Route(method, path, answer)


ROUTES = tuple(_route(*row) for row in _ANSWERS)


def register() -> None:
    """At import: what is added after ComfyUI's start is not served."""
    serve(ROUTES)
