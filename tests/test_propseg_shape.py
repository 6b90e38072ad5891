"""The shape prior, and its effect on a surface that leaked, collapsed, or met a real dent."""

from dataclasses import replace

import numpy as np
import pytest
from propseg_tubes import CORD, make_tube, mean_area
from scipy import ndimage as ndi

from spineseg.contrasts import EPI_PIXEL_MM, EPI_SLICE_MM, SUFFIX_CONTRAST, is_echo_planar
from spineseg.deepseg.inference import IN_TURN_MM
from spineseg.phantom.dataset import make_image
from spineseg.propseg.consensus import reach_consensus, undo_blur
from spineseg.propseg.intensity import build_field
from spineseg.propseg.parameters import get_contrast_model
from spineseg.propseg.refine import FilledTube
from spineseg.propseg.scene import build_scene
from spineseg.propseg.segment import PropsegParams, segment_cord
from spineseg.propseg.shape import MEAN_SHAPE, N_RAYS, RADIUS_MM, WAVES, _series, _solve_series, fit_shape
from spineseg.propseg.surface import Tube, compute_areas, make_rings, unit_circle
from spineseg.volume import Volume, to_canonical

N = 24
AREA = np.pi * 4.5**2
STILL = np.zeros(len(WAVES))


@pytest.fixture(scope="module")
def tube():
    volume, line, _ = make_tube(n=N)
    return volume, line


def scene_of(volume, line, **values):
    return build_scene(volume, line, get_contrast_model("t2"), replace(PropsegParams(), **values))


def surface_of(line, radii):
    return FilledTube(
        Tube(np.arange(N), line.points_vox[:, :2].copy(), np.broadcast_to(radii, (N, 30)).copy()), np.zeros(N, bool)
    )


def areas(surface):
    return compute_areas(surface.tube.vertices())


def lose_right(volume, line):
    """Make the fluid on the side of axis 0 as dark as the cord, in all slices."""
    data = volume.data.copy()
    data[int(line.points_vox[0, 0]) + 3 :][data[int(line.points_vox[0, 0]) + 3 :] > CORD] = CORD
    return Volume(data, volume.affine)


def test_an_outline_within_the_series_is_found_exactly():
    outline = np.array([4.6, 0.3, -0.2, 1.1, 0.1, 0.02, 0.15, 0.2])
    target = np.tile(_series() @ outline, (40, 1))
    found = _solve_series(
        target, np.full(target.shape, 1e6), np.zeros((40, 2)), np.full(40, 0.35), np.arange(40.0), STILL
    )
    np.testing.assert_allclose(found, np.tile(outline, (40, 1)), atol=1e-4)


def test_without_edges_the_mean_shape_lies_on_the_centerline():
    shift = np.tile([0.4, -0.7], (12, 1))
    none = np.zeros((12, N_RAYS))
    found = _solve_series(none, none, shift, np.full(12, 0.35), 5.0 * np.arange(12), STILL)
    mean = RADIUS_MM * MEAN_SHAPE
    mean[:3] = RADIUS_MM, 0.4, -0.7
    np.testing.assert_allclose(found, np.tile(mean, (12, 1)), atol=1e-9)


def test_a_lost_half_follows_from_the_other_half_and_the_slices_beside_it():
    outline = np.zeros(len(WAVES))
    outline[[0, 3]] = 4.2, 0.6
    target = np.tile(_series() @ outline, (30, 1))
    weight = np.ones(target.shape)
    weight[10:20, unit_circle(N_RAYS)[:, 0] > 0] = 0
    found = _solve_series(target, weight, np.zeros((30, 2)), np.full(30, 0.9), np.arange(30.0), STILL) @ _series().T
    assert np.abs(found - target).max() < 0.25


def test_the_model_finds_a_tube_from_a_centerline_that_is_off(tube):
    volume, line = tube
    moved = replace(line, points_vox=line.points_vox + np.array([1.5, -1.0, 0]))
    model = fit_shape(scene_of(volume, moved), surface_of(line, np.full(30, 4.5)))
    assert np.abs(model.centers - line.points_vox[:, :2]).max() < 0.4
    assert compute_areas(make_rings(model.centers, model.radii)) == pytest.approx(AREA, rel=0.05)


def test_a_clean_surface_is_left_alone(tube):
    volume, line = tube
    surface = surface_of(line, np.full(30, 4.5))
    after = reach_consensus(scene_of(volume, line), surface)
    assert np.array_equal(after.tube.radii, surface.tube.radii)
    assert np.array_equal(after.tube.centers, surface.tube.centers)


def test_a_slice_that_jumps_is_left_alone_in_echo_planar_images_only(tube):
    volume, line = tube
    jumps = {6: 2, 7: -1, 14: -2, 15: 1}  # mm along axis 1: each slice is distorted on its own
    data, centers = volume.data.copy(), line.points_vox[:, :2].copy()
    for k, by in jumps.items():
        data[:, :, k] = np.roll(data[:, :, k], by, axis=1)
        centers[k, 1] += by
    thick = Volume(data, np.diag([-1.0, 1.0, 4.0, 1.0]))
    surface = FilledTube(Tube(np.arange(N), centers, np.full((N, 30), 4.5)), np.zeros(N, bool))
    still, free = (
        areas(reach_consensus(scene_of(thick, line), surface, echo_planar=epi)) / areas(surface) - 1
        for epi in (False, True)
    )
    assert np.abs(still[[6, 14]]).min() > 0.03
    assert np.abs(free).max() < 0.01


@pytest.mark.parametrize("wrong", ["leaked", "collapsed"])
def test_a_wrong_side_without_an_edge_is_corrected(tube, wrong):
    volume, line = tube
    lost = lose_right(volume, line)
    side = np.clip(unit_circle(30)[:, 0], 0, 1)
    surface = surface_of(line, 4.5 + (3.4 if wrong == "leaked" else -3.0) * side)
    assert abs(areas(surface).mean() / AREA - 1) > 0.2
    after = reach_consensus(scene_of(lost, line), surface)
    assert areas(after) == pytest.approx(AREA, rel=0.08)


def test_a_dent_with_an_edge_is_kept():
    volume, line, _ = make_tube(n=N)
    data = volume.data.copy()
    i, j = np.rint(line.points_vox[0, :2]).astype(int)
    data[i - 8 : i + 9, j + 3 : j + 6, 10:14] = data.max()  # fluid in place of 2 mm of cord
    result = segment_cord(Volume(data, volume.affine), "t2", centerline=line)
    whole = segment_cord(volume, "t2", centerline=line)
    lost = whole.cord_prob.sum((0, 1)) - result.cord_prob.sum((0, 1))
    assert lost[11:13].min() > 6  # mm², of 13 mm² replaced by fluid
    assert np.abs(lost[:6]).max() < 2


def test_points_drawn_by_the_user_are_kept(tube):
    volume, line = tube
    drawn = np.zeros(volume.shape)
    drawn[20, 27, 12] = 1
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams(), correction=drawn)
    surface = surface_of(line, 4.5 + 3.0 * np.clip(unit_circle(30)[:, 1], 0, 1) ** 4)
    after = reach_consensus(scene, surface)
    assert np.array_equal(after.tube.radii[12], surface.tube.radii[12])
    assert areas(after)[3] < areas(surface)[3] - 5


def test_the_model_grows_with_the_radius_that_the_user_gives():
    volume, line, area = make_tube(n=N, radius=9.0, fluid=15.0, width=60.0)
    wide = reach_consensus(scene_of(volume, line, radius_mm=8.0), surface_of(line, np.full(30, 9.0)))
    assert areas(wide) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize(
    ("hard", "suffix"), [("csf_loss", "T1w"), ("csf_loss", "T2star"), ("touching", "T1w"), ("touching", "T2star")]
)
def test_phantoms_of_one_sided_loss_and_of_a_bright_neighbour(hard, suffix):
    image = make_image(77, 0, suffix, hard=hard)
    volume = to_canonical(image.data.astype(np.float32), image.acquisition.affine)
    truth = to_canonical(image.cord_fraction, image.acquisition.affine).data >= 0.5
    mask = segment_cord(volume, SUFFIX_CONTRAST[suffix]).cord_mask
    labelled = truth.any((0, 1))
    assert 2 * (mask & truth)[..., labelled].sum() / (mask[..., labelled].sum() + truth.sum()) > 0.9


def test_polarity_that_changes_along_the_cord_is_followed():
    dark, line, _ = make_tube(n=60)
    bright, _, _ = make_tube(n=60, bright_cord=True)
    data = dark.data.copy()
    data[:, :, 30:] = bright.data[:, :, 30:]
    result = segment_cord(Volume(data, dark.affine), "t2", centerline=line)
    whole = segment_cord(dark, "t2", centerline=line)
    assert result.cord_mask.any((0, 1)).all()
    shared = 2 * (result.cord_mask & whole.cord_mask).sum()
    assert shared / (result.cord_mask.sum() + whole.cord_mask.sum()) > 0.95
    assert any("brighter than the fluid" in note for note in result.notes)


@pytest.mark.parametrize("voxel", [0.8, 1.2])
def test_the_blur_of_an_echo_planar_voxel_takes_no_area_from_the_cord(voxel):
    volume, line, truth = make_tube(n=N, zooms=(voxel, voxel, 3.0), bright_cord=True)
    blurred = ndi.gaussian_filter(volume.data, (0.5, 0.5, 0))
    result = segment_cord(Volume(blurred, volume.affine), "dwi", centerline=line)
    assert mean_area(result.cord_prob, volume) == pytest.approx(truth, rel=0.015)


def test_echo_planar_means_are_recognised_by_their_voxels():
    assert is_echo_planar("t2", (1.0, 1.0, 5.0))
    assert not is_echo_planar("t2s", (1.0, 1.0, 5.0))
    for others in ((0.6, 0.6, 3.0), (1.0, 1.0, 1.0), (3.0, 0.6, 0.6)):  # T2w: axial, 3-D, sagittal
        assert not is_echo_planar("t2", others)


def test_the_rounding_of_an_affine_does_not_change_what_is_done():
    """Slices of 2 mm, common in fMRI, were echo-planar in one person and not in the next."""
    volume, line, _ = make_tube(n=20, zooms=(0.9, 0.9, 2.0))
    unsteady = volume.data * np.exp(np.random.default_rng(0).normal(0, 0.3, 20))
    for rounded in (1.99997, 2.0, 2.00003):
        image = Volume(unsteady.astype(np.float32), np.diag([0.9, 0.9, rounded, 1.0]))
        assert is_echo_planar("t2", image.zooms)
        assert build_field(image, line.points_vox).unsteady
    limits = np.array([EPI_PIXEL_MM, EPI_SLICE_MM, IN_TURN_MM])
    assert np.abs(limits[:, None] - [0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0]).min() > 0.01


def test_undoing_blur_adds_its_area_but_not_where_a_border_was_drawn(tube):
    volume, line = tube
    surface = surface_of(line, 4.5)
    scene = scene_of(volume, line)
    wider = areas(undo_blur(scene, surface))
    np.testing.assert_allclose(wider - areas(surface), np.pi * 0.5**2, rtol=0.02)
    aligned = areas(undo_blur(scene, surface, aligned=True))
    np.testing.assert_allclose(aligned - areas(surface), np.pi * (0.5**2 + 1 / 6), rtol=0.02)
    drawn = np.zeros(volume.shape)
    drawn[24, 20, 12] = 1
    held = areas(undo_blur(build_scene(volume, line, scene.model, PropsegParams(), correction=drawn), surface))
    assert held[12] == areas(surface)[12]
    assert held[0] == wider[0]
