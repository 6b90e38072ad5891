"""One chunk's masks to its three tables."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.study.measure import (
    AGREEMENT_COLUMNS,
    METRICS_COLUMNS,
    SLICES_COLUMNS,
    format_table,
    measure_chunk,
    write_tables,
)

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
SHAPE = (32, 32, 12)


def cord(first=0, last=12, radius=8.0):
    i, j, k = np.indices(SHAPE)
    return (np.hypot(i - 15.5, j - 15.5) < radius) & (k >= first) & (k < last)


def read(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


class Study:
    """A results folder with masks given as arrays; None is a failed image."""

    def __init__(self, folder: Path):
        self.results = folder / "results" / "demo"
        self.results.mkdir(parents=True)
        self.table = self.results / "images.tsv"
        self.rows: list[dict] = []
        self.manifests: dict[str, list[dict]] = {}

    def save(self, name, mask, affine=AFFINE):
        path = self.results / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
        return path

    def save_image(self, name, data):
        path = self.results / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data.astype(np.float32), AFFINE), path)
        return path

    def add(self, subject, masks, reference=None, affines=None, image=None, uncertainty=None):
        image_id = f"sub-{subject}_T2w"
        row = {
            "image_id": image_id,
            "subject": subject,
            "suffix": "T2w",
            "contrast": "t2",
            "session": "n/a",
            "run": "n/a",
        }
        row["path"] = "n/a" if image is None else str(self.save_image(image_id, image))
        row["reference"] = "n/a" if reference is None else str(self.save(f"{image_id}_ref", reference))
        self.rows.append(row)
        for method, mask in masks.items():
            entry = {"image_id": image_id, "status": "failed", "message": "no cord\timage", "mask": None}
            entry |= {"mask_sha256": None, "seconds": 2.5, "peak_mb": 100.0}
            if mask is not None:
                path = self.save(f"{image_id}_{method}", mask, (affines or {}).get(method, AFFINE))
                entry |= {"mask": path.name, "mask_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                entry |= {"status": "ok" if mask.any() else "empty", "message": ""}
                sidecar = path.with_name(f"{image_id}_{method}.json")
                sidecar.write_text(json.dumps({"SliceUncertainty": uncertainty} if uncertainty else {}))
                entry["sidecar"] = sidecar.name
            self.manifests.setdefault(method, []).append(entry)

    def write(self, chunk="c1"):
        columns = list(self.rows[0])
        self.table.write_text(format_table(columns, self.rows))
        for method, entries in self.manifests.items():
            path = self.results / "chunks" / method / f"{chunk}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"dataset": "demo", "method": method, "chunk": chunk, "images": entries}))
        return self

    def measure(self, methods=("a", "b")):
        self.write()
        return measure_chunk(self.table, self.results, "c1", methods)


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_two_methods_with_reference(study):
    study.add("01", {"a": cord(), "b": cord(3, 12)}, reference=cord(2, 8))
    tables = study.measure()
    a, b = tables.metrics
    assert (a["method"], a["status"], a["coverage"], a["dice"]) == ("a", "ok", 1.0, 1.0)
    assert b["coverage"] == pytest.approx(9 / 12)
    assert b["dice"] == pytest.approx(10 / 11)
    assert (a["seconds"], a["peak_mb"]) == (2.5, 100.0)
    agreement = tables.agreement[0]
    assert agreement["dice"] == pytest.approx(18 / 21)
    assert agreement["min_slice_dice"] == 1
    assert agreement["csa_difference_mm2"] == pytest.approx(0)
    assert agreement["nsd_tolerance_mm"] == 0.5
    assert len(tables.slices) == 12 + 9
    assert tables.slices[12]["slice"] == 3
    np.testing.assert_allclose([tables.slices[12][f"centroid_{x}_mm"] for x in "xyz"], [-7.75, 7.75, 6.0], atol=1e-9)


def test_failed_and_empty_are_rows(study):
    study.add("01", {"a": None, "b": cord()}, reference=cord())
    study.add("02", {"a": cord() & False, "b": cord()})
    study.add("03", {"a": None, "b": None})
    study.add("04", {"a": cord() & False, "b": cord() & False})
    rows = {(r["subject"], r["method"]): r for r in study.measure().metrics}
    failed = rows["01", "a"]
    assert (failed["status"], failed["coverage"], failed["dice"], failed["n_slices"]) == ("failed", 0.0, 0.0, 0)
    empty = rows["02", "a"]
    assert (empty["status"], empty["coverage"], empty["n_components"]) == ("empty", 0.0, 0)
    assert rows["03", "a"]["coverage"] is None
    assert np.isnan(rows["04", "a"]["coverage"])
    agreement = {r["subject"]: r for r in study.measure().agreement}
    assert "dice" not in agreement["01"]
    assert agreement["02"]["dice"] == 0
    assert np.isnan(agreement["02"]["hd95_mm"])
    assert np.isnan(agreement["04"]["dice"])


def test_one_and_three_methods(study):
    study.add("01", {"a": cord(), "b": cord(2), "c": cord(0, 5)})
    assert len(study.measure(["a"]).metrics) == 1
    tables = study.measure(["a", "b", "c"])
    assert [(r["method_a"], r["method_b"]) for r in tables.agreement] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tables.metrics[2]["coverage"] == pytest.approx(5 / 12)


def test_other_grid_is_that_methods_failure(study):
    study.add("01", {"a": cord(), "b": cord()}, affines={"b": np.diag([-0.5, 0.5, 3.0, 1.0])})
    rows = study.measure().metrics
    assert [r["status"] for r in rows] == ["ok", "failed"]
    assert "affine" in rows[1]["message"]


def test_bad_reference_is_said(study):
    study.add("01", {"a": cord(), "b": cord()}, reference=np.ones((3, 3, 3), bool))
    study.add("02", {"a": cord(), "b": cord()}, reference=cord() & False)
    rows = study.measure().metrics
    assert "reference not used" in rows[0]["message"]
    assert "empty" in rows[2]["message"]
    assert "dice" not in rows[0]


def test_changed_mask_is_refused(study):
    study.add("01", {"a": cord(), "b": cord()})
    study.write()
    study.save("sub-01_T2w_a", cord(1))
    with pytest.raises(InputError, match="another checksum"):
        measure_chunk(study.table, study.results, "c1", ["a", "b"])
    (study.results / "sub-01_T2w_a.nii.gz").unlink()
    with pytest.raises(InputError, match="no file"):
        measure_chunk(study.table, study.results, "c1", ["a", "b"])


def test_manifests_must_agree(study):
    study.add("01", {"a": cord(), "b": cord()})
    study.add("02", {"a": cord()})
    with pytest.raises(InputError, match="sub-02_T2w is in one method's manifest only"):
        study.measure()
    with pytest.raises(InputError, match="no such manifest"):
        study.measure(["a", "z"])


def test_bytes_are_stable(study, tmp_path):
    study.add("01", {"a": cord(), "b": cord(3)}, reference=cord())
    study.add("02", {"a": None, "b": cord(3)})
    study.write()
    command = [
        "measure",
        "-table",
        str(study.table),
        "-results",
        str(study.results),
        "-chunk",
        "c1",
        "-methods",
        "a",
        "b",
    ]
    for name in ("x", "y"):
        assert main([*command, "-prefix", str(tmp_path / name / "all.c1")]) == 0
    for end, columns in (
        ("metrics.tsv", METRICS_COLUMNS),
        ("agreement.tsv", AGREEMENT_COLUMNS),
        ("slices.tsv.gz", SLICES_COLUMNS),
    ):
        first, second = (tmp_path / name / f"all.c1.{end}" for name in ("x", "y"))
        assert first.read_bytes() == second.read_bytes()
        assert tuple(read(first)[0]) == columns
    failed = read(tmp_path / "x" / "all.c1.metrics.tsv")[2]
    assert (failed["message"], failed["csa_mean_mm2"]) == ("no cord image", "n/a")


def test_bounds_of_plausible(study, tmp_path, capsys):
    study.add("01", {"a": cord(radius=3)})
    study.write()
    (tmp_path / "bounds.json").write_text('{"min_csa_mm2": 1, "min_diameter_mm": 1}')
    command = ["measure", "-table", str(study.table), "-results", str(study.results), "-chunk", "c1", "-methods", "a"]
    assert main([*command, "-prefix", str(tmp_path / "x")]) == 0
    assert main([*command, "-prefix", str(tmp_path / "y"), "-bounds", str(tmp_path / "bounds.json")]) == 0
    assert [read(tmp_path / f"{n}.metrics.tsv")[0]["plausible"] for n in "xy"] == ["0", "1"]
    (tmp_path / "bounds.json").write_text('{"min_csa": 1}')
    assert main([*command, "-prefix", str(tmp_path / "y"), "-bounds", str(tmp_path / "bounds.json")]) == 2
    assert "min_csa_mm2" in capsys.readouterr().err


def test_empty_chunk(study, tmp_path):
    study.add("01", {"a": cord()})
    study.manifests = {"a": []}
    tables = study.measure(["a"])
    write_tables(tables, tmp_path / "empty")
    assert (tmp_path / "empty.metrics.tsv").read_text() == "\t".join(METRICS_COLUMNS) + "\n"


def picture(radius=8.0):
    """A cord of 4 mm in fluid in tissue, on a grid with room around it."""
    shape = (96, 96, 12)
    i, j, _ = np.indices(shape)
    away = np.hypot(i - 47.5, j - 47.5)
    image = np.where(away < radius, 100.0, np.where(away < 15, 300.0, 180.0))
    return image + np.random.default_rng(0).normal(0, 5, shape), away < radius


def test_predicted_dice_needs_the_image_and_sees_size(study):
    image, mask = picture()
    large = picture(12.0)[1]
    study.add("01", {"a": mask, "b": large}, image=image)
    study.add("02", {"a": mask, "b": mask & False}, image=image)
    study.add("03", {"a": cord(), "b": None})
    rows = {(r["subject"], r["method"]): r for r in study.measure().metrics}
    good, bad = rows["01", "a"], rows["01", "b"]
    assert bad["predicted_dice"] < good["predicted_dice"] - 0.1
    assert bad["edge_offset_mm"] == pytest.approx(-2.0, abs=0.3)
    assert bad["flagged"] == 1
    for row in (good, bad):
        assert 0 <= row["predicted_dice_low"] <= row["predicted_dice"] <= row["predicted_dice_high"] <= 1
    assert (rows["02", "b"]["predicted_dice"], rows["02", "b"]["flagged"]) == (0.0, 1)
    assert (rows["03", "b"]["predicted_dice"], rows["03", "b"]["flagged"]) == (0.0, 1)
    assert "predicted_dice" not in rows["03", "a"]  # the table names no image
    again = {(r["subject"], r["method"]): r for r in study.measure(("b", "a")).metrics}
    assert again["01", "a"]["predicted_dice"] == good["predicted_dice"]  # whatever else ran


def test_an_image_that_cannot_be_read_costs_the_prediction_only(study):
    image, mask = picture()
    study.add("01", {"a": mask, "b": mask}, reference=mask, image=image)
    study.add("02", {"a": mask, "b": mask}, image=image[:, :, :5])
    (study.results / "sub-01_T2w.nii.gz").write_bytes(b"")
    for row in study.measure().metrics:
        assert "predicted_dice" not in row
        assert "quality not predicted" in row["message"]
        assert ("guessed_contrast" in row) is (row["subject"] == "02")  # read, but of another shape
        assert row["n_slices"] == 12


def test_the_methods_own_doubt(study):
    doubt = [None, 0.1, 0.2, *[0.3] * 9]
    study.add("01", {"a": cord(1), "b": cord()}, uncertainty=doubt)
    study.add("02", {"a": cord(), "b": cord()}, uncertainty=doubt[:5])  # of another image
    study.add("03", {"a": cord(), "b": cord()})
    tables = study.measure()
    rows = {(r["subject"], r["method"]): r for r in tables.metrics}
    assert rows["01", "a"]["uncertainty"] == pytest.approx(np.mean(doubt[1:]))
    assert "uncertainty" not in rows["02", "a"]
    assert "uncertainty" not in rows["03", "a"]
    slices = [r for r in tables.slices if r["image_id"] == "sub-01_T2w" and r["method"] == "a"]
    assert [r["uncertainty"] for r in slices] == doubt[1:]
