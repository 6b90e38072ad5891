"""Echo-planar means: brightness that changes from slice to slice, slices without signal, hardly brighter fluid."""

import numpy as np
import pytest
from propseg_tubes import make_tube

from spineseg.metrics.overlap import compute_dice, compute_slice_dice
from spineseg.phantom import dataset
from spineseg.phantom.epi import bend, draw_epi
from spineseg.propseg.initial import try_starts
from spineseg.propseg.parameters import PropsegParams, get_contrast_model
from spineseg.propseg.polarity import _is_cord
from spineseg.propseg.scene import build_scene
from spineseg.propseg.segment import segment_cord
from spineseg.volume import Volume


def as_epi(factors, **tube):
    """Return a tube of 4 mm slices scaled by `factors`, with noise; its centerline; and the tube without either."""
    volume, line, _ = make_tube(zooms=(1.0, 1.0, 4.0), n=len(factors), **tube)
    noise = np.random.default_rng(0).normal(0, 8, volume.shape)
    return Volume(np.abs(volume.data * factors + noise).astype(np.float32), volume.affine), line, volume


def test_brightness_that_changes_from_slice_to_slice_changes_nothing():
    factors = np.exp(np.random.default_rng(1).normal(0, 0.35, 18))
    image, line, steady = as_epi(factors)
    expected = segment_cord(steady, "t2", centerline=line).cord_mask
    found = segment_cord(image, "t2", centerline=line)
    assert found.status == "ok"
    assert compute_slice_dice(found.cord_mask, expected)[:18].min() > 0.93


def test_slices_without_signal_are_outlined_from_their_neighbours_and_named():
    factors = np.ones(18)
    factors[[5, 11, 12]] = 0.05
    image, line, steady = as_epi(factors)
    found = segment_cord(image, "t2", centerline=line)
    assert any("slices 5, 11-12: signal dropped out" in note for note in found.notes)
    assert compute_dice(found.cord_mask, segment_cord(steady, "t2", centerline=line).cord_mask) > 0.95
    assert (found.uncertainty[[5, 11, 12]] == 1).all()
    assert (found.uncertainty[[3, 8, 15]] < 0.5).all()


def test_thin_slices_and_steady_ones_are_left_as_they_are():
    volume, line, _ = make_tube(zooms=(1.0, 1.0, 1.0), n=30)
    volume.data[..., 14] *= 0.1
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams())
    assert len(scene.image.dropped) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_canal_is_never_taken_for_a_bright_cord(seed):
    """Fluid hardly brighter than the cord, in dark surroundings: the canal is the clearest edge there is."""
    rng = np.random.default_rng(seed)
    volume, line, _ = make_tube(zooms=(1.0, 1.0, 4.0), n=20, radius=4.2, fluid=6.0 + seed)
    fluid = volume.data > 600
    level = np.where(np.arange(20) % 5 == 0, 320.0, 380.0)  # of a cord of 300
    data = np.where(fluid, level, volume.data) + rng.normal(0, 6, volume.shape)
    found = segment_cord(Volume(data.astype(np.float32), volume.affine), "t2", centerline=line)
    assert not any("against the contrast" in note for note in found.notes)
    area = found.cord_mask.sum((0, 1))
    assert found.status != "ok" or np.median(area[area > 0]) < 80


def test_a_cord_of_the_other_polarity_is_distinguished_from_the_canal():
    for bright_cord, is_cord in ((True, True), (False, False)):
        volume, line, _ = make_tube(zooms=(1.0, 1.0, 4.0), n=9, fluid=6.5, bright_cord=bright_cord)
        scene = build_scene(volume, line, get_contrast_model("t1"), PropsegParams())
        assert _is_cord(try_starts(scene, line.slices[[4]])[0]) is is_cord


def test_one_place_alone_does_not_overrule_the_contrast():
    """Three of twenty slices show a bright cord: no reason to reverse the polarity of the rest."""
    volume, line, _ = make_tube(zooms=(1.0, 1.0, 4.0), n=20)
    turned, _, _ = make_tube(zooms=(1.0, 1.0, 4.0), n=20, bright_cord=True)
    data = volume.data.copy()
    data[..., 9:12] = turned.data[..., 9:12]  # in the middle, where the first tube is tried
    found = segment_cord(Volume(data, volume.affine), "t2", centerline=line)
    expected = segment_cord(volume, "t2", centerline=line).cord_mask
    kept = [k for k in range(20) if not 7 <= k < 14]
    assert compute_dice(found.cord_mask[..., kept], expected[..., kept]) > 0.95


def test_a_phantom_of_echo_planar_imaging_bends_image_and_reference_alike():
    image = dataset.make_image(3, 0, "bold")
    assert image.data.shape == image.cord_fraction.shape
    reference = image.cord_fraction >= 0.5
    assert reference.any((0, 1)).all()
    brightness = np.array([np.median(image.data[..., k][reference[..., k]]) for k in range(reference.shape[2])])
    assert np.log(brightness).std() > 0.1
    again = dataset.make_image(3, 0, "bold")
    np.testing.assert_array_equal(image.data, again.data)


def test_the_field_moves_points_along_the_phase_axis_only():
    to_voxel = np.diag([1.0, 1.0, 0.25, 1.0])
    epi = draw_epi(np.random.default_rng(0), np.full(12, 50.0), to_voxel)
    points = np.random.default_rng(1).uniform(0, 40, (200, 3)).astype(np.float32)
    moved = bend(epi, points) - points
    np.testing.assert_array_equal(moved[:, [0, 2]], 0)
    assert 0.3 < np.abs(moved[:, 1]).mean() < 6


def test_the_border_stops_where_an_echo_planar_image_is_dark():
    """The back of the cord has faded: the outline is completed into the dark, but not in an echo-planar image."""
    factors = np.exp(np.random.default_rng(1).normal(0, 0.2, 18))
    image, line, _ = as_epi(factors)
    behind = int(line.points_vox[0, 1]) - 1
    for contrast, gain in (("t2", 1), ("t2", factors), ("t2s", factors)):  # unsteady, by voxel size, neither
        data = image.data / gain
        data[:, : behind + 1] = 20.0
        found = segment_cord(Volume(data.astype(np.float32), image.affine), contrast, centerline=line).cord_mask
        taken = found[:, : behind + 1].sum() / found.sum()
        assert taken < 0.05 if contrast == "t2" else taken > 0.1
