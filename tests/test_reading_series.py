"""4-D series: which volumes are averaged, where b-values are found, and NaN."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from spineseg.errors import InputError
from spineseg.series import find_bval
from spineseg.volume import load_image

AFFINE = np.diag([-1, 1, 3, 1.0])
SHAPE = (6, 7, 4, 5)
B_VALUES = "0 5 800 800 1000\n"


def series(path, data=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32) if data is None else data
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path, data


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a volume", "a slice of two", "a voxel of all", "scattered"])
# row: NaN or infinity in some volumes | mean of the finite values of each voxel, note
def test_the_mean_uses_finite_values_only(tmp_path, bad, where):
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    if where == "a volume":
        data[..., 2] = bad
    elif where == "a slice of two":
        data[:, :, 1, [0, 3]] = bad
    elif where == "a voxel of all":
        data[2, 3, 1] = bad
    else:
        data[np.random.default_rng(1).random(SHAPE) < 0.2] = bad
    path, _ = series(tmp_path / "a.nii.gz", data)
    volume, grid = load_image(path, contrast="t2")
    masked = np.ma.masked_invalid(data)
    np.testing.assert_allclose(volume.data, masked.mean(axis=3).filled(0), rtol=1e-6)
    n_spoilt = int((~np.isfinite(data)).any(axis=(0, 1, 2)).sum())
    assert f"{n_spoilt} of 5 volumes hold NaN or infinite values" in grid.notes[1]
    assert ("were read as 0" in grid.notes[-1]) == bool(masked.mask.all(axis=3).any())


def test_nan_in_volumes_that_are_not_averaged_is_ignored(tmp_path):
    path, data = series(tmp_path / "d.nii.gz")
    data[..., 0] = np.nan
    series(path, data)
    path.with_name("d.bval").write_text(B_VALUES)
    volume, grid = load_image(path, contrast="dwi")
    np.testing.assert_allclose(volume.data, data[..., 2:].mean(axis=3), rtol=1e-6)
    assert len(grid.notes) == 1


IMAGE = "sub-01/ses-2/dwi/sub-01_ses-2_acq-b1000_run-1_dwi.nii.gz"


@pytest.mark.parametrize(
    "bval",
    [
        "dwi.bval",
        "acq-b1000_dwi.bval",
        "sub-01/sub-01_dwi.bval",
        "sub-01/sub-01_acq-b1000_dwi.bval",
        "sub-01/sub-01_run-1_dwi.bval",
        "sub-01/ses-2/sub-01_ses-2_dwi.bval",
        "sub-01/ses-2/dwi/sub-01_ses-2_dwi.bval",
        "sub-01/ses-2/dwi/sub-01_ses-2_run-1_dwi.bval",
        "sub-01/ses-2/dwi/sub-01_ses-2_acq-b1000_run-1_dwi.bval",
    ],
)
# row: `.bval` in the folder of the image, session, subject or dataset | found; the closest wins, then most entities
def test_b_values_are_inherited(tmp_path, bval):
    path, data = series(tmp_path / IMAGE)
    (tmp_path / bval).write_text(B_VALUES)
    assert find_bval(path) == tmp_path / bval
    volume, grid = load_image(path, contrast="dwi")
    np.testing.assert_allclose(volume.data, data[..., 2:].mean(axis=3), rtol=1e-5)
    assert "mean of 3 of 5 volumes" in grid.notes[0]


@pytest.mark.parametrize(
    "bval",
    [
        "sub-01/sub-01_acq-b2000_dwi.bval",
        "sub-01/ses-2/dwi/sub-01_ses-2_run-2_dwi.bval",
        "sub-02/sub-02_dwi.bval",
        "sub-01/ses-3/dwi/sub-01_ses-3_dwi.bval",
        "sub-01/sub-01_dir-AP_dwi.bval",
        "sub-01/sub-01_bold.bval",
        "../dwi.bval",
    ],
)
# row: `.bval` with an entity that the image does not have | ignored
# row: dwi without b-values, or without b > 50 s/mm² | mean of all volumes, note
def test_b_values_of_other_images_are_not_used(tmp_path, bval):
    path, data = series(tmp_path / "data" / IMAGE)
    (tmp_path / "data" / bval).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / bval).write_text(B_VALUES)
    assert find_bval(path) is None
    volume, grid = load_image(path, contrast="dwi")
    np.testing.assert_allclose(volume.data, data.mean(axis=3), rtol=1e-5)
    assert grid.notes == ("mean of 5 volumes: all of them, since no b-values were found",)


# row: with `test_b_values_are_inherited`
def test_the_closest_b_values_win_and_then_those_with_most_entities(tmp_path):
    path, _ = series(tmp_path / IMAGE)
    order = ["dwi.bval", "sub-01/sub-01_acq-b1000_dwi.bval", "sub-01/ses-2/dwi/sub-01_ses-2_dwi.bval"]
    order += ["sub-01/ses-2/dwi/sub-01_ses-2_run-1_dwi.bval", IMAGE.replace(".nii.gz", ".bval")]
    for name in order:
        (tmp_path / name).write_text(B_VALUES)
        assert find_bval(path) == tmp_path / name


# row: two `.bval` that fit equally well | refused
def test_two_equally_good_b_value_files_are_refused(tmp_path):
    path, _ = series(tmp_path / IMAGE)
    for name in ("sub-01_run-1_dwi.bval", "sub-01_acq-b1000_dwi.bval"):
        (tmp_path / "sub-01" / name).write_text(B_VALUES)
    with pytest.raises(InputError, match=r"found sub-01_acq-b1000_dwi.bval and sub-01_run-1_dwi.bval"):
        load_image(path, contrast="dwi")


def test_without_sessions_and_by_a_relative_path(tmp_path, monkeypatch):
    path, _ = series(tmp_path / "sub-01" / "dwi" / "sub-01_dwi.nii.gz")
    (tmp_path / "dwi.bval").write_text(B_VALUES)
    assert find_bval(path) == tmp_path / "dwi.bval"
    monkeypatch.chdir(path.parent)
    assert find_bval(path.name).resolve() == tmp_path / "dwi.bval"


def test_outside_a_dataset_only_the_images_own_folder_is_searched(tmp_path):
    path, _ = series(tmp_path / "scans" / "sub-01_run-1_dwi.nii.gz")
    (tmp_path / "dwi.bval").write_text(B_VALUES)
    assert find_bval(path) is None
    (tmp_path / "scans" / "sub-01_dwi.bval").write_text(B_VALUES)
    assert find_bval(path) == tmp_path / "scans" / "sub-01_dwi.bval"


# row: with `test_b_values_of_other_images_are_not_used`
def test_a_series_without_weighted_volumes_says_so(tmp_path):
    path, _ = series(tmp_path / "d.nii.gz")
    path.with_name("d.bval").write_text("0 0 5 5 50")
    assert load_image(path, contrast="dwi")[1].notes == ("mean of 5 volumes: all of them, since none has b > 50 s/mm²",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"0 5 800", "expected 5 b-values for d.nii.gz, found 3"),
        (b"0 5 800 800 x", "expected b-values (numbers)"),
        (b"0 5 800 800 nan", "expected b-values of 0 to 100000 s/mm², found nan"),
        (b"0 5 800 800 inf", "expected b-values of 0 to 100000 s/mm², found inf"),
        (b"0 5 800 800 -1000", "expected b-values of 0 to 100000 s/mm², found -1000"),
        (b"0 5 800 800 1e9", "expected b-values of 0 to 100000 s/mm², found 1e+09"),
        (B_VALUES.encode("utf-16-le"), "line 1: expected text in UTF-8, found a NUL byte"),
        (b"0\xff 5 800 800 1000", "line 1: expected text in UTF-8, found the byte 0xff"),
        (b"", "expected 5 b-values for d.nii.gz, found 0"),
    ],
)
# row: b-values that are not numbers, negative, above 100 000 s/mm², or too few | refused
def test_bad_b_values_are_one_line(tmp_path, text, words):
    path, _ = series(tmp_path / "d.nii.gz")
    path.with_name("d.bval").write_bytes(text)
    with pytest.raises(InputError) as caught:
        load_image(path, contrast="dwi")
    assert words in str(caught.value)
    assert "d.bval" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", [B_VALUES.replace(" ", "\t"), "\ufeff" + B_VALUES, B_VALUES.replace("\n", " \r\n\r\n")]
)
# row: byte-order mark, tabs, Windows line endings in b-values | read
def test_byte_order_marks_and_foreign_line_ends_are_read(tmp_path, text):
    path, data = series(tmp_path / "d.nii.gz")
    path.with_name("d.bval").write_bytes(text.encode())
    np.testing.assert_allclose(load_image(path, contrast="dwi")[0].data, data[..., 2:].mean(axis=3), rtol=1e-5)


def test_finding_b_values_does_not_import_numpy():
    import subprocess
    import sys

    code = "import sys, spineseg.series; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
