"""Vertebral levels: SCT's own values on a real mask, and tubes whose levels are known."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main

DATA = Path(__file__).parents[2] / "shared" / "data" / "levels"
needs_levels = pytest.mark.skipif(not DATA.is_dir(), reason="mask and levels are not at ../shared/data/levels")


def run_csv(tmp_path, *flags):
    """Rows of ``spineseg csa`` as a reader of its CSV sees them."""
    out = tmp_path / "csa.csv"
    assert main(["csa", *map(str, flags), "-o", str(out)]) == 0
    with out.open(newline="") as stream:
        return list(csv.DictReader(stream))


SCT_COLUMNS = (
    *("area_mm2", "diameter_ap_mm", "diameter_rl_mm", "eccentricity", "length_mm"),
    *("angle_ap_deg", "angle_rl_deg"),
)


def sct_rows():
    if not DATA.is_dir():
        return []
    with (DATA / "sct_values.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@needs_levels
@pytest.mark.parametrize("expected", sct_rows(), ids=lambda row: f"{row['call'][:9]} {row['level']}")
def test_as_sct(expected, tmp_path):
    words = expected["call"].split(" (")[0].split()
    flags = [DATA / word if word.endswith(".nii.gz") else word for word in words]
    rows = {row["slices"]: row for row in run_csv(tmp_path, "-i", DATA / "cord.nii.gz", *flags)}
    row = rows[expected["slices"]]
    for name in SCT_COLUMNS:
        got, sct = float(row[name.replace("area", "csa")]), float(expected[name])
        assert got == pytest.approx(sct, **({"abs": 0.5} if name.endswith("deg") else {"rel": 0.01})), name
    if "-discfile" in flags and expected["level"] == "3":  # disc 4 has no label: SCT takes level 4 for level 3
        assert (row["vert_level"], row["level"]) == ("3:4", "C3-C4")
        assert "disc 4 is missing" in row["note"]
    else:
        assert row["vert_level"] == expected["level"]
