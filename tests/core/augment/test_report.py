"""The contact sheet: the best and the worst of each prompt, whatever their names and number."""

import numpy as np
import pytest

from f2d_core.augment import report as module
from f2d_core.augment.clean import Candidate, best
from f2d_core.augment.plan import edit_jobs, face_jobs
from f2d_core.augment.report import write_report
from f2d_core.augment.settings import AugmentSettings
from f2d_core.image import read_image, write_png


@pytest.fixture
def sheet(tmp_path):
    """sheet(prompts, faces, …) -> the sheet as (H, W, 3); red source faces, edits the brighter the better."""

    def make(prompts, names=("Ada Lovelace",), faces=12, rejected=None, gone=False):
        settings = AugmentSettings(faces_per_name=faces)
        jobs = face_jobs(names, settings)
        edits = {edit.path: edit for face in jobs for edit in edit_jobs(face, prompts, settings)}
        if not gone:
            for edit in edits.values():
                write_png(tmp_path / edit.face.path, np.full((20, 20, 3), (255, 0, 0), np.uint8))
                write_png(tmp_path / edit.path, np.full((32, 16, 3), (0, 0, 200 - 10 * edit.face.number), np.uint8))
        ranked = [
            best([Candidate(path, 0.9 - e.face.number / 20, 0.5) for path, e in edits.items() if e.prompt == p], 0.25)
            for p in prompts
        ]
        return read_image(write_report(tmp_path / "report.png", tmp_path, prompts, ranked, edits, rejected or {}))

    return make


def blues(page):
    """The blue of the edited pictures from the left to the right, row by row."""
    pure = (page[..., 0] < 8) & (page[..., 1] < 8) & (page[..., 2] > 40)
    rows = np.flatnonzero(pure.sum(axis=1) > 50)
    found = []
    for y in rows[np.diff(rows, prepend=-9) > 1] + 60:
        columns = np.flatnonzero(pure[y])
        found.append([int(page[y, x, 2]) for x in columns[np.diff(columns, prepend=-9) > 1] + 20])
    return found


def test_best_and_worst_are_shown_beside_their_faces(sheet):
    page = sheet(["S* as a chef"])

    assert blues(page) == [[200, 190, 180, 170, 160], [130, 120, 110, 100, 90]]
    assert ((page == (255, 0, 0)).all(axis=2).sum()) == 10 * 150 * 150


def test_few_pictures_are_shown_once(sheet):
    assert blues(sheet(["S* as a chef"], faces=7)) == [[200, 190, 180, 170, 160], [150, 140]]


def test_every_prompt_has_its_rows_up_to_a_number(sheet, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PROMPTS", 2)
    assert len(blues(sheet(["S* a", "S* b", "S* c"], faces=1))) == 2


def test_reasons_are_counted(sheet):
    rejected = {f"faces/{i}.png": "No face was found." if i % 2 else "Too small." for i in range(9)}
    assert sheet(["S* a"], faces=1, rejected=rejected).shape[0] > sheet(["S* a"], faces=1).shape[0] + 60


def test_pictures_that_are_gone_and_names_in_any_script_do_not_stop_it(sheet):
    page = sheet(["S* as a chef " + "x" * 250], names=("山田 太郎", "Sinéad O’Connor", "A" * 80), faces=1, gone=True)
    assert page.shape[1] == 1604 and blues(page) == []
