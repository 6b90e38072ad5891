"""When propseg says that its own result is a guess."""

from dataclasses import replace

import numpy as np
import pytest
from propseg_tubes import make_tube

from spineseg.centerline.curve import Centerline
from spineseg.propseg.doubt import MAX_OFFSET_MM, UNSURE_SCORE, find_doubtful, is_unsure
from spineseg.propseg.parameters import get_contrast_model
from spineseg.propseg.refine import Surface
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
    rings = Tube(np.arange(N), line.points_vox[:, :2] + np.array(shift), np.full((N, 30), radius))
    return Surface(rings, np.full(N, bridged))


def doubts(tube, surface, score=np.nan, correction=None):
    volume, line = tube
    line = Centerline(line.points_vox, np.full(N, score))
    scene = build_scene(volume, line, get_contrast_model("t2"), PropsegParams(), correction=correction)
    return find_doubtful(surface, scene, line)


def test_a_surface_on_the_edge_is_believed(tube):
    assert not doubts(tube, surface_of(tube[1]), score=2.0).any()


def test_a_surface_without_an_edge_is_a_guess(tube):
    assert doubts(tube, surface_of(tube[1], radius=2.0)).all()


def test_a_carried_slice_is_a_guess(tube):
    assert doubts(tube, surface_of(tube[1], bridged=True)).all()


def test_slices_that_the_user_drew_are_believed(tube):
    drawn = np.zeros(tube[0].shape)
    drawn[20, 24, 10] = 1
    found = doubts(tube, surface_of(tube[1], bridged=True), correction=drawn)
    assert np.flatnonzero(~found).tolist() == [8, 9, 10, 11, 12]


def test_only_a_line_with_scores_speaks_against_a_surface(tube):
    volume, line = tube
    moved = Centerline(line.points_vox + np.array([MAX_OFFSET_MM + 0.2, 0, 0]))
    scene = build_scene(volume, moved, get_contrast_model("t2"), PropsegParams())
    surface = surface_of(line)
    assert not find_doubtful(surface, scene, moved).any()
    assert find_doubtful(surface, scene, replace(moved, score=np.ones(N))).all()


@pytest.mark.parametrize(
    ("score", "unsure"), [(np.nan, False), (UNSURE_SCORE + 0.1, False), (UNSURE_SCORE - 0.1, True)]
)
def test_a_weak_centerline_is_unsure(tube, score, unsure):
    assert is_unsure(Centerline(tube[1].points_vox, np.full(N, score))) is unsure


def test_an_unsure_centerline_makes_the_result_partial(tube):
    volume, line = tube
    result = segment_cord(volume, "t2", centerline=Centerline(line.points_vox, np.full(N, UNSURE_SCORE - 1)))
    assert result.status == "partial"
    assert any("centerline is uncertain" in note for note in result.notes)


def test_a_run_that_is_mostly_carried_is_partial_and_names_its_slices(tube):
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
    assert find_doubtful(surface_of(line, radius=6.5), scene, line).all()
