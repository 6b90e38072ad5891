"""A study of real MRI with one image of each kind. Skipped if the data are not available."""

import json

import numpy as np
import pytest
from run_workflow import DATA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "bids").is_dir(), reason=f"no real images at {DATA}"),
]


FLOORS = {
    "T1w": {"propseg": 0.89, "deepseg": 0.91},
    "T2w": {"propseg": 0.89, "deepseg": 0.90},
    "T2star": {"propseg": 0.94, "deepseg": 0.94},
    "MTS": {"propseg": 0.91, "deepseg": 0.92},
    "dwi": {"propseg": 0.95, "deepseg": 0.94},
    "bold": {"propseg": 0.88, "deepseg": 0.88},
}
"""Least mean Dice by suffix and method: 0.03 below what was measured on 28 November 2026 (0.92 to 0.99). Networks
trained again move an image by up to 0.01, other versions of libraries by less; more than 0.03 is a fault."""


def test_one_of_each_suffix(make_study):
    """T1w, T2w, T2star of two sessions, MTS, dwi in 4-D and averaged, bold: all are as accurate as measured before."""
    study = make_study(
        bids_dir=str(DATA / "bids"),
        contrasts=list(FLOORS),
        subjects=["t1crop", "gmc10062", "unf05", "sct017", "errsm30", "errsm11"],
        excluded={"sub-errsm30_T2w": "its reference is the old output of a program"},
        references="derivatives/labels",
        forms="all",
    )
    study.run()
    rows = study.table("metrics.tsv")
    images = {row["image_id"] for row in rows}
    assert {row["suffix"] for row in rows} == set(FLOORS)
    assert len(images) == 14
    assert len(rows) == 2 * len(images)
    assert not [row for row in rows if row["status"] == "failed"]
    assert not [row["message"] for row in rows if "Error" in row["message"]]
    for suffix, floors in FLOORS.items():
        for method, floor in floors.items():
            chosen = [row["dice"] for row in rows if (row["suffix"], row["method"]) == (suffix, method)]
            scored = [float(dice) for dice in chosen if dice != "n/a"]
            assert scored, suffix
            assert np.mean(scored) >= floor, f"{method} on {suffix}: Dice {scored}, expected {floor} or more"
    decision = json.loads((study.results / "decision.json").read_text())
    assert decision["n_images"] == len(images) - 2  # a diffusion series and its average count once
