"""The whole way: names and prompts become pictures, pictures get scores, the best become triplets to train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import NoFaceError
from ..ports import Detector, IdentityExtractor, ImageTextExtractor, PictureMaker, Progress
from .clean import Candidate, Ranked, best
from .names import NameList
from .pictures import Pictures
from .plan import EditJob, FaceJob, Shard, check_prompts, edit_jobs, face_jobs
from .report import write_report
from .scores import HeldOut, Scores, read_held_out
from .settings import AugmentSettings
from .store import PATH, REPORT, SCORED_BY, Made, Record, Store


@dataclass(frozen=True)
class Models:
    """What a data set is made with. Neither network that scores should be one that judges results later."""

    pictures: PictureMaker
    detector: Detector
    identity: IdentityExtractor
    text: ImageTextExtractor


@dataclass(frozen=True)
class Augmented:
    """The state of a folder. outstanding: pictures and scores that other processes have still to make; 0 when done."""

    folder: Path
    outstanding: int
    faces: int = 0
    rejected: tuple[tuple[str, str], ...] = ()  # (path of the face, why)
    edited: int = 0
    without_face: int = 0
    kept: int = 0
    others: int = 0  # pictures in the folder that are not in the plan any more


def augment(
    names: NameList,
    prompts: Sequence[str],
    out: str | Path,
    models: Models,
    settings: AugmentSettings | None = None,
    *,
    held_out_faces: str | Path | None = None,
    shard: Shard | None = None,
    making: Progress | None = None,
    scoring: Progress | None = None,
) -> Augmented:
    """Make the editing data of these names in the folder `out`, or go on with it.

    May be stopped at any moment; the next call goes on, and the result is the same. Several processes may share the
    work, each with its `shard`; the one that finds all of it done ranks the pictures and writes the lists and the
    contact sheet. Names may come and go between two calls, prompts may be added at the end. making and scoring count
    what is not there yet. held_out_faces: a folder of test faces; whoever looks like one of them is left out.
    Raises CacheError when `out` holds something else or was made otherwise, NoFaceError when nothing can be kept,
    OutputError, PromptError, SettingsError, ImageError, MismatchError.
    """
    settings, shard, out = settings or AugmentSettings(), shard or Shard(), Path(out)
    prompts = check_prompts(prompts)
    plan = _Plan(face_jobs(names.names, settings), prompts, settings)
    held_out = read_held_out(held_out_faces, models.detector, models.identity) if held_out_faces else None
    with Store(out, _made(names, prompts, models, settings, held_out), shard) as store:
        scores = Scores(out, models.detector, models.identity, models.text, settings, held_out)
        mine = replace(plan, faces=shard.of(plan.faces))
        _make(mine, store, Pictures(out, models.pictures, models.detector, settings), making)
        _score(mine, store, scores, scoring)
        with store.alone():
            outstanding = len(_unmade(plan, store)) + len(_unscored(plan, store, scores))
            if outstanding:
                return Augmented(out, outstanding)
            return _finish(plan, store, scores)


@dataclass(frozen=True)
class _Plan:
    faces: Sequence[FaceJob]
    prompts: tuple[str, ...]
    settings: AugmentSettings

    def edits(self, face: FaceJob) -> list[EditJob]:
        return edit_jobs(face, self.prompts, self.settings)

    def kept_faces(self, store: Store) -> list[FaceJob]:
        """Those that are there and not rejected."""
        records = ((face, store.picture(face.path)) for face in self.faces)
        return [face for face, record in records if record is not None and "rejected" not in record]


def _made(
    names: NameList, prompts: Sequence[str], models: Models, settings: AugmentSettings, held_out: HeldOut | None
) -> Made:
    others = {
        "choice": settings.of_choice(),
        "scores": {kind: [part.name, part.sha256] for kind, part in _scorers(models).items()},
        "held_out_faces": list(held_out.names) if held_out else [],
        "names": list(names.names),
        "merged_names": [asdict(entry) for entry in names.merged],
        "held_out_names": [asdict(entry) for entry in names.held_out],
    }
    made_by = {"pictures": models.pictures.key, "detector": models.detector.name}
    return Made(settings.of_pictures(), made_by, list(prompts), others)


def _scorers(models: Models) -> dict[str, IdentityExtractor | ImageTextExtractor]:
    return {"identity": models.identity, "text": models.text}


# --- making ---


def _unmade(plan: _Plan, store: Store) -> list[FaceJob | EditJob]:
    """Pictures that are still to be made; the edits of a face that may be rejected yet included."""
    todo: list[FaceJob | EditJob] = []
    for face in plan.faces:
        record = store.picture(face.path)
        if record is None:
            todo.append(face)
        if record is None or "rejected" not in record:
            todo += [edit for edit in plan.edits(face) if store.picture(edit.path) is None]
    return todo


def _make(plan: _Plan, store: Store, pictures: Pictures, progress: Progress | None) -> None:
    todo = _unmade(plan, store)
    for done, job in enumerate(todo, start=1):
        if isinstance(job, FaceJob):
            store.add(pictures.face(job))
        elif "rejected" not in store.picture(job.face.path):
            store.add(pictures.edit(job))
        if progress is not None:
            progress(done, len(todo))


# --- scoring ---


def _unscored(plan: _Plan, store: Store, scores: Scores) -> list[FaceJob | EditJob]:
    todo: list[FaceJob | EditJob] = []
    for face in plan.kept_faces(store):
        if scores.faces_by and store.score(face.path, scores.faces_by) is None:
            todo.append(face)
        todo += [edit for edit in plan.edits(face) if store.score(edit.path, scores.edits_by) is None]
    return todo


def _score(plan: _Plan, store: Store, scores: Scores, progress: Progress | None) -> None:
    todo = _unscored(plan, store, scores)
    for done, job in enumerate(todo, start=1):
        if isinstance(job, FaceJob):
            store.add(scores.face(store.picture(job.path)))
        else:
            store.add(scores.edit(job, store.picture(job.face.path)))
        if progress is not None:
            progress(done, len(todo))


# --- choosing ---


def _finish(plan: _Plan, store: Store, scores: Scores) -> Augmented:
    """Rank, and write what the folder is for. Raises NoFaceError when nothing can be kept."""
    faces, rejected = _sorted_out(plan, store, scores)
    ranked = _ranked(plan, faces, store, scores)
    by_path = {r.candidate.path: r for prompt in ranked for r in prompt}
    lines = list(_picture_lines(plan, rejected, by_path, store, scores))
    kept = [_triplet(line, store) for line in lines if line.get("kept")]
    if not store.finished:
        edits = {edit.path: edit for face in faces for edit in plan.edits(face)}
        write_report(store.folder / REPORT, store.folder, plan.prompts, ranked, edits, rejected)
        store.finish(lines, kept)
    if not kept:
        raise NoFaceError(_nothing_kept(plan, rejected, store.folder))
    return Augmented(
        store.folder,
        0,
        faces=len(faces),
        rejected=tuple(rejected.items()),
        edited=len(by_path),
        without_face=sum(r.candidate.identity is None for r in by_path.values()),
        kept=len(kept),
        others=len(store.known) - len(plan.faces) - sum(len(plan.edits(f)) for f in plan.kept_faces(store)),
    )


def _sorted_out(plan: _Plan, store: Store, scores: Scores) -> tuple[list[FaceJob], dict[str, str]]:
    """(faces whose edits count, path -> why of the others)."""
    kept, rejected = [], {}
    for face in plan.faces:
        reason = store.picture(face.path).get("rejected") or _held_out_reason(face, plan.settings, store, scores)
        if reason:
            rejected[face.path] = reason
        else:
            kept.append(face)
    return kept, rejected


def _held_out_reason(face: FaceJob, settings: AugmentSettings, store: Store, scores: Scores) -> str:
    score = store.score(face.path, scores.faces_by) if scores.faces_by else None
    if score is None or score["similarity"] < settings.held_out_similarity:
        return ""
    return (
        f"The face is like the held-out {score['like']}: similarity {score['similarity']:.2f}, expected less than "
        f"{settings.held_out_similarity:g}."
    )


def _ranked(plan: _Plan, faces: Sequence[FaceJob], store: Store, scores: Scores) -> list[list[Ranked]]:
    """For every prompt its pictures, best first."""
    candidates: list[list[Candidate]] = [[] for _ in plan.prompts]
    for face in faces:
        for edit in plan.edits(face):
            score = store.score(edit.path, scores.edits_by)
            candidates[edit.prompt_index].append(Candidate(edit.path, score["identity"], score["text"]))
    return [best(of_prompt, plan.settings.keep) for of_prompt in candidates]


def _picture_lines(
    plan: _Plan, rejected: dict[str, str], ranked: dict[str, Ranked], store: Store, scores: Scores
) -> Iterator[Record]:
    """A line of pictures.jsonl for every picture in the folder, those first that are in the plan, in its order."""
    left = dict(store.known)
    for face in plan.faces:
        record = left.pop(face.path)
        score = store.score(face.path, scores.faces_by) if scores.faces_by else None
        reason = {} if "rejected" in record or face.path not in rejected else {"left_out": rejected[face.path]}
        yield {**record, **reason, **({SCORED_BY: scores.faces_by, **score} if score else {})}
        for edit in plan.edits(face):
            record = left.pop(edit.path, None)
            if record is not None:
                yield {**record, SCORED_BY: scores.edits_by, **_scored(edit, ranked, store, scores)}
    for path in sorted(left):
        yield {**left[path], "left_out": "Its name, prompt or number is not in the list any more."}


def _scored(edit: EditJob, ranked: dict[str, Ranked], store: Store, scores: Scores) -> Record:
    score = store.score(edit.path, scores.edits_by) or {}
    place = ranked.get(edit.path)
    return {**score, **({"rank": place.rank, "kept": place.kept} if place else {"kept": False})}


def _triplet(line: Record, store: Store) -> Record:
    """A line of kept.jsonl: what training reads."""
    facts = {name: line[name] for name in ("prompt", "name", "identity", "text", "rank", "seed", "rgb_sha256")}
    return {"face": line["face"], "image": line[PATH], **facts, "points": store.known[line["face"]]["points"]}


def _nothing_kept(plan: _Plan, rejected: dict[str, str], folder: Path) -> str:
    if len(rejected) == len(plan.faces):
        path, reason = next(iter(rejected.items()))
        return (
            f"None of the {len(rejected)} source pictures can be used; the first, {path}: {reason} All reasons are in "
            f"{folder}. Use a model that knows these names, or another detector."
        )
    return (
        f"No edited picture shows a face, so that none is kept; see {folder / REPORT}. Use a model that knows these "
        "names, other prompts, or another detector."
    )
