"""A study of real MRI: one image of each kind there is. Skipped where the data are not at hand."""

import json

import pytest
from run_workflow import DATA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "bids").is_dir(), reason=f"no real images at {DATA}"),
]


def test_one_of_each_suffix(make_study):
    """T1w, T2star of two sessions, MTS, dwi in 4-D and averaged, bold; T2w is tested by the scorer."""
    study = make_study(
        bids_dir=str(DATA / "bids"),
        contrasts=["T1w", "T2w", "T2star", "MTS", "dwi", "bold"],
        subjects=["t1crop", "gmc10062", "unf05", "sct017", "errsm30"],
        excluded={"sub-errsm30_T2w": "too large for a test"},
        references="derivatives/labels",
    )
    study.run()
    rows = study.table("metrics.tsv")
    images = {row["image_id"] for row in rows}
    assert {row["suffix"] for row in rows} == {"T1w", "T2star", "MTS", "dwi", "bold"}
    assert len(images) == 13
    assert len(rows) == 2 * len(images)
    assert not [row for row in rows if row["status"] == "failed"]
    assert not [row["message"] for row in rows if "Error" in row["message"]]
    with_reference = [float(row["dice"]) for row in rows if row["dice"] != "n/a"]
    assert len(with_reference) >= 10
    decision = json.loads((study.results / "decision.json").read_text())
    assert decision["n_images"] == len(images)
