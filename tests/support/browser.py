"""A headless Chromium that opens ComfyUI's real frontend; tests speak to it through `Page`.

Needs Chromium (CHROMIUM, or `chromium` on the path), node, and the npm package playwright-core in the folder
F2D_BROWSER_PACKAGES (default ~/.cache/f2d/browser: `npm install playwright-core` there).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("browser_driver.mjs")
WAIT_MS = 30_000
# What the host itself writes to the console, whatever packs there are.
HOST_NOISE = (
    *("/api/userdata", "/api/settings", "favicon", "net::ERR_", "[Vue warn]", "Failed to load resource"),
    "PromptExecutionError",  # a run that the server refused
    *("ComfyApp graph accessed before initialization", "https://huggingface.co/"),  # a default workflow
)


class BrowserError(Exception):
    """A command that the page could not carry out."""


def missing() -> str | None:
    """Why no browser can be started here, or None."""
    if _chromium() is None:
        return "no Chromium (install it, or set CHROMIUM)"
    if shutil.which("node") is None:
        return "no node"
    if not (_packages() / "node_modules" / "playwright-core").is_dir():
        return f"no playwright-core (npm install --prefix {_packages()} playwright-core)"
    return None


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def _packages() -> Path:
    return Path(os.environ.get("F2D_BROWSER_PACKAGES", "~/.cache/f2d/browser")).expanduser()


class Browser:
    """One browser process. Use as a context manager."""

    def __enter__(self) -> Browser:
        command = ["node", str(DRIVER), str(_packages()), str(_chromium())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def send(self, command: str, **values: Any) -> Any:
        """Carry out one command of the driver. Raises BrowserError."""
        self._process.stdin.write(json.dumps({"command": command, **values}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise BrowserError(f"{command} {values}: {answer['error']}")
        return answer["value"]


class Page:
    """ComfyUI's frontend in a browser, ready to be used.

    vue: Nodes 2.0 instead of the canvas. blocked: addresses (globs) of scripts that are empty for this page.
    size: of the window, px.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        vue: bool = False,
        settings: dict[str, Any] | None = None,
        blocked: Sequence[str] = (),
        size: tuple[int, int] = (1400, 900),
    ):
        self._browser, self.vue, self._blocked, self._size = browser, vue, list(blocked), size
        self._open(url, {"Comfy.VueNodes.Enabled": vue, "Comfy.TutorialCompleted": True, **(settings or {})})

    def _open(self, url: str, settings: dict[str, Any]) -> None:
        self._browser.send("open", url=url, width=self._size[0], height=self._size[1], blocked=self._blocked)
        self.wait_ready()
        self.evaluate(
            "for (const [key, value] of Object.entries(argument)) await app.extensionManager.setting.set(key, value);",
            settings,
        )
        self.reload()

    def reload(self) -> None:
        self._browser.send("reload")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until the frontend is up and knows our nodes."""
        self.wait(
            "return window.app?.extensionManager && app.canvas?.graph && LiteGraph.registered_node_types.F2DInject;"
        )

    def empty(self) -> None:
        """An empty graph. The frontend brings the last workflow, or a default one, some time after it is up."""
        self.wait("return app.extensionManager.workflow?.activeWorkflow;")
        self.evaluate(
            "for (let quiet = 0; quiet < 4; ) {"
            "  quiet = app.graph.nodes.length ? 0 : quiet + 1;"
            "  app.graph.clear();"
            "  await new Promise((done) => setTimeout(done, 150));"
            "}"
        )

    def evaluate(self, code: str, argument: Any = None) -> Any:
        """Run the body of an async function in the page; `argument` is its one argument. What it returns, as JSON."""
        return self._browser.send("evaluate", code=code, argument=argument)

    def wait(self, code: str, timeout_ms: int = WAIT_MS) -> None:
        """Until the body of a function in the page returns something true."""
        self._browser.send("wait", code=code, timeout=timeout_ms)

    def click(self, selector: str, **options: Any) -> None:
        self._browser.send("click", selector=selector, options=options)

    def hover(self, selector: str) -> None:
        self._browser.send("hover", selector=selector)

    def fill(self, selector: str, text: str) -> None:
        self._browser.send("fill", selector=selector, text=text)

    def press(self, key: str) -> None:
        self._browser.send("press", key=key)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self._browser.send("type", text=text)

    def mouse(self, *steps: tuple) -> None:
        """Such as ("move", x, y), ("down",), ("up",), one after the other."""
        self._browser.send("mouse", steps=[list(step) for step in steps])

    def drag(self, source: str, target: str, **options: Any) -> None:
        self._browser.send("drag", source=source, target=target, options=options)

    def choose_files(self, selector: str, *paths: Path) -> None:
        self._browser.send("files", selector=selector, paths=[str(path) for path in paths])

    def choose_files_at(self, x: float, y: float, *paths: Path) -> None:
        """Click at a place that opens the window for choosing files."""
        self._browser.send("choose", x=x, y=y, paths=[str(path) for path in paths])

    def download(self, selector: str) -> tuple[str, bytes]:
        """Click; (name, content) of the file that the browser saves then."""
        found = self._browser.send("download", selector=selector)
        return found["name"], base64.b64decode(found["data"])

    def text(self, selector: str) -> str:
        return self._browser.send("text", selector=selector)

    def count(self, selector: str) -> int:
        return self._browser.send("count", selector=selector)

    def screenshot(self, path: Path, selector: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._browser.send("screenshot", path=str(path), selector=selector)
        return path

    def problems(self) -> list[str]:
        """Errors and warnings on the console that are not the host's own."""
        found = self._browser.send("messages")
        return [
            f"{m['type']}: {m['text']} ({m['url']})"
            for m in found
            if m["type"] in ("error", "pageerror") and not any(n in m["text"] + m["url"] for n in HOST_NOISE)
        ]

    # --- the graph ---

    def add_node(self, node_id: str, x: int = 200, y: int = 200) -> int:
        """A new node on the canvas; its number."""
        return self.evaluate(
            "const node = LiteGraph.createNode(argument[0]); node.pos = argument.slice(1); app.graph.add(node);"
            "await new Promise(requestAnimationFrame); return node.id;",
            [node_id, x, y],
        )

    def build(self, nodes: dict[str, tuple], links: Sequence[tuple] = ()) -> dict[str, int]:
        """nodes: name -> (node id, x, y, {widget: value}); links: (from, slot, to, input). Name -> number."""
        return self.evaluate(
            "const made = {};"
            "for (const [name, [type, x, y, values]] of Object.entries(argument[0])) {"
            "  const node = (made[name] = LiteGraph.createNode(type)); node.pos = [x, y]; app.graph.add(node);"
            "  for (const [key, value] of Object.entries(values ?? {})) {"
            "    const widget = node.widgets.find((each) => each.name === key);"
            "    widget.value = value; widget.callback?.(value);"
            "  }"
            "}"
            "for (const [from, slot, to, input] of argument[1])"
            "  made[from].connect(slot, made[to], made[to].inputs.findIndex((each) => each.name === input));"
            "await new Promise(requestAnimationFrame);"
            "return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, node.id]));",
            [nodes, list(links)],
        )

    def widget(self, number: int, name: str) -> Any:
        """The value of a node's widget."""
        return self.evaluate(
            "return app.graph.getNodeById(argument[0]).widgets.find((each) => each.name === argument[1]).value;",
            [number, name],
        )

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as the user would."""
        self.evaluate("await app.loadGraphData(argument);", workflow)
        self.evaluate("await new Promise((done) => setTimeout(done, 300));")

    def prompt(self) -> dict[str, Any]:
        """What would be sent to the server now: node number -> {class_type, inputs}."""
        return self.evaluate("return (await app.graphToPrompt()).output;")

    def queue(self) -> None:
        self.evaluate("await app.queuePrompt(0, 1);")
