"""What the ComfyUI registry is told and given: pyproject.toml, pictures, the archive; and what installing changes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tomllib
from PIL import Image

from tests.support import publishing
from tests.support.publishing import REPO

TEXT = publishing.PROJECT.read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)
CHANGELOG = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
MOST_ARCHIVE_BYTES = 5_000_000
# What the registry reads of classifiers; it drops them all when one is unknown.
ACCELERATORS = {
    *("GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "GPU :: Apple Metal", "NPU :: Huawei Ascend"),
}
FILLED = re.sub('^PublisherId = ".*"', 'PublisherId = "someone"', TEXT, flags=re.MULTILINE)
FILLED = re.sub(
    "^(# )?Repository = .*", 'Repository = "https://github.com/someone/face2diffusion"', FILLED, flags=re.MULTILINE
)
DATED = f"# Changelog\n\n## {PROJECT['project']['version']} (2026-11-21)\n"


# --- what the registry is told ---


def test_the_project_is_as_the_registry_wants_it():
    project = PROJECT["project"]

    assert project["name"] == "face2diffusion"
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert set(project["license"]) == {"file"} and "Apache License" in (REPO / project["license"]["file"]).read_text()
    assert (REPO / project["readme"]).is_file() and len(project["description"]) > 40


def test_classifiers_are_those_that_the_registry_knows():
    kinds = [item.partition(" :: ") for item in PROJECT["project"]["classifiers"]]

    assert [value for kind, _, value in kinds if kind == "Operating System"] == ["OS Independent"]
    assert {value for kind, _, value in kinds if kind == "Environment"} <= ACCELERATORS


def test_the_comfy_table_is_complete_and_declares_no_second_web_folder():
    comfy = PROJECT["tool"]["comfy"]

    assert set(comfy) == {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"}
    assert comfy["requires-comfyui"] == ">=0.9.2"
    assert comfy["requires-comfyui"].removeprefix(">=") in (REPO / "README.md").read_text(encoding="utf-8")


def test_icon_and_banner_have_the_registrys_forms():
    icon, banner = (_pixels(REPO / PROJECT["tool"]["comfy"][name]) for name in publishing.PICTURES)

    assert icon.shape[0] == icon.shape[1] <= 400
    assert banner.shape[1] * 9 == banner.shape[0] * 21
    assert min(len(np.unique(picture[::8, ::8].reshape(-1, 4), axis=0)) for picture in (icon, banner)) > 100


def _pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGBA"))


def test_the_changelog_begins_with_this_version():
    heading = re.search(r"^## (\S+)", CHANGELOG, re.MULTILINE)

    assert heading[1] == PROJECT["project"]["version"]


# --- publishing refuses until the owner has filled in what is theirs ---


def test_nothing_is_missing_once_it_is_filled_in():
    assert publishing.problems(tomllib.loads(FILLED), DATED) == []


@pytest.mark.parametrize(
    ("text", "changelog", "named"),
    [
        (FILLED.replace('PublisherId = "someone"', 'PublisherId = ""'), DATED, "PublisherId"),
        (FILLED.replace("Repository = ", "# Repository = "), DATED, "Repository"),
        (FILLED.replace("https://github.com/someone/face2diffusion", "https://github.com/"), DATED, "Repository"),
        (FILLED, DATED.replace("(2026-11-21)", "(unreleased)"), "CHANGELOG.md"),
        (FILLED, "## 99.0.0 (2026-11-21)", "CHANGELOG.md"),
        (FILLED, "", "CHANGELOG.md"),
    ],
)
def test_what_is_missing_is_named(text, changelog, named):
    (line,) = publishing.problems(tomllib.loads(text), changelog)

    assert named in line and "\n" not in line


def test_the_publishing_step_ends_with_an_error_while_something_is_missing(tmp_path, monkeypatch, capsys):
    file = tmp_path / "pyproject.toml"
    file.write_text(FILLED.replace('PublisherId = "someone"', 'PublisherId = ""'), encoding="utf-8")
    monkeypatch.setattr(publishing, "PROJECT", file)
    before = file.read_text(encoding="utf-8")

    assert publishing.main(["--addresses"]) == 1
    assert "PublisherId" in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == before


def test_pictures_are_published_as_addresses():
    comfy = tomllib.loads(publishing.with_addresses(FILLED))["tool"]["comfy"]

    version = PROJECT["project"]["version"]
    assert comfy["Icon"] == f"https://github.com/someone/face2diffusion/raw/v{version}/docs/icon.png"
    assert comfy["Banner"] == f"https://github.com/someone/face2diffusion/raw/v{version}/docs/banner.png"


def test_the_publishing_workflow_waits_for_the_tests_and_asks_first():
    steps = (REPO / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")

    assert "uses: ./.github/workflows/tests.yml" in steps and "needs: tests" in steps
    assert steps.index("make publish-check") < steps.index("comfy --skip-prompt node publish")
    assert "run: .ci/run" in (REPO / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")


# --- the archive ---


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive as comfy-cli packs it."""
    if shutil.which("git") is None or not (REPO / ".git").exists():
        pytest.skip("what belongs to the archive is asked of git: no git, or no clone")
    path = tmp_path_factory.mktemp("archive") / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in publishing.archive_files():
            packed.write(REPO / name, name)
    return path


def test_the_archive_holds_what_runs_and_no_more(archive):
    names = set(zipfile.ZipFile(archive).namelist())
    tops = {name.split("/")[0] for name in names}

    assert tops >= {"__init__.py", "f2d_core", "nodes", "web", "locales", "workflows", "LICENSE", "pyproject.toml"}
    assert tops >= {"requirements.txt", "README.md"}
    assert not tops & {"tests", "bench", ".github", ".ci", "Makefile", "demo", "models", "requirements-dev.txt"}
    assert not [name for name in names if name.endswith((".safetensors", ".pt", ".onnx", ".pyc"))]
    assert not [name for name in names if name.startswith("docs/") and not name.endswith(".md")]
    modules = {
        path.relative_to(REPO).as_posix() for folder in ("f2d_core", "nodes") for path in REPO.glob(f"{folder}/**/*.py")
    }
    assert modules <= names


def test_the_archive_is_small(archive):
    assert archive.stat().st_size < MOST_ARCHIVE_BYTES


# --- installing ---


@pytest.fixture
def environment(tmp_path):
    """A copy of this environment as installers see it: the same packages with the same versions, by their metadata."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env").glob("[Ll]ib/**/site-packages")
    for item in importlib.metadata.distributions():
        if item._path.name.endswith(".dist-info") and not (site / item._path.name).exists():
            (site / item._path.name).mkdir()
            for name in ("METADATA", "INSTALLER", "RECORD"):
                (site / item._path.name / name).write_text(item.read_text(name) or "", encoding="utf-8")
    return site


def _packages(site):
    return sorted((item.name, item.version) for item in importlib.metadata.distributions(path=[str(site)]))


def _install(environment, file):
    """What ComfyUI-Manager does with requirements.txt, without a network."""
    (python,) = (file for file in environment.parents[2].glob("*/python*") if file.stem == "python")
    if shutil.which("uv"):
        command = ["uv", "pip", "install", "--offline", "--python", python, "-r", file]
    elif importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "-r", file]
    else:
        pytest.skip("neither uv nor pip is there to install with")
    return subprocess.run(command, capture_output=True, text=True)


def test_installing_changes_no_package(environment):
    before = _packages(environment)
    assert {"torch", "numpy"} <= {name for name, _ in before}

    result = _install(environment, REPO / "requirements.txt")

    assert result.returncode == 0, result.stderr
    assert _packages(environment) == before


def test_another_requirement_would_be_noticed(environment, tmp_path):
    wish = tmp_path / "requirements.txt"
    wish.write_text("torch==0.0.1\n")

    assert _install(environment, wish).returncode != 0


def test_nothing_runs_at_install():
    assert not [name for name in ("install.py", "uninstall.py", "prestartup_script.py") if (REPO / name).exists()]


# --- removing ---


def test_the_pack_writes_where_the_readme_says():
    """Removing its folder leaves the user's own things, in these places; the server ring looks at a whole run."""
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    source = "".join(file.read_text(encoding="utf-8") for file in (REPO / "nodes").glob("*.py"))

    asked = set(re.findall(r"folder_paths\.get_(\w+)_directory", source))
    assert asked <= {"input", "output", "temp"}  # read; written below output/face2diffusion; emptied by the host
    for place in ("models/face2diffusion", "models/embeddings", "output/face2diffusion"):
        assert place in readme.split("**To remove**")[1].split("\n\n")[0]
