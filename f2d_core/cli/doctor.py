"""`doctor`: versions, optional packages, which weights are where, and a self-test of the whole chain."""

from __future__ import annotations

import argparse

from ..doctor import found_weights, packages, verdict, versions, weights
from ..self_test import self_test
from .folders import HOST_VARIABLE, model_folders
from .progress import Bar

FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    folders = model_folders() if arguments.models is None else arguments.models
    places = ", ".join(str(folder) for folder in folders)
    places = places or f"no folder (give --models DIR, or set {HOST_VARIABLE})"
    print(*versions(), *packages(), sep="\n", flush=True)
    print(*weights(found_weights(folders, Bar("Weights")), places), sep="\n", flush=True)
    test = self_test()
    print(verdict(test))
    return 0 if test.problem is None else FAILED
