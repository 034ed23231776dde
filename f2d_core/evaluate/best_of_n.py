"""The best of several pictures: who it is, and what it shows, in one number.

Metrics as in the papers (Face2Diffusion 4.1): identity max(cos, 0), 0 without a face; CLIP max(cos, 0), SigLIP
sigmoid(s cos + b), with S* replaced by "a person". The papers choose by the harmonic mean of six metrics; here the
geometric mean of those present decides, since one metric near 0 should not decide alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chunks import weighted_spans
from ..constants import DEFAULT_CLASS_WORD
from ..errors import F2DError, PromptError, SettingsError
from ..ports import ImageTextExtractor, Progress
from ..prompt import find_markers, replace_markers, require_marker
from .judges import Work, in_batches
from .likeness import Likeness
from .metrics import clip_scores, geometric_mean, siglip_scores


@dataclass(frozen=True, eq=False)
class Ranking:
    """metrics: names, those of faces first. of_faces: how many those are. values: (P, M) in 0..1. faces: (P,) bool,
    which pictures have a face; all True where nobody looked. scores: (P,), the geometric means. order: indices, best
    first."""

    metrics: tuple[str, ...]
    of_faces: int
    values: np.ndarray
    faces: np.ndarray
    scores: np.ndarray
    order: tuple[int, ...]

    def best(self, keep: int) -> tuple[int, ...]:
        """The `keep` best, best first; all where there are fewer. Raises SettingsError for less than one."""
        if keep < 1:
            raise SettingsError(f"{keep} pictures are to be kept: expected at least 1.")
        return self.order[:keep]


def rank(likeness: Likeness | None, text: tuple[Sequence[str], np.ndarray], count: int) -> Ranking:
    """Order `count` pictures by how alike they are and how well they show the prompt, as far as that was judged.

    text: (names, (P, T) in 0..1) as `text_metrics` gives them. Pictures without a face come last, whatever they show;
    of equal ones the earlier picture comes first. Raises SettingsError where nothing was judged.
    """
    names, values = text
    faces, of_faces = np.ones(count, bool), 0
    if likeness is not None:
        names, faces, of_faces = (*likeness.judges, *names), likeness.found, len(likeness.judges)
        values = np.concatenate([likeness.metric(), values], axis=1)
    if not names:
        raise SettingsError(
            "Nothing can be judged: expected references and a network that judges identity, or a prompt and one that "
            "judges text. Connect the references, or write the prompt."
        )
    scores = geometric_mean(values)
    order = sorted(range(count), key=lambda i: (not faces[i], -scores[i], i))
    return Ranking(tuple(names), of_faces, values, faces, scores, tuple(order))


def text_metrics(
    pictures: Sequence[np.ndarray],
    prompt: str,
    judges: Sequence[ImageTextExtractor],
    progress: Progress | None = None,
) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """(names, (P, T) in 0..1, problems): how well each picture shows the prompt, by each judge that works.

    prompt: as `plain_prompt` gives it. `progress` counts pictures times judges.
    """
    work = Work(len(pictures) * len(judges), progress)
    names, columns, problems = [], [], []
    for judge in judges:
        try:
            columns.append(_text_scores(judge, pictures, prompt, work))
            names.append(judge.name)
        except F2DError as error:
            problems.append(str(error))
    values = np.stack(columns, axis=1) if columns else np.empty((len(pictures), 0))
    return tuple(names), values, tuple(problems)


def _text_scores(judge: ImageTextExtractor, pictures: Sequence[np.ndarray], prompt: str, work: Work) -> np.ndarray:
    text = judge.text_features([prompt]).double().numpy()
    image = in_batches(len(pictures), lambda part: judge.image_features(pictures[part]), work)
    text = np.broadcast_to(text, image.shape)
    if judge.logit_bias == 0:
        return clip_scores(image, text)
    return siglip_scores(image, text, judge.logit_scale, judge.logit_bias)


def plain_prompt(prompt: str, markers: str) -> str:
    """The prompt as a judge should read it: "a person" for every marker, no weights and their parentheses.

    markers: one, or several with commas between. Raises PromptError for an empty prompt or an impossible marker.
    """
    known = [require_marker(marker) for marker in markers.split(",") if marker.strip()]
    text = replace_markers(prompt, find_markers(prompt, known), [DEFAULT_CLASS_WORD] * len(known))
    plain = "".join(text[span.start : span.end] for span in weighted_spans(text)).replace("\\", "")
    plain = " ".join(plain.split())
    if not plain:
        raise PromptError("The prompt is empty: expected what the pictures should show. Write it, or leave it out.")
    return plain


def describe(ranking: Ranking, keep: int) -> str:
    """A line for each picture, best first, those kept marked."""
    lines = [f"Judged by {', '.join(ranking.metrics)}; the geometric mean decides."]
    for place, i in enumerate(ranking.order):
        words = f"{ranking.scores[i]:.3f}" if ranking.faces[i] else "no face found"
        kept = "kept" if place < keep else "not kept"
        lines.append(f"{place + 1}. picture {i}: {words} ({', '.join(_values(ranking, i))}), {kept}")
    return "\n".join(lines)


def _values(ranking: Ranking, i: int) -> list[str]:
    """Each metric of picture i; a dash for those that need a face it does not have."""
    missing = 0 if ranking.faces[i] else ranking.of_faces
    return ["-"] * missing + [f"{value:.2f}" for value in ranking.values[i, missing:]]
