"""A study of phantoms with labelled discs: area at C2-C3 and its change, from labels of one image per session."""

from __future__ import annotations

import numpy as np
import pytest
from run_workflow import Study, read_table

from spineseg.phantom.anatomy import cord_area_mm2
from spineseg.phantom.dataset import draw_person, write_dataset
from spineseg.phantom.discs import LABEL_S_MM

SEED, C2_C3_S_MM = 1, -40.0


def true_area(index):
    """Mean area of a person's cord from C1/C2 to C3/C4, mm²."""
    person = draw_person(SEED, index)
    return cord_area_mm2(person, np.linspace(LABEL_S_MM[0], LABEL_S_MM[2], 201) * person.height).mean()


def test_area_at_c2_c3_within_two_percent_for_each_contrast_and_session(tmp_path):
    bids, contrasts = tmp_path / "bids", ["T1w", "T2w", "T2star"]
    write_dataset(bids, 1, SEED, contrasts=contrasts, hard="none", rescan=True, discs=True, target_s_mm=C2_C3_S_MM)
    labels = bids / "derivatives" / "labels"
    for path in labels.rglob("*_label-*"):  # one labelled image per session
        if "label-SC" not in path.name and "_T2w_" not in path.name:
            path.unlink()
    times = "session_id\tacq_time\nses-1\t2024-03-01T09:00:00\nses-2\t2026-03-01T09:00:00\n"
    (bids / "sub-01" / "sub-01_sessions.tsv").write_text(times)
    more = {"levels": ["C2-C3"], "follow_up": ["1", "2"]}
    study = Study(tmp_path / "work", bids_dir=str(bids), contrasts=contrasts, methods=["propseg"], **more)
    study.run()
    rows = read_table(study.results / "tables" / "csa.tsv")
    assert len(rows) == 6
    for row in rows:
        assert abs(float(row["csa_mm2"]) / true_area(0) - 1) < 0.02, (row["image_id"], row["csa_mm2"], true_area(0))
        assert row["level"] == "C2-C3"
        assert row["flags"] in ("n/a", "")
        assert f"sub-01_ses-{row['session']}_T2w_label-discs_dlabel" in row["levels_from"]
        assert float(row["level_coverage"]) > 0.99
    methods = read_table(study.results / "tables" / "levels.tsv")
    assert [row["csa_mm2"] for row in methods if row["level"] == "C2-C3"] == [row["csa_mm2"] for row in rows]
    assert {"C2", "C3", "C4"} < {row["level"] for row in methods}  # the report draws the cord along all levels
    areas = {(row["suffix"], row["session"]): float(row["csa_mm2"]) for row in rows}
    changes = read_table(study.results / "tables" / "change.tsv")
    assert sorted(row["suffix"] for row in changes) == sorted(contrasts)
    for row in changes:
        before, after = (areas[row["suffix"], session] for session in "12")
        assert float(row["change_pct"]) == pytest.approx(100 * (after / before - 1), abs=0.01)
        assert float(row["years"]) == pytest.approx(2.0, abs=0.01)
    assert (study.results / "figures" / "csa_levels.svg").is_file()
    assert "C2-C3" in (study.results / "report.html").read_text()
