"""`fetch`: one published file, after its size and licence were shown and agreed to."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..catalogue import PUBLISHED, Published
from ..errors import SettingsError
from ..fetch import address_of, fetch
from ..published import KEYS, SIZE, check_file, how_checked
from .folders import model_folders
from .progress import Bar

MIRROR_VARIABLE = "F2D_MIRROR"
_CHECKED = {KEYS: "keys and shapes are right", SIZE: "of the content only the size could be checked"}


def run(arguments: argparse.Namespace) -> None:
    if not arguments.name:
        return _list()
    entries = [_entry(name) for name in arguments.name]
    folder = arguments.to or next(iter(model_folders()), Path("models", "face2diffusion"))
    mirror = arguments.mirror or os.environ.get(MIRROR_VARIABLE, "")
    for entry in entries:
        _fetch(entry, folder, mirror, arguments.yes)


def _fetch(entry: Published, folder: Path, mirror: str, agreed: bool) -> None:
    address = address_of(entry, mirror)
    print(f"{entry.title}: {entry.file}, {entry.megabytes:g} MB, from {address}")
    print(f"  licence: {entry.licence}. Commercial use: {'yes' if entry.commercial else 'no'}.")
    print(f"  into {folder}", flush=True)
    if not (agreed or _agreed()):
        print("  not fetched")
        return
    found = fetch(entry, folder, lambda path: check_file(entry, path), mirror=mirror, progress=Bar(entry.file))
    said = "as published" if found.published else f"its makers published none; {_CHECKED[how_checked(entry)]}"
    print(f"  {found.path}\n  sha256 {found.sha256} ({said})", flush=True)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise SettingsError("Nobody can be asked here whether to download. Add --yes if you agree to the licence.")
    return input("  download? [y/N] ").strip().lower() in ("y", "yes")


def _entry(name: str) -> Published:
    if name not in PUBLISHED:
        raise SettingsError(f'There is no published file "{name}"; expected one of: {", ".join(PUBLISHED)}.')
    return PUBLISHED[name]


def _list() -> None:
    for name, entry in PUBLISHED.items():
        how = "fetch" if entry.download else "by hand"
        print(f"{name:<14} {entry.file:<34} {entry.megabytes:>7g} MB  {how:<8} {entry.licence}")
