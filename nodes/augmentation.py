"""What "Make Editing Triplets" does when it runs; imported then, so that ComfyUI starts without it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..f2d_core.augment.names import NameList, entries, parse_names, read_lines
from ..f2d_core.augment.plan import check_prompts
from ..f2d_core.augment.run import Augmented, Models, augment
from ..f2d_core.augment.settings import AugmentSettings
from ..f2d_core.augment.store import KEPT, PICTURES, REPORT
from ..f2d_core.duration import duration
from ..f2d_core.errors import F2DError, WeightsError
from ..f2d_core.files import require_plain_name
from ..f2d_core.image import read_image
from . import host, host_sampling, host_training, sockets
from .face import detector_named
from .host import io

_FILE = ".txt"
_REASONS_SHOWN = 30
_SECONDS_BETWEEN = 0.5
EVENT = "f2d.augment"


@dataclass(frozen=True)
class Texts:
    """The user's lists as in the widgets: texts, or the paths of text files."""

    names: str
    prompts: str
    near_duplicates: bool
    held_out: str
    held_out_faces: str

    def name_list(self) -> NameList:
        """Raises SettingsError."""
        held_out = entries(_content(self.held_out, "held-out names"))
        return parse_names(_content(self.names, "names"), held_out, self.near_duplicates)

    def prompt_list(self) -> tuple[str, ...]:
        """Raises PromptError, SettingsError."""
        return check_prompts(entries(_content(self.prompts, "editing prompts")))


def fingerprint(name: str, names: str, held_out: str, held_out_faces: str) -> list:
    """Changes when a list, a held-out picture or the finished data set does."""
    files = [path for path in map(_file, (names, held_out)) if path is not None]
    try:
        files.append(_folder(name) / KEPT)
        if held_out_faces.strip():
            files += sorted(host_training.readable_folder(held_out_faces).rglob("*"))
        return [_stamp(path) for path in files]
    except (F2DError, OSError):  # `make_triplets` will say what is wrong
        return []


def make_triplets(
    name: str, texts: Texts, models: tuple, settings: AugmentSettings, node_id: str | None
) -> io.NodeOutput:
    """models: MODEL, CLIP, VAE, judges, the detector's name. Folder, contact sheet, report."""
    names, prompts, folder = texts.name_list(), texts.prompt_list(), _folder(name)
    model, clip, vae, judges, detector = models
    _require_both(judges)
    faces = texts.held_out_faces.strip()
    done = augment(
        names,
        prompts,
        folder,
        Models(
            host_sampling.PictureMaker(model, clip, vae), detector_named(detector), judges.identity[0], judges.text[0]
        ),
        settings,
        held_out_faces=host_training.readable_folder(faces) if faces else None,
        making=_Watch("picture", node_id),
        scoring=_Watch("score", node_id),
    )
    sheet, report = folder / REPORT, _told(done, names)
    shown = {**host_training.saved_images([sheet]), **host.ui.PreviewText(report).as_dict()}
    return io.NodeOutput(str(folder), sockets.image([read_image(sheet)]), report, ui=shown)


class _Watch:
    """ports.Progress: the node's bar, and beside it a line with the time left. Raises when the user cancels."""

    def __init__(self, what: str, node_id: str | None):
        self._what = what
        self._bar, self._line = host.progress(1), host_training.Watch(EVENT, node_id, 1)
        self._start, self._told = time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN or done == total:
            self._told = now
            left = (now - self._start) / done * (total - done)
            facts = {"what": self._what, "done": done, "total": total, "seconds_left": left}
            self._line.tell(f"{self._what} {done:,} of {total:,}, {duration(left)} left", facts)
        self._bar(done, total)


def _file(text: str) -> Path | None:
    """The path in a widget that holds one instead of a text: a single line that ends in .txt."""
    line = text.strip()
    return host_training.readable_folder(line) if line.lower().endswith(_FILE) and "\n" not in line else None


def _content(text: str, what: str) -> str:
    file = _file(text)
    return text if file is None else read_lines(file, what)


def _stamp(path: Path) -> tuple:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return str(path), None
    return str(path), stat.st_size, stat.st_mtime_ns


def _folder(name: str) -> Path:
    return host_training.work_folder("editing") / require_plain_name(name, "The data set name")


def _require_both(judges) -> None:
    missing = [what for what, some in (("identity", judges.identity), ("text", judges.text)) if not some]
    if missing:
        why = f" {judges.problems[0]}" if judges.problems else ""
        raise WeightsError(
            f"The likeness models have none for {' and none for '.join(missing)}, expected one of each. Choose "
            f"files in Load Likeness Models.{why}"
        )


def _told(done: Augmented, names: NameList) -> str:
    lines = [
        f"{done.kept:,} of {done.edited:,} edited pictures kept, of {done.faces:,} source faces, in {done.folder}",
        f"{len(names.names):,} names; {len(names.merged)} merged, {len(names.held_out)} held out",
    ]
    if done.without_face:
        lines.append(f"{done.without_face:,} edited pictures show no face")
    if done.others:
        lines.append(f"{done.others:,} pictures in the folder are not in the list any more; they are not used")
    lines += [f"{e.text}: {'held out' if e in names.held_out else 'merged'}, as {e.into} ({e.rule})" for e in
              (*names.held_out, *names.merged)][:_REASONS_SHOWN]  # fmt: skip
    reasons = Counter(reason for _, reason in done.rejected).most_common(_REASONS_SHOWN)
    lines += [f"{count:,} source faces left out: {reason}" for reason, count in reasons]
    return "\n".join([*lines, f"All is written down in {PICTURES} there."])
