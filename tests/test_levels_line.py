"""The line along the cord: direction up to its ends, planes across it, distances along it."""

from __future__ import annotations

import numpy as np
import pytest

from spineseg.metrics.cord_line import fit_cord_line
from spineseg.metrics.section import compute_sections
from spineseg.metrics.shape import compute_shape


def slope_error(centers, spacing, slope):
    """Root mean square error of the direction, degrees, over the slices and at the two ends."""
    tangents = fit_cord_line(centers, spacing).tangents
    got, true = (np.degrees(np.arctan(a)) for a in (tangents[:, 1] / tangents[:, 2], slope))
    return np.sqrt(np.mean((got - true) ** 2)), np.abs(got - true)[[0, -1]].max()


@pytest.mark.parametrize(("n", "spacing"), [(2, 3.0), (3, 5.0), (8, 2.5), (60, 1.0), (300, 0.3)])
def test_a_straight_line_is_kept(n, spacing):
    z = np.arange(n) * spacing
    centers = np.column_stack([40 + 0.3 * z, 90 - 0.5 * z])
    line = fit_cord_line(centers, spacing)
    np.testing.assert_allclose(line.points_mm[:, :2], centers, atol=1e-6)
    np.testing.assert_allclose(line.tangents, np.tile(np.array([0.3, -0.5, 1]) / np.sqrt(1.34), (n, 1)), atol=1e-5)
    centers[n // 2 + 1 : n - 1] = np.nan
    np.testing.assert_allclose(fit_cord_line(centers, spacing).points_mm, line.points_mm, atol=1e-3)  # rounding


def test_one_slice_and_none():
    line = fit_cord_line([[np.nan, np.nan], [3.0, 4.0], [np.nan, np.nan]], 2.0)
    assert line.tangents_of(3)[1].tolist() == [0, 0, 1]
    assert np.isnan(line.tangents_of(3)[[0, 2]]).all()
    assert line.arc_of_slices(3, 2.0).tolist() == [-2, 0, 2]
    assert fit_cord_line(np.full((3, 2), np.nan), 2.0) is None


@pytest.mark.parametrize(("length", "spacing"), [(20, 1.0), (60, 2.5), (120, 1.0), (250, 3.0)])
def test_direction_at_the_ends_of_a_bend(length, spacing):
    z = np.arange(0, length, spacing)
    for start in (0.0, 40.0, 90.0):
        w = 2 * np.pi / 160
        centers = np.column_stack([0 * z, 6 * np.sin(w * (z + start))])
        overall, ends = slope_error(centers, spacing, 6 * w * np.cos(w * (z + start)))
        assert overall < 0.5
        assert ends < 1.5


def test_noise_does_not_turn_a_short_stack():
    rng = np.random.default_rng(5)
    ends = [slope_error(rng.normal(0, 0.1, (8, 2)), 1.5, np.zeros(8))[1] for _ in range(50)]
    assert np.mean(ends) < 2.0  # a cubic through the same points turns by 5 degrees


def test_projection_on_a_circle():
    radius, spacing = 120.0, 2.0
    z = np.arange(50) * spacing
    y = np.sqrt(radius**2 - (z - 49) ** 2)
    line = fit_cord_line(np.column_stack([0 * z, y]), spacing)
    angles = np.radians([-20.0, -5.0, 0.0, 12.0])
    for off in (-12.0, 0.0, 12.0):  # behind, on and in front of the cord
        points = np.column_stack([[off / 3] * 4, (radius + off) * np.cos(angles), 49 + (radius + off) * np.sin(angles)])
        feet, arc = line.project(points)
        np.testing.assert_allclose(feet[:, 2], 49 + radius * np.sin(angles), atol=0.2)
        np.testing.assert_allclose(np.diff(arc), radius * np.diff(angles), rtol=0.01)


def test_projection_beyond_the_ends():
    line = fit_cord_line(np.column_stack([np.arange(10.0), np.zeros(10)]), 1.0)  # 45 degrees
    feet, arc = line.project([[-6.0, 0.0, -4.0], [30.0, 5.0, 30.0]])
    np.testing.assert_allclose(feet, [[-5, 0, -5], [30, 0, 30]], atol=1e-6)
    np.testing.assert_allclose(arc, np.sqrt(2) * np.array([-5, 30]), atol=1e-6)
    np.testing.assert_allclose(line.arc_of_slices(12, 1.0), np.sqrt(2) * np.arange(12), atol=1e-6)


@pytest.mark.parametrize("correction", ["product", "exact", "none"])
def test_sections_of_a_straight_cord_are_those_of_compute_shape(correction):
    i, j, k = np.indices((40, 40, 20))
    cord = ((i - 15 - 0.3 * k) / 6.1) ** 2 + ((j - 22 + 0.2 * k) / 4.2) ** 2 <= 1
    got, _ = compute_sections(cord, (0.8, 0.7, 2.0), correction=correction)
    expected = compute_shape(cord, (0.8, 0.7, 2.0), correction=correction)
    for name in ("csa_mm2", "diameter_ap_mm", "diameter_rl_mm", "length_mm"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=0.01)
    for name in ("csa_axial_mm2", "solidity", "centroid_vox"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    np.testing.assert_allclose(got.angle_ap_deg, expected.angle_ap_deg, atol=1)
