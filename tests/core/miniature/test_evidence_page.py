"""docs/evidence.md says what docs/evidence/evidence.json says, number by number, and shows every table."""

import json
import re
from pathlib import Path

import pytest

from f2d_core.miniature.evidence_page import sections, verdict

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "evidence.md").read_text(encoding="utf-8")
SECTIONS = sections(json.loads((DOCS / "evidence" / "evidence.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_the_page_shows_the_table_and_marks_its_orderings(section):
    assert f"](evidence/{section.name}.png)" in PAGE and (DOCS / "evidence" / f"{section.name}.png").is_file()
    for row in section.verdicts[1] if section.verdicts else ():
        assert f"| {' | '.join(row)} |" in PAGE


def test_the_page_marks_nothing_else():
    known = {f"| {' | '.join(row)} |" for own in SECTIONS if own.verdicts for row in own.verdicts[1]}

    assert {line for line in PAGE.splitlines() if re.search(r"\| (holds|does not hold)", line)} == known


def test_an_ordering_against_the_paper_says_so():
    against = {"difference": -0.02, "spread": 0.01, "low": -0.03, "high": -0.01, "paper_difference": 0.05}

    assert verdict("a > b", {**against, "holds": False, "certain": True}) == [
        "a > b",
        "-0.020 ± 0.010",
        "-0.030 to -0.010",
        "+0.05",
        "does not hold",
    ]
