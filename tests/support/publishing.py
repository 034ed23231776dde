"""What goes to the ComfyUI registry, and whether it may go there.

python -m tests.support.publishing               what is missing before it may; exit code 1 if anything is
python -m tests.support.publishing --addresses   the same; then writes Icon and Banner as the registry wants them,
                                                 as addresses of this version's files in the repository
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import tomllib

REPO = Path(__file__).resolve().parents[2]
PROJECT = REPO / "pyproject.toml"
PICTURES = ("Icon", "Banner")


def archive_files(root: Path = REPO) -> list[str]:
    """What `comfy node pack` takes: what git knows or would take up, without what .comfyignore names."""
    known = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    left_out = _git(root, "ls-files", "-z", "--cached", "--others", "--ignored", "--exclude-from=.comfyignore")
    return sorted(name for name in _git(root, *known) - left_out if (root / name).is_file())


def _git(root: Path, *arguments: str) -> set[str]:
    result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return set(result.stdout.split("\0")) - {""}


def problems(project: dict[str, Any], changelog: str) -> list[str]:
    """Why the pack may not be published, a line for each reason: what only its owner can fill in, and the date."""
    version = project["project"]["version"]
    found = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", project["tool"]["comfy"].get("PublisherId", "")):
        found.append("[tool.comfy] PublisherId is empty: put the id of your account at registry.comfy.org there.")
    if not re.fullmatch(r"https://[\w.-]+/[\w./-]*[\w-]", _repository(project)):
        found.append("[project.urls] Repository is empty: put the address of the public repository there.")
    heading = next((line for line in changelog.splitlines() if line.startswith("## ")), "")
    if not re.fullmatch(rf"## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading):
        found.append(f'CHANGELOG.md begins with "{heading}", expected "## {version} (year-month-day)".')
    return found


def _repository(project: dict[str, Any]) -> str:
    return project["project"].get("urls", {}).get("Repository", "")


def with_addresses(text: str) -> str:
    """pyproject.toml with Icon and Banner as addresses of the tagged version."""
    project = tomllib.loads(text)
    folder = f"{_repository(project)}/raw/v{project['project']['version']}"
    for name in PICTURES:
        file = project["tool"]["comfy"][name]
        text = text.replace(f'{name} = "{file}"', f'{name} = "{folder}/{file}"')
    return text


def main(arguments: list[str]) -> int:
    text = PROJECT.read_text(encoding="utf-8")
    found = problems(tomllib.loads(text), (REPO / "CHANGELOG.md").read_text(encoding="utf-8"))
    print("\n".join(found) or "Nothing is missing: the pack may be published.")
    if "--addresses" in arguments and not found:
        PROJECT.write_text(with_addresses(text), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
