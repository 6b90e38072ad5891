"""A study of phantoms with labelled discs: its area at C2-C3 is the true one, from labels of one image per person."""

from __future__ import annotations

import numpy as np
from run_workflow import Study, read_table

from spineseg.phantom.anatomy import cord_area_mm2
from spineseg.phantom.dataset import draw_person, write_dataset
from spineseg.phantom.discs import LABEL_S_MM

SEED, C2_C3_S_MM = 1, -40.0


def true_area(index):
    """Mean area of a person's cord from C1/C2 to C3/C4, mm²."""
    person = draw_person(SEED, index)
    return cord_area_mm2(person, np.linspace(LABEL_S_MM[0], LABEL_S_MM[2], 201) * person.height).mean()


def test_area_at_c2_c3_within_two_percent_for_each_contrast(tmp_path):
    bids, contrasts = tmp_path / "bids", ["T1w", "T2w", "T2star"]
    write_dataset(bids, 2, SEED, contrasts=contrasts, hard="none", discs=True, target_s_mm=C2_C3_S_MM)
    labels = bids / "derivatives" / "labels"
    for path in labels.rglob("*_label-*"):  # one labelled image serves the session
        if "label-SC" not in path.name and "_T2w_" not in path.name:
            path.unlink()
    study = Study(tmp_path / "work", bids_dir=str(bids), contrasts=contrasts, methods=["propseg"], levels=["C2-C3"])
    study.run()
    rows = read_table(study.results / "tables" / "csa.tsv")
    assert len(rows) == 6
    for contrast in contrasts:
        own = [row for row in rows if row["suffix"] == contrast]
        found = np.mean([float(row["csa_mm2"]) for row in own])
        true = np.mean([true_area(int(row["subject"]) - 1) for row in own])
        assert abs(found / true - 1) < 0.02, (contrast, found, true)
        assert {row["level"] for row in own} == {"C2-C3"}
        assert {row["flags"] for row in own} <= {"n/a", ""}
        assert all("_T2w_label-discs_dlabel" in row["levels_from"] for row in own)
    methods = read_table(study.results / "tables" / "levels.tsv")
    assert [row["csa_mm2"] for row in methods] == [row["csa_mm2"] for row in rows]
    assert (study.results / "report.html").is_file()
    assert "C2-C3" in (study.results / "report.html").read_text()
