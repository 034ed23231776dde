"""Exit codes, one-line errors and a quick start."""

import subprocess
import sys
from pathlib import Path

import pytest

from f2d_core import cli
from f2d_core.cli import doctor, main

REPO = Path(__file__).resolve().parents[3]
COMMANDS = ("encode", "generate", "export", "inspect", "convert", "doctor", "demo")


def raising(error):
    def run(_arguments):
        raise error

    return run


def test_help_lists_every_command_and_the_rules_of_use(f2d):
    code, out, _ = f2d("--help")
    assert code == 0
    assert all(f"\n    {command}" in out for command in COMMANDS)
    assert "agreed" in out and "CC BY-NC-SA 4.0" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_module(f2d, command):
    code, out, _ = f2d(command, "--help")
    assert code == 0 and f"f2d {command}" in out
    assert callable(__import__(f"f2d_core.cli.{command}", fromlist=["run"]).run)


def test_help_needs_no_torch():
    code = (
        "import sys; from f2d_core.cli.arguments import build_parser; build_parser().format_help(); "
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_it_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "f2d_core", "inspect", "nowhere.pt"], cwd=REPO, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.startswith("f2d: Cannot read nowhere.pt: No such file") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["inspect"], "FILE"),
        (
            ["encode", "a.jpg", "--msid", "m", "--mapping", "m", "--out", "o", "--aligned", "--landmarks", "x"],
            "not allowed",
        ),
        (["generate", "--size", "big"], "'big' is no size"),
    ],
)
def test_bad_options_are_one_line(refused, arguments, message):
    assert message in refused(*arguments)


def test_ctrl_c_is_one_line(f2d, monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(KeyboardInterrupt))
    assert f2d("doctor") == (130, "", "f2d: stopped.\n")


def test_a_missing_host_package_is_one_line(refused, monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(ModuleNotFoundError("No module named 'torch'", name="torch")))
    assert "package torch is not installed" in refused("doctor")


def test_our_own_faults_are_not_hidden(monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(ModuleNotFoundError("No module named 'f2d_core.x'", name="f2d_core.x")))
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


def test_exit_codes():
    assert (cli.USER_ERROR, cli.INTERRUPTED, doctor.FAILED) == (2, 130, 1)
