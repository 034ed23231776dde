"""How alike pictures are to a person, and what that means.

The score of a picture is its cosine with the references, averaged over them; as a metric it is cut off at 0, and 0
where no face was found (Face2Diffusion 4.1). What a number means depends on the network and on the person. Several
references of one person show it: with the picture among them, each photo is compared with all others, and the rank of
the picture says how usual it is (conformal prediction, Vovk et al. 2005). If it were one more photo of the person,
taken as the references were, it would be the least alike of all n + 1 in one case of n + 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..detect import Face
from ..errors import F2DError, NoFaceError
from ..image import rgb_sha256
from ..ports import IdentityExtractor, Progress
from .drawing import FAIR, GOOD, POOR, UNKNOWN, Note
from .judges import Portraits, Work, in_batches
from .metrics import geometric_mean, unit

# Cosine from which two photos are commonly taken for one person, where the authors of a network have given a figure:
# kind -> (cosine, where). The rough figure of AdaFace's first author, github.com/mk-minchul/AdaFace, issue 161.
TYPICAL = {"adaface": (0.3, "its author's rough figure")}

NO_FACE, BELOW, LOW, WITHIN, ABOVE, UNDECIDED = "no face", "below", "low", "within", "above", "undecided"
_LEVELS = {NO_FACE: UNKNOWN, BELOW: POOR, LOW: FAIR, WITHIN: GOOD, ABOVE: GOOD, UNDECIDED: UNKNOWN}
FEW = 3  # references from which a rank says something, and a stranger among them shows
_EQUAL = 1e-9  # cosines this near are the same but for rounding
_STRANGER = 0.5  # a reference with less than this part of the median own score is asked about


@dataclass(frozen=True)
class Verdict:
    """state: NO_FACE; BELOW the person's own photos, in the lower half of them (LOW), in the upper (WITHIN), ABOVE
    them; with one reference BELOW or ABOVE the typical figure, or UNDECIDED."""

    state: str
    words: str


@dataclass(frozen=True, eq=False)
class Likeness:
    """What the judges found, of P pictures and R references.

    scores: (P, J) float64, the mean cosine with the references; NaN where there is no face. ranks: (P, J), how many
    references are no more alike to all the others, the picture included, than the picture is; NaN where there is no
    face, or one reference. own: (R, J), each reference's mean cosine with the other references; NaN for one that was
    left out, or is the only one. left_out: reference -> why. copies: picture -> the reference that it is, pixel by
    pixel. judges, kinds: their names; problems: of those that failed.
    """

    judges: tuple[str, ...]
    kinds: tuple[str, ...]
    scores: np.ndarray
    ranks: np.ndarray
    own: np.ndarray
    left_out: dict[int, str]
    copies: dict[int, int]
    problems: tuple[str, ...] = ()

    @property
    def found(self) -> np.ndarray:
        """(P,) bool: which pictures have a face."""
        return ~np.isnan(self.scores).all(axis=1)

    @property
    def used(self) -> int:
        """How many references were compared with."""
        return len(self.own) - len(self.left_out)

    def metric(self) -> np.ndarray:
        """(P, J) in 0..1, as the evaluation protocol counts: max(cos, 0), and 0 without a face."""
        return np.nan_to_num(np.maximum(self.scores, 0), nan=0.0)

    def overall(self) -> np.ndarray:
        """(P,) in 0..1: the geometric mean of all judges; NaN without a face."""
        return np.where(self.found, geometric_mean(self.metric()), np.nan)


def compare(
    pictures: Portraits, references: Portraits, judges: Sequence[IdentityExtractor], progress: Progress | None = None
) -> Likeness:
    """Every picture with all references, by every judge; `progress` counts faces times judges.

    The same reference picture given twice counts once. A judge that fails is left out. Raises NoFaceError when no
    reference has a face, and the first judge's error when none is left.
    """
    left_out = _left_out(references)
    kept = [i for i in range(len(references.pictures)) if i not in left_out]
    if not kept:
        raise NoFaceError(
            f"None of the {len(references.pictures)} references has a face that can be used, expected at least one. "
            "Choose photos where the face is larger, sharper or less turned."
        )
    faces, own = pictures.only(np.flatnonzero(pictures.found)), references.only(kept)
    work = Work((len(faces.pictures) + len(kept)) * len(judges), progress)
    columns, names, problems = [], [], []
    for judge in judges:
        try:
            columns.append(_cosines(judge, faces, own, work))
            names.append((judge.name, getattr(judge, "kind", "")))
        except F2DError as error:
            problems.append(error)
    if not columns:
        raise problems[0]
    with_face, count = np.flatnonzero(pictures.found), len(pictures.pictures)
    return Likeness(
        tuple(name for name, _ in names),
        tuple(kind for _, kind in names),
        _placed([given.mean(axis=1) for given, _ in columns], with_face, count),
        _placed([_ranks(given, among) for given, among in columns], with_face, count),
        _placed([_leave_one_out(among) for _, among in columns], kept, len(references.pictures)),
        left_out,
        _copies(pictures, references),
        tuple(str(problem) for problem in problems),
    )


def _left_out(references: Portraits) -> dict[int, str]:
    first: dict[str, int] = {}
    left_out = {}
    for i, (rgb, points) in enumerate(zip(references.pictures, references.points, strict=True)):
        if points is None:
            left_out[i] = "has no face that can be used"
        elif (original := first.setdefault(rgb_sha256(rgb), i)) != i:
            left_out[i] = f"is the same picture as {original}"
    return left_out


def _copies(pictures: Portraits, references: Portraits) -> dict[int, int]:
    known = {rgb_sha256(rgb): i for i, rgb in reversed(list(enumerate(references.pictures)))}
    hashes = [rgb_sha256(rgb) for rgb in pictures.pictures]
    return {i: known[name] for i, name in enumerate(hashes) if name in known}


def _cosines(judge: IdentityExtractor, faces: Portraits, own: Portraits, work: Work) -> tuple[np.ndarray, np.ndarray]:
    """(faces with references, references with each other), float64."""
    reference = unit(_features(judge, own, work))
    given = unit(_features(judge, faces, work).reshape(-1, reference.shape[1]))
    return given @ reference.T, reference @ reference.T


def _features(judge: IdentityExtractor, portraits: Portraits, work: Work) -> np.ndarray:
    def rows(part: slice):
        return judge.features(portraits.pictures[part], portraits.points[part])

    return in_batches(len(portraits.pictures), rows, work)


def _ranks(given: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(P, n) cosines of pictures, (n, n) of the references -> (P,): see Likeness.ranks."""
    n = len(among)
    if n == 1:
        return np.full(len(given), np.nan)
    others = among.sum(axis=1) - among.diagonal()  # of each reference with the other references
    least = (others + given) / n  # (P, n), and with the picture
    return (least <= given.mean(axis=1, keepdims=True) + _EQUAL).sum(axis=1).astype(np.float64)


def _leave_one_out(among: np.ndarray) -> np.ndarray:
    """(n, n) cosines -> (n,): the mean of each row without its diagonal; NaN for a single one."""
    n = len(among)
    if n == 1:
        return np.full(1, np.nan)
    return (among.sum(axis=1) - among.diagonal()) / (n - 1)


def _placed(columns: list[np.ndarray], rows: Sequence[int], count: int) -> np.ndarray:
    """Columns of some rows -> (count, J), NaN in the other rows."""
    placed = np.full((count, len(columns)), np.nan)
    placed[list(rows)] = np.stack(columns, axis=1)
    return placed


# --- what the numbers mean ---


def verdict(score: float, rank: float, references: int, kind: str = "") -> Verdict:
    """What a score (NaN: no face) with a rank among so many references (NaN: there is one only) means, in words.

    kind: of the judge, for the typical figure where there is one reference only.
    """
    if np.isnan(score):
        return Verdict(NO_FACE, "no face found")
    if np.isnan(rank):
        return _typical(score, kind)
    few = "" if references >= FEW else " (two references say little: give more)"
    if rank == 0:
        return Verdict(BELOW, f"less alike than any of the {references} references{few}")
    if rank == references:
        return Verdict(ABOVE, f"at least as alike as each of the {references} references{few}")
    least = f"at least as alike as {rank:.0f} of the {references} references{few}"
    if 2 * rank < references:
        return Verdict(LOW, f"at the lower end of the person's own photos: {least}")
    return Verdict(WITHIN, f"like another photo of the person: {least}")


def _typical(score: float, kind: str) -> Verdict:
    figure = next((value for prefix, value in TYPICAL.items() if kind.startswith(prefix)), None)
    if figure is None:
        return Verdict(UNDECIDED, "one reference, so no verdict: give several photos of the person")
    cosine, source = figure
    state, side = (ABOVE, "above") if score >= cosine else (BELOW, "below")
    return Verdict(state, f"{side} {cosine:g}, where photos of one person commonly begin ({source})")


def judged(likeness: Likeness, i: int, j: int) -> Verdict:
    """The verdict of judge j on picture i."""
    return verdict(likeness.scores[i, j], likeness.ranks[i, j], likeness.used, likeness.kinds[j])


# --- in words ---


def describe(likeness: Likeness) -> str:
    """A line for each picture, counted from 0, below what was compared by whom."""
    lines = [f"Judged by {', '.join(likeness.judges)}. {_references(likeness)}"]
    lines += [f"Not used: {problem}" for problem in likeness.problems]
    lines += [f"{i}: {_line(likeness, i)}" for i in range(len(likeness.scores))]
    return "\n".join([*lines, *_remarks(likeness)])


def _line(likeness: Likeness, i: int) -> str:
    if not likeness.found[i]:
        return judged(likeness, i, 0).words
    parts = []
    for j, name in enumerate(likeness.judges):
        words = judged(likeness, i, j).words
        label = f"{name} " if len(likeness.judges) > 1 else ""
        parts.append(f"{label}{likeness.scores[i, j]:.2f}, {words}")
    copy = f" (the same picture as reference {likeness.copies[i]})" if i in likeness.copies else ""
    return "; ".join(parts) + copy


def _references(likeness: Likeness) -> str:
    words = [f"{likeness.used} reference{'s' if likeness.used > 1 else ''}"]
    words += [f"number {i} {why}" for i, why in likeness.left_out.items()]
    return "; ".join(words) + "."


def _remarks(likeness: Likeness) -> list[str]:
    """How far the references go, and whether one of them looks like somebody else."""
    if likeness.used < 2:
        return []
    lines = []
    for j, name in enumerate(likeness.judges):
        own = [f"{value:.2f}" for value in likeness.own[:, j] if not np.isnan(value)]
        lines.append(f"{name}: the references among each other {', '.join(own)}.")
    lines.append(f"Of further photos of the person, one in {likeness.used + 1} would be less alike than any reference.")
    return lines + [_stranger(i, likeness) for i in strangers(likeness)]


def _stranger(i: int, likeness: Likeness) -> str:
    return f"Reference {i} is much less alike to the others ({likeness.own[i, 0]:.2f}): is it the same person?"


def strangers(likeness: Likeness) -> list[int]:
    """References (of at least three) that the first judge finds less than half as alike to the others as is usual."""
    if likeness.used < FEW:
        return []
    own = likeness.own[:, 0]
    return np.flatnonzero(own < _STRANGER * np.nanmedian(own)).tolist()


def note(likeness: Likeness, i: int, face: Face | None) -> Note:
    """For `drawing.draw_notes`: picture i with its face framed, the verdict of every judge below."""
    if not likeness.found[i]:
        return Note(None, UNKNOWN, "", ((UNKNOWN, f"{i}: no face found"),))
    lines = []
    for j, name in enumerate(likeness.judges):
        given = judged(likeness, i, j)
        lines.append((_LEVELS[given.state], f"{i}: {name} {likeness.scores[i, j]:.2f}, {given.words}"))
    return Note(face, lines[0][0], f"{likeness.overall()[i]:.2f}", tuple(lines))


def table(likeness: Likeness) -> str:
    """CSV for other programs: picture, judge, score, rank, references, verdict; empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("picture", "judge", "score", "rank", "references", "verdict"))
    for i, j in np.ndindex(likeness.scores.shape):
        score, rank = likeness.scores[i, j], likeness.ranks[i, j]
        texts = ("" if np.isnan(score) else f"{score:.4f}", "" if np.isnan(rank) else f"{rank:.0f}")
        writer.writerow((i, likeness.judges[j], *texts, likeness.used, judged(likeness, i, j).state))
    return stream.getvalue()
