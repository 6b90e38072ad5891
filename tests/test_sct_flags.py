"""Flags of SCT in centerline, dice and qc, and a clear message for values that have no meaning here."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from spineseg.cli import main

AFFINE = np.array([[0, 0, -1.5, 12.0], [-1, 0, 0, 30.0], [0, 2.0, 0, -5.0], [0, 0, 0, 1]])  # axes P S L


@pytest.fixture
def mask(tmp_path):
    data = np.zeros((30, 20, 24), np.uint8)  # from front to back, upwards, to the left
    for k in range(3, 17):
        i = 10.3 + 0.25 * k
        data[:, k] = (np.hypot(np.arange(30)[:, None] - i, (np.arange(24)[None] - 11.4) * 1.5) < 4.5).astype(np.uint8)
    nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / "seg.nii.gz")
    return tmp_path / "seg.nii.gz"


def test_soft_centerline_has_the_curve_as_its_center_of_mass(mask, tmp_path):
    out = tmp_path / "line"
    flags = ["-i", str(mask), "-method", "fitseg", "-o", str(out), "-centerline-soft", "1", "-r", "1", "-v", "0"]
    assert main(["centerline", *flags]) == 0
    soft = np.asarray(nib.load(f"{out}.nii.gz").dataobj)
    assert soft.dtype == np.float32
    points = np.loadtxt(f"{out}.csv", delimiter=",")
    for i, k, j in points:
        section = soft[:, round(k)]
        assert section.sum() == pytest.approx(1.0)
        found = (np.indices(section.shape) * section).sum(axis=(1, 2))
        np.testing.assert_allclose(found, [i, j], atol=1e-5)
    assert main(["csa", "-i", str(mask), "-centerline", f"{out}.nii.gz", "-o", str(tmp_path / "csa.csv")]) == 0


def test_space_of_the_table_is_that_of_the_file_or_of_the_scanner(mask, tmp_path):
    tables = {}
    for space in ("pix", "phys"):
        flags = ["-i", str(mask), "-method", "fitseg", "-o", str(tmp_path / space), "-space", space, "-v", "0"]
        assert main(["centerline", *flags]) == 0
        tables[space] = np.loadtxt(tmp_path / f"{space}.csv", delimiter=",")
    np.testing.assert_allclose(tables["phys"], tables["pix"] @ AFFINE[:3, :3].T + AFFINE[:3, 3], atol=1e-6)


def test_centerlines_have_a_quality_control_page(mask, tmp_path, capsys):
    flags = ["-i", str(mask), "-method", "fitseg", "-o", str(tmp_path / "line"), "-qc", str(tmp_path / "qc")]
    assert main(["centerline", *flags, "-qc-subject", "me"]) == 0
    assert "xdg-open" in capsys.readouterr().out
    (entry,) = (json.loads(path.read_text()) for path in (tmp_path / "qc" / "entries").glob("*.json"))
    assert entry["subject"] == "me"
    assert entry["methods"][0]["name"] == "centerline"
    assert entry["picture"]
    line = str(tmp_path / "line.nii.gz")
    assert main(["qc", "-i", str(mask), "-s", line, "-plane", "Sagittal", "-qc", str(tmp_path / "qc2")]) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dice_of_the_slices_of_an_axis_of_the_file(mask, tmp_path, axis, capsys):
    image = nib.load(mask)
    other = np.asarray(image.dataobj).copy()
    other[:12] = 0
    nib.save(nib.Nifti1Image(other, AFFINE), tmp_path / "other.nii.gz")
    flags = ["-i", str(mask), "-d", str(tmp_path / "other.nii.gz"), "-2d-slices", str(axis), "--json", "-v", "0"]
    assert main(["dice", *flags]) == 0
    got = json.loads(capsys.readouterr().out)["slice_dice"]
    a, b = (np.moveaxis(np.asarray(one) > 0, axis, 0) for one in (image.dataobj, other))
    expected = {
        str(k): 2 * (x & y).sum() / (x.sum() + y.sum()) for k, (x, y) in enumerate(zip(a, b, strict=True)) if x.any()
    }
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["centerline", "-method", "viewer"], "there is no viewer here"),
        (["deepseg", "-c", "t2", "-centerline", "svm"], "found by the detector"),
        (["deepseg", "-c", "t2", "-centerline", "viewer"], "there is no viewer here"),
        (["propseg", "-c", "t2", "-init-centerline", "viewer"], "there is no viewer here"),
        (["propseg", "-c", "t2", "-init-centerline", "hough"], "leave it out"),
        (["propseg", "-c", "t2", "-init-mask", "viewer"], "there is no viewer here"),
    ],
)
def test_options_without_meaning_here_are_explained(mask, capsys, flags, words):
    assert main([*flags, "-i", str(mask)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
