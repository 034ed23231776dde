"""The report's files: values as scored, text escaped everywhere, one folder that can be moved, the paper's numbers."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from f2d_core.evaluate.cost import EncodeCost
from f2d_core.evaluate.judges import Judges
from f2d_core.evaluate.metrics import METRICS
from f2d_core.evaluate.paper_tables import OURS, main_table
from f2d_core.evaluate.plan import plan_from
from f2d_core.evaluate.plots import plots_of
from f2d_core.evaluate.report import write_report
from f2d_core.evaluate.results import Distances, collect
from f2d_core.evaluate.scoring import Scores
from f2d_core.evaluate.tables import best_of_rows, markdown, method_rows, notes, paper_table_rows
from f2d_core.evaluate.work import Photo
from f2d_core.image import write_png
from tests.support.evaluate_process import judges

TITLE = "<b>A & B</b> | `c`"
PLAN = {"title": TITLE, "paper": "face2diffusion", "pictures": 4, "methods": {"a": {}, "b": {}},
        "prompts": {"job & co": {"chef": "S* as a chef"}, "scene": {"sea": "S* at sea"}}}  # fmt: skip
FACES = ("ann<a", "ben", "cleo")
NAMES = (*METRICS, "hmean", "gmean")


@pytest.fixture
def plan():
    return plan_from(PLAN)


@pytest.fixture
def photos(tmp_path):
    return [Photo(face, write_png(tmp_path / "faces" / f"{i}.png", picture(i))) for i, face in enumerate(FACES)]


def picture(seed):
    return np.random.RandomState(seed).randint(0, 256, (40, 250, 3)).astype(np.uint8)


def some_judges(problems=()):
    found = judges()
    return Judges(tuple(found.identity.values()), tuple(found.image_text.values()), tuple(problems))


def scores_of(method, folder, shift=0.0, without=()):
    """4 pictures of 3 faces and 2 prompts, with scores drawn at random, all of them better by `shift`."""
    random = np.random.RandomState(len(method))
    keys = [(face, prompt, n) for face in FACES for prompt in ("chef", "sea") for n in range(4)]
    columns = {name: random.uniform(0.1, 0.5, len(keys)) + shift for name in NAMES if name not in without}
    paths = [write_png(folder / method / f"{i}.png", picture(100 + i)) for i in range(len(keys))]
    faces, prompts, numbers = (list(part) for part in zip(*keys, strict=True))
    groups = ["job & co" if prompt == "chef" else "scene" for prompt in prompts]
    found = np.arange(len(keys)) != 5
    return Scores(method, faces, prompts, groups, numbers, paths, found, columns)


@pytest.fixture
def scores(tmp_path):
    return [scores_of("a", tmp_path, 0.2), scores_of("b", tmp_path)]


def test_means_groups_best_of_n_and_comparison(plan, scores):
    found = collect(plan, scores, some_judges(), "fake")
    first = found.methods[0]
    hmean = scores[0].columns["hmean"]
    assert first.scores["hmean"].mean == pytest.approx(hmean.mean())
    assert first.scores["hmean"].low < hmean.mean() < first.scores["hmean"].high
    assert first.no_face == pytest.approx(1 / 24)
    assert first.groups["scene"]["clip"] == pytest.approx(scores[0].columns["clip"].reshape(3, 2, 4)[:, 1].mean())
    best = hmean.reshape(6, 4)
    assert first.best_of == pytest.approx({1: best[:, 0].mean(), 2: best[:, :2].max(1).mean(), 4: best.max(1).mean()})
    compared = {(metric, a, b): value for metric, a, b, value in found.comparisons}
    assert set(compared) == {(name, "a", "b") for name in NAMES}
    expected = (hmean - scores[1].columns["hmean"]).mean()
    assert compared["hmean", "a", "b"].difference.mean == pytest.approx(expected)
    assert found.complete


def test_what_is_not_measured_is_left_empty_not_0(plan, scores, tmp_path):
    bare = scores_of("c", tmp_path)
    bare.columns["dclip"][:] = np.nan
    bare.columns["hmean"][:] = np.nan
    found = collect(plan, [*scores, bare], some_judges(["AdaFace is damaged."]), "")
    last = found.methods[2]
    assert last.scores["dclip"] is None and last.groups["scene"]["dclip"] is None and last.best_of == {}
    assert last.no_face is None
    assert {(a, b) for metric, a, b, _ in found.comparisons if metric == "dclip"} == {("a", "b")}
    rows = method_rows(found)
    assert rows[3][rows[0].index("dCLIP")] == "–"
    assert any("Not measured: AdaFace is damaged." in note for note in notes(plan, found))


def test_what_is_measured_of_some_pictures_only_is_said(plan, scores):
    """Where reference pictures are lacking; tables agree on the mean, and a note says what it is of."""
    for name in ("dclip", "hmean", "gmean"):
        scores[0].columns[name][:3] = np.nan
    found = collect(plan, scores, some_judges(), "fake")
    values = scores[0].columns["dclip"]
    assert found.methods[0].scores["dclip"].mean == pytest.approx(values[3:].mean())
    assert found.methods[0].groups["job & co"]["dclip"] == pytest.approx(np.nanmean(values.reshape(3, 2, 4)[:, 0]))
    assert "a: dCLIP, hMean, gMean over 21 of 24 pictures; the others have no reference picture of their number." in (
        notes(plan, found)
    )
    assert not any("b: " in note for note in notes(plan, found))


def test_the_papers_numbers_stand_below_ours(plan, scores):
    found = collect(plan, scores, some_judges(), "fake")
    rows = paper_table_rows(plan, found)
    paper = main_table("face2diffusion").rows[OURS]
    assert rows[0] == [
        "Method",
        "Source",
        "AdaFace",
        "SphereFace",
        "FaceNet",
        "CLIP",
        "dCLIP",
        "SigLIP",
        "hMean",
        "gMean",
    ]
    assert rows[1][:3] == ["a", "measured here", f"{scores[0].columns['adaface'].mean():.4f}"]
    (own,) = [row for row in rows if row[0] == "Face2Diffusion"]
    assert own == ["Face2Diffusion", "paper, Table 1", *(f"{paper[name]:.4f}" for name in NAMES)]
    (masked,) = [row for row in rows if row[0] == "Masked reconstruction"]
    assert masked[1:4] == ["paper, Table 5", "0.3012", "–"] and masked[-1] == "0.1282"
    assert {row[1] for row in rows[1:]} >= {f"paper, Table {n}" for n in (1, 3, 4, 5, 6)}
    assert not any("Table 2" in row[1] for row in rows)  # FID alone, which was not measured
    assert any("headed hMean in the paper and holds gMean" in note for note in notes(plan, found))


def test_means_over_other_metrics_are_not_put_beside_the_papers(plan, tmp_path):
    found = judges()
    few = Judges((found.identity["adaface_ir50"],), (found.image_text["clip_h14"],))
    missing = ("sphereface", "facenet", "siglip")
    results = collect(plan, [scores_of("a", tmp_path, without=missing)], few, "fake")
    assert results.means_over == ["adaface", "clip", "dclip"] and not results.complete
    assert paper_table_rows(plan, results)[0] == ["Method", "Source", "AdaFace", "CLIP", "dCLIP"]
    assert any("cannot be compared with its numbers" in note for note in notes(plan, results))


def test_files_hold_the_scores(plan, photos, scores, tmp_path):
    results = collect(plan, scores, some_judges(), "fake", [Distances(1.5, 0.25, 0.1), None], 9)
    write_report(tmp_path / "report", plan, photos, scores, results, {"a": EncodeCost(12, 0.5, 3, "cpu")})
    folder = tmp_path / "report"
    rows = list(csv.DictReader(io.StringIO((folder / "pictures.csv").read_text("utf-8"))))
    assert len(rows) == 48
    assert (rows[5]["method"], rows[5]["face"], rows[5]["prompt"], rows[5]["number"]) == ("a", "ann<a", "sea", "1")
    assert rows[5]["face_found"] == "no" and rows[6]["face_found"] == "yes"
    assert float(rows[30]["clip"]) == pytest.approx(scores[1].columns["clip"][6], abs=1e-6)
    first = next(csv.DictReader(io.StringIO((folder / "methods.csv").read_text("utf-8"))))
    assert float(first["hmean"]) == pytest.approx(scores[0].columns["hmean"].mean(), abs=1e-6)
    assert float(first["hmean_low"]) < float(first["hmean"]) < float(first["hmean_high"])
    assert (first["fid"], first["kid"]) == ("1.5000", "0.250000")
    values = json.loads((folder / "results.json").read_text("utf-8"))
    assert values["methods"]["a"]["best_of"]["4"] == pytest.approx(results.methods[0].best_of[4], abs=1e-6)
    assert values["methods"]["b"]["distances"] is None and values["title"] == TITLE
    assert values["networks"]["siglip"] == {"name": "Fake SigLIP", "sha256": "8" * 64}
    costs = (folder / "costs.csv").read_text().splitlines()
    assert costs[:2] == ["method,trained_parameters,encode_seconds,device", "a,12,0.500000,cpu"]
    assert costs[-1] == 'Face2Diffusion,12000000,0.006,"A100, in the paper\'s Table 2"'
    beside = paper_table_rows(plan, results)
    assert beside[0][-1] == "FID" and beside[1][-1] == "1.5000" and beside[2][-1] == "–"
    assert ["FastComposer", "paper, Table 2"] in [row[:2] for row in beside]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]


def test_the_page_is_escaped_whole_and_can_be_moved(plan, photos, scores, tmp_path):
    page = write_report(tmp_path / "report", plan, photos, scores, collect(plan, scores, some_judges(), "fake"))
    text = page.read_text("utf-8")
    read = Page(text)
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in text and "<b>A" not in text and "ann&lt;a" in text and "ann<a" not in text
    assert "script" not in read.tags and not [link for link in read.links if re.match(r"[a-z]+:|/|\.\.", link)]
    moved = page.parent.rename(tmp_path / "moved folder")
    assert len(read.links) > 20 and all((moved / link).is_file() for link in read.links)
    assert "prefers-color-scheme:dark" in text and "costs.csv" not in text


def test_best_and_worst_are_shown(plan, photos, scores, tmp_path):
    page = write_report(tmp_path / "report", plan, photos, scores, collect(plan, scores, some_judges(), "fake"))
    part = page.read_text("utf-8").split("<h3>a</h3>")[1].split("<h3>b</h3>")[0].split("<summary>CLIP</summary>")[1]
    shown = [float(value) for value in re.findall(r"<b>([\d.]+)</b>", part.split("</details>")[0])]
    order = sorted(scores[0].columns["clip"])
    assert shown == pytest.approx([*order[::-1][:4], *order[:4]], abs=5e-5)


def test_a_report_written_again_is_the_same_and_forgets_old_pictures(plan, photos, scores, tmp_path):
    folder = tmp_path / "report"
    results = collect(plan, scores, some_judges(), "fake")
    write_report(folder, plan, photos, scores, results)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "pictures" / "old.jpg").write_bytes(b"x")
    write_report(folder, plan, photos, scores, results)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_plots_are_svg_that_stays_inside(plan, scores):
    plots = plots_of(collect(plan, scores, some_judges(), "fake"))
    assert set(plots) == {"scores.svg", "groups.svg", "best_of_n.svg"}
    for text in plots.values():
        root = ElementTree.fromstring(text)
        _, _, width, height = map(float, root.get("viewBox").split())
        for item in root.iter():
            for name, most in (("x", width), ("y", height), ("y1", height), ("y2", height), ("cy", height)):
                assert item.get(name) is None or 0 <= float(item.get(name)) <= most
    bars = [item for item in ElementTree.fromstring(plots["scores.svg"]).iter() if item.tag.endswith("rect")]
    assert len(bars) == 2 * 8 + 2  # methods, metrics, legend


def test_plots_of_nothing_but_zeros_and_of_negative_scores(plan, tmp_path):
    zeros = scores_of("a", tmp_path)
    for values in zeros.columns.values():
        values[:] = 0
    negative = scores_of("b", tmp_path)
    negative.columns["clip"] -= 2
    for text in plots_of(collect(plan, [zeros, negative], some_judges(), "fake")).values():
        assert "nan" not in text
        ElementTree.fromstring(text)


def test_markdown_is_escaped(plan, scores):
    text = markdown(plan, list(FACES), collect(plan, scores, some_judges(), "fake"))
    assert text.startswith("# \\<b\\>A & B\\</b\\> \\| \\`c\\`\n")
    table = text.split("## Scores\n\n")[1].split("\n\n")[0].splitlines()
    assert len({line.count("|") for line in table}) == 1


def test_no_best_of_n_without_means(plan, tmp_path):
    found = collect(plan, [scores_of("a", tmp_path, without=("hmean", "gmean"))], some_judges(), "fake")
    assert best_of_rows(found) == [["Method"]] and "best_of_n.svg" not in plots_of(found)
