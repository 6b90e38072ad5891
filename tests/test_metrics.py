"""Overlap, surface distances, shape and quality of masks, on cases with known answers."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nibabel import orientations
from scipy import ndimage as ndi
from scipy.spatial import ConvexHull

from spineseg.cli import main
from spineseg.errors import GeometryError
from spineseg.metrics import solidity as solidities
from spineseg.metrics.compare import compare_with_reference
from spineseg.metrics.distance import choose_tolerance, compute_surface_distance, extract_surface
from spineseg.metrics.intrinsic import ADULTS, compute_intrinsic, slice_hull
from spineseg.metrics.overlap import compute_dice, compute_overlap, compute_slice_dice
from spineseg.metrics.shape import compute_shape
from spineseg.metrics.solidity import compute_sct_solidity, compute_solidity
from spineseg.metrics.tangent import smooth_line
from spineseg.volume import load_mask

masks = hnp.arrays(bool, (5, 6, 4), elements=st.booleans())
zoom = st.floats(0.3, 5.0)
HALF_RL, HALF_AP = 6.0, 4.0
CSA = np.pi * HALF_RL * HALF_AP


def tilted_cord(zooms, angle_ap=0.0, angle_rl=0.0, *, length_mm=48.0, turn=0.0, samples=1):
    """An elliptic cylinder through the whole field of view; `samples` > 1 gives partial volumes."""
    zooms = np.asarray(zooms, float)
    shape = np.round([48 / zooms[0], 48 / zooms[1], length_mm / zooms[2]]).astype(int)
    t = np.array([np.tan(np.radians(angle_ap)), np.tan(np.radians(angle_rl)), 1.0])
    t /= np.linalg.norm(t)
    e1 = np.array([1.0, 0, 0]) - t[0] * t
    e1 /= np.linalg.norm(e1)
    e2 = np.cross(t, e1)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    e1, e2 = c * e1 + s * e2, c * e2 - s * e1
    offsets = (np.arange(samples) - (samples - 1) / 2) / samples
    total = np.zeros(shape)
    for dx in offsets:
        for dy in offsets:
            shift = np.array([dx + 0.13, dy - 0.21, 0.0])  # off the voxel centres, as real cords are
            grid = np.indices(shape).astype(float) + (shift - (shape - 1) / 2)[:, None, None, None]
            points = np.moveaxis(grid, 0, -1) * zooms
            total += (points @ e1 / HALF_RL) ** 2 + (points @ e2 / HALF_AP) ** 2 <= 1
    return total / samples**2 if samples > 1 else total.astype(bool)


def box(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


class TestOverlap:
    def test_known_values(self):
        a, b = box((4, 4, 2), (0, 2), (0, 4), (0, 2)), box((4, 4, 2), (1, 4), (0, 4), (0, 2))
        overlap = compute_overlap(a, b)
        assert overlap.dice == pytest.approx(2 * 8 / (16 + 24))
        assert overlap.jaccard == pytest.approx(8 / 32)
        assert overlap.precision == pytest.approx(0.5)
        assert overlap.recall == pytest.approx(1 / 3)
        assert overlap.volume_difference_pct == pytest.approx(-100 / 3)

    def test_empty_cases(self):
        empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
        assert np.isnan(compute_dice(empty, empty))
        assert compute_dice(empty, full) == compute_dice(full, empty) == 0
        assert np.isnan(compute_overlap(empty, full).precision)
        assert compute_overlap(empty, full).recall == 0

    def test_slices(self):
        a = box((3, 3, 4), (0, 2), (0, 1), (0, 2))
        b = box((3, 3, 4), (0, 1), (0, 1), (1, 3))
        np.testing.assert_allclose(compute_slice_dice(a, b), [0, 2 / 3, 0, np.nan])

    def test_other_shape_is_refused(self):
        with pytest.raises(GeometryError, match="shapes"):
            compute_dice(np.ones((2, 2, 2)), np.ones((2, 2, 3)))

    @settings(deadline=None)
    @given(masks, masks)
    def test_properties(self, a, b):
        dice = compute_dice(a, b)
        assert np.isnan(dice) == (not (a.any() or b.any()))
        if not np.isnan(dice):
            assert 0 <= dice <= 1
            assert dice == compute_dice(b, a) == compute_dice(a[::-1, :, ::-1], b[::-1, :, ::-1])
            jaccard = compute_overlap(a, b).jaccard
            assert dice == pytest.approx(2 * jaccard / (1 + jaccard))


class TestSurfaceDistance:
    def test_plane_shift_is_measured_in_mm(self):
        a = box((20, 12, 6), (4, 10), (3, 9), (0, 6))
        for axis, size in ((0, 0.4), (1, 0.9)):
            distance = compute_surface_distance(a, np.roll(a, 3, axis), (0.4, 0.9, 5.0))
            assert distance.hd_mm == pytest.approx(3 * size)

    def test_area_of_a_ball(self):
        zooms = np.array([0.5, 0.4, 0.7])
        grid = (np.indices((50, 60, 40)).T - (np.array([50, 60, 40]) - 1) / 2) * zooms
        ball = (np.linalg.norm(grid, axis=-1) < 9).T
        area = extract_surface(ball, zooms).area_mm2.sum()
        assert area == pytest.approx(4 * np.pi * 81, rel=0.10)  # marching cubes on binary voxels: 8 % too large

    def test_area_of_a_cylinder_ignores_the_cut_ends(self):
        zooms = (0.5, 0.5, 3.0)
        mask = box((20, 20, 4), (5, 15), (5, 15), (0, 4))
        sides = 4 * (10 - 1) * 0.5 * 12 + 4 * np.sqrt(0.5) * 0.5 * 12  # corners are cut at 45 degrees
        assert extract_surface(mask, zooms).area_mm2.sum() == pytest.approx(sides)

    def test_a_mask_that_was_changed_in_place_has_a_surface_of_its_own(self):
        mask = box((12, 10, 8), (3, 9), (2, 7), (1, 7))
        before = extract_surface(mask, (1, 1, 1)).area_mm2.sum()
        mask[3:5, 2:5] = False
        assert extract_surface(mask, (1, 1, 1)).area_mm2.sum() != before
        assert extract_surface(mask, (2, 1, 1)).area_mm2.sum() > extract_surface(mask, (1, 1, 1)).area_mm2.sum()
        moved = extract_surface(np.roll(mask, 2, axis=0), (1, 1, 1))
        np.testing.assert_array_equal(moved.points_mm, extract_surface(mask, (1, 1, 1)).points_mm + np.array([2, 0, 0]))
        assert moved.cells[0] != extract_surface(mask, (1, 1, 1)).cells[0]

    def test_parts_shared_by_both_surfaces_have_distance_zero(self):
        a = box((12, 10, 8), (3, 9), (2, 7), (1, 7))
        b = a.copy()
        b[3:5, 2:5], b[10, 8, 6] = False, True
        sa, sb = extract_surface(a, (0.5, 0.8, 3.0)), extract_surface(b, (0.5, 0.8, 3.0))
        apart = np.linalg.norm(sa.points_mm[:, None] - sb.points_mm, axis=2)
        distance = compute_surface_distance(a, b, (0.5, 0.8, 3.0))
        assert 0.3 < (apart.min(axis=1) == 0).mean() < 1
        assert distance.hd_mm == max(apart.min(axis=0).max(), apart.min(axis=1).max())
        means = [np.average(apart.min(axis=axis), weights=s.area_mm2) for axis, s in ((1, sa), (0, sb))]
        assert distance.assd_mm == pytest.approx(np.mean(means))

    def test_same_as_distance_transform(self):
        rng = np.random.default_rng(3)
        zooms = np.array([0.5, 0.8, 3.0])
        a, b = (ndi.gaussian_filter(rng.standard_normal((30, 30, 10)), 2) > 0.05 for _ in range(2))
        a[[0, -1]] = b[[0, -1]] = a[:, [0, -1]] = b[:, [0, -1]] = False
        sa, sb = extract_surface(a, zooms), extract_surface(b, zooms)

        def distances(source, target):
            cells = np.ones((31, 31, 11), bool)
            index = np.round(target.points_mm / zooms + 0.5).astype(int)
            cells[tuple(index.T)] = False
            index = np.round(source.points_mm / zooms + 0.5).astype(int)
            return ndi.distance_transform_edt(cells, sampling=zooms)[tuple(index.T)]

        ab, ba = distances(sa, sb), distances(sb, sa)
        got = compute_surface_distance(a, b, zooms, tolerance_mm=1.0)
        assert got.hd_mm == pytest.approx(max(ab.max(), ba.max()))
        mean = (np.average(ab, weights=sa.area_mm2) + np.average(ba, weights=sb.area_mm2)) / 2
        assert got.assd_mm == pytest.approx(mean)
        pooled, area = np.concatenate([ab, ba]), np.concatenate([sa.area_mm2, sb.area_mm2])
        assert got.nsd == pytest.approx(area[pooled <= 1.0].sum() / area.sum())
        assert area[pooled < got.hd95_mm].sum() < 0.95 * area.sum() <= area[pooled <= got.hd95_mm].sum() + 1e-9

    def test_empty_cases(self):
        empty, some = np.zeros((5, 5, 3), bool), box((5, 5, 3), (1, 3), (1, 3), (0, 3))
        both = compute_surface_distance(empty, empty, (1, 1, 1))
        assert np.isnan([both.hd_mm, both.hd95_mm, both.assd_mm, both.nsd]).all()
        one = compute_surface_distance(empty, some, (1, 1, 1))
        assert np.isnan([one.hd_mm, one.hd95_mm, one.assd_mm]).all()
        assert one.nsd == 0

    def test_tolerance(self):
        assert choose_tolerance((0.3, 0.3, 5)) == 0.5
        assert choose_tolerance((0.3, 0.9, 5)) == 0.9

    @settings(max_examples=60, deadline=None)
    @given(masks, masks, zoom, zoom, zoom)
    def test_properties(self, a, b, x, y, z):
        got = compute_surface_distance(a, b, (x, y, z))
        swapped = compute_surface_distance(b, a, (x, y, z))
        flipped = compute_surface_distance(a[::-1, ::-1, ::-1], b[::-1, ::-1, ::-1], (x, y, z))
        for name in ("hd_mm", "hd95_mm", "assd_mm", "nsd"):
            np.testing.assert_allclose(getattr(swapped, name), getattr(got, name), rtol=1e-9)
            np.testing.assert_allclose(getattr(flipped, name), getattr(got, name), rtol=1e-9)
        if a.any() and b.any():
            assert 0 <= got.assd_mm <= got.hd_mm
            assert got.hd95_mm <= got.hd_mm
            assert 0 <= got.nsd <= 1
        if a.any():
            same = compute_surface_distance(a, a, (x, y, z))
            assert (same.hd_mm, same.assd_mm, same.nsd) == (0, 0, 1)


ZOOMS = [(0.5, 0.5, 0.5), (0.5, 0.5, 3.0), (1.0, 1.0, 1.0), (0.8, 0.5, 5.0), (1.0, 0.5, 2.0)]
TILTS = [(0, 0), (10, 0), (0, 20), (30, 0), (0, 30), (-20, 15)]


class TestShape:
    @pytest.mark.parametrize("zooms", ZOOMS)
    @pytest.mark.parametrize(("angle_ap", "angle_rl"), TILTS)
    @pytest.mark.parametrize("samples", [1, 3])
    def test_tilted_ellipse(self, zooms, angle_ap, angle_rl, samples):
        shape = compute_shape(tilted_cord(zooms, angle_ap, angle_rl, samples=samples), zooms, correction="exact")
        tolerance = 0.01 if samples > 1 or zooms[0] < 1 else 0.022  # whole voxels of 1 mm are a coarse area
        assert np.mean(shape.csa_mm2) == pytest.approx(CSA, rel=tolerance)
        assert np.abs(shape.csa_mm2 / CSA - 1).max() < (0.01 if samples > 1 else 0.05)
        assert np.mean(shape.diameter_rl_mm) == pytest.approx(12, rel=0.02)
        assert np.mean(shape.diameter_ap_mm) == pytest.approx(8, rel=0.02)
        assert np.mean(shape.eccentricity) == pytest.approx(np.sqrt(1 - 4 / 9), abs=0.015)
        within = 0.6 if samples > 1 else 1.0  # the centers of whole voxels move in steps
        np.testing.assert_allclose(shape.angle_ap_deg, angle_ap, atol=within)
        np.testing.assert_allclose(shape.angle_rl_deg, angle_rl, atol=within)
        assert np.min(shape.solidity) > 0.95

    @pytest.mark.parametrize(("angle_ap", "angle_rl"), TILTS)
    def test_product_of_cosines(self, angle_ap, angle_rl):
        zooms = (0.5, 0.5, 2.0)
        shape = compute_shape(tilted_cord(zooms, angle_ap, angle_rl), zooms)
        factor = np.cos(np.radians(shape.angle_ap_deg)) * np.cos(np.radians(shape.angle_rl_deg))
        np.testing.assert_allclose(shape.csa_mm2, shape.csa_axial_mm2 * factor)
        assert np.mean(shape.csa_mm2) == pytest.approx(CSA, rel=0.01)
        # with the product the corrected volume is the volume of the voxels
        volume = tilted_cord(zooms, angle_ap, angle_rl).sum() * np.prod(zooms)
        assert np.sum(shape.csa_mm2 * shape.length_mm) == pytest.approx(volume)

    def test_no_correction(self):
        zooms = (0.5, 0.5, 2.0)
        shape = compute_shape(tilted_cord(zooms, 30), zooms, correction="none")
        assert np.mean(shape.csa_mm2) == pytest.approx(CSA / np.cos(np.radians(30)), rel=0.01)
        assert (shape.angle_ap_deg == 0).all()
        np.testing.assert_allclose(shape.length_mm, 2.0)

    @pytest.mark.parametrize("turn", [-25, 0, 15, 40])
    def test_orientation(self, turn):
        zooms = (0.5, 0.4, 2.0)
        shape = compute_shape(tilted_cord(zooms, turn=turn), zooms)
        np.testing.assert_allclose(shape.orientation_deg, turn, atol=2)
        assert np.mean(shape.diameter_rl_mm) == pytest.approx(12, rel=0.02)
        assert np.mean(shape.diameter_ap_mm) == pytest.approx(8, rel=0.02)

    def test_cord_longer_from_front_to_back(self):
        zooms = (0.5, 0.5, 2.0)
        shape = compute_shape(tilted_cord(zooms, turn=90), zooms)
        assert np.mean(shape.diameter_rl_mm) == pytest.approx(8, rel=0.02)
        assert np.abs(shape.orientation_deg).max() < 2

    def test_curved_cord(self):
        zooms, n = np.array([0.5, 0.5, 1.0]), 120
        k = np.arange(n)
        centre = 40 + 12 * np.sin(2 * np.pi * k / 160)  # voxels: a curve as in the neck, 6 mm over 160 mm
        i, j = np.indices((70, 100))
        mask = ((i[..., None] - 35) ** 2 + (j[..., None] - centre) ** 2) * 0.25 <= 16
        angle = np.degrees(np.arctan(6 * 2 * np.pi / 160 * np.cos(2 * np.pi * k / 160)))
        shape = compute_shape(mask, zooms)
        np.testing.assert_allclose(shape.angle_rl_deg[12:-12], angle[12:-12], atol=1.0)
        np.testing.assert_allclose(shape.angle_rl_deg, angle, atol=5.0)  # ends go on straight

    def test_soft_masks_add_up(self):
        mask = box((10, 10, 5), (3, 7), (3, 7), (0, 5)).astype(float)
        assert compute_shape(mask * 0.5, (1, 1, 1)).csa_mm2 == pytest.approx(np.full(5, 8.0))

    def test_empty_single_and_gap(self):
        empty = compute_shape(np.zeros((5, 5, 4)), (1, 1, 1))
        assert np.isnan(empty.csa_mm2).all()
        assert np.isnan(empty.solidity).all()
        one = compute_shape(box((9, 9, 4), (2, 7), (2, 7), (2, 3)), (1, 1, 1))
        assert one.angle_ap_deg[2] == 0
        assert one.csa_mm2[2] == 25
        gap = box((9, 9, 6), (2, 7), (2, 7), (0, 6))
        gap[:, :, 2] = False
        assert np.isnan(compute_shape(gap, (1, 1, 1)).csa_mm2).tolist() == [False, False, True, False, False, False]

    def test_few_voxels_have_area_only(self):
        shape = compute_shape(box((5, 5, 3), (2, 3), (2, 4), (0, 3)), (1, 1, 1))
        assert (shape.csa_mm2 == 2).all()
        assert np.isnan(shape.diameter_rl_mm).all()

    def test_steep_cord_is_flagged(self):
        zooms = (0.5, 0.5, 1.0)
        assert compute_shape(tilted_cord(zooms, 40, length_mm=20), zooms).is_tilted.all()
        assert compute_shape(tilted_cord(zooms, 25, 25, length_mm=20), zooms).is_tilted.all()  # 33 degrees in all
        assert not compute_shape(tilted_cord(zooms, 20, length_mm=20), zooms).is_tilted.any()

    def test_a_section_along_the_cord_has_no_area_across_it(self):
        zooms = (0.5, 0.5, 1.0)
        for angles in ((50, 0), (0, -50), (38, 38)):
            shape = compute_shape(tilted_cord(zooms, *angles, length_mm=12), zooms)
            assert shape.is_steep.all()
            assert np.isnan(shape.csa_mm2).all()
            assert np.isfinite(shape.csa_axial_mm2).all()

    def test_input_is_unchanged_and_dtype_is_free(self):
        mask = tilted_cord((1, 1, 2), 10)
        before = mask.copy()
        csa = compute_shape(mask, (1, 1, 2)).csa_mm2
        np.testing.assert_array_equal(mask, before)
        for dtype in (np.uint8, np.int32, np.float32, np.float64):
            np.testing.assert_allclose(compute_shape(mask.astype(dtype), (1, 1, 2)).csa_mm2, csa)

    def test_wrong_input(self):
        with pytest.raises(GeometryError):
            compute_shape(np.ones((3, 3)), (1, 1, 1))
        with pytest.raises(GeometryError):
            compute_shape(np.ones((3, 3, 3)), (1, 1, 1), correction="cosine")


def all_orientations():
    letters = [("L", "R"), ("A", "P"), ("S", "I")]
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for flips in np.ndindex(2, 2, 2):
            yield tuple(letters[a][f] for a, f in zip(order, flips, strict=True))


@pytest.mark.parametrize("axcodes", list(all_orientations()), ids="".join)
def test_shape_in_every_orientation(axcodes, tmp_path):
    zooms = (0.8, 0.6, 2.0)
    mask = tilted_cord(zooms, 15, -10, length_mm=30, turn=20).astype(np.uint8)
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])  # L A S
    image = nib.Nifti1Image(mask, affine)
    transform = orientations.ornt_transform(nib.io_orientation(affine), orientations.axcodes2ornt(axcodes))
    nib.save(image.as_reoriented(transform), tmp_path / "mask.nii.gz")
    volume, _ = load_mask(tmp_path / "mask.nii.gz")
    got, expected = compute_shape(volume.data, volume.zooms), compute_shape(mask, zooms)
    for name in ("csa_mm2", "diameter_ap_mm", "diameter_rl_mm", "orientation_deg", "angle_ap_deg", "angle_rl_deg"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-5, atol=1e-4)


class TestTangent:
    def test_straight_line_is_kept(self):
        line = np.outer(np.arange(30), [0.3, -0.2]) + 5
        np.testing.assert_allclose(smooth_line(line, np.ones(30), 1.0), line, atol=1e-8)

    def test_gaps_are_filled_on_the_line(self):
        line = np.outer(np.arange(30), [0.3, -0.2])
        weights = np.ones(30)
        weights[10:20] = 0
        broken = np.where(weights[:, None] > 0, line, np.nan)
        np.testing.assert_allclose(smooth_line(broken, weights, 1.0), line, atol=1e-7)

    @pytest.mark.parametrize("spacing", [0.5, 1.0, 4.0])
    def test_wavelength_is_in_mm(self, spacing):
        z = np.arange(0, 1200, spacing)
        for wavelength, gain in ((40.0, 0.5), (150.0, 0.995)):
            wave = np.cos(2 * np.pi * z / wavelength)[:, None]
            smooth = smooth_line(wave, np.ones(len(z)), spacing)
            middle = slice(len(z) // 4, 3 * len(z) // 4)
            assert np.abs(smooth[middle]).max() == pytest.approx(gain, abs=0.03)


class TestSolidity:
    def test_hulls_of_the_toolbox_are_scipys(self, monkeypatch):
        rng = np.random.default_rng(4)
        blobs = ndi.gaussian_filter(rng.normal(size=(24, 18, 9)), (2, 2, 0)) > 0.1  # in several pieces
        blobs[:, :, 3] = False
        blobs[5, 6, 3] = True
        soft = np.where(blobs, rng.uniform(0.3, 1.0, blobs.shape), 0.0)
        zooms = np.array([1.2, 0.8, 3.0])
        for mask in (blobs, soft):
            found = compute_sct_solidity(mask, zooms)
            for k, value in enumerate(found):
                section = solidities._interpolate(mask[:, :, k], zooms)
                if not section.any():
                    assert np.isnan(value)
                    continue
                corners = np.concatenate([np.argwhere(section) + step for step in ((0, 0), (0, 1), (1, 0), (1, 1))])
                assert value == pytest.approx(section.sum() / ConvexHull(corners).volume, rel=1e-12)
            monkeypatch.setattr(solidities, "TOGETHER", 2)
            np.testing.assert_array_equal(compute_sct_solidity(mask, zooms), found)
        half = np.zeros((5, 5, 2))
        half[2, 2, 0] = 0.5  # nothing of it is left but for its middle
        half[1:3, 2, 1] = 1.0
        assert np.isfinite(compute_sct_solidity(half, (0.83, 0.83, 3.0))).tolist() == [False, True]

    def test_solidity_of_convex_and_dented_sections(self):
        disc = np.hypot(*(np.indices((15, 15)) - 7)) <= 5.2
        bitten = disc.copy()
        bitten[7:, 7:] = False
        solidity = compute_solidity(np.stack([disc, bitten, np.zeros_like(disc)], axis=2))
        assert solidity[0] == 1
        assert 0.7 < solidity[1] < 0.9
        assert np.isnan(solidity[2])

    @settings(deadline=None)
    @given(hnp.arrays(bool, (7, 7, 1), elements=st.booleans()))
    def test_same_as_counting_inside_the_hull(self, mask):
        from scipy.spatial import Delaunay, QhullError

        points = np.argwhere(mask[..., 0])
        try:
            hull = Delaunay(points)
        except (QhullError, ValueError):
            return  # on one line
        inside = (hull.find_simplex(np.argwhere(np.ones((7, 7))), tol=1e-9) >= 0).sum()
        assert compute_solidity(mask)[0] == pytest.approx(len(points) / inside)


class TestQuality:
    zooms = (0.5, 0.5, 2.0)

    def quality(self, mask, common=None, limits=ADULTS):
        return compute_intrinsic(mask, self.zooms, compute_shape(mask, self.zooms), common, limits)

    def test_whole_cord(self):
        q = self.quality(tilted_cord(self.zooms))
        assert (q.coverage, q.n_gaps, q.n_components, q.largest_fraction, q.plausible) == (1, 0, 1, 1, 1)
        assert q.n_slices == 24
        assert q.csa_roughness == pytest.approx(0, abs=1e-12)
        assert q.centre_roughness == pytest.approx(0, abs=1e-9)

    def test_gap_and_short_mask(self):
        mask = tilted_cord(self.zooms)
        mask[:, :, 10:13] = False
        mask[:, :, 20:] = False
        q = self.quality(mask, np.ones(24, bool))
        assert q.coverage == pytest.approx(17 / 24)
        assert (q.n_gaps, q.longest_gap_mm, q.n_components) == (1, 6, 2)
        assert q.largest_fraction == pytest.approx(10 / 17)

    def test_far_speck_does_not_stretch_the_cord(self):
        mask = tilted_cord(self.zooms)
        mask[:, :, 12:] = False
        mask[2, 2, 23] = True
        assert np.flatnonzero(slice_hull(mask))[-1] == 11
        assert self.quality(mask).n_components == 2

    def test_roughness_knows_noise(self):
        rng = np.random.default_rng(0)
        z = np.arange(400)
        widths = np.round(20 + 6 * np.sin(z / 60)).astype(int)
        noisy = np.clip(widths + rng.integers(-3, 4, z.size), 4, 38)
        x = np.arange(40)[:, None, None]
        smooth_mask, noisy_mask = (np.broadcast_to(np.abs(x - 19.5) < w / 2, (40, 16, z.size)) for w in (widths, noisy))
        calm, rough = self.quality(smooth_mask), self.quality(noisy_mask)
        expected = np.diff(np.log(2 * np.round(noisy / 2)), n=2).std() / 4
        assert rough.csa_roughness > 5 * calm.csa_roughness
        assert rough.csa_roughness == pytest.approx(expected, rel=0.25)

    def test_spikes(self):
        mask = np.zeros((60, 60, 60), bool)
        rng = np.random.default_rng(1)
        for k in range(60):
            mask[20 : 40 + rng.integers(0, 2), 20:40, k] = True
        mask[10:50, 20:40, 30] = True
        assert self.quality(mask).spikes == pytest.approx(3 / 58)

    def test_implausible(self):
        big = box((60, 60, 10), (5, 55), (5, 55), (0, 10))
        assert self.quality(big).plausible == 0
        assert np.isnan(self.quality(big, limits=None).plausible)

    def test_empty(self):
        empty = np.zeros((5, 5, 8), bool)
        q = self.quality(empty, np.arange(8) < 4)
        assert (q.coverage, q.n_slices, q.n_components) == (0, 0, 0)
        assert np.isnan([q.largest_fraction, q.plausible, q.csa_roughness, self.quality(empty).coverage]).all()


class TestReference:
    def test_only_labelled_slices_count(self):
        zooms = (0.5, 0.5, 2.0)
        whole = tilted_cord(zooms)
        reference = whole.copy()
        reference[:, :, :8] = reference[:, :, 16:] = False
        got = compare_with_reference(whole, compute_shape(whole, zooms), reference, zooms)
        assert (got["dice"], got["hd95_mm"], got["nsd"]) == (1, 0, 1)
        assert got["csa_error_pct"] == pytest.approx(0, abs=0.1)

    def test_reference_on_every_third_slice(self):
        zooms = (0.5, 0.5, 2.0)
        whole = tilted_cord(zooms)
        reference = np.where(np.arange(24) % 3 == 0, whole, False)
        got = compare_with_reference(whole, compute_shape(whole, zooms), reference, zooms)
        assert (got["dice"], got["hd95_mm"]) == (1, 0)

    def test_missed_half(self):
        zooms = (0.5, 0.5, 2.0)
        whole = tilted_cord(zooms)
        half = whole.copy()
        half[:, :, 12:] = False
        got = compare_with_reference(half, compute_shape(half, zooms), whole, zooms)
        assert got["dice"] == pytest.approx(2 / 3, abs=1e-3)
        assert got["hd95_mm"] > 15
        empty = np.zeros_like(whole)
        nothing = compare_with_reference(empty, compute_shape(empty, zooms), whole, zooms)
        assert (nothing["dice"], nothing["nsd"]) == (0, 0)
        assert np.isnan(nothing["csa_error_pct"])


class TestCommands:
    @pytest.fixture
    def cord(self, tmp_path):
        self.zooms = (0.5, 0.5, 2.0)
        path = tmp_path / "cord.nii.gz"
        nib.save(nib.Nifti1Image(tilted_cord(self.zooms, 10).astype(np.uint8), np.diag([0.5, 0.5, 2, 1])), path)
        return path

    def test_dice(self, cord, capsys):
        assert main(["dice", "-i", str(cord), "-d", str(cord)]) == 0
        assert "3D Dice coefficient = 1.000000\n" in capsys.readouterr().out
        assert main(["dice", "-i", str(cord), "-d", str(cord), "--json", "-2d-slices"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["hd95_mm"] == 0
        assert len(content["slice_dice"]) == 24

    def test_dice_of_other_grid_is_one_line(self, cord, tmp_path, capsys):
        other = tmp_path / "other.nii.gz"
        nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), other)
        assert main(["dice", "-i", str(cord), "-d", str(other)]) == 2
        err = capsys.readouterr().err
        assert "other.nii.gz" in err
        assert err.count("\n") == 1

    def test_csa(self, cord, tmp_path, capsys):
        out = tmp_path / "csa.tsv"
        assert main(["csa", "-i", str(cord), "-perslice", "1", "-o", str(out)]) == 0
        lines = [line.split("\t") for line in out.read_text().splitlines()]
        assert len(lines) == 1 + 24 + 2
        column = lines[0].index("csa_mm2")
        values = np.array([float(line[column]) for line in lines[1:25]])
        assert lines[25][1] == "mean"
        assert float(lines[25][column]) == pytest.approx(values.mean(), rel=1e-5)
        assert float(lines[26][column]) == pytest.approx(values.std(), rel=1e-4)
        capsys.readouterr()
        assert main(["csa", "-i", str(cord), "-perslice", "0", "-z", "5:7,9", "-angle-corr", "0", "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [(row["slice"], row["slices"]) for row in rows] == [("mean", "5:7;9")]
        assert rows[0]["csa_sd_mm2"] == pytest.approx(values[[5, 6, 7, 9]].std(), abs=0.5)
        assert rows[0]["csa_mm2"] == rows[0]["csa_axial_mm2"]
        assert rows[0]["length_mm"] == 8

    @pytest.mark.parametrize("text", ["5:99", "a:b", "7:5", "-1", "1:2:3"])
    def test_csa_wrong_slices(self, cord, text, capsys):
        assert main(["csa", "-i", str(cord), f"-z={text}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
