"""What the nodes of evaluate.py do when they run; imported then, so that ComfyUI starts without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from ..f2d_core.align import align_expression
from ..f2d_core.catalogue import PUBLISHED
from ..f2d_core.data.parser import FaceParser, load_parser
from ..f2d_core.detect import ORDERS, Detection
from ..f2d_core.encode import expression_features
from ..f2d_core.errors import F2DError, ImageError, SettingsError, WeightsError
from ..f2d_core.evaluate import best_of_n, face_report, likeness
from ..f2d_core.evaluate.drawing import draw_notes
from ..f2d_core.evaluate.extractors import (
    IDENTITY_KINDS,
    IMAGE_TEXT_KINDS,
    find_extractors,
    load_extractor,
    load_identity_extractor,
    load_image_text_extractor,
)
from ..f2d_core.evaluate.judges import EncoderJudge, Judges, Portraits, load_each, portraits
from ..f2d_core.locate import Located, locate
from . import host, host_judges, sockets
from .face import _detections, detector_named
from .host import io

AUTO, NONE = "auto", "none"
_PARSER_NAMES = ("pars", "bisenet")
_NO_TEXT = "The prompt was not compared: no network judges text. The help of Load Likeness Models lists some."
Found = list[Located | ImageError]


# --- loading ---


def load_judges(cls, identity: str, text: str, msid, clip_vision, clip, more: Judges | None) -> io.NodeOutput:
    """judges, report. Raises WeightsError when nothing could be loaded, with the first reason."""
    present = find_extractors(host.model_folders()) if AUTO in (identity, text) else {}
    judges = (
        (more or Judges()) + _identity_judges(identity, present, msid) + _text_judges(text, present, clip_vision, clip)
    )
    if not judges.identity and not judges.text:
        raise WeightsError(judges.problems[0] if judges.problems else _nothing_asked())
    report = _describe(judges)
    host_judges.show_text(report, cls.hidden.unique_id)
    return io.NodeOutput(judges, report, ui=host.ui.PreviewText(report))


def _nothing_asked() -> str:
    return 'No network is chosen: both are "none". Choose "auto", or a file.'


def _identity_judges(chosen: str, present: dict[str, Path], msid) -> Judges:
    kinds = [kind for kind in IDENTITY_KINDS if kind in present]
    loaders = _chosen_loaders(chosen, kinds, present, load_identity_extractor, "adaface_ir50")
    loaded, problems = load_each(loaders)
    if not loaded and msid is not None:
        loaded = (EncoderJudge(msid),)
    if chosen == AUTO and not loaders and msid is None:
        problems = (f"No network that judges identity was found. {_how_to_get('adaface_ir50')}",)
    return Judges(identity=loaded, problems=problems)


def _text_judges(chosen: str, present: dict[str, Path], clip_vision, clip) -> Judges:
    """A connected CLIP vision goes first. Of the files, the first that works is enough: they are large."""
    if clip_vision is not None or clip is not None:
        loaded, problems = load_each([partial(_vision_judge, clip_vision, clip)])
        judges = Judges(text=loaded, problems=problems)
        return judges if chosen in (AUTO, NONE) and loaded else judges + _text_judges(chosen, present, None, None)
    kinds = [kind for kind in IMAGE_TEXT_KINDS if kind in present]
    problems = ()
    for loader in _chosen_loaders(chosen, kinds, present, load_image_text_extractor, "clip_h14"):
        loaded, failed = load_each([loader])
        problems += tuple(message for message in failed if message not in problems)
        if loaded:
            return Judges(text=loaded, problems=problems)
    return Judges(problems=problems)


def _chosen_loaders(chosen: str, kinds: Sequence[str], present: dict, load: Callable, kind: str) -> list[Callable]:
    if chosen == NONE:
        return []
    if chosen == AUTO:
        return [partial(load_extractor, name, present[name], place=host.managed) for name in kinds]
    return [partial(_load_file, chosen, load, kind)]


def _load_file(name: str, load: Callable, kind: str):
    path = host.find_file(name)
    if path is None:
        raise WeightsError(host.file_message(name, kind))
    return load(path, place=host.managed)


def _vision_judge(clip_vision, clip) -> host_judges.VisionJudge:
    if clip_vision is None or clip is None:
        missing = "clip" if clip is None else "clip_vision"
        raise SettingsError(
            f"Pictures and texts are compared by clip_vision and clip together, {missing} is missing. Connect both."
        )
    return host_judges.VisionJudge(clip_vision, clip)


def _how_to_get(kind: str) -> str:
    return PUBLISHED[kind].how_to_get(str(host.model_folders()[0]))


def _describe(judges: Judges) -> str:
    names = [", ".join(judge.name for judge in of) or "nobody" for of in (judges.identity, judges.text)]
    return "\n".join([f"Identity: {names[0]}", f"Text: {names[1]}", *_not_used(judges.problems)])


def _not_used(problems: Sequence[str]) -> list[str]:
    return [f"Not used: {problem}" for problem in problems]


def fingerprint(identity: str, text: str) -> list:
    """Changes when a file that may be loaded does."""
    names = host_judges.judge_files() if AUTO in (identity, text) else [identity, text]
    files = [host.find_file(name) for name in names if name not in (AUTO, NONE)]
    return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file is not None]


# --- faces ---


class Finder:
    """Finds the faces of the picture input and of the references, with one detector, built if it is needed."""

    def __init__(self, detector: str, order: str, index: int, faces, face_landmarks, reference_landmarks=None):
        self._detector = cache(lambda: detector_named(detector))
        self._order, self._index = order, index
        self._faces, self._landmarks, self._reference_landmarks = faces, face_landmarks, reference_landmarks

    def detections(self, pictures: Sequence[np.ndarray]) -> tuple[Detection, ...]:
        return _detections(pictures, self._detector, self._faces, self._landmarks)

    def chosen(self, detections: Sequence[Detection]) -> Found:
        """Of the picture input, by the user's order and index."""
        return locate(detections, self._order, self._index)

    def references(self, images: Sequence) -> Portraits:
        """The largest face of every picture of the inputs that are connected."""
        pictures, found = [], []
        for image, landmarks in zip(images, (self._reference_landmarks, None, None, None), strict=True):
            if image is not None:
                batch = sockets.pictures(image)
                pictures += batch
                found += locate(_detections(batch, self._detector, None, landmarks), ORDERS[0], 0)
        return portraits(pictures, found)


def _face(item: Located | ImageError):
    return item.face if isinstance(item, Located) else None


def _shown(preview, report: str, cls) -> dict:
    return {**host.ui.PreviewImage(preview, cls=cls).as_dict(), **host.ui.PreviewText(report).as_dict()}


# --- the nodes ---


def likeness_of(cls, judges: Judges, image, references: Sequence, finder: Finder) -> io.NodeOutput:
    """preview, report, table. Raises WeightsError when no network judges identity."""
    _require_identity(judges)
    pictures = sockets.pictures(image)
    found = finder.chosen(finder.detections(pictures))
    known = finder.references(references)
    result = likeness.compare(portraits(pictures, found), known, judges.identity, host.progress(1))
    notes = [likeness.note(result, i, _face(item)) for i, item in enumerate(found)]
    preview = sockets.image(draw_notes(pictures, notes))
    report = "\n".join([likeness.describe(result), *_not_used(judges.problems)])
    host_judges.show_text(report, cls.hidden.unique_id)
    return io.NodeOutput(preview, report, likeness.table(result), ui=_shown(preview, report, cls))


def _require_identity(judges: Judges) -> None:
    if not judges.identity:
        reason = judges.problems[0] if judges.problems else _how_to_get("adaface_ir50")
        raise WeightsError(f"No network judges identity, expected at least one. {reason}")


def best_of(
    cls, judges: Judges, image, prompt: str, marker: str, keep: int, references: Sequence, finder: Finder
) -> io.NodeOutput:
    """images (best first), indices, best, report. Raises SettingsError when nothing can be judged."""
    pictures = sockets.pictures(image)
    problems = list(judges.problems)
    alike = None
    if any(item is not None for item in references):
        if judges.identity:
            alike = _compared(pictures, references, judges, finder)
            problems += alike.problems
        else:
            problems.append("The references were not compared: no network judges identity.")
    names, values = (), np.empty((len(pictures), 0))
    if prompt.strip():
        plain = best_of_n.plain_prompt(prompt, marker)
        names, values, failed = best_of_n.text_metrics(pictures, plain, judges.text, host.progress(1))
        problems += failed or () if judges.text else [_NO_TEXT]
    ranking = _ranked(alike, (names, values), len(pictures), problems)
    best = ranking.best(keep)
    report = "\n".join([best_of_n.describe(ranking, keep), *_not_used(problems)])
    host_judges.show_text(report, cls.hidden.unique_id)
    images = image[list(best)]
    indices = ", ".join(str(i) for i in best)
    shown = sockets.image([pictures[i] for i in best])
    return io.NodeOutput(images, indices, best[0], report, ui=_shown(shown, report, cls))


def _compared(pictures, references: Sequence, judges: Judges, finder: Finder) -> likeness.Likeness:
    found = finder.chosen(finder.detections(pictures))
    return likeness.compare(
        portraits(pictures, found), finder.references(references), judges.identity, host.progress(1)
    )


def _ranked(alike, text: tuple, count: int, problems: Sequence[str]) -> best_of_n.Ranking:
    try:
        return best_of_n.rank(alike, text, count)
    except SettingsError as error:  # nothing can be judged: say why, as far as that is known
        raise SettingsError(" ".join([str(error), *problems[:1]])) from error


def report_of(cls, image, parser: str, expression_encoder, finder: Finder) -> io.NodeOutput:
    """preview, report, usable."""
    pictures = sockets.pictures(image)
    detections = finder.detections(pictures)
    found = finder.chosen(detections)
    face_parser, problems = _parser(parser)
    report_progress = host.progress(len(pictures))
    reports = []
    for i, (rgb, item, detection) in enumerate(zip(pictures, found, detections, strict=True)):
        reports.append(_report(rgb, item, len(detection.faces) - 1, face_parser, expression_encoder))
        report_progress(i + 1, len(pictures))
    preview = sockets.image(draw_notes(pictures, [face_report.note(report) for report in reports]))
    lines = [f"{i}: {report.level}\n{face_report.describe(report)}" for i, report in enumerate(reports)]
    text = "\n".join([*lines, *_not_used(problems)])
    usable = all(report.level != face_report.POOR for report in reports)
    return io.NodeOutput(preview, text, usable, ui=_shown(preview, text, cls))


def _report(rgb, item: Located | ImageError, others: int, parser: FaceParser | None, encoder) -> face_report.FaceReport:
    if not isinstance(item, Located):
        return face_report.report_missing(str(item))
    try:
        labels = None if parser is None else face_report.parse_face(rgb, item.face, parser)
        v_exp = None if encoder is None else _expression(rgb, item, encoder)
        return face_report.report_face(rgb, item.face, labels, v_exp, others)
    except ImageError as error:  # points that do not lie like a face
        return face_report.report_missing(str(error))


def _expression(rgb, item: Located, encoder) -> np.ndarray:
    return expression_features([align_expression(rgb, item.face.points)], encoder)[0].numpy()


def _parser(chosen: str) -> tuple[FaceParser | None, list[str]]:
    """(the face parser or None, why it is not used). A file that was chosen must work; one that was found need not."""
    if chosen == NONE:
        return None, []
    name = next(iter(likely_parsers()), None) if chosen == AUTO else chosen
    if name is None:
        return None, []
    path = host.find_file(name)
    if path is None:
        raise WeightsError(host.file_message(name, "parser"))
    try:
        return load_parser(path, host.managed), []
    except F2DError as error:
        if chosen != AUTO:
            raise
        return None, [str(error)]


def likely_parsers() -> list[str]:
    """Weight files whose names are those of face parsers."""
    return [name for name in host_judges.judge_files() if any(part in name.lower() for part in _PARSER_NAMES)]
