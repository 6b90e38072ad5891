"""Odd headers: units, sizes, orientations and slopes, each read, noted or refused in one line."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal

from spineseg.errors import InputError
from spineseg.methods.external import read_mask
from spineseg.volume import load_image, load_mask, save_volume, stored

SHAPE = (12, 14, 6)


def write(path, *, affine=None, shape=SHAPE, unit="mm", sform=1, qform=1, dtype=np.float32, **fields):
    """Write an image; `fields` are set in the raw header, after nibabel has written it."""
    affine = np.diag([-0.5, 0.5, 3.0, 1.0]) if affine is None else np.asarray(affine, float)
    data = np.random.default_rng(0).integers(1, 200, shape).astype(dtype)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, sform)
    if qform is not None:
        image.set_qform(affine, qform)
    image.header.set_xyzt_units(unit)
    raw = bytearray(image.to_bytes())
    header = np.ndarray((), nib.nifti1.header_dtype, buffer=raw)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(raw)
    return path


def scaled(*edges, offset=(0, 0, 0)):
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = offset
    return affine


@pytest.mark.parametrize(
    ("unit", "edges", "in_mm"),
    [
        ("micron", (500, 500, 3000), (0.5, 0.5, 3)),
        ("micron", (60, 60, 300), (0.06, 0.06, 0.3)),
        ("meter", (0.0005, 0.0005, 0.003), (0.5, 0.5, 3)),
        ("meter", (0.001, 0.002, 0.025), (1, 2, 25)),
    ],
)
@pytest.mark.parametrize("sform", [0, 1])
# row: micron with voxels above 50, metre with voxels below 0.05 | converted, note
def test_other_units_are_converted_and_reported(tmp_path, unit, edges, in_mm, sform):
    path = write(tmp_path / "a.nii", affine=scaled(*edges, offset=edges), unit=unit, sform=sform)
    volume, grid = load_image(path)
    np.testing.assert_allclose(volume.zooms, in_mm, rtol=1e-6)
    np.testing.assert_allclose(np.abs(grid.affine[:3, 3]), in_mm, rtol=1e-6)
    assert "converted to mm" in grid.notes[0]
    save_volume(tmp_path / "m.nii", volume.data > 100, grid)
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii").affine, nib.load(path).affine)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.nii", like=grid)[0].data, volume.data > 100)


@pytest.mark.parametrize("unit", ["micron", "meter", "unknown"])
# row: another unit, or an unknown code, but voxel sizes that are plausible in mm | ignored
def test_an_implausible_unit_is_ignored(tmp_path, unit):
    volume, grid = load_image(write(tmp_path / "a.nii", unit=unit))
    np.testing.assert_allclose(volume.zooms, (0.5, 0.5, 3))
    assert grid.notes == ()
    assert load_image(write(tmp_path / "b.nii", xyzt_units=7))[1].notes == ()


@pytest.mark.parametrize("read", [load_image, load_mask])
@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 2), (2, 0)])
# row: voxel axes more than 5 degrees from perpendicular | refused: areas would be wrong
def test_voxels_without_right_angles_are_refused(tmp_path, read, row, column):
    affine = scaled(0.5, 0.5, 3)
    sheared = affine.copy()
    sheared[row, column] = 0.2 * np.abs(affine[column, column])  # by 11 degrees
    refusal(write(tmp_path / "a.nii", affine=sheared, qform=None), "right angles", "11 degrees", read=read)
    sheared[row, column] = 0.05 * np.abs(affine[column, column])  # by 3 degrees
    load_image(write(tmp_path / "b.nii", affine=sheared, qform=None))


@pytest.mark.parametrize("read", [load_image, load_mask])
@pytest.mark.parametrize(
    ("edges", "unit"),
    [
        ((500, 500, 3000), "mm"),
        ((0.0005, 0.0005, 0.003), "mm"),
        ((0.5, 0.5, 31), "mm"),
        ((0.04, 0.5, 3), "unknown"),
        ((40, 40, 500), "micron"),
        ((100000, 100000, 100000), "micron"),
        ((1e-6, 1e-6, 1e-6), "meter"),
        ((1e30, 1e30, 1e30), "mm"),
        ((1e-30, 1e-30, 1e-30), "mm"),
        ((3e38, 1, 1), "mm"),
    ],
)
# row: voxel edge outside 0.05 to 30 mm, affine of 1e30 or 1e-30 | refused
def test_voxels_that_no_scan_has_are_refused(tmp_path, edges, unit, read):
    refusal(write(tmp_path / "a.nii", affine=scaled(*edges), unit=unit, qform=None), "expected", "found", read=read)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (scaled(1, 1, 0), "not invertible"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "not invertible"),
        (scaled(1, 1, np.nan), "nan in it"),
        (scaled(1, 1, 1, offset=(np.inf, 0, 0)), "inf in it"),
        (scaled(1, 1, 1, offset=(1e30, 0, 0)), "1e+30 in it"),
        (scaled(1, 1, 1, offset=(0, 1e8, 0)), "expected an origin within"),
    ],
)
# row: affine singular, not finite, or with an origin 1 km away | refused
def test_implausible_affines_are_refused(tmp_path, affine, words):
    fields = {f"srow_{axis}": affine[row] for row, axis in enumerate("xyz")}
    refusal(write(tmp_path / "a.nii", qform=None, **fields), words)


def sparse(path, shape, affine):
    """A sparse file of zeros, as long as its header says; only the header takes space on the disk."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_sform(affine, 1)
    header["vox_offset"] = 352
    path.write_bytes(header.binaryblock + bytes(4))
    with path.open("r+b") as stream:
        stream.truncate(352 + int(np.prod(shape, dtype=np.int64)))
    return path


@pytest.mark.parametrize(
    ("shape", "edges", "words"),
    [
        ((700, 700, 700), (0.5, 0.5, 0.5), "voxels in a volume"),
        ((500, 500, 500, 40), (1, 1, 1), "GiB of voxels"),
        ((100, 100, 2600), (1, 1, 1), "field of view"),
        ((30, 30, 30), (1, 1, 29.9), None),
        ((80, 80, 3000), (30, 30, 0.5), "across"),
        ((33, 33, 3000), (30, 30, 0.5), "needs"),
        ((33, 3000, 33), (30, 0.5, 30), "needs"),
    ],
)
# row: too many voxels, too large a field of view, or a grid that resampling would enlarge too much | refused
def test_limits_are_checked_from_the_header(tmp_path, shape, edges, words):
    affine = scaled(*edges)
    if shape[1] == 3000:  # the same, with the slices along another axis
        affine[1:3, 1:3] = [[0, 30], [0.5, 0]]
    path = sparse(tmp_path / "a.nii", shape, affine)
    refusal(path, words or "found 0 in every voxel")


@pytest.mark.parametrize("shape", [(7,), (4, 5, 6, 1, 3), (4, 5, 6, 2, 2), (4, 5, 6, 1, 1, 2)])
# row: 1-D, 5-D and more | refused, unless the axes beyond the fourth are 1
def test_images_with_other_dimensions_are_refused(tmp_path, shape):
    refusal(write(tmp_path / "a.nii", shape=shape), "found shape")


@pytest.mark.parametrize("shape", [(4, 5, 6, 1), (4, 5, 6, 1, 1), (4, 5, 6, 3, 1)])
# row: with `test_images_with_other_dimensions_are_refused`
def test_further_axes_of_one_are_dropped(tmp_path, shape):
    volume, grid = load_image(write(tmp_path / "a.nii", shape=shape))
    assert (volume.shape, grid.shape) == ((4, 5, 6), (4, 5, 6))


@pytest.mark.parametrize("excess", [1e-7, 1e-6, 1e-5, 5e-4])
@pytest.mark.parametrize("sform", [0, 1])
# row: quaternion too long by a rounding error | normalised
def test_a_quaternion_a_rounding_error_too_long_is_accepted(tmp_path, excess, sform):
    parts = np.array([0.6, 0.64, np.sqrt(1 - 0.36 - 0.4096)]) * np.sqrt(1 + excess)
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), parts, strict=True))
    path = write(tmp_path / "a.nii", sform=sform, **fields)
    volume, grid = load_image(path)
    if not sform:
        np.testing.assert_allclose(np.linalg.det(grid.affine[:3, :3] / [0.5, 0.5, 3]), -1, atol=1e-3)
    save_volume(tmp_path / "m.nii", volume.data > 100, grid)
    written = nib.load(tmp_path / "m.nii")
    np.testing.assert_allclose(written.affine, grid.affine, atol=1e-4)
    assert written.header["qform_code"] == 1


# row: quaternion that is not a rotation | refused if it is used
def test_a_quaternion_that_is_not_a_rotation_is_refused_if_used(tmp_path):
    refusal(write(tmp_path / "a.nii", sform=0, quatern_b=0.9, quatern_c=0.9), "damaged")
    load_image(write(tmp_path / "b.nii", sform=1, quatern_b=0.9, quatern_c=0.9))


# row: sform and qform that differ by more than a voxel | note; masks with other axes are refused
def test_disagreeing_sform_and_qform_are_reported(tmp_path):
    path = write(tmp_path / "a.nii", qoffset_x=3.0)
    volume, grid = load_image(path)
    assert "sform and qform of the header differ by up to 6 voxels" in grid.notes[0]
    assert grid.forms_disagree
    assert not load_image(write(tmp_path / "b.nii", qoffset_x=0.3))[1].forms_disagree
    mask = (volume.data > 100).astype(np.uint8)
    own = tmp_path / "own.nii"
    save_volume(own, mask, grid)
    np.testing.assert_array_equal(read_mask(own, volume, grid)[0].data, mask)
    flipped = tmp_path / "flipped.nii"
    nib.save(nib.load(own).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]])), flipped)
    with pytest.raises(InputError, match="sform and qform of the header disagree"):
        read_mask(flipped, volume, grid)


@pytest.mark.parametrize("sform", [0, 1])
# row: 2-D image | keeps its slice thickness
def test_a_2_d_image_keeps_its_slice_thickness(tmp_path, sform):
    path = write(tmp_path / "a.nii", shape=(12, 14), sform=sform, pixdim=[-1, 0.5, 0.5, 3, 1, 1, 1, 1])
    volume, grid = load_image(path)
    np.testing.assert_allclose(volume.zooms, (0.5, 0.5, 3))
    save_volume(tmp_path / "m.nii", volume.data > 100, grid)
    mask, own = load_mask(tmp_path / "m.nii", like=grid)
    np.testing.assert_allclose(mask.zooms, (0.5, 0.5, 3))
    assert own.shape == (12, 14)
    np.testing.assert_allclose(own.header.get_qform(), grid.header.get_qform())


@pytest.mark.parametrize(
    ("slope", "inter"),
    [(1e38, 0), (-1e38, 0), (1e-38, 0), (np.inf, 0), (1, np.inf), (1, np.nan), (2, 1e38), (np.inf, np.nan)],
)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
# row: slope of 1e38 or infinite, intercept not finite | refused
def test_slopes_beyond_the_range_of_floats_are_refused(tmp_path, slope, inter, dtype, recwarn):
    words = "check the slope" if np.isfinite([slope, inter]).all() else "damaged"
    words = "in every voxel" if inter == 1e38 else words
    refusal(write(tmp_path / "a.nii", scl_slope=slope, scl_inter=inter, dtype=dtype), words)
    assert not recwarn.list


# row: voxel size 0 in a header that needs it to place the image | refused
def test_zero_voxel_sizes_are_refused_if_they_place_the_image(tmp_path):
    edges = np.array([1, 0, 0.5, 3, 0, 0, 0, 0])
    refusal(write(tmp_path / "a.nii", sform=0, pixdim=edges), "found an edge of 0 mm")
    refusal(write(tmp_path / "a.nii", sform=0, qform=0, pixdim=edges), "found an edge of 0 mm")
    assert load_image(write(tmp_path / "a.nii", pixdim=edges))[0].zooms[0] == 0.5  # of the sform


# row: neither sform nor qform, or a format without them (Analyze) | note: which orientation was assumed
def test_a_header_without_orientation_is_reported(tmp_path):
    said = stored.UNKNOWN_AXES
    assert load_image(write(tmp_path / "a.nii", sform=0, qform=0))[1].notes == (said,)
    nib.save(nib.AnalyzeImage(np.random.default_rng(0).random(SHAPE).astype(np.float32), None), tmp_path / "b.img")
    assert load_image(tmp_path / "b.img")[1].notes == (said,)


@pytest.mark.parametrize("slope", [0, np.nan])
# row: slope 0 or NaN | no scaling
def test_without_a_slope_values_are_not_scaled(tmp_path, slope):  # as nibabel itself writes float images
    volume, _ = load_image(write(tmp_path / "a.nii", scl_slope=slope, scl_inter=np.nan))
    np.testing.assert_array_equal(volume.data, load_image(write(tmp_path / "b.nii"))[0].data)


# row: NIfTI-2 | read; the mask is NIfTI-1 on its grid
def test_nifti_2_is_read_and_its_mask_is_on_the_same_grid(tmp_path):
    affine = scaled(-0.5, 0.5, 3, offset=(3, 4, 5))
    data = np.random.default_rng(0).random(SHAPE)
    nib.save(nib.Nifti2Image(data, affine), tmp_path / "a.nii.gz")
    volume, grid = load_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    save_volume(tmp_path / "m.nii.gz", volume.data > 0.5, grid)
    np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").affine, affine)


def test_header_repairs_by_nibabel_are_not_printed(tmp_path, capfd):
    load_image(write(tmp_path / "a.nii", pixdim=[0, -0.5, 0.5, 3, 1, 1, 1, 1], regular=b"x", vox_offset=352))
    assert capfd.readouterr().err == ""
