"""python killed_prepare.py PHOTOS WORK KILLS: prepares PHOTOS twice, once in peace, once under kill -9.

Every run is a fork of this process, which itself never computes anything (threads of a library do not survive a
fork). A run is killed at a random write, fsync or move, with half of the write done. When all photos are done before
all kills are spent, the cache is begun anew.
"""

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import conftest

from f2d_core.data import writer
from f2d_core.data.cache import MANIFEST, Cache
from f2d_core.data.parser import FaceParser
from f2d_core.data.prepare import Models, prepare
from f2d_core.data.settings import PrepareSettings
from f2d_core.errors import F2DError
from f2d_core.networks import load_network
from f2d_core.testing import tiny_msid_state_dict, tiny_recon_state_dict
from f2d_core.weights import write_safetensors


def run(photos: Path, out: Path) -> None:
    folder = out.parent / "networks"
    states = {"msid": tiny_msid_state_dict(), "recon": tiny_recon_state_dict()}
    networks = [load_network(write_safetensors(folder / f"{k}.safetensors", s), k) for k, s in states.items()]
    parser = FaceParser(conftest.oval_scores, "ab" * 32, "oval")
    models = Models(*networks, conftest.FakeCodec(), "cd" * 32, conftest.FakeDetector(), parser)
    prepare(photos, out, models, PrepareSettings(size=conftest.SIZE), batch=1)


def arm(moment: int) -> None:
    """Kill this process at its moment-th write, fsync or move into the cache."""
    left = [moment]
    write_all = writer._write_all

    def strike(half=None):
        left[0] -= 1
        if left[0] == 0:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(file, data):
        strike(lambda: write_all(file, data[: len(data) // 2]))
        write_all(file, data)

    def dying(function):
        def call(*arguments, **options):
            if "networks" not in str(arguments):
                strike()
            return function(*arguments, **options)

        return call

    writer._write_all = dying_write
    os.replace, os.unlink, os.fsync = dying(os.replace), dying(os.unlink), dying(os.fsync)


def in_a_fork(photos: Path, out: Path, moment: int | None) -> int:
    """The status a run ended with: 0, or -9."""
    child = os.fork()
    if child == 0:
        if moment is not None:
            arm(moment)
        run(photos, out)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"a run ended with {status}")
    return status


def main(photos: Path, work: Path, kills: int) -> None:
    moments = random.Random(0)
    in_a_fork(photos, work / "quiet", None)
    out, killed, unreadable = work / "killed", 0, 0
    while killed < kills:
        if in_a_fork(photos, out, moments.randint(1, 45)) == 0:
            shutil.rmtree(out)
            continue
        killed += 1
        if (out / MANIFEST).exists():
            try:
                Cache.open(out)
            except F2DError:
                unreadable += 1
    in_a_fork(photos, out, None)
    print(json.dumps({"killed": killed, "unreadable": unreadable}))


main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
