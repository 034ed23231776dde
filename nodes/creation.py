"""What the nodes of creative.py and steps.py do when they run; imported then, so that ComfyUI starts without it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..f2d_core.align import align_face
from ..f2d_core.average import DISAGREES, Photo, average_faces
from ..f2d_core.blend import blend
from ..f2d_core.delayed import class_prompt, class_steps
from ..f2d_core.detect import DEFAULT_THRESHOLD, sort_faces
from ..f2d_core.encode import Crop, Expression, Labels, encode_faces
from ..f2d_core.errors import MismatchError, NoFaceError, SettingsError
from ..f2d_core.image import rgb_sha256
from ..f2d_core.locate import detect_all, locate
from ..f2d_core.prompt import Person, describe_slots, require_marker
from ..f2d_core.ramp import ramp
from ..f2d_core.regions import (
    around_faces,
    background,
    draw_regions,
    require_masks,
    side_by_side,
    soften,
)
from ..f2d_core.s_star import SStar, pair_up
from ..f2d_core.sweep import even_values, sweep_expression, sweep_people
from . import host, sockets
from .face import detector_named
from .host import io

# --- people ---


def blend_people(
    connected: Sequence[tuple[Sequence[SStar], float]], sweep: int, mapping, marker: str, name: str
) -> io.NodeOutput:
    """connected: (batch of S*, weight) of every socket. The blends, or the sweep, and what they are made of."""
    batches, weights = zip(*connected, strict=True)
    if sweep > 1:
        people = [one_person(batch, "A sweep") for batch in batches]
        blended = sweep_people(people, sweep, mapping, host.progress(sweep))
    else:
        blended = [blend(row, weights, mapping) for row in pair_up(batches)]
    how = "identity features" if mapping is not None else "words"
    report = "\n".join(f"{i}: {person.title}" for i, person in enumerate(blended)) + f"\nmixed: {how}"
    marker = require_marker(marker or blended[0].marker)
    named = [replace(person, marker=marker, name=name.strip() or person.name) for person in blended]
    return io.NodeOutput(tuple(named), report)


def one_person(batch: Sequence[SStar], where: str) -> SStar:
    """The one S* of a batch of one; else MismatchError."""
    if len(batch) != 1:
        raise MismatchError(
            f"{where} takes one S* on each input, {len(batch)} are connected as a batch. Give a single one."
        )
    return batch[0]


def sweep_expressions(
    batch: Sequence[SStar], mapping, expression: Expression, to: Expression | None, start: float, end: float, steps: int
) -> io.NodeOutput:
    person = one_person(batch, "An expression sweep")
    places = even_values(start, end, steps)
    people = sweep_expression(person, mapping, expression, to, places, host.progress(steps))
    what = "strength" if to is None else "place on the way to the second expression"
    return io.NodeOutput(tuple(people), "\n".join(f"{i}: {what} {place:.2f}" for i, place in enumerate(places)))


def photo_crops(photos: Sequence, detector: str, order: str, index: int, on_missing: str) -> list[Crop | None]:
    """The face of each photo, None where there is none. NoFaceError if that is not wanted, or so in all of them."""
    detections = detect_all(photos, detector_named(detector), DEFAULT_THRESHOLD, host.progress(len(photos)))
    found = locate(detections, order, index)
    missing = [i for i, item in enumerate(found) if isinstance(item, NoFaceError)]
    if missing and (on_missing == "error" or len(missing) == len(found)):
        numbers = ", ".join(str(i) for i in missing)
        raise NoFaceError(
            f"No usable face in photo {numbers} (of {len(found)}, counted from 0). {found[missing[0]]} To go on "
            'without such photos set on_missing to "skip".'
        )
    return [
        None if isinstance(item, NoFaceError) else Crop(align_face(rgb, item.face.points), rgb_sha256(rgb), item.how)
        for rgb, item in zip(photos, found, strict=True)
    ]


def photo_weights(text: str, count: int) -> list[float]:
    """The numbers of a text such as "1, 1, 0.5", one for each photo; of an empty one all are 1. SettingsError."""
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if parts and len(numbers) != count:
        raise SettingsError(
            f'The weights are "{text}", expected {count} numbers with commas between them, one for each photo in '
            "order. Leave them empty to count all alike."
        )
    return numbers or [1.0] * count


def average_photos(
    crops: Sequence[Crop | None], msid, mapping, weights: Sequence[float], method: str, labels: Labels, node
) -> io.NodeOutput:
    """crops: of all photos, None for one that is left out."""
    kept = {i: crop for i, crop in enumerate(crops) if crop is not None}
    people = encode_faces(list(kept.values()), msid, mapping, None, labels, progress=host.progress(len(kept)))
    person, photos = average_faces(people, mapping, [weights[i] for i in kept], method)
    told = dict(zip(kept, photos, strict=True))
    report = "\n".join(_photo_line(i, told.get(i)) for i in range(len(crops)))
    preview = sockets.image([crop.pixels for crop in kept.values()])
    return io.NodeOutput((person,), preview, report, ui=_shown(preview, report, node))


def _photo_line(number: int, photo: Photo | None) -> str:
    if photo is None:
        return f"{number}: no usable face, left out"
    line = f"{number}: share {photo.share:.0%}"
    if photo.distance is not None:
        line += f", {photo.distance:.2f} times as far from the others as they are from each other"
    if photo.disagrees:
        line += f": DISAGREES (above {DISAGREES:g}). Another person, a bad crop or an odd photo? Leave it out."
    return line


def _shown(pictures: torch.Tensor, text: str, node) -> dict:
    """Pictures and a text in the node's own box."""
    return {**host.ui.PreviewImage(pictures, cls=node).as_dict(), **host.ui.PreviewText(text).as_dict()}


# --- over the steps ---


def delay(clip, text: str, people: Sequence, alpha: float, class_word: str, steps: host.Steps) -> io.NodeOutput:
    """people: (batch of S* or None, strength) of every socket."""
    batches, strengths = zip(*((batch, strength) for batch, strength in people if batch is not None), strict=True)
    rows = [
        [Person(_of_class(s_star, class_word), strength) for s_star, strength in zip(row, strengths, strict=True)]
        for row in pair_up(batches)
    ]
    count = class_steps(alpha, len(steps))
    switch = steps.percent(count)
    early = [class_prompt(text, row) for row in rows]
    encoded = [host.encode_prompt(clip, text, row) for row in rows]
    late = host.batch_conditioning([item[0] for item in encoded])
    lines = [f'first {count} of {len(steps)} steps: "{prompt}"' for prompt in dict.fromkeys(early) if count]
    if count < len(steps):
        lines += [f"from step {count + 1} on:", *(describe_slots(slots, known) for _, slots, known in encoded)]
    parts = (host.during(_plain(clip, early), 0.0, switch) if count else []) + host.during(late, switch, 1.0)
    conditioning = late if count == 0 else parts[: -len(late)] if switch == 1 else parts
    return io.NodeOutput(conditioning, "\n".join(lines))


def _of_class(s_star: SStar, class_word: str) -> SStar:
    return replace(s_star, class_word=class_word.strip()) if class_word.strip() else s_star


def _plain(clip, prompts: Sequence[str]) -> list:
    """One prompt for all of a batch where they are the same, else one for each."""
    different = prompts if len(set(prompts)) > 1 else prompts[:1]
    return host.batch_conditioning([host.encode_text(clip, prompt) for prompt in different])


def schedule(
    clip, text: str, ends: Sequence, mapping, steps: host.Steps, change: tuple[float, float, int]
) -> io.NodeOutput:
    """ends: (batch of one S*, strength) of the first and the last steps. change: begin, end and mixtures of `ramp`."""
    ends = [(one_person(batch, "A schedule"), strength) for batch, strength in ends]
    stretches = ramp(len(steps), *change)
    conditioning, lines, progress = [], [], host.progress(len(stretches))
    for i, stretch in enumerate(stretches):
        person = _between(ends, stretch.share, mapping)
        encoded, slots, people = host.encode_prompt(clip, text, [person])
        where = (steps.percent(stretch.first), steps.percent(stretch.stop))
        conditioning += encoded if len(stretches) == 1 else host.during(encoded, *where)
        lines.append(
            f"steps {stretch.first + 1} to {stretch.stop}: {person.s_star.title}, strength {person.strength:.2f}"
        )
        progress(i + 1, len(stretches))
    return io.NodeOutput(conditioning, "\n".join([*lines, describe_slots(slots, people)]))


def _between(ends: Sequence[tuple[SStar, float]], share: float, mapping) -> Person:
    (first, strength), (last, strength_to) = ends
    same = first.vectors.shape == last.vectors.shape and torch.equal(first.vectors, last.vectors)
    person = first if same else blend([first, last], [1 - share, share], mapping)
    return Person(person, strength * (1 - share) + strength_to * share)


# --- over the picture ---


def regions(count: int, masks, faces, order: str, margin: float, to_bottom: bool) -> torch.Tensor:
    """(count, h, w) in 0..1: from masks, else from faces, else columns side by side."""
    if masks is not None:
        return require_masks(masks, count)
    if faces is None:
        return side_by_side(count)
    if len(faces.detections) != 1:
        raise MismatchError(
            f"The faces are of {len(faces.detections)} pictures, expected one that shows where people are to be. Give "
            "Detect Faces a single picture."
        )
    found = sort_faces(faces.detections[0].faces, order)
    if len(found) < count:
        raise NoFaceError(
            f"{_faces(len(found))} found for {count} people. Use a picture with a face for each, connect masks, or "
            "disconnect faces to place them side by side."
        )
    return around_faces([face.box for face in found[:count]], *faces.sizes[0], margin, to_bottom)


def _faces(count: int) -> str:
    return "1 face was" if count == 1 else f"{count} faces were"


def place_people(
    behind: list, people: Sequence[list], masks: torch.Tensor, feather: float, inside: float, node
) -> io.NodeOutput:
    masks = soften(masks, feather)
    conditioning = host.masked(behind, background(masks, inside))
    for person, mask in zip(people, masks, strict=True):
        conditioning += host.masked(person, mask)
    preview = sockets.image([draw_regions(masks)])
    return io.NodeOutput(conditioning, host.intermediate(masks), preview, ui=host.ui.PreviewImage(preview, cls=node))
