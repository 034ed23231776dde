"""The house rules that a reader of one file cannot see: who may import whom, and what an import may bring along."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CORE = "f2d_core"
HOST_FILES = {"nodes/host.py", *(f"nodes/host_{name}.py" for name in ("training", "sampling", "judges", "routes"))}

# From the bottom up. A module may import from its own layer and from those below; a sub-package counts as one.
LAYERS = (
    {"constants", "errors", "ports", "catalogue", "duration"},
    {"files", "resize", "state_dict", "chunks"},
    {"align", "image", "detect", "draw", "locate", "msid", "mapping", "expression", "packed", "weights"},
    {"s_star", "networks", "detectors", "testing"},
    {"prompt", "encode"},
    {"token_view", "library", "position_table", "self_test"},
    {"delayed", "blend", "sweep", "average", "ramp", "regions"},
    {"data"},
    {"train"},
    {"augment"},
    {"evaluate"},
    {"backends", "published"},
    {"fetch", "doctor"},
    {"fetches"},
    {"cli", "__init__", "__main__"},
    {"miniature"},
)
AT_MODULE_TOP = {"torch", "numpy", "safetensors"}
PILLOW_AT_MODULE_TOP = {f"{CORE}/image.py"}
# The top-level modules of ComfyUI that a pack could meet.
HOST_MODULES = {
    *("comfy", "comfy_api", "comfy_config", "comfy_execution", "comfy_extras", "folder_paths", "nodes", "server"),
    *("execution", "latent_preview", "node_helpers", "cuda_malloc", "comfyui_version"),
}
OPTIONAL = {
    *("cv2", "onnxruntime", "insightface", "facexlib", "diffusers", "transformers", "accelerate"),
    *("matplotlib", "skimage", "scipy", "torchvision", "open_clip"),
}
NETWORK_FILES = {f"{CORE}/fetch.py", f"{CORE}/backends/comfyui_server.py"}
FETCHERS = {f"{CORE}/cli/fetch.py", f"{CORE}/fetches.py"}
NETWORK = {"urllib.request", "http.client", "requests", "socket", "httpx", "aiohttp", "huggingface_hub", "torch.hub"}


@dataclass(frozen=True)
class Import:
    """One imported module: `name` dotted from the repository root for our own, else as written."""

    name: str
    relative: bool
    at_top: bool  # runs when the file is imported, unlike one inside a function or under TYPE_CHECKING
    typing_only: bool


def sources(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((REPO / folder).rglob("*.py"))]


def own_files() -> list[Path]:
    """Everything that ComfyUI or a user of the core runs."""
    return [REPO / "__init__.py", *sources(CORE, "nodes")]


def path_of(file: Path) -> str:
    return file.relative_to(REPO).as_posix()


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def imports_of(file: Path) -> list[Import]:
    found: list[Import] = []
    _collect(tree_of(file), file, True, False, found)
    return found


def _collect(node: ast.AST, file: Path, at_top: bool, typing_only: bool, found: list[Import]) -> None:
    for child in ast.iter_child_nodes(node):
        inside_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        top, typed = at_top and not inside_function and not for_types, typing_only or for_types
        if isinstance(child, ast.Import):
            found += [Import(alias.name, False, top, typed) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            found += [Import(name, child.level > 0, top, typed) for name in _from(child, file)]
        else:
            _collect(child, file, top, typed, found)


def _from(node: ast.ImportFrom, file: Path) -> list[str]:
    """`from .a import b` in x/y.py -> x.a; `from . import a` -> x.a; absolute names as they are."""
    if node.level == 0:
        return [node.module]
    folder = file.relative_to(REPO).parts[: -node.level]
    if node.module:
        return [".".join((*folder, node.module))]
    return [".".join((*folder, alias.name)) for alias in node.names]


def core_module(name: str) -> str:
    """f2d_core.align -> align; f2d_core.detectors.yunet -> detectors; f2d_core -> __init__."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(file: Path) -> str:
    return core_module(".".join(file.relative_to(REPO).with_suffix("").parts))


def core_graph() -> dict[str, set[str]]:
    """Core module -> core modules it imports when it runs, anywhere in the file."""
    graph: dict[str, set[str]] = {}
    for file in sources(CORE):
        needed = {core_module(i.name) for i in imports_of(file) if i.relative and not i.typing_only}
        graph.setdefault(module_of(file), set()).update(needed - {module_of(file)})
    return graph


def level(module: str) -> int:
    levels = [i for i, names in enumerate(LAYERS) if module in names]
    assert len(levels) == 1, f"{CORE}/{module} has no place, or two, in LAYERS: say where it belongs"
    return levels[0]


def test_core_layers_point_downwards():
    wrong = [f"{a} imports {b}" for a, needed in core_graph().items() for b in needed if level(b) > level(a)]

    assert not wrong


def test_core_has_no_cycles():
    try:
        TopologicalSorter(core_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"the core imports in a circle: {' <- '.join(error.args[1])}")


def test_core_imports_nothing_of_ours_from_outside():
    for file in sources(CORE):
        for item in imports_of(file):
            assert not item.relative or item.name.split(".")[0] == CORE, f"{path_of(file)} imports {item.name}"


def test_imports_inside_the_pack_are_relative():
    for file in own_files():
        for item in imports_of(file):
            assert item.relative or item.name.split(".")[0] != CORE, f"{path_of(file)} imports {item.name}"


def test_only_torch_numpy_and_safetensors_at_module_top():
    for file in sources(CORE):
        allowed = AT_MODULE_TOP | ({"PIL"} if path_of(file) in PILLOW_AT_MODULE_TOP else set())
        tops = {i.name.split(".")[0] for i in imports_of(file) if i.at_top and not i.relative}
        assert not tops - allowed - sys.stdlib_module_names, path_of(file)


def test_root_imports_nothing_at_module_top():
    assert [i.name for i in imports_of(REPO / "__init__.py") if i.at_top] == []


def test_comfyui_is_named_in_the_host_files_only():
    for file in own_files():
        if path_of(file) in HOST_FILES:
            continue
        imported = {i.name.split(".")[0] for i in imports_of(file) if not i.relative}
        used = {node.id for node in ast.walk(tree_of(file)) if isinstance(node, ast.Name)}
        assert not (imported | used) & HOST_MODULES, path_of(file)


def test_host_files_do_name_comfyui():
    """Keeps the test above honest: the names it looks for are those that the host files use."""
    imported = {name: {i.name.split(".")[0] for i in imports_of(REPO / name)} for name in HOST_FILES}

    assert {"comfy", "comfy_api", "folder_paths"} <= imported["nodes/host.py"]
    assert all("comfy" in names for names in imported.values())


def test_one_file_downloads_and_it_is_not_read_by_the_way():
    """fetch.py fetches published files, comfyui_server.py talks to servers that users name; nothing else connects."""
    for file in own_files():
        if path_of(file) in NETWORK_FILES:
            continue
        for item in imports_of(file):
            assert not any(item.name == name or item.name.startswith(f"{name}.") for name in NETWORK), path_of(file)
            assert item.name != f"{CORE}.fetch" or path_of(file) in FETCHERS, path_of(file)


def test_no_asserts_no_star_imports_no_path_edits():
    for file in own_files():
        for node in ast.walk(tree_of(file)):
            where = f"{path_of(file)}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.Assert), f"{where}: raise an error of f2d_core.errors instead"
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), where
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"), where


def test_only_the_command_line_prints():
    for file in own_files():
        if f"{CORE}/cli/" in path_of(file):
            continue
        called = {ast.unparse(node.func) for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)}
        assert "print" not in called, path_of(file)


def test_importing_the_core_brings_no_host_and_no_optional_package():
    """Every core module, in one fresh process: what came along is looked up by top-level name."""
    names = [".".join(file.relative_to(REPO).with_suffix("").parts) for file in sources(CORE)]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    came_along = set(json.loads(result.stdout))
    assert CORE in came_along
    assert not came_along & (HOST_MODULES | OPTIONAL)


def test_every_package_is_in_pyproject():
    """The list there is explicit, because automatic discovery would install `nodes` and `web` as well."""
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1]))

    assert listed == {".".join(file.parent.relative_to(REPO).parts) for file in sources(CORE)}


def test_install_replaces_no_package_of_the_host():
    """ComfyUI-Manager installs every line of requirements.txt into the user's environment."""
    lines = (REPO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    plain = re.search(r"^dependencies = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1]

    for requirement in [*wanted, *re.findall(r'"([^"]+)"', plain)]:
        name = re.match(r"[\w-]+", requirement)[0].lower()
        assert name not in {"torch", "torchvision", "torchaudio", "numpy"}
        assert not name.startswith("opencv")
        assert "==" not in requirement and "<" not in requirement, f"{requirement} could downgrade the host"
