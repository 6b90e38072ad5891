"""Splines against scipy's, paths and curves to the digit, so that a small change of the code is noticed."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, make_smoothing_spline

from spineseg.centerline import path as paths
from spineseg.centerline.curve import (
    Centerline,
    centerline_from_mask,
    centerline_from_points,
    extend_centerline,
    load_centerline,
    save_centerline,
    save_centerline_csv,
    select_slices,
    smooth_centerline,
)
from spineseg.centerline.spline import cutoff_to_lam, evaluate_spline, fit_spline
from spineseg.errors import GeometryError
from spineseg.volume import load_image

ZOOMS = (0.5, 0.8, 2.0)


def natural(positions, values, at):
    """scipy's natural spline, straight beyond its ends."""
    spline = CubicSpline(positions, values, bc_type="natural")
    inside = np.clip(at, positions[0], positions[-1])
    return spline(inside) + (at - inside)[:, None] * spline(inside, 1)


def from_mask(points, zooms, **options):
    """The same points as voxels of a mask."""
    mask = np.zeros((12, 12, 12))
    mask[tuple(np.transpose(points))] = 1
    return centerline_from_mask(mask, zooms, **options)


class TestSplines:
    @given(st.integers(2, 12), st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_interpolation_is_that_of_scipy(self, n, seed):
        rng = np.random.default_rng(seed)
        positions, values = np.cumsum(rng.uniform(0.3, 4, n)), rng.normal(size=(n, 2))
        at = np.concatenate([positions, np.linspace(positions[0] - 5, positions[-1] + 5, 37)])
        np.testing.assert_allclose(evaluate_spline(positions, values, at), natural(positions, values, at), atol=1e-9)

    @given(st.integers(5, 14), st.floats(0.01, 50), st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_smoothing_is_that_of_scipy(self, n, lam, seed):
        rng = np.random.default_rng(seed)
        positions, values = np.cumsum(rng.uniform(0.5, 3, n)), rng.normal(size=(n, 2))
        weights = rng.uniform(0.3, 3, n)
        expected = make_smoothing_spline(positions, values, w=weights, lam=lam)(positions)
        np.testing.assert_allclose(fit_spline(positions, values, lam, weights), expected, atol=1e-6)
        even = make_smoothing_spline(positions, values, lam=lam)(positions)
        np.testing.assert_allclose(fit_spline(positions, values, lam), even, atol=1e-6)

    def test_smoothing_needs_three_points(self):
        """Of three points one apart, the middle one moves by lam q / (2/3 + 6 lam), twice."""
        peak = np.array([[0.0], [1.0], [0.0]])
        curvature = -2 / (2 / 3 + 6 * 0.5)
        expected = peak.ravel() - 0.5 * curvature * np.array([1, -2, 1])
        np.testing.assert_allclose(fit_spline(np.arange(3.0), peak, 0.5).ravel(), expected)
        assert fit_spline(np.arange(2.0), peak[:2], 0.5).ravel().tolist() == [0, 1]
        same = fit_spline(np.arange(3.0), peak)
        assert same.tolist() == peak.tolist()
        same[0] = 9
        assert peak[0] == 0  # a copy

    def test_integer_coordinates_are_accepted(self):
        values = evaluate_spline([0, 2, 4], [[0, 1], [2, 1], [4, 3]], [1, 3])
        np.testing.assert_allclose(
            values, natural(np.arange(0, 5, 2.0), np.array([[0, 1], [2, 1], [4, 3.0]]), np.r_[1, 3])
        )
        assert fit_spline([0, 1, 2, 3], [[0], [1], [0], [1]], 1.0, [1, 1, 1, 1]).dtype == np.float64


class TestCurves:
    def test_points_between_slices_go_to_the_nearest_and_are_averaged(self):
        line = centerline_from_points([[2, 3, 1.4], [4, 5, 0.6], [6, 9, 3]], ZOOMS)
        assert line.slices.tolist() == [1, 2, 3]
        np.testing.assert_allclose(line.points_vox[[0, 2], :2], [[3, 4], [6, 9]])
        np.testing.assert_allclose(line.points_vox[1, :2], [4.5, 6.5])
        assert np.isnan(line.score).all()

    @pytest.mark.parametrize("make", [centerline_from_points, from_mask])
    def test_smoothing_is_in_mm_whatever_the_voxels(self, make):
        rng = np.random.default_rng(5)
        points = np.column_stack([rng.integers(2, 9, (10, 2)), np.arange(1, 11)])
        got = make(points, ZOOMS, smoothing_mm=9.0)
        mm, z = points[:, :2] * np.array(ZOOMS[:2]), points[:, 2] * 2.0
        expected = make_smoothing_spline(z, mm, lam=cutoff_to_lam(9.0, 2.0))(z)
        np.testing.assert_allclose(got.points_vox[:, :2] * ZOOMS[:2], expected, atol=1e-6)
        np.testing.assert_allclose(make(points, ZOOMS).points_vox, points)
        assert np.abs(make(points, ZOOMS, smoothing_mm=0.9).points_vox - points).max() < 0.1

    def test_smoothing_respects_gaps_and_keeps_scores(self):
        k = np.array([0, 1, 3, 6, 7, 8.0])
        line = Centerline(np.column_stack([[1, 3, 2, 5, 4, 1.0], [2, 2, 3, 3, 9, 2.0], k]), np.arange(6.0))
        got = smooth_centerline(line, ZOOMS, cutoff_mm=12.0)
        expected = make_smoothing_spline(2 * k, line.points_vox[:, :2] * ZOOMS[:2], lam=cutoff_to_lam(12.0, 2 * 8 / 5))
        np.testing.assert_allclose(got.points_vox[:, :2] * ZOOMS[:2], expected(2 * k), atol=1e-6)
        assert got.score.tolist() == line.score.tolist()
        assert smooth_centerline(line, ZOOMS, cutoff_mm=0) is line
        two = select_slices(line, 0, 1)
        assert smooth_centerline(two, ZOOMS) is two
        three = select_slices(line, 0, 3)
        assert np.abs(smooth_centerline(three, ZOOMS).points_vox - three.points_vox).max() > 0.1
        assert np.abs(smooth_centerline(line, ZOOMS, cutoff_mm=0.9).points_vox - line.points_vox).max() < 1e-2

    def test_selected_slices_include_both_ends(self):
        line = Centerline(np.column_stack([np.zeros((6, 2)), np.arange(6)]), np.arange(6.0))
        part = select_slices(line, 2, 4)
        assert (part.slices.tolist(), part.score.tolist()) == ([2, 3, 4], [2, 3, 4])

    def test_extension_interpolates_in_mm_and_carries_scores(self):
        k = np.array([2, 4, 9.0])
        line = Centerline(np.column_stack([[1, 4, 2.0], [2, 2, 7.0], k]), np.array([0.5, 0.6, 0.7]))
        got = extend_centerline(line, ZOOMS, np.arange(2, 10))
        expected = natural(2 * k, line.points_vox[:, :2], 2.0 * np.arange(2, 10))
        np.testing.assert_allclose(got.points_vox[:, :2], expected)
        np.testing.assert_array_equal(got.score, [0.5, np.nan, 0.6, *[np.nan] * 4, 0.7])
        elsewhere = extend_centerline(line, ZOOMS, [3])
        np.testing.assert_allclose(elsewhere.points_vox, got.points_vox[1:2])
        assert np.isnan(elsewhere.score).all()

    @pytest.mark.parametrize(("end_mm", "used"), [(6.0, 4), (5.9, 3), (2.0, 2), (0.5, 2), (100.0, 12)])
    def test_extension_continues_the_direction_of_the_last_stretch(self, end_mm, used):
        """The direction is the least squares line of the points within `end_mm` of the end, at least of two."""
        rng = np.random.default_rng(1)
        k = np.arange(10.0, 22)
        line = Centerline(np.column_stack([rng.normal(size=(12, 2)), k]))
        got = extend_centerline(line, ZOOMS, [5, 9, 22, 30], end_mm=end_mm)
        for end, rows, stretch in ((0, (0, 1), slice(0, used)), (-1, (2, 3), slice(12 - used, 12))):
            slope = np.polyfit(k[stretch], line.points_vox[stretch, :2], 1)[0]
            for row in rows:
                steps = got.points_vox[row, 2] - k[end]
                np.testing.assert_allclose(got.points_vox[row, :2], line.points_vox[end, :2] + steps * slope)

    def test_a_vertebra_decides_the_direction_of_the_ends(self):
        k = np.arange(20.0)
        line = Centerline(np.column_stack([k**2, k, k]))
        given = extend_centerline(line, (1, 1, 1), [-1, 21], end_mm=15.0).points_vox
        np.testing.assert_array_equal(extend_centerline(line, (1, 1, 1), [-1, 21]).points_vox, given)

    @pytest.mark.parametrize("far", [1, 4])
    def test_sparse_ends_take_the_chord_to_their_neighbour(self, far):
        line = Centerline(np.array([[1.0, 2, 0], [3, 6, 4], [2, 0, 8]]))
        got = extend_centerline(line, (1, 1, 6.0), [-far, 8 + far]).points_vox
        np.testing.assert_allclose(got, [[1 - 0.5 * far, 2 - far, -far], [2 - 0.25 * far, -1.5 * far, 8 + far]])
        both = Centerline(np.array([[1.0, 2, 0], [3, 6, 4]]))
        np.testing.assert_allclose(extend_centerline(both, (1, 1, 6.0), [8]).points_vox, [[5, 10, 8]])

    def test_scores_may_be_one_number_or_one_per_point(self):
        points = np.column_stack([np.zeros((3, 2)), np.arange(3)])
        assert Centerline(points, np.float64(0.25)).score.tolist() == [0.25] * 3
        assert Centerline(points.tolist(), [1, 2, 3]).score.tolist() == [1, 2, 3]
        for bad in (np.nan, np.inf):
            with pytest.raises(GeometryError, match="finite"):
                Centerline(np.array([[0, bad, 0.0]]))
        with pytest.raises(GeometryError, match="increasing"):
            Centerline(np.array([[0, 0, 1.0], [1, 1, 1.0]]))

    def test_world_places_of_whole_numbers(self):
        affine = [[2, 0, 0, 1], [0, 3, 0, 1], [0, 0, 4, 1], [0, 0, 0, 1]]
        assert Centerline(np.array([[1.0, 2, 3]])).points_mm(affine).tolist() == [[3, 7, 13]]


class TestFiles:
    @pytest.fixture
    def grid(self, tmp_path):
        path = tmp_path / "image.nii.gz"
        nib.save(
            nib.Nifti1Image(np.eye(6, 35, dtype=np.float32).reshape(6, 7, 5), np.diag([-0.5, 0.8, 2, 1])),
            tmp_path / "image.nii.gz",
        )
        return load_image(path)[1]

    def test_points_beyond_the_border_move_to_it_and_slices_beyond_are_left_out(self, grid, tmp_path):
        points = [[9.0, -3, -1], [0, 0, 0], [2.6, 3.4, 1], [-2, 9, 2], [5, 6, 3], [5.4, 6.4, 4], [1, 1, 5]]
        save_centerline(tmp_path / "line.nii.gz", Centerline(np.array(points)), grid)
        data = np.asarray(nib.load(tmp_path / "line.nii.gz").dataobj)
        assert data.dtype == np.uint8
        assert np.argwhere(data).tolist() == [[0, 0, 0], [0, 6, 2], [3, 3, 1], [5, 6, 3], [5, 6, 4]]
        assert data.max() == 1

    def test_csv_has_no_negative_zero_and_an_empty_curve_is_an_empty_file(self, grid, tmp_path):
        save_centerline_csv(tmp_path / "line.csv", Centerline(np.array([[-1e-13, 0.1234567894, 1]])), grid)
        assert (tmp_path / "line.csv").read_text() == f"{0.0:.18e},{0.123456789:.18e},{1.0:.18e}\n"
        save_centerline_csv(tmp_path / "empty.csv", Centerline(np.zeros((0, 3))), grid)
        assert (tmp_path / "empty.csv").read_text() == ""

    def test_points_on_the_border_are_inside_the_image(self, grid, tmp_path):
        (tmp_path / "line.csv").write_text("-0.5,-0.5,0\n5.5,6.5,4\n")
        assert load_centerline(tmp_path / "line.csv", grid).slices.tolist() == [0, 1, 2, 3, 4]
        (tmp_path / "noisy.csv").write_text("\n".join(f"{2 + k % 2},3,{k}" for k in range(5)))
        rough = load_centerline(tmp_path / "noisy.csv", grid).points_vox
        smooth = load_centerline(tmp_path / "noisy.csv", grid, smoothing_mm=30.0).points_vox
        assert np.ptp(rough[:, 0]) == 1
        assert np.ptp(smooth[:, 0]) < 0.2


class TestPaths:
    def test_a_step_reaches_as_far_as_a_steep_cord(self):
        """3 mm per mm, in voxels of the axis; at least five voxels, at most the image."""
        assert paths._reach(0.5, 4.0, 100) == 24
        assert paths._reach(0.7, 4.0, 100) == 18  # 17.1
        assert paths._reach(1.0, 0.5, 100) == 5
        assert paths._reach(0.5, 4.0, 10) == 9

    def test_far_sources_tie_to_the_first(self):
        cost = np.array([[0.0, 0.0, 1.0, 9.0]])
        assert paths._min_transform(cost, 1.0, 2).tolist() == [[0, 0, 1, 2]]
        back = [paths._step_back(cost, np.array([0, j]), (1.0, 1.0), (0, 2)) for j in range(4)]
        assert back == [(0, 0), (0, 1), (0, 1), (0, 2)]

    @pytest.mark.parametrize("axis", [0, 1])
    def test_each_axis_has_its_own_voxel_size(self, axis):
        """Both jumps are three voxels; the one over larger voxels costs more, so the path takes the other."""
        zooms = (0.4, 1.0, 1.0) if axis == 0 else (1.0, 0.4, 1.0)
        score = np.full((2, 9, 9), -50.0)
        score[0, 4, 4] = 0.0
        near, far = [4, 4], [4, 4]
        near[axis] += 3
        far[1 - axis] += 3
        score[1][tuple(near)], score[1][tuple(far)] = 0.0, 1.0
        assert paths.find_path(score, zooms).tolist() == [[4, 4], near]

    def test_refinement_weighs_a_disc_in_mm(self):
        """Worked out by hand: each pixel within the radius is weighted by its score above the lowest of them."""
        rng = np.random.default_rng(2)
        score, point = rng.random((3, 21, 23)), np.array([[10, 11], [3, 19], [17, 4]])
        for zooms, radius in (
            ((0.7, 1.1, 2.0), 2.0),
            ((1.5, 0.5, 2.0), 2.0),
            ((0.9, 0.7, 2.0), 3.1),
            ((3.0, 4.0, 2.0), 2.0),
        ):
            expected = []
            for k, (i, j) in enumerate(point):
                limit = max(radius, 1.01 * min(zooms[:2]))
                votes = {
                    (a, b): score[k, i + a, j + b]
                    for a in range(-9, 10)
                    for b in range(-9, 10)
                    if np.hypot(a * zooms[0], b * zooms[1]) <= limit
                    and 0 <= i + a < 21 and 0 <= i - a < 21 and 0 <= j + b < 23 and 0 <= j - b < 23
                }  # fmt: skip
                floor = min(votes.values())
                total = sum(value - floor for value in votes.values())
                pull = [sum((value - floor) * at[n] for at, value in votes.items()) / total for n in (0, 1)]
                expected.append([i + pull[0], j + pull[1]])
            given = {} if radius == 2.0 else {"radius_mm": radius}
            np.testing.assert_allclose(paths.refine_path(score, point, zooms, **given), expected)

    def test_refinement_at_the_border_and_beside_forbidden_pixels(self):
        rising = np.tile(np.arange(9.0)[:, None], (4, 1, 9))
        corners = np.array([[0, 0], [8, 8], [0, 8], [8, 0]])
        np.testing.assert_array_equal(paths.refine_path(rising, corners, (1, 1, 1)), corners)
        inner = np.array([[1, 4], [7, 4], [4, 1], [4, 7]])
        moved = paths.refine_path(rising, inner, (1, 1, 1))
        assert (moved[:, 0] > inner[:, 0]).all()
        np.testing.assert_allclose(moved[:, 1], inner[:, 1])
        holes = rising[:1].copy()
        holes[0, 5, 4] = -np.inf
        assert np.isfinite(paths.refine_path(holes, np.array([[4, 4]]), (1, 1, 1))).all()

    def test_path_smoothing_uses_mm_and_weights(self):
        rng = np.random.default_rng(3)
        points, weights, z = rng.normal(size=(30, 2)), rng.uniform(0.5, 2, 30), 1.5 * np.arange(30)
        zooms = (0.5, 0.8, 1.5)
        expected = make_smoothing_spline(z, points * zooms[:2], w=weights, lam=cutoff_to_lam(12.0, 1.5))(z)
        got = paths.smooth_path(points, zooms, cutoff_mm=12.0, weights=weights)
        np.testing.assert_allclose(got * zooms[:2], expected, atol=1e-6)
        usual = paths.smooth_path(points, zooms)
        np.testing.assert_array_equal(usual, paths.smooth_path(points, zooms, cutoff_mm=paths.SMOOTHING_MM))
