"""How much of the cord a mask covers: the conus is found, ends are explained or not, and the status follows."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from spineseg.centerline.along import sample_along
from spineseg.centerline.conus import find_conus, stop_at_conus
from spineseg.centerline.curve import Centerline
from spineseg.centerline.estimate import estimate_centerline
from spineseg.centerline.extent import describe_extent
from spineseg.phantom.dataset import make_image
from spineseg.volume import Volume, to_canonical

CORD, FLUID, AROUND = 400.0, 1000.0, 120.0
SHAPE = (60, 60, 120)


def spine(
    *,
    conus=None,
    cord=CORD,
    fluid=FLUID,
    around=AROUND,
    zoom=1.0,
    radius=4.0,
    seen=(0, 120),
    medulla=None,
    widest=1.4,
    brain=None,
    at=(30, 30),
):
    """Return a straight spine with 1 mm slices and the mask of its cord, and of the medulla.

    Beyond `seen` is noise, below `conus` fluid, above `brain` matter as bright as the cord. From `medulla` upwards the
    radius grows by 0.4 of its size in 15 mm, to `widest` times its size.
    """
    i, j, k = np.indices(SHAPE)
    away = np.hypot(i - at[0], j - at[1]) * zoom
    radius = radius * np.clip(1 + 0.4 * (k - (medulla or SHAPE[2])) / 15, 1, widest)
    inside = (away < radius) & (k >= (conus or 0)) & (k < (brain or SHAPE[2]))
    data = np.where(away < 8, fluid, around + 20 * np.sin(0.7 * i) + 20 * np.cos(0.9 * j))
    data = np.where(inside, cord, data)
    if brain is not None:
        data = np.where((k >= brain) & (away < 25), cord, data)
    data = np.where((k < seen[0]) | (k >= seen[1]), 0.0, data)
    data = np.abs(data + np.random.default_rng(0).normal(0, 10, SHAPE))
    volume = Volume(data.astype(np.float32), np.diag([-zoom, zoom, 1.0, 1.0]))
    return volume, inside & (k >= seen[0]) & (k < seen[1])


def cut(mask, first, last):
    """Return the mask with nothing outside a range of slices."""
    part = mask.copy()
    part[..., :first], part[..., last + 1 :] = False, False
    return part


def straight(volume, at=(30, 30)):
    return sample_along(volume, np.arange(SHAPE[2]), np.tile(np.array(at, float), (SHAPE[2], 1)))


def test_a_whole_mask_is_ok():
    volume, mask = spine()
    assert describe_extent(volume, mask, "t2").status == "ok"


@pytest.mark.parametrize(("first", "last"), [(0, 21), (49, 70), (98, 119), (20, 119)])
def test_a_part_of_the_cord_is_partial_and_the_rest_is_named(first, last):
    volume, mask = spine()
    extent = describe_extent(volume, cut(mask, first, last), "t2")
    assert extent.status == "partial"
    assert "nothing shows that there is no cord" in extent.notes[-1]


def test_a_mask_that_misses_a_slice_in_the_middle_is_partial():
    volume, mask = spine()
    mask[..., 60] = False
    assert describe_extent(volume, mask, "t2").status == "partial"


def test_slices_beyond_the_coil_are_not_expected():
    volume, mask = spine(seen=(40, 120))
    extent = describe_extent(volume, mask, "t2")
    assert extent.status == "ok"
    assert "slices 0-39: no cord, the image shows nothing there" in extent.notes


def test_noise_over_the_cord_does_not_excuse_a_missing_mask():
    volume, mask = spine()
    noisy = np.abs(volume.data + np.random.default_rng(1).normal(0, 500, SHAPE)).astype(np.float32)
    assert describe_extent(Volume(noisy, volume.affine), cut(mask, 60, 119), "t2").status == "partial"


@pytest.mark.parametrize(
    ("cord", "fluid", "around", "contrast"), [(CORD, FLUID, AROUND, "t2"), (800.0, 250.0, 700.0, "t1")]
)
def test_below_the_conus_there_is_no_cord(cord, fluid, around, contrast):
    volume, mask = spine(conus=50, cord=cord, fluid=fluid, around=around)
    extent = describe_extent(volume, mask, contrast)
    assert extent.status == "ok"
    assert any("below the conus" in note for note in extent.notes)
    conus = find_conus(straight(volume), 1.0, contrast == "t2")
    assert abs(conus - 50) <= 6


def test_a_band_at_the_end_of_the_cord_is_no_conus():
    """Below a conus the fluid goes on. Here 25 slices are as bright, and the 40 below them are not."""
    volume, _ = spine(cord=250.0)
    i, j, k = np.indices(SHAPE)
    inside = np.hypot(i - 30, j - 30) < 4
    data = np.where(inside & (k < 65), 600.0, volume.data)
    data = np.where(inside & (k >= 40) & (k < 65), 950.0, data)
    assert find_conus(straight(Volume(data.astype(np.float32), volume.affine)), 1.0, True) is None


def test_a_mask_that_continues_below_the_conus_is_partial():
    volume, mask = spine(conus=50)
    i, j, k = np.indices(SHAPE)
    longer = mask | ((np.hypot(i - 30, j - 30) < 4) & (k < 50))
    extent = describe_extent(volume, longer, "t2")
    assert extent.status == "partial"
    assert "fluid and roots" in extent.notes[-1]


@pytest.mark.parametrize(
    ("below", "above", "conus"),
    [
        (-0.5, 1.0, True),
        (1.7, -0.2, False),
        (1.5, 0.9, True),  # roots in axial slices
        (-0.1, -0.9, True),  # thick sagittal slices
        (np.nan, np.nan, True),
    ],
)
def test_where_the_detector_sees_the_cord_only_below_there_is_no_conus(below, above, conus):
    volume, mask = spine(conus=50)
    points = np.column_stack([np.full((SHAPE[2], 2), 30.0), np.arange(SHAPE[2])])
    line = Centerline(points, np.where(np.arange(SHAPE[2]) < 50, below, above))
    kept = stop_at_conus(volume, line, True)
    assert (kept.conus is not None) is conus
    assert bool(kept.slices[0] > 40) is conus
    whole = np.repeat(mask[..., 60:61], SHAPE[2], axis=2)
    fault = describe_extent(volume, whole, "t2", line).notes
    assert any("fluid and roots" in note for note in fault) is conus


@pytest.mark.parametrize(
    ("cord", "contrast", "level"), [(CORD, "t2", 650.0), (200.0, "t2", 600.0), (1000.0, "t1", 700.0)]
)
def test_what_is_no_fluid_is_no_conus(cord, contrast, level):
    """Below an artefact that darkens the cord, the canal shows the cord as it is: brighter, but not as fluid is."""
    dark = contrast == "t2"
    volume, _ = spine(cord=cord, fluid=FLUID if dark else 250.0, around=AROUND if dark else 700.0)
    i, j, k = np.indices(SHAPE)
    large = (np.hypot(i - 30, j - 30) < 6) & (k < 50)
    data = np.where(large, level, volume.data)
    assert find_conus(straight(Volume(data.astype(np.float32), volume.affine)), 1.0, dark) is None


def test_a_fading_coil_is_not_a_conus():
    volume, _ = spine()
    fading = volume.data * np.interp(np.arange(120), [0, 80], [0.15, 1.0])
    level = np.where(volume.data[30, 30] > 0, np.interp(np.arange(120), [0, 60], [2.0, 1.0]), 1)  # and cord brightens
    i, j = np.indices(SHAPE[:2])
    fading = np.where((np.hypot(i - 30, j - 30) < 4)[..., None], fading * level, fading)
    assert find_conus(straight(Volume(fading.astype(np.float32), volume.affine)), 1.0, True) is None


def test_blur_where_the_coil_fades_is_not_a_conus():
    volume, mask = spine()
    dark = np.where(np.arange(120) < 60, 0.4, 1.0)
    blurred = ndi.gaussian_filter1d(volume.data, 5.0, axis=0)
    data = np.where(np.arange(120) < 60, blurred, volume.data) * dark
    changed = Volume(data.astype(np.float32), volume.affine)
    assert find_conus(straight(changed), 1.0, True) is None
    assert describe_extent(changed, cut(mask, 60, 119), "t2").status == "partial"


def test_a_lesion_up_to_the_end_of_the_field_of_view_is_not_a_conus():
    volume, _ = spine()
    i, j, k = np.indices(SHAPE)
    lesion = (np.hypot(i - 30, j - 30) < 3) & (k < 50)
    data = np.where(lesion, 900.0, volume.data)
    ring = (np.hypot(i - 30, j - 30) >= 3) & (np.hypot(i - 30, j - 30) < 4.5) & (k < 50)
    data = np.where(ring, CORD, data)
    assert find_conus(straight(Volume(data.astype(np.float32), volume.affine)), 1.0, True) is None


def test_brain_above_the_cord_is_recognised():
    volume, mask = spine(brain=70)
    extent = describe_extent(volume, mask, "t2")
    assert extent.status == "ok"
    assert "slices 70-119: no cord, brainstem and brain" in extent.notes


@pytest.mark.parametrize(("cord", "fluid", "contrast"), [(CORD, FLUID, "t2"), (800.0, 250.0, "t1")])
@pytest.mark.parametrize(("lost", "kept"), [((60, 90), (0, 59)), ((60, 112), (0, 59)), ((20, 60), (60, 119))])
def test_cord_missing_beyond_dark_slices_is_reported(cord, fluid, contrast, lost, kept):
    volume, mask = spine(cord=cord, fluid=fluid)
    volume.data[..., lost[0] : lost[1]] = 0
    extent = describe_extent(volume, cut(mask, *kept), contrast)
    assert extent.status == "partial"
    assert "nothing shows that there is no cord" in extent.notes[-1]


def test_nothing_above_thick_dark_slices_is_called_brain():
    volume, mask = spine()
    thick = Volume(np.ascontiguousarray(volume.data[..., ::24]), volume.affine @ np.diag([1, 1, 24.0, 1]))
    thick.data[..., 2:4] = 0
    thick.data[..., 4] = np.roll(thick.data[..., 4], 12, axis=0)  # moved so far that muscle is where the cord was
    extent = describe_extent(thick, cut(mask[..., ::24], 0, 1), "t2")
    assert extent.status == "partial"
    assert extent.notes[-1].startswith("slices 4:")


@pytest.mark.parametrize("factor", [0.35, 2.5])
def test_saturated_or_bright_slices_are_not_brain(factor):
    volume, mask = spine(cord=700.0, fluid=400.0, around=380.0, brain=90)
    data = volume.data * np.where(np.arange(120) >= 90, factor, 1.0)
    extent = describe_extent(Volume(data.astype(np.float32), volume.affine), mask, "dwi")
    assert extent.status == "partial"
    assert describe_extent(volume, mask, "dwi").status == "ok"


@pytest.mark.parametrize(("cord", "fluid", "contrast"), [(CORD, FLUID, "t2"), (800.0, 250.0, "t1")])
def test_a_mask_that_continues_into_the_medulla_is_to_be_cut(cord, fluid, contrast):
    volume, mask = spine(cord=cord, fluid=fluid, medulla=70, brain=100)
    extent = describe_extent(volume, mask, contrast)
    assert extent.status == "ok"
    assert abs(extent.cord_top - 70) <= 5
    assert f"slices {extent.cord_top + 1}-119: no cord, brainstem and brain" in extent.notes
    again = describe_extent(volume, cut(mask, 0, extent.cord_top), contrast)
    assert again.cord_top is None


def test_a_mask_that_runs_on_into_the_brain_is_to_be_cut():
    volume, mask = spine(medulla=70, widest=2.0, brain=108)
    mask[..., 90:] = mask[..., 90:91]  # a tube that keeps its shape
    extent = describe_extent(volume, mask, "t2")
    assert extent.status == "ok"
    assert abs(extent.cord_top - 70) <= 5


@pytest.mark.parametrize(("cord", "fluid", "contrast"), [(CORD, FLUID, "t2"), (800.0, 250.0, "t1")])
@pytest.mark.parametrize("slice_mm", [1, 5])
@pytest.mark.parametrize("kept", [SHAPE[2], 85])  # the mask grows with the medulla, or keeps its shape from there on
def test_a_medulla_larger_than_any_cord_is_cut_though_no_brain_is_seen(cord, fluid, contrast, slice_mm, kept):
    volume, mask = spine(cord=cord, fluid=fluid, medulla=70, widest=1.9)
    mask[..., kept:] = mask[..., kept - 1 : kept]
    data = np.ascontiguousarray(volume.data[..., ::slice_mm])
    part = Volume(data, volume.affine @ np.diag([1.0, 1.0, slice_mm, 1.0]))
    extent = describe_extent(part, mask[..., ::slice_mm], contrast)
    assert extent.status == "ok"
    assert abs(extent.cord_top * slice_mm - 70) <= 6


@pytest.mark.parametrize("shown_mm", [15, 50])
def test_fluid_lost_little_by_little_around_a_cord_is_not_medulla(shown_mm):
    volume, mask = spine()
    i, j, k = np.indices(SHAPE)
    lost = np.hypot(i - 30, j - 30) < np.clip(4 + (k - 90) / 5, 4, 8)
    data = np.where(lost, CORD, volume.data) + np.random.default_rng(2).normal(0, 5, SHAPE)
    first = SHAPE[2] - shown_mm
    part = Volume(np.ascontiguousarray(data[..., first:], np.float32), volume.affine)
    extent = describe_extent(part, mask[..., first:], "t2")
    assert (extent.status, extent.cord_top) == ("ok", None)


def test_with_little_cord_below_the_medulla_the_mask_is_partial():
    volume, mask = spine(seen=(60, 120), medulla=70, brain=100)
    part = Volume(np.ascontiguousarray(volume.data[..., 60:]), volume.affine)
    extent = describe_extent(part, mask[..., 60:], "t2")
    assert extent.status == "partial"
    assert extent.cord_top is None
    assert "medulla or brain rather than cord?" in extent.notes[-1]


def test_a_cord_that_widens_without_a_brain_above_is_cord():
    volume, mask = spine(medulla=70)
    extent = describe_extent(volume, mask, "t2")
    assert (extent.status, extent.cord_top) == ("ok", None)


@pytest.mark.parametrize("lost_mm", [12, 30])
def test_fluid_lost_around_the_top_of_an_enlargement_is_not_brain(lost_mm):
    volume, mask = spine(medulla=70)
    i, j, k = np.indices(SHAPE)
    lost = (np.hypot(i - 30, j - 30) < 8) & (k >= SHAPE[2] - lost_mm)
    data = np.where(lost, CORD, volume.data) + np.random.default_rng(2).normal(0, 5, SHAPE)
    extent = describe_extent(Volume(data.astype(np.float32), volume.affine), mask, "t2")
    assert (extent.status, extent.cord_top) == ("ok", None)


def test_a_mask_is_not_cut_within_the_slices_that_the_user_asked_for():
    volume, mask = spine(medulla=70, brain=100)
    extent = describe_extent(volume, cut(mask, 0, 95), "t2", asked=(0, 95))
    assert (extent.status, extent.cord_top) == ("ok", None)


def test_one_disturbed_slice_at_the_top_is_not_brain():
    volume, mask = spine()
    thick = Volume(np.ascontiguousarray(volume.data[..., ::20]), volume.affine @ np.diag([1, 1, 20.0, 1]))
    thick.data[..., -1] = CORD
    extent = describe_extent(thick, mask[..., ::20], "t2")
    assert (extent.status, extent.cord_top) == ("ok", None)


def test_a_cord_at_the_border_of_the_field_of_view_is_partial():
    volume, mask = spine(at=(3, 30))
    extent = describe_extent(volume, mask, "t2")
    assert extent.status == "partial"
    assert "side of the field" in extent.notes[-1]


def test_a_slice_off_the_cord_is_partial_and_named():
    volume, mask = spine()
    mask[..., 0] = np.roll(mask[..., 0], 12, axis=1)
    extent = describe_extent(volume, mask, "t2")
    assert extent.status == "partial"
    assert "slices 1: the mask jumps" in extent.notes[-1]


def test_a_mask_larger_than_a_cord_is_partial():
    volume, mask = spine(radius=7.0)
    assert "larger than a cord" in describe_extent(volume, mask, "t2").notes[-1]


def test_slices_excluded_by_the_user_are_not_expected():
    volume, mask = spine()
    assert describe_extent(volume, cut(mask, 30, 80), "t2", asked=(30, 80)).status == "ok"


def test_an_empty_mask_is_empty():
    volume, mask = spine()
    assert describe_extent(volume, np.zeros_like(mask), "t2").status == "empty"


@pytest.mark.parametrize(("suffix", "contrast"), [("T2w", "t2"), ("T1w", "t1")])
def test_the_centerline_stops_at_the_conus_of_a_phantom(suffix, contrast):
    image = make_image(41, 112, suffix, target_s_mm=-420.0)
    volume = to_canonical(image.data.astype(np.float32), image.acquisition.affine)
    reference = to_canonical(image.cord_fraction, image.acquisition.affine).data >= 0.5
    line = estimate_centerline(volume, contrast)
    tip = np.flatnonzero(reference.any((0, 1)))[0]
    assert line.conus == line.slices[0]
    assert abs(line.conus - tip) * volume.zooms[2] <= 10
