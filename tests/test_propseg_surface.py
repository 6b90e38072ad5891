"""Geometry of rings, the exact solution of the energy, and rasterisation against analytic areas."""

import numpy as np
import pytest

from spineseg.propseg.deform import align_template, solve_rings
from spineseg.propseg.rasterise import choose_voxels, rasterise
from spineseg.propseg.surface import (
    Tube,
    compute_areas,
    compute_centroids,
    compute_normals,
    fit_star,
    make_rings,
    recenter,
    resample_angles,
    unit_circle,
)


def ellipse_radii(a, b, n):
    angle = 2 * np.pi * np.arange(n) / n
    return a * b / np.hypot(b * np.cos(angle), a * np.sin(angle))


def test_polygon_measures_of_a_square():
    square = np.array([[[0.0, 0], [2, 0], [2, 2], [0, 2]]])
    assert compute_areas(square)[0] == pytest.approx(4)
    np.testing.assert_allclose(compute_centroids(square)[0], [1, 1])
    assert (np.einsum("rkc,rkc->rk", compute_normals(square), square - [1, 1]) > 0).all()


def test_recentering_keeps_the_outline():
    ring = make_rings(np.array([[10.0, -3.0]]), ellipse_radii(6.5, 4.0, 60)[None])
    off = np.array([[11.0, -2.5]])
    moved = make_rings(off, fit_star(ring, off))
    centers, radii = recenter(moved)
    np.testing.assert_allclose(centers, [[10, -3]], atol=0.02)
    np.testing.assert_allclose(compute_areas(make_rings(centers, radii)), np.pi * 26, rtol=0.01)


def test_a_ray_without_crossing_takes_the_mean_radius():
    ring = make_rings(np.array([[0.0, 0.0]]), np.full((1, 12), 2.0))
    assert np.isfinite(fit_star(ring, np.array([[5.0, 0.0]]))).all()


@pytest.mark.parametrize("n", [15, 20, 30, 40])
def test_resampling_angles_keeps_low_waves_exactly(n):
    def wave(m):
        angle = 2 * np.pi * np.arange(m) / m
        return 4 + np.cos(2 * angle) + 0.3 * np.sin(3 * angle)

    np.testing.assert_allclose(resample_angles(wave(n), 128), wave(128), atol=1e-9)


def test_solver_finds_the_minimum_of_the_energy():
    rng = np.random.default_rng(3)
    shape = (4, 7)
    template, targets = rng.normal(size=(2, *shape, 2))
    normals = rng.normal(size=(*shape, 2))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    weight, link, anchor = rng.uniform(0, 3, shape), np.array([2.0, 0.0, 1.5]), np.array([0.0, 0.5, 0, 0])

    def energy(rings):
        data = (weight * (normals * (targets - rings)).sum(-1) ** 2).sum()
        around = np.roll(rings, -1, 1) - rings - np.roll(template, -1, 1) + template
        along = np.diff(rings, axis=0) - np.diff(template, axis=0)
        hold = (anchor[:, None, None] * (rings - template) ** 2).sum()
        return data + 1.3 * (around**2).sum() + (link[:, None, None] * along**2).sum() + hold

    best = solve_rings(template, targets, normals, weight, alpha=1.3, link=link, anchor=anchor)
    gradient = [
        (energy(best + step) - energy(best - step)) / 2e-4 for step in 1e-4 * np.eye(best.size).reshape(-1, *best.shape)
    ]
    assert np.abs(gradient).max() < 1e-4
    assert all(energy(best) <= energy(best + 0.01 * rng.normal(size=best.shape)) for _ in range(20))


def test_rings_without_edges_keep_their_template():
    template = make_rings(np.zeros((3, 2)), np.full((3, 9), 4.0))
    still = solve_rings(template, template + 5, template / 4, np.zeros((3, 9)), alpha=25.0, link=np.full(2, 25.0))
    np.testing.assert_allclose(still, template, atol=1e-6)


def test_alignment_finds_each_groups_own_motion():
    template = make_rings(np.zeros((4, 2)), np.tile(ellipse_radii(6, 4, 16), (4, 1)))
    groups = np.array([0, 0, 1, 1])
    angle = np.array([0.3, -0.5])[groups]
    turn = np.moveaxis(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), -1, 0)
    moved = np.einsum("rab,rkb->rka", turn, template) + np.array([[3.0, 1], [-2, 4]])[groups][:, None]
    np.testing.assert_allclose(align_template(template, moved, groups), moved, atol=1e-9)


@pytest.mark.parametrize("tilt", [0, 10, 20, 30])
@pytest.mark.parametrize("zooms", [(1.0, 1.0, 1.0), (0.5, 0.7, 2.5)])
def test_rasterised_tube_has_the_analytic_area(tilt, zooms):
    zooms = np.array(zooms)
    slices = np.arange(40)
    slope = np.tan(np.radians(tilt)) * np.array([np.cos(0.4), np.sin(0.4)])
    centers = 60 + (slices - 20)[:, None] * zooms[2] * slope + [0.13, -0.21]
    stretch = 1 / np.cos(np.radians(tilt))
    radii = ellipse_radii(4.5 * stretch, 4.5, 30)
    coverage = rasterise(Tube(slices, centers, np.tile(radii, (40, 1))), (240, 240, 40), zooms)
    area = coverage.sum((0, 1)) * zooms[0] * zooms[1]
    np.testing.assert_allclose(area, np.pi * 4.5**2 * stretch, rtol=0.01)
    binary = (coverage >= 0.5).sum((0, 1)).mean() * zooms[0] * zooms[1]
    # an upright tube has the same quantised area in every slice; in a tilted one the error averages out
    assert binary == pytest.approx(np.pi * 4.5**2 * stretch, rel=0.01 if tilt else 0.03)
    assert coverage.min() >= 0
    assert coverage.max() <= 1


def test_the_mask_of_an_upright_cord_follows_its_area():
    """A threshold rounds all slices of an upright cord in the same way, so areas 2 % apart could become equal."""
    rng = np.random.default_rng(1)
    slices, zooms = np.arange(20), np.ones(3)
    errors = {"threshold": [], "chosen": []}
    for radius in rng.uniform(3.5, 6.0, 60):
        centers = np.tile(10 + rng.uniform(-0.5, 0.5, 2), (20, 1))
        radii = np.roll(ellipse_radii(1.15 * radius, 0.87 * radius, 60), rng.integers(60))
        coverage = rasterise(Tube(slices, centers, np.tile(radii, (20, 1))), (20, 20, 20), zooms)
        mask = choose_voxels(coverage)
        assert mask[coverage > 0.61].all()
        assert not mask[coverage < 0.39].any()
        for name, voxels in (("threshold", coverage >= 0.5), ("chosen", mask)):
            errors[name].append(voxels.sum() / coverage.sum() - 1)
    assert np.std(errors["threshold"]) > 0.01
    np.testing.assert_allclose(errors["chosen"], 0, atol=0.002)


def test_an_area_that_no_slice_can_hold_is_not_passed_on():
    coverage = np.zeros((6, 6, 30), np.float32)
    coverage[1:4, 1:4] = 1
    coverage[4, 1:4] = 0.3  # nearly one voxel per slice that may not be set
    coverage[4, 1:4, 20:] = 0.52
    added = choose_voxels(coverage).sum((0, 1)) - 9
    assert (added[:20] == 0).all()
    assert 1.56 * 10 - 1 <= added[20:].sum() <= 1.56 * 10 + 2


def test_rasterising_over_the_border_keeps_what_is_inside():
    tube = Tube(np.array([0]), np.array([[-0.5, 20.0]]), np.full((1, 30), 5.0))
    coverage = rasterise(tube, (40, 40, 1), np.ones(3))
    assert coverage.sum() == pytest.approx(np.pi * 25 / 2, rel=0.01)


def test_an_empty_tube_gives_an_empty_mask():
    tube = Tube(np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 30)))
    assert not rasterise(tube, (5, 5, 5), np.ones(3)).any()


def test_directions_go_from_axis_0_to_axis_1():
    np.testing.assert_allclose(unit_circle(4), [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-12)
