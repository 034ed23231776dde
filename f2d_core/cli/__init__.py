"""`python -m f2d_core …`: parsing, progress and exit codes; the work is done by the core.

Exit codes: 0 done, 1 the self-test of `doctor` failed, 2 a mistake that the user can mend (one line on stderr),
130 stopped with Ctrl-C. A command's own module is imported only when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ..errors import F2DError
from .arguments import parse

USER_ERROR = 2
INTERRUPTED = 130
_HOST_PACKAGES = ("torch", "numpy", "safetensors", "PIL")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Leaves by SystemExit for --help and bad options, as argparse does."""
    arguments = parse(argv)
    try:
        return importlib.import_module(f".{arguments.command.replace('-', '_')}", __name__).run(arguments) or 0
    except F2DError as error:
        return _say(error, USER_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("\n" if sys.stderr.isatty() else "")  # below a progress bar
        return _say("stopped.", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, `head` for example, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if error.name not in _HOST_PACKAGES:
            raise
        return _say(f"The package {error.name} is not installed, and everything here needs it. Install it.", USER_ERROR)


def _say(message: object, code: int) -> int:
    print(f"f2d: {message}", file=sys.stderr)
    return code
