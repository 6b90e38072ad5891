"""Measures of masks to the digit, at their limits, and in their empty cases."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from spineseg.errors import InputError
from spineseg.measures import ADULTS
from spineseg.metrics import distance, intrinsic, overlap, table
from spineseg.metrics.compare import compare_masks, compare_with_reference, describe_pair
from spineseg.metrics.shape import MIN_WEIGHT, SliceShape, compute_sections, compute_shape

ZOOMS = (0.5, 0.8, 2.0)


def block(first=0, last=6, *, shape=(12, 12, 6), rows=(3, 9), columns=(3, 9)):
    """A box of 6 x 6 voxels in some slices."""
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns), first:last] = True
    return mask


def shape_with(**values):
    """A shape of four slices, a cord as adults have, with some values replaced."""
    usual = {
        "csa_mm2": 75.0, "csa_axial_mm2": 75.0, "diameter_ap_mm": 8.0, "diameter_rl_mm": 12.0, "eccentricity": 0.7,
        "solidity": 0.95, "orientation_deg": 0.0, "angle_ap_deg": 0.0, "angle_rl_deg": 0.0, "length_mm": 2.0,
    }  # fmt: skip
    arrays = {name: np.broadcast_to(np.float64(value), 4).copy() for name, value in (usual | values).items()}
    return SliceShape(**arrays, centroid_vox=np.zeros((4, 3)))


class TestPairs:
    def test_two_boxes_apart_by_two_voxels(self):
        a, b = block(0, 4), np.roll(block(1, 6), 2, axis=0)
        got = compare_masks(a, compute_shape(a, ZOOMS), b, compute_shape(b, ZOOMS), ZOOMS)
        alone = distance.compute_surface_distance(a, b, ZOOMS)
        both = 2 * 24 * 3 / (36 * 4 + 36 * 5)
        assert got == {
            "dice": pytest.approx(both),
            "hd_mm": alone.hd_mm,
            "hd95_mm": alone.hd95_mm,
            "assd_mm": alone.assd_mm,
            "nsd": alone.nsd,
            "nsd_tolerance_mm": 0.8,
            "csa_difference_mm2": pytest.approx(0),
            "min_slice_dice": pytest.approx(24 / 36),  # of the slices that both hold
        }

    def test_difference_of_area_is_first_less_second_on_common_slices(self):
        small, large = block(0, 4, rows=(3, 8)), block(1, 6)
        got = compare_masks(small, compute_shape(small, ZOOMS), large, compute_shape(large, ZOOMS), ZOOMS)
        assert got["csa_difference_mm2"] == pytest.approx(-6 * 0.4)

    def test_masks_that_share_no_slice(self):
        a, b = block(0, 2), block(4, 6)
        got = compare_masks(a, compute_shape(a, ZOOMS), b, compute_shape(b, ZOOMS), ZOOMS)
        assert got["dice"] == 0
        assert np.isnan([got["csa_difference_mm2"], got["min_slice_dice"]]).all()

    def test_reference_of_half_the_area(self):
        mask, truth = block(), block(2, 4, rows=(3, 6))
        got = compare_with_reference(mask, compute_shape(mask, ZOOMS), truth, ZOOMS)
        within = distance.compute_surface_distance(mask[:, :, 2:4], truth[:, :, 2:4], ZOOMS)
        assert got == {
            "dice": pytest.approx(2 / 3),
            "hd95_mm": within.hd95_mm,
            "assd_mm": within.assd_mm,
            "nsd": within.nsd,
            "nsd_tolerance_mm": 0.8,
            "csa_error_pct": pytest.approx(100.0),
        }

    def test_a_pair_in_full(self):
        a, b = block(), block(2, 4)
        values, slice_dice = describe_pair(a, b, ZOOMS, tolerance_mm=3.0)
        np.testing.assert_array_equal(slice_dice, [0, 0, 1, 1, 0, 0])
        assert values["dice_labelled"] == 1
        assert values["dice"] == pytest.approx(0.5)
        assert values["volume_difference_pct"] == pytest.approx(200)
        assert values["nsd_tolerance_mm"] == 3.0
        assert values["csa_a_mm2"] == values["csa_b_mm2"] == pytest.approx(36 * 0.4)
        nothing, _ = describe_pair(np.zeros_like(a), b, ZOOMS)
        assert np.isnan(nothing["csa_a_mm2"])

    def test_half_covered_voxels_are_cord(self):
        assert overlap.binarise(np.array([0.49, 0.5, np.nan])).tolist() == [False, True, False]


class TestSurface:
    def test_of_a_box_in_the_corner_is_complete(self):
        """The border of the array closes a mask in plane, wherever it lies; slices beyond it close it as well."""
        corner, middle = block(1, 4, rows=(0, 4), columns=(0, 5)), block(1, 4, rows=(5, 9), columns=(4, 9))
        far = block(1, 4, rows=(8, 12), columns=(7, 12))
        areas = [distance.extract_surface(mask, ZOOMS).area_mm2.sum() for mask in (corner, middle, far)]
        assert areas == pytest.approx([areas[1]] * 3)

    def test_surface_points_lie_on_the_mask(self):
        one = distance.extract_surface(block(2, 4, rows=(4, 8), columns=(2, 10)), ZOOMS)
        low, high = one.points_mm.min(axis=0), one.points_mm.max(axis=0)
        np.testing.assert_allclose(low, np.array([3.5, 1.5, 1.5]) * ZOOMS)
        np.testing.assert_allclose(high, np.array([7.5, 9.5, 3.5]) * ZOOMS)
        assert (one.area_mm2 > 0).all()
        nothing = distance.extract_surface(np.zeros((3, 3, 3)), ZOOMS)
        assert (nothing.points_mm.shape, nothing.area_mm2.shape) == ((0, 3), (0,))

    def test_a_distance_of_the_tolerance_is_within_it(self):
        a = block()
        got = distance.compute_surface_distance(a, np.roll(a, 1, axis=0), (0.5, 0.5, 2.0))
        assert (got.nsd_tolerance_mm, got.nsd) == (0.5, 1.0)
        assert distance.compute_surface_distance(a, np.roll(a, 1, axis=0), (0.5, 0.5, 2.0), tolerance_mm=0.49).nsd < 1
        assert distance.compute_surface_distance(a, np.zeros_like(a), ZOOMS, tolerance_mm=2).nsd_tolerance_mm == 2

    @pytest.mark.parametrize(("percent", "expected"), [(10, 1.0), (25, 1.0), (26, 2.0), (50, 2.0), (76, 4.0)])
    def test_percentile_by_weight(self, percent, expected):
        values, weights = np.array([4.0, 1.0, 3.0, 2.0]), np.ones(4)
        assert distance._weighted_percentile(values, weights, percent) == expected
        assert distance._weighted_percentile(np.array([7.0]), np.array([2.0]), percent) == 7.0


class TestQuality:
    def of(self, mask, shape=None, common=None):
        return intrinsic.compute_intrinsic(mask, ZOOMS, shape or compute_shape(mask, ZOOMS), common)

    @pytest.mark.parametrize(("voxels", "counts"), [(4, False), (5, True), (6, True)])
    def test_a_component_counts_from_a_twentieth_of_the_mask(self, voxels, counts):
        mask = np.zeros((30, 10, 9), bool)
        mask[: 100 - voxels, :, 1] = False
        cord = np.zeros((30, 10), bool)
        cord.ravel()[: 100 - voxels] = True
        mask[:, :, 1] = cord
        mask[25, :voxels, 6] = True
        assert mask.sum() == 100
        assert np.flatnonzero(intrinsic.slice_hull(mask)).tolist() == (list(range(1, 7)) if counts else [1])

    def test_a_mask_of_one_voxel_is_its_own_hull(self):
        mask = np.zeros((4, 5, 6), bool)
        mask[1, 2, 3] = True
        assert np.flatnonzero(intrinsic.slice_hull(mask)).tolist() == [3]
        assert not intrinsic.slice_hull(np.zeros((4, 5, 6), bool)).any()

    def test_components_touch_by_a_corner(self):
        mask = np.zeros((9, 9, 9), bool)
        mask[1:4, 1:4, 1:4] = mask[4:6, 4:6, 4:6] = True
        mask[8, 0, 8] = True
        labels, sizes, origin = intrinsic.label_components(mask)
        assert (labels.shape, sizes.tolist(), origin) == ((8, 6, 8), [35, 1], 1)
        empty = intrinsic.label_components(np.zeros((3, 3, 3), bool))
        assert (empty[0].size, empty[1].size, empty[2]) == (0, 0, 0)

    def test_gaps(self):
        mask = block(shape=(12, 12, 12), last=12)
        mask[:, :, [2, 5, 6, 7]] = False
        got = self.of(mask)
        assert (got.n_gaps, got.longest_gap_mm, got.n_slices) == (2, 6.0, 8)
        whole = self.of(block())
        assert (whole.n_gaps, whole.longest_gap_mm) == (0, 0.0)

    def test_coverage_of_slices_in_which_others_found_cord(self):
        common = np.array([True, True, True, True, False, False])
        assert self.of(block(2, 6), common=common).coverage == 0.5
        assert np.isnan(self.of(block(2, 6), common=np.zeros(6, bool)).coverage)

    def test_roughness_of_area_is_that_of_its_logarithm(self):
        csa = np.exp(np.array([0.0, 1.0, 1.0, 2.0, 5.0]))  # second differences -1, 1, 2
        got, spikes = intrinsic._csa_roughness(csa, 2.0)
        assert got == pytest.approx(1.4826 * 1 / 4)  # median 1, deviations 2, 0, 1
        assert spikes == 0
        assert np.isnan(intrinsic._csa_roughness(csa[:4], 2.0)).all()
        assert intrinsic._csa_roughness(0.3 * csa, 2.0)[0] == pytest.approx(got)  # areas below 1 mm² too
        assert np.isfinite(intrinsic._csa_roughness(csa, 2.0)).all()

    def test_an_even_area_has_no_spike(self):
        assert intrinsic._csa_roughness(np.full(9, 80.0), 1.0) == (0.0, 0.0)

    def test_wandering_centres(self):
        """A zigzag has second differences of four amplitudes; the smooth line through it has nearly none."""
        z = np.arange(200)
        centers = np.column_stack([0.3 * (-1.0) ** z, 0.01 * z])
        assert intrinsic._centre_roughness(centers, 1.0) == pytest.approx(1.2, rel=1e-3)
        both = np.column_stack([0.3 * (-1.0) ** z, 0.4 * (-1.0) ** z])
        assert intrinsic._centre_roughness(both, 1.0) == pytest.approx(2.0, rel=1e-3)
        assert np.isnan(intrinsic._centre_roughness(centers[:2], 1.0))
        assert np.isfinite(intrinsic._centre_roughness(centers[:3], 1.0))
        holes = centers.copy()
        holes[1::2] = np.nan
        assert np.isnan(intrinsic._centre_roughness(holes, 1.0))  # no three neighbours
        holes[50:60] = centers[50:60]
        assert intrinsic._centre_roughness(holes, 1.0) == pytest.approx(1.2, rel=0.25)
        ends = np.vstack([np.full((2, 2), np.nan), centers, np.full((3, 2), np.nan)])
        assert intrinsic._centre_roughness(ends, 1.0) == pytest.approx(intrinsic._centre_roughness(centers, 1.0))
        sharp = centers.copy()
        sharp[[0, -1]] += 5  # the ends count as well
        assert intrinsic._centre_roughness(sharp, 1.0) > 1.3

    def test_centres_are_in_mm(self):
        mask = np.zeros((40, 12, 40), bool)
        for k in range(40):
            mask[10 + 2 * (k % 2) : 20 + 2 * (k % 2), 3:9, k] = True
        assert self.of(mask).centre_roughness == pytest.approx(4 * 0.5, rel=0.02)

    @pytest.mark.parametrize(
        ("name", "limits"),
        [("csa_mm2", ADULTS.csa_mm2), ("diameter_ap_mm", ADULTS.diameter_mm), ("diameter_rl_mm", ADULTS.diameter_mm)],
    )
    def test_limits_of_size_are_plausible_and_beyond_is_not(self, name, limits):
        low, high = limits
        values = np.array([low, high, np.nextafter(low, 0), np.nextafter(high, np.inf)])
        good = intrinsic._plausible_share(shape_with(**{name: values}), np.ones(4, bool), ADULTS)
        assert good == 0.5

    @pytest.mark.parametrize(
        ("name", "limit", "inside"), [("eccentricity", ADULTS.eccentricity, 0), ("solidity", ADULTS.solidity, 1)]
    )
    def test_limits_of_form_are_not_plausible_and_within_is(self, name, limit, inside):
        values = np.array([limit, np.nextafter(limit, inside), limit, np.nan])
        assert intrinsic._plausible_share(shape_with(**{name: values}), np.ones(4, bool), ADULTS) == 0.25

    def test_each_kind_of_implausible_slice_counts(self):
        both = shape_with(csa_mm2=np.array([75.0, 1e4, 75, 75]), diameter_ap_mm=np.array([8.0, 8, 100, 8]))
        assert intrinsic._plausible_share(both, np.ones(4, bool), ADULTS) == 0.5
        assert intrinsic._plausible_share(both, np.arange(4) == 3, ADULTS) == 1
        assert np.isnan(intrinsic._plausible_share(both, np.zeros(4, bool), ADULTS))


class TestTable:
    def test_rows_of_one_slice_and_of_many(self):
        areas, angles = np.array([70.0, 80, np.nan, 90]), np.array([0.0, 31, 0, 0])
        shape = shape_with(csa_mm2=areas, csa_axial_mm2=areas + 1, angle_ap_deg=angles)
        one = table.slice_row(shape, 1, 2.5, level=4, note="x")
        assert one == {
            **dict(slice=1, slices="1", position_mm=2.5, level=4, note="x", tilted=1, n_slices=1),
            **dict(csa_mm2=80, csa_axial_mm2=81, diameter_ap_mm=8, diameter_rl_mm=12, eccentricity=0.7, solidity=0.95),
            **dict(orientation_deg=0, angle_ap_deg=31, angle_rl_deg=0, length_mm=2),
        }
        assert table.slice_row(shape, 2, 2.5)["n_slices"] == 0
        mean = table.mean_row(shape, np.array([True, True, True, False]), slices="0:2")
        assert (mean["slice"], mean["slices"], mean["tilted"], mean["n_slices"]) == ("mean", "0:2", 1, 2)
        assert mean["note"] == "1 of 2 slices in the mean are tilted beyond 30 degrees"
        assert (mean["csa_mm2"], mean["csa_sd_mm2"], mean["length_mm"]) == (75, 5, 4)
        assert np.isnan(mean["position_mm"])
        assert set(mean) <= set(table.TABLE_COLUMNS)
        spread = table.sd_row(mean)
        assert (spread["slice"], spread["csa_mm2"], spread["eccentricity"]) == ("sd", 5, 0)
        assert np.isnan([spread["position_mm"], spread["length_mm"]]).all()
        assert set(spread) == {"slice", "position_mm", *table.VALUE_COLUMNS}
        nothing = table.mean_row(shape, np.zeros(4, bool))
        assert np.isnan([nothing["csa_mm2"], nothing["csa_sd_mm2"]]).all()
        assert (nothing["length_mm"], nothing["n_slices"]) == (0, 0)

    @pytest.mark.parametrize(
        ("text", "chosen"), [("0", [0]), ("0:5", range(6)), ("5", [5]), ("0;2;4:5", [0, 2, 4, 5]), (None, range(6))]
    )
    def test_choices_of_slices(self, text, chosen):
        assert np.flatnonzero(table.parse_slices(text, 6)).tolist() == list(chosen)

    @pytest.mark.parametrize("text", ["6", "0:6", "-1:2"])
    def test_slices_beyond_the_image_are_refused(self, text):
        with pytest.raises(InputError, match="within 0:5"):
            table.parse_slices(text, 6)
        with pytest.raises(InputError, match="lower one first, found 3:2; write 2:3"):
            table.parse_slices("3:2", 6)


class TestShape:
    def test_a_block_of_whole_voxels(self):
        got = compute_shape(block(1, 5), ZOOMS)
        inside = slice(1, 5)
        np.testing.assert_allclose(got.csa_mm2[inside], 36 * 0.4)
        np.testing.assert_allclose(got.csa_axial_mm2[inside], 36 * 0.4)
        variance = (36 - 1) / 12  # of six voxels
        np.testing.assert_allclose(got.diameter_rl_mm[inside], 4 * 0.5 * np.sqrt(variance))
        np.testing.assert_allclose(got.diameter_ap_mm[inside], 6 * 0.8)  # the window is as wide as the block
        np.testing.assert_allclose(np.abs(got.orientation_deg[inside]), 0)
        np.testing.assert_allclose(got.eccentricity[inside], np.sqrt(1 - (0.5 / 0.8) ** 2))
        np.testing.assert_allclose(got.centroid_vox[1], [5.5, 5.5, 1])
        for one in fields(SliceShape):
            assert np.isnan(getattr(got, one.name)[[0, 5]]).all(), one.name

    @pytest.mark.parametrize(("angle_ap", "angle_rl"), [(25.0, 0.0), (0.0, 25.0), (20.0, -10.0)])
    def test_each_angle_corrects_its_own_axis(self, angle_ap, angle_rl):
        """A sheared block: its widths across the cord are those of the slice times one cosine each."""
        slope = np.tan(np.radians([angle_ap, angle_rl]))
        wide = block(rows=(1, 11))
        straight = compute_shape(wide, ZOOMS)
        tilted, _ = compute_sections(wide, ZOOMS, centers_mm=np.arange(6)[:, None] * ZOOMS[2] * slope)
        cos_ap, cos_rl = np.cos(np.radians(angle_ap)), np.cos(np.radians(angle_rl))
        np.testing.assert_allclose(tilted.angle_ap_deg, angle_ap)
        np.testing.assert_allclose(tilted.angle_rl_deg, angle_rl)
        np.testing.assert_allclose(tilted.diameter_rl_mm, straight.diameter_rl_mm * cos_ap)
        np.testing.assert_allclose(tilted.diameter_ap_mm, straight.diameter_ap_mm * cos_rl)
        np.testing.assert_allclose(tilted.csa_mm2, straight.csa_mm2 * cos_ap * cos_rl)
        np.testing.assert_allclose(tilted.length_mm, 2.0 / (cos_ap * cos_rl))

    @pytest.mark.parametrize("zooms", [(0.5, 0.5, 3.0), (0.9, 0.9, 2.0), (0.4, 0.7, 5.0)])
    @pytest.mark.parametrize("doubt_mm", [0.0, 0.3, 0.6])
    @pytest.mark.parametrize("turn", [0.0, 20.0])
    def test_soft_sections_have_the_shape_of_their_half_contour(self, zooms, doubt_mm, turn):
        """Neither partial volumes nor a soft edge of a network widen the section."""
        n = np.ceil(np.array([24.0, 20.0]) / zooms[:2]).astype(int)
        fine = 8
        x, y = ((np.arange(m * fine) + 0.5) / fine * zoom for m, zoom in zip(n, zooms[:2], strict=True))
        x, y = x[:, None] - 11.83, y[None] - 9.71
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        u, v = (cos * x + sin * y) / 6.2, (cos * y - sin * x) / 4.0
        off = (np.hypot(u, v) - 1) * np.hypot(u, v) / np.hypot(u / 6.2, v / 4.0)  # mm beyond the edge, near it
        cover = 1 / (1 + np.exp(np.clip(off / doubt_mm, -50, 50))) if doubt_mm else (off < 0).astype(float)
        cover[cover < 0.01] = 0
        soft = np.repeat(cover.reshape(n[0], fine, n[1], fine).mean(axis=(1, 3))[:, :, None], 4, axis=2)
        got = compute_shape(soft, zooms)
        np.testing.assert_allclose(got.diameter_rl_mm, 12.4, rtol=0.01)
        window = 8.0 * (1 - 1.5**2 / 3 / (2 * 6.2**2))  # the mean within 1.5 mm of the middle
        np.testing.assert_allclose(got.diameter_ap_mm, window, rtol=0.01)
        np.testing.assert_allclose(got.eccentricity, np.sqrt(1 - (4.0 / 6.2) ** 2), rtol=0.01)
        np.testing.assert_allclose(got.orientation_deg, turn, atol=0.5)

    def test_a_soft_section_with_a_hole_and_two_parts(self):
        """Holes are subtracted: a frame of two squares has the moments of a frame."""
        mask = np.zeros((40, 40, 3))
        mask[10:30, 10:30] = 1.0
        mask[15:25, 15:25] = 0.0
        mask[9, 10:30] = mask[30, 10:30] = 0.02
        frame = (20**4 - 10**4) / 12 / (20**2 - 10**2)
        got = compute_shape(mask, (0.5, 0.5, 1.0))
        np.testing.assert_allclose(got.diameter_rl_mm, 4 * 0.5 * np.sqrt(frame), rtol=0.005)

    @pytest.mark.parametrize(("turn", "expected"), [(40.0, 40.0), (-40.0, -40.0), (50.0, -40.0), (-50.0, 40.0)])
    def test_the_axis_nearer_to_right_left_is_the_width(self, turn, expected):
        i, j = np.indices((81, 81)) - 40.0
        c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        disc = ((c * i + s * j) / 30) ** 2 + ((c * j - s * i) / 18) ** 2 <= 1
        got = compute_shape(np.repeat(disc[:, :, None], 3, axis=2), (0.2, 0.2, 1.0))
        np.testing.assert_allclose(got.orientation_deg, expected, atol=1)
        wide = 12.0 if abs(turn) < 45 else 7.2
        np.testing.assert_allclose(got.diameter_rl_mm, wide, rtol=0.01)

    def test_dust_and_patches_of_three_voxels(self):
        mask = np.zeros((9, 9, 3))
        mask[2:4, 2:4] = MIN_WEIGHT
        assert np.isnan(compute_shape(mask, (1, 1, 1)).csa_mm2).all()
        mask[2:4, 2:4] = 0.49  # nowhere half cord
        assert np.isnan(compute_shape(mask, (1, 1, 1)).csa_mm2).all()
        mask[2, 2] = 0.5
        mask[8, 8] = MIN_WEIGHT
        np.testing.assert_allclose(compute_shape(mask, (1, 1, 1)).csa_mm2, 3 * 0.49 + 0.5)
        patch = np.zeros((9, 9, 3), bool)
        patch[2:4, 2:4] = True
        assert np.isfinite(compute_shape(patch, (1, 1, 1)).diameter_rl_mm).all()
        patch[2, 2] = False
        three = compute_shape(patch, (1, 1, 1))
        assert (three.csa_mm2 == 3).all()
        assert np.isnan([three.diameter_rl_mm, three.solidity, three.eccentricity]).all()

    def test_tilted_beyond_thirty_degrees(self):
        for name in ("angle_ap_deg", "angle_rl_deg"):
            shape = shape_with(**{name: np.array([30.0, 30.1, -30.1, 0])})
            assert shape.is_tilted.tolist() == [False, True, True, False]
        assert not replace(shape_with(), angle_ap_deg=np.full(4, np.nan)).is_tilted.any()


class TestSections:
    def test_angles_come_from_the_line_that_is_given(self):
        mask = block()
        centers = np.column_stack([np.arange(6) * 2.0 * np.tan(np.radians(20)), np.zeros(6)])
        shape, line = compute_sections(mask, ZOOMS, centers_mm=centers)
        np.testing.assert_allclose(shape.angle_ap_deg, 20, atol=1e-6)
        np.testing.assert_allclose(line.points_mm[:, :2], centers, atol=1e-6)
        own, _ = compute_sections(mask, ZOOMS)
        np.testing.assert_allclose(own.angle_ap_deg, 0, atol=1e-6)
        exact, _ = compute_sections(mask, ZOOMS, centers_mm=centers * [[1, 1]], correction="exact")
        assert exact.csa_mm2 == pytest.approx(shape.csa_mm2)  # one angle: both corrections agree

    def test_an_empty_mask_has_no_line(self):
        shape, line = compute_sections(np.zeros((5, 5, 4), bool), ZOOMS)
        assert line is None
        assert np.isnan(shape.csa_mm2).all()
        assert np.isnan(shape.angle_ap_deg).all()
