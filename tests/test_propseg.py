"""propseg on images whose answer is known: size, robustness, gaps, limits, and what each parameter does."""

from dataclasses import replace

import numpy as np
import pytest
from propseg_tubes import CORD, make_tube, mean_area

from spineseg.centerline.curve import Centerline, empty_centerline
from spineseg.errors import InputError
from spineseg.metrics.overlap import compute_dice
from spineseg.propseg.byproducts import BYPRODUCTS
from spineseg.propseg.deform import deform_bands
from spineseg.propseg.parameters import get_contrast_model
from spineseg.propseg.refine import FilledTube
from spineseg.propseg.repair import find_incoherent, repair_surface
from spineseg.propseg.scene import build_scene
from spineseg.propseg.segment import PropsegParams, segment_cord
from spineseg.propseg.surface import Tube, make_rings, recenter
from spineseg.volume import Volume


def changed(volume, edit):
    data = volume.data.copy()
    edit(data)
    return Volume(data, volume.affine)


@pytest.fixture(scope="module")
def plain():
    volume, line, area = make_tube()
    return volume, line, area, segment_cord(volume, "t2", centerline=line)


@pytest.mark.parametrize("bright_cord", [False, True])
@pytest.mark.parametrize(
    ("zooms", "tilt"), [((1.0, 1.0, 1.0), 15), ((1.0, 1.0, 1.0), 30), ((0.5, 0.5, 5.0), 0), ((0.5, 0.7, 2.5), 10)]
)
def test_area_of_a_tube(zooms, tilt, bright_cord):
    n = 24 if zooms[2] == 1 else 8
    volume, line, area = make_tube(zooms=zooms, tilt=tilt, n=n, bright_cord=bright_cord)
    result = segment_cord(volume, "t1" if bright_cord else "t2", centerline=line)
    assert result.status == "ok"
    assert mean_area(result.cord_prob, volume) == pytest.approx(area, rel=0.015)
    assert mean_area(result.cord_mask, volume) == pytest.approx(area, rel=0.025)
    found = result.centerline.points_vox[:, :2] - line.points_vox[:, :2]
    assert np.abs(found * volume.zooms[:2]).max() < 0.3


def test_every_slice_of_the_centerline_is_segmented(plain):
    *_, result = plain
    assert result.cord_mask.any((0, 1)).all()
    assert result.notes == ()


def test_the_same_input_gives_the_same_voxels_and_stays_as_it_was(plain):
    volume, line, _, result = plain
    before = volume.data.copy()
    again = segment_cord(volume, "t2", centerline=line)
    assert np.array_equal(again.cord_prob, result.cord_prob)
    assert np.array_equal(volume.data, before)


@pytest.mark.parametrize("off_mm", [1.0, 2.5])
def test_a_centerline_off_the_cord_is_corrected(plain, off_mm):
    volume, line, _, result = plain
    moved = Centerline(line.points_vox + np.array([off_mm, 0, 0]))
    assert compute_dice(segment_cord(volume, "t2", centerline=moved).cord_mask, result.cord_mask) > 0.97


def test_one_slice():
    volume, line, area = make_tube(n=1)
    result = segment_cord(volume, "t2", centerline=line)
    assert result.status == "ok"
    assert mean_area(result.cord_prob, volume, ends=0) == pytest.approx(area, rel=0.03)


def test_cord_at_the_border_of_the_image():
    volume, line, _ = make_tube()
    cut = Volume(volume.data[18:], volume.affine)
    result = segment_cord(cut, "t2", centerline=Centerline(line.points_vox - [18, 0, 0]))
    whole = segment_cord(volume, "t2", centerline=line).cord_mask[18:]
    assert compute_dice(result.cord_mask, whole) > 0.95


@pytest.mark.parametrize("contrast", ["t1", "t2", "t2s", "dwi"])
def test_no_contrast_is_empty(contrast):
    volume, line, _ = make_tube()
    flat = changed(volume, lambda data: data.fill(500.0))
    result = segment_cord(flat, contrast, centerline=line)
    assert result.status == "empty"
    assert not result.cord_mask.any()
    assert "no cord" in result.notes[0]


def test_pure_noise_is_empty():
    volume, line, _ = make_tube()
    noise = np.random.default_rng(0).normal(500, 50, volume.shape).astype(np.float32)
    assert segment_cord(Volume(noise, volume.affine), "t2", centerline=line).status == "empty"


def test_an_empty_centerline_is_empty():
    volume, *_ = make_tube(n=4)
    assert segment_cord(volume, "t2", centerline=empty_centerline()).status == "empty"


def test_noise_moves_the_area_by_a_few_percent(plain):
    volume, line, area, _ = plain
    noisy = volume.data + np.random.default_rng(1).normal(0, 60, volume.shape).astype(np.float32)
    result = segment_cord(Volume(noisy, volume.affine), "t2", centerline=line)
    assert mean_area(result.cord_prob, volume) == pytest.approx(area, rel=0.04)


def test_fluid_lost_on_one_side_does_not_leak(plain):
    volume, line, _, result = plain

    def lose(data):
        side = data[int(line.points_vox[0, 0]) + 3 :, :, 8:16]
        side[...] = CORD

    lost = segment_cord(changed(volume, lose), "t2", centerline=line)
    assert compute_dice(lost.cord_mask, result.cord_mask) > 0.9


def test_a_bright_neighbour_that_touches_the_cord_does_not_leak():
    volume, line, _ = make_tube(bright_cord=True)
    clean = segment_cord(volume, "t1", centerline=line)
    i, j = line.points_vox[0, :2].astype(int)

    def touch(data):
        data[i - 2 : i + 3, j + 4 : j + 9, 6:14] = 800.0

    result = segment_cord(changed(volume, touch), "t1", centerline=line)
    assert compute_dice(result.cord_mask, clean.cord_mask) > 0.93


def test_the_opposite_polarity_is_detected_and_reported():
    volume, line, _ = make_tube(bright_cord=True)
    right = segment_cord(volume, "t1", centerline=line)
    result = segment_cord(volume, "t2s", centerline=line)
    assert compute_dice(result.cord_mask, right.cord_mask) > 0.97
    assert any("against the contrast" in note for note in result.notes)


def blank(first, last):
    def edit(data):
        data[:, :, first:last] = 500.0

    return edit


def test_a_short_gap_is_bridged_and_reported():
    volume, line, _ = make_tube(n=60)
    result = segment_cord(changed(volume, blank(38, 48)), "t2", centerline=line)
    clean = segment_cord(volume, "t2", centerline=line)
    assert result.status == "ok"
    assert result.cord_mask.any((0, 1)).all()
    assert compute_dice(result.cord_mask, clean.cord_mask) > 0.95
    assert any("bridged" in note for note in result.notes)
    assert any("propagation met an obstacle" in note for note in result.notes)


def test_a_long_gap_is_left_empty_and_the_cord_beyond_it_kept():
    volume, line, _ = make_tube(n=110)
    result = segment_cord(changed(volume, blank(60, 100)), "t2", centerline=line)
    filled = result.cord_mask.any((0, 1))
    assert result.status == "partial"
    assert not filled[67:93].any()
    assert filled[:58].all()
    assert filled[104:].all()
    assert any("without cord" in note for note in result.notes)


def test_a_blank_end_is_extrapolated_only_as_far_as_the_centerline():
    volume, line, _ = make_tube(n=60)
    short = Centerline(line.points_vox[:50])
    result = segment_cord(changed(volume, blank(44, 60)), "t2", centerline=short)
    assert np.flatnonzero(result.cord_mask.any((0, 1)))[-1] in (48, 49, 50)
    assert any("bridged" in note for note in result.notes)


def test_the_start_moves_where_the_middle_shows_no_cord():
    volume, line, _ = make_tube(n=60)
    result = segment_cord(changed(volume, blank(16, 44)), "t2", centerline=line)
    assert result.cord_mask[:, :, :12].any((0, 1)).all()


def test_a_ring_off_the_line_is_repaired():

    volume, line, _ = make_tube()
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams())
    centers = line.points_vox[:, :2].copy()
    centers[9] += 5
    radii = np.full((24, 30), 4.5)
    radii[15] *= 2
    tube = Tube(np.arange(24), centers, radii)
    assert np.flatnonzero(find_incoherent(tube, 1.0)).tolist() == [9, 15]
    fixed, repaired, dropped = repair_surface(FilledTube(tube, np.zeros(24, bool)), scene, 25.0)
    assert (repaired, dropped) == ((9, 15), ())
    np.testing.assert_allclose(fixed.tube.centers[9], line.points_vox[9, :2])
    np.testing.assert_allclose(fixed.tube.radii[15], 4.5)


class TestParameters:
    def run(self, volume, line, contrast="t2", **values):
        options = {k: values.pop(k) for k in ("correction", "init_mask") if k in values}
        return segment_cord(volume, contrast, replace(PropsegParams(), **values), centerline=line, **options)

    def test_limits(self, plain):
        volume, line, *_ = plain
        filled = self.run(volume, line, down=5, up=14).cord_mask.any((0, 1))
        assert np.flatnonzero(filled).tolist() == list(range(5, 15))

    def test_init_as_fraction_and_as_slice(self, plain):
        volume, line, *_ = plain
        gap = changed(volume, blank(0, 10))
        assert self.run(gap, line, init=0.9).status != "empty"
        assert self.run(gap, line, init=20.0).status != "empty"
        assert self.run(gap, line, init=0.0, min_contrast=300.0).status == "empty"

    def test_init_outside_is_refused(self, plain):
        volume, line, *_ = plain
        with pytest.raises(InputError, match="-init"):
            self.run(volume, line, init=99.0)

    def test_radius(self):
        volume, line, area = make_tube(radius=8.5, fluid=13.0)
        params = {"max_area_mm2": 400.0}
        wide = self.run(volume, line, radius_mm=8.0, **params)
        assert mean_area(wide.cord_prob, volume) == pytest.approx(area, rel=0.03)
        tight = self.run(volume, line, radius_mm=2.0, distance_search=5, **params)
        assert tight.status == "empty" or mean_area(tight.cord_prob, volume) < 0.9 * area

    def test_max_area(self, plain):
        volume, line, *_ = plain
        assert self.run(volume, line, max_area_mm2=50.0).status == "empty"

    def test_max_deformation(self):
        volume, line, _ = make_tube(n=60)
        result = self.run(volume, line, max_deformation_mm=0.001)
        assert any("bridged" in note for note in result.notes)
        assert any("deformation" in note for note in result.notes)

    def test_min_contrast(self, plain):
        volume, line, *_ = plain
        assert self.run(volume, line, min_contrast=2000.0).status == "empty"

    def test_nbiter(self):
        volume, line, _ = make_tube(n=60)
        filled = self.run(volume, line, nbiter=1).cord_mask.any((0, 1))
        assert 24 <= filled.sum() <= 40

    @pytest.mark.parametrize("change", [{"alpha": 5000.0}, {"distance_weight": 400.0}, {"distance_search": 2}])
    def test_stiffness_binds_a_group_of_rings_to_its_template(self, plain, change):
        volume, line, *_ = plain
        free, bound = (self.first_step(volume, line, **values) for values in ({}, change))
        assert free.mean() > 4.0  # from 3 mm towards the edge at 4.5 mm
        assert bound.mean() < free.mean() - 0.3

    def first_step(self, volume, line, **values):
        scene = build_scene(volume, line, get_contrast_model("t2"), replace(PropsegParams(), **values))
        slices = np.arange(8, 14)
        template = make_rings(scene.course.at(slices), np.full((6, 15), 3.0))
        rings, _ = deform_bands(
            scene,
            slices,
            template,
            np.zeros(6, int),
            distance_weight=np.full(6, scene.distance_weight(300.0)),
            held=slices == 8,
            iterations=1,
            tolerance_mm=0.0,
        )
        return recenter(rings)[1][2:]

    def test_rescale(self):
        volume, line, area = make_tube(zooms=(0.5, 0.5, 0.5), radius=2.25, fluid=4.0, width=24.0, n=40)
        result = self.run(volume, line, rescale=2.0)
        assert mean_area(result.cord_prob, volume) == pytest.approx(area, rel=0.03)

    def test_fluid(self, plain):
        volume, line, *_ = plain
        result = self.run(volume, line, csf=True)
        fluid = result.extra["_CSF_seg.nii.gz"]
        assert not (fluid & result.cord_mask).any()
        assert mean_area(fluid, volume) == pytest.approx(np.pi * (8.0**2 - 4.5**2), rel=0.05)

    def test_check_of_the_result_can_be_left_out(self, plain):
        volume, line, *_ = plain
        assert self.run(volume, line, correct_seg=False).cord_mask.any()

    def test_correction_moves_the_surface(self, plain):
        volume, line, _, result = plain
        mask = np.zeros(volume.shape)
        i, j = np.rint(line.points_vox[12, :2]).astype(int)
        mask[i + 6, j - 1 : j + 2, 11:14] = 1
        corrected = self.run(volume, line, correction=mask)
        assert corrected.cord_mask[i + 5, j, 12]
        assert not result.cord_mask[i + 5, j, 12]
        assert np.array_equal(corrected.cord_mask[..., 2], result.cord_mask[..., 2])

    def test_three_voxels_replace_the_centerline(self, plain):
        volume, line, _, result = plain
        mask = np.zeros(volume.shape)
        for k in (6, 12, 18):
            i, j = np.rint(line.points_vox[k, :2]).astype(int)
            mask[i, j, k] = 1
        found = segment_cord(volume, "t2", init_mask=mask)
        assert compute_dice(found.cord_mask, result.cord_mask) > 0.97

    def test_other_than_three_voxels_are_refused(self, plain):
        volume, *_ = plain
        with pytest.raises(InputError, match="3 voxels"):
            segment_cord(volume, "t2", init_mask=np.zeros(volume.shape))

    @pytest.mark.parametrize("bad", [{"radius_mm": 0.0}, {"alpha": -1.0}, {"init": -0.1}, {"down": 5, "up": 2}])
    def test_values_out_of_range_are_refused(self, bad):
        with pytest.raises(InputError):
            PropsegParams(**bad)

    def test_byproducts(self, plain):
        volume, line, area, _ = plain
        extra = self.run(volume, line, byproducts=BYPRODUCTS, csf=True).extra
        assert extra["_centerline.nii.gz"].sum((0, 1)).tolist() == [1] * 24
        world = np.loadtxt(extra["_centerline.txt"].splitlines())
        np.testing.assert_allclose(world[12], line.points_mm(volume.affine)[12], atol=0.2)
        rows = [row.split("\t") for row in extra["_cross_sectional_areas.txt"].splitlines()[1:]]
        assert float(rows[12][1]) == pytest.approx(area, rel=0.03)
        header, _, rest = extra["_mesh.vtk"].partition("POINTS")
        assert header.startswith("# vtk DataFile")
        assert int(rest.split()[0]) == 24 * 30
        assert {"_init_tube.vtk", "_mesh_low_resolution.vtk", "_CSF_mesh.vtk"} <= set(extra)
        assert "_cross_sectional_areas_CSF.txt" in extra


def test_a_tilted_tube_has_the_area_of_its_cross_section():
    volume, line, _ = make_tube(tilt=25)
    result = segment_cord(volume, "t2", PropsegParams(byproducts=("cross",)), centerline=line)
    rows = [row.split("\t") for row in result.extra["_cross_sectional_areas.txt"].splitlines()[1:]]
    areas = np.array([float(row[1]) for row in rows])[4:-4]
    assert areas.mean() == pytest.approx(np.pi * 4.5**2, rel=0.03)
