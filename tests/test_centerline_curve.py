"""The centerline type: construction, smoothing, files in every orientation."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spineseg.centerline.curve import (
    Centerline,
    centerline_from_mask,
    centerline_from_points,
    empty_centerline,
    extend_centerline,
    load_centerline,
    save_centerline,
    save_centerline_csv,
    select_slices,
    smooth_centerline,
)
from spineseg.centerline.spline import cutoff_to_lam, evaluate_spline, fit_spline
from spineseg.errors import GeometryError, InputError
from spineseg.volume import load_image

ZOOMS = (0.5, 0.7, 3.0)
ALL_AXCODES = [
    "".join(codes[i] for i in order)
    for order in itertools.permutations(range(3))
    for codes in itertools.product("LR", "AP", "SI")
]


def wave(n=40, dz=1.0):
    k = np.arange(n, dtype=float)
    return Centerline(np.column_stack([20 + 3 * np.sin(k * dz / 40), 30 + 0.1 * k * dz, k]))


def write_image(path, axcodes, shape=(9, 8, 7), zooms=(0.5, 0.7, 3.0)):
    """Write an image whose canonical form has this shape, stored along other axes and slightly oblique."""
    data = np.random.default_rng(0).random(shape, dtype=np.float32)
    tilt = nib.eulerangles.euler2mat(0.1, 0.05, -0.08)
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag([-zooms[0], zooms[1], zooms[2]])
    affine[:3, 3] = (3, -20, 10)
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("L", "A", "S")), nib.orientations.axcodes2ornt(tuple(axcodes))
    )
    nib.save(image.as_reoriented(turn), path)
    return load_image(path)


def test_centerline_checks_its_points():
    with pytest.raises(GeometryError, match="increasing"):
        Centerline(np.array([[0, 0, 1.0], [0, 0, 0.0]]))
    with pytest.raises(GeometryError, match="whole"):
        Centerline(np.array([[0, 0, 0.5]]))
    with pytest.raises(GeometryError, match="scores"):
        Centerline(np.zeros((1, 3)), np.zeros(2))


def test_empty_centerline():
    line = empty_centerline()
    assert line.is_empty
    assert line.points_mm(np.eye(4)).shape == (0, 3)
    assert smooth_centerline(line, ZOOMS).is_empty
    assert select_slices(line, 0, 9).is_empty
    assert centerline_from_mask(np.zeros((4, 4, 4)), ZOOMS).is_empty
    with pytest.raises(GeometryError):
        extend_centerline(line, ZOOMS, [0, 1])


def test_points_mm_uses_the_affine():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (1, 1, 1)
    assert Centerline(np.array([[1.0, 1.0, 1.0]])).points_mm(affine).tolist() == [[3.0, 4.0, 5.0]]


def test_mask_centroid_is_not_weighted_by_values():
    mask = np.zeros((7, 7, 3), dtype=np.float32)
    mask[2:5, 3, :] = (0.2, 1.0, 1.0)
    assert centerline_from_mask(mask, ZOOMS).points_vox[:, :2].tolist() == [[3.0, 3.0]] * 3


def test_sparse_points_are_filled_and_unordered_points_sorted():
    line = centerline_from_points([[8, 4, 10], [0, 0, 0], [4, 2, 5]], (1, 1, 1))
    assert line.slices.tolist() == list(range(11))
    np.testing.assert_allclose(line.points_vox[:, 0], 0.8 * np.arange(11), atol=1e-9)
    single = centerline_from_points([[2, 3, 4]], (1, 1, 1))
    assert single.points_vox.tolist() == [[2, 3, 4]]


@given(st.integers(1, 12), st.floats(0.3, 20), st.floats(0.5, 40), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_smoothing_keeps_straight_lines_and_the_mean(n, dz, cutoff, seed):
    rng = np.random.default_rng(seed)
    k = np.cumsum(rng.integers(1, 4, n)).astype(float)
    straight = Centerline(np.column_stack([3 + 0.7 * k, 5 - 0.2 * k, k]))
    smooth = smooth_centerline(straight, (1, 1, dz), cutoff_mm=cutoff)
    np.testing.assert_allclose(smooth.points_vox, straight.points_vox, atol=1e-6)
    noisy = Centerline(straight.points_vox + np.column_stack([rng.normal(size=(n, 2)), np.zeros(n)]))
    mean = smooth_centerline(noisy, (1, 1, dz), cutoff_mm=cutoff).points_vox.mean(axis=0)
    np.testing.assert_allclose(mean, noisy.points_vox.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("wave_mm", "kept"), [(10.0, 0.06), (20.0, 0.5), (80.0, 0.996)])
def test_smoothing_cuts_off_at_its_wavelength(wave_mm, kept):
    dz, n = 0.8, 1000
    position = np.arange(n) * dz
    values = np.sin(2 * np.pi * position / wave_mm)[:, None]
    middle = slice(n // 4, -n // 4)
    gain = np.ptp(fit_spline(position, values, cutoff_to_lam(20.0, dz))[middle]) / np.ptp(values[middle])
    assert gain == pytest.approx(kept, abs=0.01)


def test_smoothing_spline_minimises_its_energy():
    rng = np.random.default_rng(3)
    t, lam, weights = np.sort(rng.random(8)) * 10, 2.0, rng.random(8) + 0.5
    y = rng.normal(size=(8, 1))

    def energy(f):
        grid = np.linspace(t[0], t[-1], 20001)
        second = np.gradient(np.gradient(evaluate_spline(t, f, grid)[:, 0], grid), grid)
        return (weights * (y - f)[:, 0] ** 2).sum() + lam * np.trapezoid(second**2, grid)

    best = fit_spline(t, y, lam, weights)
    for _ in range(10):
        assert energy(best) < energy(best + 0.05 * rng.normal(size=(8, 1))) + 1e-6


def test_extension_is_straight_and_keeps_points():
    line = wave()
    longer = extend_centerline(line, (1, 1, 1), np.arange(-10, 60))
    np.testing.assert_array_equal(longer.points_vox[10:50], line.points_vox)
    assert abs(np.diff(longer.points_vox[:11, :2], n=2, axis=0)).max() < 1e-9
    assert abs(np.diff(longer.points_vox[50:, :2], n=2, axis=0)).max() < 1e-9
    np.testing.assert_allclose(longer.points_vox[-1, 1], 30 + 0.1 * 59)
    single = extend_centerline(Centerline(np.array([[1.0, 2.0, 5.0]])), (1, 1, 1), [4, 5, 6])
    assert single.points_vox.tolist() == [[1, 2, 4], [1, 2, 5], [1, 2, 6]]


@pytest.mark.parametrize("axcodes", ALL_AXCODES)
def test_files_round_trip_in_every_orientation(tmp_path, axcodes):
    volume, grid = write_image(tmp_path / "image.nii.gz", axcodes)
    line = Centerline(np.array([[3.25, 4.5, 1.0], [3.5, 4.25, 2.0], [4.0, 3.75, 3.0]]))
    save_centerline(tmp_path / "line.nii.gz", line, grid)
    save_centerline_csv(tmp_path / "line.csv", line, grid)
    np.testing.assert_allclose(load_centerline(tmp_path / "line.csv", grid).points_vox, line.points_vox, atol=1e-8)
    voxels = load_centerline(tmp_path / "line.nii.gz", grid).points_vox
    np.testing.assert_array_equal(voxels, np.rint(line.points_vox))
    # the CSV is in voxels of the file's axes, so the file's affine gives the same position
    native = np.loadtxt(tmp_path / "line.csv", delimiter=",")
    world = native @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    np.testing.assert_allclose(world, line.points_mm(volume.affine), atol=1e-6)


def test_csv_is_what_sct_writes(tmp_path):
    _, grid = write_image(tmp_path / "image.nii", "LAS")
    save_centerline_csv(tmp_path / "line.csv", Centerline(np.array([[1.0, 2.0, 3.0]])), grid)
    expected = "1.000000000000000000e+00,2.000000000000000000e+00,3.000000000000000000e+00\n"
    assert (tmp_path / "line.csv").read_text() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", ", line 1: expected three numbers"),
        ("1,2,3\nfoo,2,3\n", ", line 2: expected three numbers"),
        ("1,nan,3\n", ", line 1: expected three numbers"),
        ("100,2,3\n", "expected voxel indices within"),
        ("x,y,z\n", "found none"),
        ("", "found none"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path, text, message):
    _, grid = write_image(tmp_path / "image.nii.gz", "RAS")
    (tmp_path / "line.csv").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_centerline(tmp_path / "line.csv", grid)
    assert "\n" not in str(error.value)
    assert "line.csv" in str(error.value)


def test_csv_with_header_and_blanks_is_read(tmp_path):
    _, grid = write_image(tmp_path / "image.nii.gz", "LAS")
    (tmp_path / "line.txt").write_text("x y z\n1 2 3\n\n2;3;5\n")
    assert load_centerline(tmp_path / "line.txt", grid).slices.tolist() == [3, 4, 5]


def test_missing_and_empty_files(tmp_path):
    _, grid = write_image(tmp_path / "image.nii.gz", "LAS")
    with pytest.raises(InputError, match="no such file"):
        load_centerline(tmp_path / "none.csv", grid)
    save_centerline(tmp_path / "empty.nii.gz", empty_centerline(), grid)
    with pytest.raises(InputError, match="found none"):
        load_centerline(tmp_path / "empty.nii.gz", grid)
