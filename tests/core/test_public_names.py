"""What `f2d_core` offers by name."""

import subprocess
import sys

import pytest
import tomllib

import f2d_core
from tests.support.base_directory import REPO


@pytest.mark.parametrize("name", f2d_core.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(f2d_core, name)
    assert thing.__doc__ and thing.__module__.startswith("f2d_core.")
    assert thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'encode_everything'"):
        f2d_core.encode_everything  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    code = "import sys, f2d_core; print([m for m in sys.modules if m.startswith(('f2d_core.', 'torch', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == f2d_core.__version__
