"""A real ComfyUI server as a process of its own, and the few HTTP calls the tests make to it."""

from __future__ import annotations

import functools
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 120
PROMPT_SECONDS = 180
LOG_TAIL_LINES = 40

Graph = dict[str, dict[str, Any]]  # a workflow in ComfyUI's API form: node id -> {class_type, inputs}


class RefusedError(Exception):
    """The server did not accept a workflow; `node_errors` says why, per node."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.node_errors: dict[str, Any] = answer["node_errors"]
        super().__init__(json.dumps(answer))

    def details(self, node_id: str) -> list[str]:
        """The messages for one node."""
        return [error["details"] for error in self.node_errors[node_id]["errors"]]


class FailedError(Exception):
    """A node raised while the workflow ran; the text is the message the user sees."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.node_type: str = event["node_type"]
        super().__init__(event["exception_message"])


class Server:
    """ComfyUI at `root`, on the CPU, with a private `base` directory. Use as a context manager."""

    running: ClassVar[list[Server]] = []

    def __init__(self, root: Path, base: Path, *arguments: str) -> None:
        self.base = base
        self.log = base / "server.log"
        self._port = _free_port()
        database = f"sqlite:///{base / 'user' / 'comfyui.db'}"
        self._command = [
            *(sys.executable, "-s", "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self._port)),
            *("--base-directory", str(base), "--database-url", database),
            *("--disable-api-nodes", "--disable-auto-launch", *arguments),
        ]
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        # Some packs load nothing when they see pytest's variables.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._root, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.running.append(self)
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.running.remove(self)
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"ComfyUI ended while starting (exit code {self._process.returncode}):\n{self.tail()}"
                )
            try:
                self.json("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.tail()}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def tail(self) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    # --- HTTP ---

    def bytes(self, path: str, body: Any = None) -> bytes:
        """GET, or POST with a JSON body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def json(self, path: str, body: Any = None) -> Any:
        return json.loads(self.bytes(path, body))

    @functools.cached_property
    def object_info(self) -> dict[str, Any]:
        """What the frontend knows of every node, asked once as it does: inputs, their order, outputs."""
        return self.json("/object_info")

    # --- workflows ---

    def run(self, graph: Graph) -> dict[str, Any]:
        """Run a workflow to its end -> what its nodes show, by node id. Raises RefusedError or FailedError."""
        try:
            prompt_id = self.json("/prompt", {"prompt": graph})["prompt_id"]
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise RefusedError(json.loads(error.read())) from None
        return self._finished(prompt_id)

    def _finished(self, prompt_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + PROMPT_SECONDS
        while time.monotonic() < deadline:
            entry = self.json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                for kind, event in entry["status"]["messages"]:
                    if kind == "execution_error":
                        raise FailedError(event)
                return entry["outputs"]
            time.sleep(0.1)
        raise RuntimeError(f"workflow not finished within {PROMPT_SECONDS} s:\n{self.tail()}")

    def picture(self, shown: dict[str, str]) -> np.ndarray:
        """One entry of an output's `images` -> its pixels (H, W, 3) uint8."""
        data = self.bytes("/view?" + urllib.parse.urlencode(shown))
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
