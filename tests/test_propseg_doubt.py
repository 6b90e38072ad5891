"""The uncertainty that propseg reports for its result."""

from dataclasses import replace

import numpy as np
import pytest
from propseg_tubes import make_tube

from spineseg.centerline.curve import RIVAL_NOTE, Centerline
from spineseg.propseg.doubt import (
    ABSURD_OFFSET_MM,
    ABSURD_SCORE,
    GUESS,
    find_guessed_ends,
    is_unsure,
    measure_uncertainty,
)
from spineseg.propseg.parameters import get_contrast_model
from spineseg.propseg.refine import FilledTube, refine
from spineseg.propseg.scene import build_scene
from spineseg.propseg.segment import PropsegParams, segment_cord
from spineseg.propseg.surface import Tube
from spineseg.volume import Volume

N = 24


@pytest.fixture(scope="module")
def tube():
    volume, line, _ = make_tube(n=N)
    return volume, line


def surface_of(line, radius=4.5, shift=(0.0, 0.0), bridged=False):
    rings = Tube(
        np.arange(N), line.points_vox[:, :2] + np.array(shift), np.broadcast_to(radius, (N, 30)) + np.zeros((N, 30))
    )
    return FilledTube(rings, np.full(N, bridged))


def doubts(tube, surface, score=np.nan, correction=None):
    volume, line = tube
    line = Centerline(line.points_vox, np.full(N, score))
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams(), correction=correction)
    return measure_uncertainty(surface, scene, line)


def test_a_surface_on_the_edge_is_certain(tube):
    assert doubts(tube, surface_of(tube[1]), score=2.0).max() < 0.1


def test_a_surface_without_an_edge_is_uncertain(tube):
    assert doubts(tube, surface_of(tube[1], radius=2.0)).min() > GUESS


def test_an_extrapolated_slice_is_uncertain(tube):
    assert (doubts(tube, surface_of(tube[1], bridged=True)) == 1).all()


def test_slices_drawn_by_the_user_are_certain(tube):
    drawn = np.zeros(tube[0].shape)
    drawn[20, 24, 10] = 1
    found = doubts(tube, surface_of(tube[1], bridged=True), correction=drawn)
    assert np.flatnonzero(found == 0).tolist() == [8, 9, 10, 11, 12]


def test_only_a_centerline_with_scores_can_contradict_a_surface(tube):
    volume, line = tube
    moved = Centerline(line.points_vox + np.array([ABSURD_OFFSET_MM, 0, 0]))
    scene = build_scene(volume, moved, get_contrast_model("t2"), PropsegParams())
    surface = surface_of(line)
    assert measure_uncertainty(surface, scene, moved).max() < GUESS
    assert measure_uncertainty(surface, scene, replace(moved, score=np.ones(N))).min() == 1


@pytest.mark.parametrize(
    ("score", "unsure"), [(np.nan, False), (ABSURD_SCORE / 2 + 0.1, False), (ABSURD_SCORE / 2 - 0.1, True)]
)
def test_a_weak_centerline_raises_the_uncertainty(tube, score, unsure):
    assert is_unsure(Centerline(tube[1].points_vox, np.full(N, score))) is unsure


def test_a_weak_line_with_a_rival_is_less_certain_than_either(tube):
    points = tube[1].points_vox
    weak = Centerline(points, np.full(N, 0.4 * ABSURD_SCORE))
    assert not is_unsure(weak)
    assert not is_unsure(Centerline(points, np.ones(N), lead=0.7))
    assert is_unsure(replace(weak, lead=0.7))


@pytest.mark.parametrize(("lead", "rival"), [(np.nan, False), (3.0, False), (0.3, True)])
def test_a_rival_makes_the_result_partial(tube, lead, rival):
    volume, line = tube
    result = segment_cord(volume, "t2", centerline=replace(line, score=np.ones(N), lead=lead))
    assert (result.status == "partial") is rival
    assert (RIVAL_NOTE in result.notes) is rival


def test_an_uncertain_centerline_makes_the_result_partial(tube):
    volume, line = tube
    result = segment_cord(volume, "t2", centerline=Centerline(line.points_vox, np.full(N, ABSURD_SCORE)))
    assert result.status == "partial"
    assert any("centerline is uncertain" in note for note in result.notes)


def test_a_mostly_interpolated_run_is_partial_and_names_its_slices(tube):
    volume, line = tube
    data = volume.data.copy()
    data[:, :, 14:] = 500.0
    result = segment_cord(Volume(data, volume.affine), "t2", centerline=line)
    assert result.status == "partial"
    (note,) = [note for note in result.notes if "uncertain" in note]
    assert "23" in note


def test_a_clear_edge_around_more_than_a_cord_is_doubted():
    volume, line, _ = make_tube(n=N, radius=6.5, fluid=11.0)  # 133 mm², an edge all round
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams())
    assert measure_uncertainty(surface_of(line, radius=6.5), scene, line).min() == 1


def test_a_wall_without_fluid_between_is_an_edge(tube):
    volume, line = tube
    bare, _, _ = make_tube(n=N, radius=4.5, fluid=4.5)  # the wall is darker than the cord
    data = volume.data.copy()
    behind = round(line.points_vox[0, 1])
    data[:, :behind] = bare.data[:, :behind]  # fluid in front, wall behind: as cords lie in T2*
    scene = build_scene(Volume(data, volume.affine), line, get_contrast_model("t2"), PropsegParams())
    assert measure_uncertainty(surface_of(line), scene, line).max() < GUESS


def test_a_ring_in_noise_is_uncertain_however_well_it_fits():
    volume, line, _ = make_tube(n=N)
    noise = np.random.default_rng(5).normal(500, 50, volume.shape).astype(np.float32)
    scene = build_scene(Volume(noise, volume.affine), line, get_contrast_model("t2"), PropsegParams())
    fitted = refine(scene, surface_of(line), 300.0)
    assert measure_uncertainty(fitted, scene, line).min() > GUESS


def test_doubt_grows_with_noise(tube):
    volume, line = tube
    shade = np.random.default_rng(2).normal(0, 1, volume.shape).astype(np.float32)
    found = []
    for strength in (0.0, 100.0, 250.0):
        scene = build_scene(
            Volume(volume.data + strength * shade, volume.affine), line, get_contrast_model("t2"), PropsegParams()
        )
        found.append(measure_uncertainty(surface_of(line), scene, line).mean())
    assert found[0] < found[1] < found[2]


def test_the_result_has_an_uncertainty_for_each_slice(tube):
    volume, line = tube
    data = volume.data.copy()
    data[:, :, 16:] = 500.0
    result = segment_cord(Volume(data, volume.affine), "t2", centerline=Centerline(line.points_vox[:20]))
    filled = result.cord_mask.any((0, 1))
    assert result.uncertainty.shape == (N,)
    assert np.array_equal(np.isfinite(result.uncertainty), filled)
    assert np.nanmax(result.uncertainty[:12]) < 0.1
    assert (result.uncertainty[filled][-3:] > GUESS).all()


def test_a_lopsided_outline_is_uncertain(tube):
    line = tube[1]
    angle = 2 * np.pi * np.arange(30) / 30
    skew = surface_of(line, radius=4.5 + 0.4 * np.cos(3 * angle))
    level = surface_of(line, radius=4.5 + 0.4 * np.sin(3 * angle))  # front against back: as cords are
    assert doubts(tube, skew).min() == 1
    assert doubts(tube, level).max() < GUESS


@pytest.mark.parametrize(
    ("n", "slice_mm", "low", "high", "told"),
    [(24, 1.0, 12, 0, 12), (24, 1.0, 8, 8, 0), (100, 1.0, 0, 12, 0), (10, 5.0, 3, 2, 5), (9, 1.0, 9, 0, 9)],
)
def test_long_uncertain_ends_are_reported(n, slice_mm, low, high, told):
    doubt = np.where((np.arange(n) < low) | (np.arange(n) >= n - high), 0.9, 0.1)
    assert find_guessed_ends(doubt, slice_mm).sum() == told


def test_noise_counts_less_where_the_detector_is_certain(tube):
    volume, line = tube
    noise = np.random.default_rng(3).normal(0, 250, volume.data.shape)
    noisy = Volume((volume.data + noise).astype(np.float32), volume.affine)
    unsure, sure = (np.median(doubts((noisy, line), surface_of(line), score)) for score in (0.0, 2.0))
    assert sure < unsure - 0.1
