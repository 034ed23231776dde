"""What the pack adds to the start of ComfyUI: seconds and modules, beside an empty pack.

    python bench/import.py [--runs 5]

Each run is a fresh process that imports the ComfyUI found by COMFYUI_PATH or at ~/comfy/ComfyUI, as its main.py
does, and then times ComfyUI's own loader on an empty pack and on ours, after a first pack that pays for what is
loaded once. One more run before writes the bytecode.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
OURS = "face2diffusion"
EMPTY = "empty"
FIRST = "first"  # empty as well: the first pack of all pays for things that the host loads once
EMPTY_PACK = """
from comfy_api.latest import ComfyExtension
class Extension(ComfyExtension):
    async def get_node_list(self): return []
def comfy_entrypoint(): return Extension()
"""
GOAL_SECONDS = 0.03
# Optional packages, taken away before the packs load: importing ours must neither need nor try them.
OPTIONAL = ("cv2", "onnxruntime", "insightface", "facexlib", "diffusers", "skimage", "matplotlib", "accelerate")

Cost = dict[str, dict]  # pack -> {"seconds": float, "modules": names that came along from outside the pack}


def measure(root: Path, base: Path) -> Cost:
    """In this process: start the host at `root`, then load both packs of `base`."""
    sys.path.insert(0, str(REPO))
    from tests.support import in_process

    nodes = in_process.import_host(root, base)
    for name in OPTIONAL:
        sys.modules.setdefault(name, None)
    return {name: _load(in_process, nodes, str(base / "custom_nodes" / name)) for name in (FIRST, EMPTY, OURS)}


def _load(in_process, nodes, path: str) -> dict:
    before = set(sys.modules)
    start = time.perf_counter()
    loaded = in_process.load_pack(nodes, path)
    seconds = time.perf_counter() - start
    if not loaded:
        raise SystemExit(f"ComfyUI could not load {path}; its log above says why")
    ours = path.replace(".", "_x_")
    return {"seconds": seconds, "modules": sorted(m for m in set(sys.modules) - before if not m.startswith(ours))}


def fresh(root: Path, base: Path) -> Cost:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--child", str(root), str(base)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
    if result.returncode:
        raise SystemExit(result.returncode)  # its own message is above
    return json.loads(result.stdout.splitlines()[-1])


def lay_out(base: Path) -> None:
    """A base directory with empty packs and a link to ours."""
    for name in (FIRST, EMPTY):
        (base / "custom_nodes" / name).mkdir(parents=True)
        (base / "custom_nodes" / name / "__init__.py").write_text(EMPTY_PACK)
    (base / "custom_nodes" / OURS).symlink_to(REPO, target_is_directory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", nargs=2, type=Path, metavar=("ROOT", "BASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*options.child)))
        return
    root = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").resolve()
    if not (root / "nodes.py").is_file():
        raise SystemExit(f"No ComfyUI at {root}: set COMFYUI_PATH to a checkout of Comfy-Org/ComfyUI.")
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        runs = [fresh(root, Path(folder)) for _ in range(options.runs + 1)][1:]
    print(report(runs))


def report(runs: list[Cost]) -> str:
    median = {name: statistics.median(run[name]["seconds"] for run in runs) for name in (EMPTY, OURS)}
    lines = [f"{name:<16}{median[name]:.4f} s" for name in (EMPTY, OURS)]
    added = median[OURS] - median[EMPTY]
    modules = ", ".join(runs[-1][OURS]["modules"]) or "none"
    verdict = "met" if added < GOAL_SECONDS else "missed"
    return "\n".join(
        [
            f"Loading a pack into ComfyUI, bytecode cached, median of {len(runs)} fresh processes:",
            *lines,
            f"modules that ours adds to those of the host: {modules}",
            f"added by ours: {added:.4f} s (goal: under {GOAL_SECONDS} s, {verdict})",
        ]
    )


if __name__ == "__main__":
    main()
