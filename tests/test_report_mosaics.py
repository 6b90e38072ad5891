"""Tiles, strip and outlines show the right place, whatever the shape of the voxels."""

import time

import numpy as np
import pytest

from spineseg.report.mosaics import cord_centres, lay_out, plan_tiles, render_sagittal, render_tiles
from spineseg.report.outlines import path_data, trace_outlines
from spineseg.report.preview import corner_pixels, draw_preview
from spineseg.volume import Volume


def polygon_area(points):
    """Signed area by the shoelace formula."""
    x, y = points.T.astype(float)
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def make_volume(shape, zooms, box):
    data = np.zeros(shape, np.float32)
    data[box] = 100
    affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    return Volume(data, affine), data > 0


def test_outline_of_one_voxel():
    mask = np.zeros((5, 6, 3), bool)
    mask[2, 3, 1] = True
    loops = trace_outlines(mask)
    assert [len(loop) for loop in loops] == [0, 1, 0]
    assert sorted(map(tuple, loops[1][0])) == [(2, 3), (2, 4), (3, 3), (3, 4)]
    assert path_data(loops[0]) == ""


@pytest.mark.parametrize("seed", range(5))
def test_outlines_enclose_exactly_the_mask(seed):
    mask = np.random.default_rng(seed).random((17, 13, 4)) > 0.5
    for k, loops in enumerate(trace_outlines(mask)):
        assert sum(polygon_area(loop) for loop in loops) == mask[:, :, k].sum()
        for loop in loops:  # along voxel edges only, without corners on straight runs
            steps = np.diff(np.vstack([loop, loop[:1]]), axis=0)
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert (np.sign(steps) != np.sign(np.roll(steps, 1, axis=0))).any(axis=1).all()


def test_voxels_that_touch_at_a_corner_stay_apart():
    mask = np.zeros((4, 4, 1), bool)
    mask[1, 1, 0] = mask[2, 2, 0] = True
    assert [polygon_area(loop) for loop in trace_outlines(mask)[0]] == [1, 1]


def test_a_hole_runs_the_other_way():
    mask = np.ones((5, 5, 1), bool)
    mask[2, 2, 0] = False
    assert sorted(polygon_area(loop) for loop in trace_outlines(mask)[0]) == [-1, 25]


@pytest.mark.parametrize("zooms", [(0.5, 0.5, 5.0), (1.0, 1.0, 1.0), (0.4, 0.9, 2.0), (1.2, 0.3, 3.0)])
def test_outline_lies_on_the_edge_of_the_picture(zooms):
    """A bright box and its outline must coincide on the tile, in pixels that are square in mm."""
    shape = (*tuple(int(60 / z) for z in zooms[:2]), 6)
    size = [max(2, round(10 / z)) for z in zooms[:2]]
    start = [n // 2 - s // 2 for n, s in zip(shape, size, strict=False)]
    box = (slice(start[0], start[0] + size[0]), slice(start[1], start[1] + size[1]), slice(None))
    volume, mask = make_volume(shape, zooms, box)
    plan = plan_tiles(shape, zooms, [mask])
    tile = render_tiles(volume, plan)[2]
    corners = corner_pixels(trace_outlines(mask)[3][0], plan, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert (high - low) * plan.pixel_mm == pytest.approx([size[0] * zooms[0], size[1] * zooms[1]])
    rows, columns = np.nonzero(tile > 127)  # half of the maximum: the edge of the box
    assert columns.min() == pytest.approx(low[0], abs=1)
    assert columns.max() + 1 == pytest.approx(high[0], abs=1)
    assert rows.min() == pytest.approx(low[1], abs=1)
    assert rows.max() + 1 == pytest.approx(high[1], abs=1)


def test_right_is_left_and_anterior_is_up_and_superior_is_first():
    volume, mask = make_volume((80, 80, 8), (0.5, 0.5, 4.0), (slice(38, 42), slice(38, 42), slice(2, 7)))
    volume.data[10:14, 38:42, :] = 60  # to the right of the person, low index
    volume.data[38:42, 66:70, :] = 60  # to the front, high index
    volume.data[:, :, 7] = 0
    plan = plan_tiles(volume.shape, (0.5, 0.5, 4.0), [mask])
    tiles = render_tiles(volume, plan)
    assert plan.slices[0] == 7
    assert tiles[0].max() == 0
    middle = plan.size_px // 2
    assert tiles[3, middle, : middle - 10].max() > 80
    assert tiles[3, middle, middle + 10 :].max() == 0
    assert tiles[3, : middle - 10, middle].max() > 80
    assert tiles[3, middle + 10 :, middle].max() == 0


def test_all_masks_share_slices_and_centres():
    a, b = np.zeros((60, 60, 9), bool), np.zeros((60, 60, 9), bool)
    a[20:24, 30, 2:5] = True
    b[30:34, 30, 2:8] = True
    centres = cord_centres(a.shape, [a, b])
    assert centres[3] == pytest.approx([26.5, 30])
    assert centres[8] == pytest.approx(centres[7])  # kept beyond the end
    assert cord_centres(a.shape, [a & False])[0] == pytest.approx([29.5, 29.5])


def test_every_slice_has_its_place_in_the_sheet():
    volume, mask = make_volume((40, 40, 47), (1.0, 1.0, 1.0), (slice(18, 22), slice(18, 22), slice(None)))
    plan = plan_tiles(volume.shape, (1.0, 1.0, 1.0), [mask])
    tiles = render_tiles(volume, plan)
    sheet = lay_out(tiles, plan)
    assert sheet.shape == (plan.rows * plan.size_px, plan.columns * plan.size_px)
    for t in (0, 19, 20, 46):
        row, column = divmod(t, plan.columns)
        size = plan.size_px
        np.testing.assert_array_equal(sheet[row * size :, column * size :][:size, :size], tiles[t])


def test_without_masks_the_tiles_show_the_neck():
    plan = plan_tiles((200, 200, 5), (1.0, 1.0, 3.0), [np.zeros((200, 200, 5), bool)])
    assert plan.size_px * plan.pixel_mm == pytest.approx(160, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 1, 1), (3, 3, 1), (9, 9, 2)])
def test_tiny_images_are_drawn(shape):
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    volume = Volume(data, np.diag([-1.0, 1, 1, 1]))
    plan = plan_tiles(shape, (1.0, 1.0, 1.0), [data > 0.9])
    tiles = render_tiles(volume, plan)
    assert len(tiles) == shape[2]
    assert render_sagittal(volume, plan).picture.shape[0] == shape[2]
    assert draw_preview(tiles, plan, {"a": trace_outlines(data > 0.9)}, [0, shape[2] - 1]).startswith(b"RIFF")


@pytest.mark.parametrize(("zoom", "pixels"), [(1.0, 88), (0.5, 88), (0.4, 110), (0.1, 150)])
def test_fine_voxels_get_larger_tiles(zoom, pixels):
    shape = (int(50 / zoom), int(50 / zoom), 2)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 2, shape[1] // 2] = True
    plan = plan_tiles(shape, (zoom, zoom, 5.0), [mask])
    assert plan.size_px == pixels
    assert plan.size_px * plan.pixel_mm == pytest.approx(44, rel=0.01)


def test_thousands_of_slices_fit_one_sheet():
    plan = plan_tiles((40, 40, 6000), (1.0, 1.0, 0.1), [np.ones((40, 40, 6000), bool)])
    assert plan.rows * plan.columns >= 6000
    assert plan.rows * plan.size_px < 16383
    assert plan.columns * plan.size_px < 16383


def test_sagittal_strip_follows_the_cord():
    """The cord leans from right to left; the strip passes through its middle in every slice."""
    data = np.zeros((60, 50, 20), np.float32)
    for k in range(20):
        data[20 + k : 26 + k, 22:28, k] = 100
    volume = Volume(data, np.diag([-0.5, 0.5, 2.0, 1]))
    plan = plan_tiles(data.shape, (0.5, 0.5, 2.0), [data > 0])
    strip = render_sagittal(volume, plan)
    assert strip.cut(data > 0).sum() == 6 * 20
    columns = np.flatnonzero(strip.picture[10] > 127)
    assert len(columns) == 6
    assert strip.first_vox + strip.picture.shape[1] - 1 - columns.max() == 22  # anterior first


def test_drawing_300_slices_takes_about_a_second():
    rng = np.random.default_rng(0)
    data = rng.random((64, 64, 300)).astype(np.float32)
    i, j, _ = np.indices(data.shape)
    mask = (i - 32) ** 2 + (j - 32) ** 2 < 36
    start = time.process_time()
    plan = plan_tiles(data.shape, (0.5, 0.5, 1.0), [mask, mask])
    lay_out(render_tiles(Volume(data, np.diag([-0.5, 0.5, 1, 1])), plan), plan)
    for _ in range(2):
        trace_outlines(mask)
    assert time.process_time() - start < 2  # 0.4 s on an idle core; the limit allows for a loaded one
