"""Images come back on exactly the grid they came from, whatever that grid is."""

from __future__ import annotations

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spineseg.errors import GeometryError, InputError
from spineseg.volume import (
    CANONICAL_AXCODES,
    Volume,
    crop,
    load_image,
    load_mask,
    save_volume,
    to_canonical,
)

ORIENTATIONS = [
    "".join(sides) for axes in itertools.permutations(("LR", "AP", "IS")) for sides in itertools.product(*axes)
]


def write(path, data, affine, *, sform=1, qform=1, dtype=None):
    image = nib.Nifti1Image(np.asarray(data, dtype or np.asarray(data).dtype), affine)
    image.set_sform(affine if sform else None, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


def oriented_affine(codes, zooms=(0.7, 1.1, 3.0), tilt=0.0):
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    rotation = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(ornt):
        rotation[int(world), axis] = sign
    c, s = np.cos(tilt), np.sin(tilt)
    oblique = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = oblique @ rotation * np.asarray(zooms)
    affine[:3, 3] = (12.5, -30.25, 7.75)
    return affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("tilt", [0.0, 0.35])
def test_every_orientation_restores_grid_and_values(tmp_path, codes, tilt):
    affine = oriented_affine(codes, tilt=tilt)
    data = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    path = write(tmp_path / "a.nii.gz", data, affine)
    volume, grid = load_image(path)
    assert nib.aff2axcodes(volume.affine) == CANONICAL_AXCODES
    save_volume(tmp_path / "b.nii.gz", volume.data, grid, np.float32)
    a, b = nib.load(path), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(a.get_fdata(), b.get_fdata())
    np.testing.assert_array_equal(a.affine, b.affine)
    np.testing.assert_array_equal(a.header.get_sform(), b.header.get_sform())
    np.testing.assert_allclose(a.header.get_qform(), b.header.get_qform())


@settings(max_examples=40, deadline=None)
@given(
    codes=st.sampled_from(ORIENTATIONS),
    zooms=st.tuples(*[st.floats(0.2, 20)] * 3),
    tilt=st.floats(-0.6, 0.6),
    index=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)),
)
def test_world_coordinates_of_a_voxel_do_not_move(codes, zooms, tilt, index):
    affine = oriented_affine(codes, zooms, tilt)
    data = np.zeros((5, 6, 7))
    data[index] = 1
    volume = to_canonical(data, affine)
    found = np.argwhere(volume.data == 1)[0]
    np.testing.assert_allclose(volume.affine @ [*found, 1], affine @ [*index, 1], atol=1e-9)
    np.testing.assert_allclose(sorted(volume.zooms), sorted(zooms))


@pytest.mark.parametrize(("sform", "qform"), [(0, 1), (1, 0), (2, 1), (4, 4), (0, 3)])
def test_form_codes_are_kept(tmp_path, sform, qform):
    path = write(
        tmp_path / "a.nii", np.random.default_rng(1).random((4, 5, 6)), oriented_affine("PSR"), sform=sform, qform=qform
    )
    volume, grid = load_image(path)
    save_volume(tmp_path / "b.nii", volume.data > 0.5, grid)
    header = nib.load(tmp_path / "b.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (sform, qform)
    assert header.get_data_dtype() == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_number_types(tmp_path, dtype, ending):
    data = np.arange(60).reshape(3, 4, 5)
    volume, _ = load_image(write(tmp_path / f"a{ending}", data, oriented_affine("LAS"), dtype=dtype))
    np.testing.assert_array_equal(volume.data, data)


def test_slope_and_intercept_are_applied_and_not_written(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([-1, 1, 1, 1.0]))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "a.nii.gz")
    volume, grid = load_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.data.ravel()[:3], nib.load(tmp_path / "a.nii.gz").get_fdata().ravel()[:3])
    save_volume(tmp_path / "m.nii.gz", np.ones(volume.shape), grid)
    assert nib.load(tmp_path / "m.nii.gz").get_fdata().max() == 1


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (1, 6, 7)])
def test_flat_images_keep_their_shape(tmp_path, shape):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(2).random(shape), np.diag([-1, 1, 4, 1.0]))
    volume, grid = load_image(path)
    assert volume.data.ndim == 3
    save_volume(tmp_path / "b.nii.gz", volume.data, grid, np.float32)
    assert nib.load(tmp_path / "b.nii.gz").shape == shape


def test_series_is_averaged_over_weighted_volumes(tmp_path):
    data = np.random.default_rng(3).random((4, 5, 6, 5)).astype(np.float32)
    path = write(tmp_path / "d.nii.gz", data, np.diag([-1, 1, 1, 1.0]))
    (tmp_path / "d.bval").write_text("0 5 800 800 1000\n")
    volume, grid = load_image(path, contrast="dwi")
    np.testing.assert_allclose(volume.data, data[..., 2:].mean(-1), rtol=1e-5)
    assert "3 of 5 volumes" in grid.notes[0]
    everything, _ = load_image(path, contrast="t2")
    np.testing.assert_allclose(everything.data, data.mean(-1), rtol=1e-5)
    (tmp_path / "d.bval").write_text("0 5 800")
    with pytest.raises(InputError, match="expected 5 b-values"):
        load_image(path, contrast="dwi")
    save_volume(tmp_path / "m.nii.gz", volume.data > 0, grid)
    assert nib.load(tmp_path / "m.nii.gz").shape == (4, 5, 6)


def bad_files(folder):
    good = write(folder / "good.nii.gz", np.random.default_rng(4).random((20, 20, 20)), np.eye(4))
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_bytes(gzip.compress(b"not an image" * 100))
    (folder / "plain.nii").write_text("not an image")
    (folder / "cut.nii.gz").write_bytes(good.read_bytes()[:5000])
    write(folder / "zero.nii.gz", np.zeros((5, 5, 5), np.float32), np.eye(4))
    write(folder / "nan.nii.gz", np.full((5, 5, 5), np.nan, np.float32), np.eye(4))
    return ["empty.nii.gz", "text.nii.gz", "plain.nii", "cut.nii.gz", "zero.nii.gz", "nan.nii.gz", "missing.nii.gz"]


def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path):
    for name in bad_files(tmp_path):
        with pytest.raises(InputError) as caught:
            load_image(tmp_path / name)
        message = str(caught.value)
        assert name in message
        assert "\n" not in message


def test_nan_is_read_as_zero_and_reported(tmp_path):
    data = np.ones((5, 5, 5), np.float32)
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    volume, grid = load_image(write(tmp_path / "a.nii", data, np.eye(4)))
    assert np.isfinite(volume.data).all()
    assert "2 voxels" in grid.notes[0]


def test_mask_must_share_the_grid(tmp_path):
    affine = np.diag([-1, 1, 1, 1.0])
    _, grid = load_image(write(tmp_path / "a.nii", np.random.default_rng(5).random((5, 6, 7)), affine))
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[2, 3, 3] = 1
    volume, _ = load_mask(write(tmp_path / "m.nii", mask, affine), like=grid)
    assert volume.data.sum() == 1
    shifted = affine.copy()
    shifted[0, 3] = 2
    with pytest.raises(GeometryError, match="affine"):
        load_mask(write(tmp_path / "s.nii", mask, shifted), like=grid)
    with pytest.raises(GeometryError, match="grid"):
        load_mask(write(tmp_path / "t.nii", mask[:4], affine), like=grid)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({(0, 3): 0.001}, True),  # as editors save it
        ({(0, 3): 0.045}, True),  # 0.09 of a voxel of 0.5 mm
        ({(0, 3): 0.055}, False),
        ({(2, 3): 0.4}, True),  # 0.08 of a slice of 5 mm
        ({(2, 3): 0.6}, False),
        ({(0, 0): 0.0001}, True),
        ({(0, 0): 0.002}, False),  # little in each voxel, but 0.2 voxels at the far side
        ({(1, 0): 0.002}, False),
    ],
)
def test_a_tenth_of_a_voxel_is_the_same_grid(tmp_path, change, fits):
    affine = np.diag([-0.5, 0.5, 5.0, 1.0])
    _, grid = load_image(write(tmp_path / "a.nii", np.random.default_rng(5).random((50, 6, 7)), affine))
    mask = np.zeros((50, 6, 7), np.float64)
    mask[2, 3, 3] = 1
    for place, by in change.items():
        affine[place] += by
    path = write(tmp_path / "m.nii", mask, affine)
    if fits:
        assert load_mask(path, like=grid)[0].data.sum() == 1
    else:
        with pytest.raises(
            GeometryError, match=r"m.nii: expected the image's affine, found one that is off by up to 0"
        ):
            load_mask(path, like=grid)


def test_equal_arrays_give_equal_bytes(tmp_path):
    _, grid = load_image(write(tmp_path / "a.nii", np.random.default_rng(6).random((5, 6, 7)), np.eye(4)))
    for name in ("x.nii.gz", "y.nii.gz"):
        save_volume(tmp_path / name, np.ones((5, 6, 7)), grid)
    assert (tmp_path / "x.nii.gz").read_bytes() == (tmp_path / "y.nii.gz").read_bytes()
    assert not list(tmp_path.glob(".*tmp"))


def test_a_box_that_is_cut_out_stays_where_it_was():
    data = np.random.default_rng(7).random((8, 9, 10)).astype(np.float32)
    volume = Volume(data, oriented_affine("LAS", tilt=0.2))
    part = crop(volume, (slice(2, 6), slice(1, 8), slice(3, 9)))
    np.testing.assert_array_equal(part.data, data[2:6, 1:8, 3:9])
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], volume.affine @ [2, 1, 3, 1])


def test_a_mask_in_place_of_an_image_is_reported(tmp_path):
    mask = np.zeros((8, 8, 4), np.uint8)
    mask[3:5, 3:5] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "m.nii")
    assert load_image(tmp_path / "m.nii")[1].notes == ("holds no values but 0 and 1; is it a mask?",)
    nib.save(nib.Nifti1Image(mask * 200, np.eye(4)), tmp_path / "i.nii")
    assert load_image(tmp_path / "i.nii")[1].notes == ()
