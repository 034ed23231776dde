"""The papers' numbers as data, and what they say of themselves: what is averaged first, which header is wrong."""

import numpy as np
import pytest

from f2d_core.evaluate.metrics import METRICS, geometric_mean, harmonic_mean
from f2d_core.evaluate.paper_tables import (
    DREAMIDENTITY,
    FACE2DIFFUSION,
    OURS,
    TABLES,
    main_table,
    tables_of,
)


def table(place, paper=FACE2DIFFUSION):
    (found,) = (table for table in tables_of(paper) if table.place == place)
    return found


def test_tables_and_rows():
    places = [table.place for table in tables_of(FACE2DIFFUSION)]

    assert places == ["Table 1", "Table 2", "Table 3", "Table 4", "Table 5", "Section 5", "Table 6"]
    assert [table.place for table in tables_of(DREAMIDENTITY)] == ["Table 1", "Table 2", "Figure 5", "Figure 6"]
    assert len(table("Table 1").rows) == 10 and len(table("Table 6").rows) == 3
    for each in TABLES:
        columns = {tuple(row) for row in each.rows.values()}
        assert (len(columns) == 1 and OURS in each.rows) or each.place == "Figure 6"
    assert main_table(FACE2DIFFUSION).place == main_table(DREAMIDENTITY).place == "Table 1"
    assert main_table("another") is None and tables_of("another") == ()


def test_the_numbers_that_are_printed_twice_agree():
    ours = table("Table 1").rows[OURS]

    assert table("Table 6").rows[OURS] == ours
    for place in ("Table 3", "Table 4", "Table 5"):
        assert table(place).rows[OURS] == {name: ours[name] for name in ("adaface", "clip", "gmean")}


def test_the_column_headed_hmean_holds_gmean():
    ours = table("Table 1").rows[OURS]

    for place in ("Table 3", "Table 4", "Table 5"):
        rows, note = table(place).rows, table(place).note
        assert rows[OURS]["gmean"] == ours["gmean"] != ours["hmean"]
        assert all("hmean" not in row for row in rows.values()) and "headed hMean" in note


@pytest.mark.parametrize("place", ["Table 1", "Table 6"])
def test_means_of_the_column_averages_do_not_give_the_printed_means(place):
    """The paper averages the means of single pictures, of which many are 0; from its averages they cannot be had."""
    for row in table(place).rows.values():
        averages = np.array([[row[name] for name in METRICS]])
        harmonic, geometric = harmonic_mean(averages)[0], geometric_mean(averages)[0]

        # By Jensen, the mean of a concave function is at most the function of the mean.
        assert row["hmean"] < 0.65 * harmonic and row["gmean"] < 0.8 * geometric


def test_the_ratios_that_were_checked_by_hand():
    """shared/facts/training.md, section 5: 0.316 against 0.175 for Face2Diffusion, and others."""
    rows = table("Table 1").rows
    expected = {OURS: 0.316, "FastComposer": 0.264, "CelebBasis": 0.243, "DreamBooth": 0.281, "E4T": 0.119}

    for method, mean in expected.items():
        assert harmonic_mean([[rows[method][name] for name in METRICS]])[0] == pytest.approx(mean, abs=6e-4)


def test_the_best_of_each_column_as_the_paper_ranks_it():
    rows = table("Table 1").rows

    def best(metric):
        return max(rows, key=lambda method: rows[method][metric])

    assert [best(metric) for metric in ("adaface", "sphereface", "facenet")] == ["CustomDiffusion"] * 3
    assert [best(metric) for metric in ("clip", "dclip", "siglip")] == ["CelebBasis", "FastComposer", OURS]
    assert best("hmean") == best("gmean") == OURS
    costs = table("Table 2")
    assert min(costs.rows, key=lambda method: costs.rows[method]["fid"]) == OURS
    assert costs.smaller_is_better == {"fid", "parameters", "seconds"}
