"""What the pack asks of ComfyUI's web server: routes of our own, and the tokenizer that SD 1.x models use."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import server

from ..f2d_core.errors import F2DError

log = logging.getLogger("face2diffusion")

MOST_BYTES = 1024 * 1024  # of a request's body


class Route(NamedTuple):
    """answer: the query of a GET or the JSON object of a POST -> what is sent back as JSON. It runs in a thread of its
    own; what it raises of F2DError is the client's mistake and becomes {"error": …} with status 400."""

    method: str
    path: str
    answer: Callable[[Mapping[str, Any]], Any]


class _RefusedError(Exception):
    def __init__(self, status: int, message: str):
        self.status = status
        super().__init__(message)


def serve(routes: Iterable[Route]) -> None:
    """Add the routes to the server that is starting; nothing without one."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    for route in routes:
        running.routes.route(route.method, route.path)(handler(route))


def handler(route: Route) -> Callable:
    """The route as aiohttp wants it."""

    async def handle(request):
        try:
            values = dict(request.query) if route.method == "GET" else await _body(request)
            return server.web.json_response(await asyncio.to_thread(route.answer, values))
        except _RefusedError as error:
            return _error(error.status, error)
        except F2DError as error:
            return _error(400, error)
        except Exception as error:
            log.exception("%s could not be answered", route.path)
            return _error(500, f"{type(error).__name__}. The log of ComfyUI says more.")

    return handle


def _error(status: int, message: object):
    return server.web.json_response({"error": str(message)}, status=status)


async def _body(request) -> dict[str, Any]:
    """The JSON object that was posted. Other sites cannot send one: a browser asks us first, and we do not answer."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise _RefusedError(403, "This address answers pages of this ComfyUI only.")
    if request.content_type != "application/json":
        raise _RefusedError(415, f"The body is {request.content_type}, expected application/json.")
    data = bytearray()
    async for part in request.content.iter_chunked(65536):
        data += part
        if len(data) > MOST_BYTES:
            raise _RefusedError(413, f"The body has more than {MOST_BYTES} bytes; send less.")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise _RefusedError(400, "The body is not JSON, expected an object.") from None
    if not isinstance(values, dict):
        raise _RefusedError(400, f"The body is a JSON {type(values).__name__}, expected an object.")
    return values


class Tokenizer:
    """The host's own tokenizer of SD 1.x, without start and end."""

    def __init__(self):
        from comfy.sd1_clip import SDTokenizer

        self._tokenizer = SDTokenizer()

    def encode(self, text: str) -> list[int]:
        end = -1 if self._tokenizer.tokenizer_adds_end_token else None
        return self._tokenizer.tokenizer(text)["input_ids"][self._tokenizer.tokens_start : end]

    def decode(self, token: int) -> str:
        """The text of one token, without the blank that may follow it."""
        return self._tokenizer.tokenizer.decode([token]).strip()


@cache
def tokenizer() -> Tokenizer:
    """Read once, when it is first asked for."""
    return Tokenizer()
