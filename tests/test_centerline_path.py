"""The globally best path against brute force, and its sub-voxel refinement."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spineseg.centerline.path import (
    MIN_WINDOW_VOX,
    _min_transform,
    find_path,
    find_paths,
    measure_lead,
    refine_path,
    smooth_path,
)


def energy(score, path, zooms, smoothness):
    slope = np.diff(path, axis=0) * np.asarray(zooms[:2]) / zooms[2]
    return -sum(score[k][tuple(u)] for k, u in enumerate(path)) + smoothness * (slope**2).sum()


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.floats(0.2, 3.0),
    st.floats(0.2, 3.0),
    st.floats(0.5, 10.0),
    st.floats(0.0, 3.0),
    st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_path_is_the_best_of_all_paths(n_slices, n_i, n_j, zoom_i, zoom_j, dz, smoothness, seed):
    score = np.random.default_rng(seed).normal(size=(n_slices, n_i, n_j))
    zooms = (zoom_i, zoom_j, dz)
    pixels = list(itertools.product(range(n_i), range(n_j)))
    best = min(energy(score, np.array(path), zooms, smoothness) for path in itertools.product(pixels, repeat=n_slices))
    found = find_path(score, zooms, smoothness)
    assert energy(score, found, zooms, smoothness) == pytest.approx(best, abs=1e-9)


def test_pruning_impossible_steps_changes_no_path():
    rng = np.random.default_rng(5)
    cost = np.round(rng.normal(size=(7, 23)), 1)
    forbidden = np.where(rng.random(cost.shape) < 0.4, np.inf, cost)
    place = np.arange(23)
    for scale, reach in ((0.0, 5), (0.02, 22), (0.3, 9), (5.0, 5), (1e-300, 22)):
        step = np.where(abs(place[:, None] - place) <= reach, scale * (place[:, None] - place) ** 2, np.inf)
        for each in (cost, forbidden, np.zeros_like(cost), np.full_like(cost, np.inf)):
            expected = (each[:, None, :] + step).min(axis=2)
            assert np.array_equal(_min_transform(each, scale, reach), expected)


def test_paths_found_together_are_those_found_alone():
    scores = np.random.default_rng(6).normal(size=(3, 5, 9, 12)) * np.array([0.01, 1.0, 30.0])[:, None, None, None]
    scores[1, 2:4, :5] = -np.inf
    together = find_paths(scores, (1.0, 0.5, 2.0))
    assert together.tolist() == [find_path(each, (1.0, 0.5, 2.0)).tolist() for each in scores]


def test_ties_go_to_the_first_pixel():
    assert find_path(np.zeros((3, 4, 5)), (1, 1, 1)).tolist() == [[0, 0]] * 3


def test_path_crosses_a_bad_slice():
    score = np.full((9, 30, 30), -1.0)
    score[:, 10, 12] = 1.0
    score[4] = -1.0
    score[4, 25, 25] = 1.5  # a decoy in the slice of artefact
    assert find_path(score, (1, 1, 1)).tolist() == [[10, 12]] * 9


def test_thick_slices_may_jump_and_thin_ones_may_not():
    score = np.full((5, 20, 20), -1.0)
    for k in range(5):
        score[k, 5 + (k % 2) * 4, 5] = 1.0
    assert np.ptp(find_path(score, (1, 1, 17.5))[:, 0]) == 4
    assert np.ptp(find_path(score, (1, 1, 1))[:, 0]) == 0


def test_one_slice_and_forbidden_pixels():
    score = np.full((1, 6, 7), -np.inf)
    score[0, 2, 3] = -5.0
    assert find_path(score, (1, 1, 1)).tolist() == [[2, 3]]


def test_reach_is_limited_but_never_below_its_minimum():
    score = np.full((2, 40, 1), -100.0)
    score[0, 0], score[1, 39] = 0.0, 0.0
    near = find_path(score, (1.0, 1.0, 1.0), smoothness=0.0)
    assert near[1, 0] - near[0, 0] <= MIN_WINDOW_VOX or near[0, 0] != 0


@given(st.floats(-0.45, 0.45), st.floats(-0.45, 0.45), st.floats(0.4, 1.2), st.floats(0.4, 1.2))
@settings(max_examples=40, deadline=None)
def test_refinement_finds_the_peak(di, dj, zoom_i, zoom_j):
    i, j = np.meshgrid(np.arange(31), np.arange(31), indexing="ij")
    score = -0.05 * (((i - 15 - di) * zoom_i) ** 2 + ((j - 15 - dj) * zoom_j) ** 2)[None]
    path = find_path(score, (zoom_i, zoom_j, 1.0))
    refined = refine_path(score, path, (zoom_i, zoom_j, 1.0))
    error_mm = (refined[0] - (15 + di, 15 + dj)) * (zoom_i, zoom_j)
    assert np.hypot(*error_mm) < 0.35 * np.hypot(zoom_i, zoom_j)
    coarse_mm = (path[0] - (15 + di, 15 + dj)) * (zoom_i, zoom_j)
    assert np.hypot(*error_mm) <= np.hypot(*coarse_mm) + 1e-3  # a peak almost on a pixel is not improved


def test_refinement_on_flat_maps_and_borders_stays_put():
    flat = np.zeros((2, 9, 9))
    np.testing.assert_array_equal(refine_path(flat, np.array([[4, 4], [0, 8]]), (1, 1, 1)), [[4, 4], [0, 8]])
    rising = np.tile(np.arange(9.0)[:, None], (1, 1, 9))
    refined = refine_path(rising, np.array([[8, 4]]), (1, 1, 1))
    assert 0 <= refined[0, 0] <= 8.0


def test_smoothing_of_a_path():
    rng = np.random.default_rng(1)
    k = np.arange(100)
    truth = np.column_stack([20 + 4 * np.sin(k / 30), 0.1 * k])
    noisy = truth + rng.normal(scale=0.5, size=truth.shape)
    smooth = smooth_path(noisy, (1, 1, 1))
    assert np.sqrt(((smooth - truth) ** 2).mean()) < 0.25
    assert smooth_path(noisy[:2], (1, 1, 1)).tolist() == noisy[:2].tolist()
    thick = smooth_path(noisy[:9], (1, 1, 17.5))
    assert np.abs(thick - noisy[:9]).max() < 0.1


def test_the_lead_over_the_best_other_path():
    score = np.full((6, 60, 50), -2.0)
    score[:, 20, 25] = 1.5
    score[:, 20, 30] = 1.4  # in the same canal: no rival
    path = np.full((6, 2), (20, 25))
    assert measure_lead(score, path, (1, 1, 1)) == pytest.approx(3.5)
    score[:, 45, 25] = 1.2  # a ghost
    assert measure_lead(score, path, (1, 1, 1)) == pytest.approx(0.3)
    assert measure_lead(score, path, (0.4, 0.4, 1)) == pytest.approx(3.5)  # 10 mm away
    score[:, 45, 25] = -2.0
    score[np.arange(6), [45, 5, 55, 35, 3, 58], 45] = 1.2  # here and there
    assert measure_lead(score, path, (1, 1, 1), enough=0.2) == pytest.approx(0.3)
    assert measure_lead(score, path, (1, 1, 1)) > 1
    assert measure_lead(np.ones((2, 5, 5)), np.full((2, 2), 2), (1, 1, 1)) == 0  # no room for another
