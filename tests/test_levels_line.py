"""The line along the cord: direction up to its ends, planes across it, distances along it."""

from __future__ import annotations

import numpy as np
import pytest

from spineseg.metrics.cord_line import fit_cord_line
from spineseg.metrics.shape import compute_sections


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


def test_a_line_through_one_slice_or_none():
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


SHORT_STACKS = [((0.5, 0.5, 2.5), 8), ((0.5, 0.5, 2.5), 20), ((0.5, 0.5, 0.5), 60), ((1, 1, 1), 60), ((0.5, 0.5, 5), 6)]


@pytest.mark.parametrize(("zooms", "n"), SHORT_STACKS)
def test_direction_of_a_bent_ellipse_in_whole_voxels(zooms, n):
    """A bend as in the neck (25 degrees over 120 mm): root mean square error, and mean error of the end slices."""
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(10):
        z = (np.arange(n) - (n - 1) / 2) * zooms[2] + rng.uniform(-30, 30)
        y = z**2 / 270
        x, y = 12 + rng.uniform(), y - y.min() + 12 + rng.uniform()
        i, j = np.arange(30 / zooms[0]) * zooms[0], np.arange((y.max() + 12) / zooms[1]) * zooms[1]
        cord = (((i[:, None] - x) / 6.5) ** 2)[..., None] + (((j[:, None] - y) / 4.2) ** 2)[None] <= 1
        shape, _ = compute_sections(cord, zooms)
        errors.append(shape.angle_rl_deg - np.degrees(np.arctan(z / 135)))
    assert np.sqrt(np.mean(np.square(errors))) < (0.15 if max(zooms[:2]) < 1 else 0.3)
    assert np.abs(errors).mean(axis=0)[[0, -1]].max() < (0.35 if max(zooms[:2]) < 1 else 0.6)
