"""From an image to its centerline: detector files, presence, edge cases, orientations."""

from dataclasses import replace

import numpy as np
import pytest

from spineseg.centerline import hog
from spineseg.centerline.curve import centerline_from_mask
from spineseg.centerline.detector import PERCENTILES, load_detector, save_detector
from spineseg.centerline.estimate import estimate_centerline, estimate_with_polarity, find_extent
from spineseg.centerline.hog import N_FEATURES
from spineseg.centerline.slabs import find_quantile, make_slabs
from spineseg.contrasts import CONTRASTS, CORD_DARKER
from spineseg.errors import InputError, ModelError
from spineseg.volume import Volume


def make_neck(contrast="t2", shape=(60, 60, 40), zooms=(1.0, 1.0, 1.0), seed=0):
    """A cord in fluid in a dark bony ring in muscle, bent, with noise; returns the volume and the curve (voxels)."""
    rng = np.random.default_rng(seed)
    k = np.arange(shape[2])
    centre = np.array(shape[:2]) / 2 + np.stack([2 * np.sin(k * zooms[2] / 25), 3 * np.cos(k * zooms[2] / 40)], 1) / (
        np.array(zooms[:2])
    )
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    x = (i[..., None] - centre[:, 0]) * zooms[0]
    y = (j[..., None] - centre[:, 1]) * zooms[1]
    cord, canal = np.hypot(x / 1.25, y) < 4.2, np.hypot(x / 1.3, y) < 7.5
    bone = np.hypot(x, y - 1) < 10.5
    body = np.hypot(x / 1.2, y - 16) < 9.5  # vertebral body in front
    dark = CORD_DARKER[contrast]
    data = np.full(shape, 90.0)
    data[bone], data[body], data[canal], data[cord] = 25.0, 60.0, 220.0 if dark else 30.0, 100.0 if dark else 150.0
    data = np.hypot(data + rng.normal(scale=5, size=shape), rng.normal(scale=5, size=shape))
    return Volume(data.astype(np.float32), np.diag([-zooms[0], zooms[1], zooms[2], 1.0])), centre


def errors_mm(line, centre, zooms):
    return np.hypot(*((line.points_vox[:, :2] - centre[line.slices]) * zooms[:2]).T)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_cord_is_found_in_each_contrast(contrast):
    volume, centre = make_neck(contrast)
    line = estimate_centerline(volume, contrast)
    assert line.slices.tolist() == list(range(40))
    assert errors_mm(line, centre, volume.zooms).max() < 1.5
    assert np.isfinite(line.score).all()


def test_a_second_cord_takes_the_lead():
    volume, _ = make_neck("t2", (120, 60, 40))
    one = estimate_centerline(volume, "t2")
    assert one.lead > 2
    two = estimate_centerline(Volume(volume.data + 0.95 * np.roll(volume.data, 50, 0), volume.affine), "t2")
    assert two.lead < 1


@pytest.mark.parametrize(
    ("shape", "zooms"),
    [
        ((60, 60, 1), (1.0, 1.0, 5.0)),
        ((60, 60, 2), (1.0, 1.0, 5.0)),
        ((60, 60, 3), (1.0, 1.0, 1.0)),
        ((120, 100, 5), (0.5, 0.6, 17.5)),
        ((28, 26, 12), (1.0, 1.0, 2.5)),
        ((80, 80, 60), (0.7, 0.7, 0.5)),
        ((22, 24, 4), (2.5, 2.5, 5.0)),
    ],
)
def test_shapes_and_zooms(shape, zooms):
    volume, centre = make_neck("t2", shape, zooms)
    line = estimate_centerline(volume, "t2")
    assert line.slices.tolist() == list(range(shape[2]))
    assert errors_mm(line, centre, volume.zooms).max() < 1.5


def test_cord_that_ends_inside_the_image():
    volume, centre = make_neck("t2", (60, 60, 60))
    data = volume.data.copy()
    rng = np.random.default_rng(1)
    data[:, :, 36:] = rng.rayleigh(5, size=(60, 60, 24))  # beyond the field of view: noise only
    line = estimate_centerline(Volume(data, volume.affine), "t2")
    assert line.slices[0] == 0
    assert 32 <= line.slices[-1] <= 38
    assert errors_mm(line, centre, volume.zooms).max() < 1.5


def test_a_bad_slice_is_bridged():
    volume, centre = make_neck("t2", (60, 60, 12), (1.0, 1.0, 5.0))
    data = volume.data.copy()
    data[:, :, 6] = 3.0
    line = estimate_centerline(Volume(data, volume.affine), "t2")
    assert line.slices.tolist() == list(range(12))
    assert errors_mm(line, centre, volume.zooms).max() < 1.5
    assert line.score[6] < np.delete(line.score, 6).min()


def test_no_cord_gives_an_empty_centerline():
    noise = np.random.default_rng(2).rayleigh(50, size=(60, 60, 20)).astype(np.float32)
    detector = replace(load_detector("t2"), threshold=1e3)
    assert estimate_centerline(Volume(noise, np.eye(4)), "t2", detector=detector).is_empty


def test_cord_brighter_than_fluid_in_a_t2star():
    volume, centre = make_neck("t1")  # bright cord, dark fluid
    line, darker = estimate_with_polarity(volume, "t2s")
    assert not darker
    assert line.slices.tolist() == list(range(40))
    assert errors_mm(line, centre, volume.zooms).max() < 1.5
    assert estimate_with_polarity(make_neck("t2s")[0], "t2s")[1]


def test_input_is_not_changed():
    volume, _ = make_neck()
    before = volume.data.copy()
    estimate_centerline(volume, "t2")
    np.testing.assert_array_equal(volume.data, before)


def test_one_bright_voxel_changes_nothing():
    volume, _ = make_neck()
    data = volume.data.copy()
    data[3, 3, 3] = 1e6
    first, second = estimate_centerline(volume, "t2"), estimate_centerline(Volume(data, volume.affine), "t2")
    np.testing.assert_allclose(first.points_vox, second.points_vox, atol=0.2)


def test_large_planes_are_scored_at_every_second_pixel(monkeypatch):
    volume, centre = make_neck("t2", (80, 80, 40))
    monkeypatch.setattr("spineseg.centerline.estimate.MAX_FULL_PIXELS", 1)
    assert errors_mm(estimate_centerline(volume, "t2"), centre, volume.zooms).max() < 1.5


def test_extent_bridges_bad_slabs_and_drops_bad_ends():
    assert find_extent(np.array([-1.0, 2, -1, 2, -3, 1])) == (1, 3)
    assert find_extent(np.array([0.5])) == (0, 0)
    assert find_extent(np.array([-0.5])) is None
    assert find_extent(np.array([-1.0, -2.0])) is None
    assert find_extent(np.array([1.0, 1.0])) == (0, 1)
    assert find_extent(np.array([0.0, 1.0])) == (1, 1)


def test_slabs_keep_positions_and_intensities():
    volume, _ = make_neck(shape=(30, 40, 7))
    slabs = make_slabs(volume, percentiles=(0, 100), slab_mm=3.0)
    assert slabs.positions.tolist() == [1.0, 4.0, 6.0]
    assert slabs.bounds.tolist() == [0, 3, 6, 7]
    assert slabs.slices.shape == (3, 40, 30)
    assert slabs.slices.min() >= 0
    assert slabs.slices.max() <= 255
    fine, _ = make_neck(shape=(61, 80, 3), zooms=(0.5, 0.5, 5.0))
    slabs = make_slabs(fine, percentiles=PERCENTILES, slab_mm=3.0)
    middle = (np.array(slabs.slices.shape[:0:-1]) - 1) / 2
    np.testing.assert_allclose(slabs.to_voxels(middle[None])[0], [30.0, 39.5])
    np.testing.assert_allclose(slabs.to_pixels(slabs.to_voxels(np.array([[3.0, 4.0]]))), [[3.0, 4.0]])


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 5000])
def test_quantiles_are_those_of_numpy(n):
    rng = np.random.default_rng(n)
    noise = rng.normal(size=n)
    misleading = np.where(np.arange(n) % 64 == 0, 9.0, noise)  # the sample holds nothing else
    for values in (noise, np.sort(noise), np.maximum(noise, 0), rng.integers(0, 4, n), np.zeros(n), misleading):
        values = values.astype(np.float32)
        for share in (0.0, 0.005, 0.3, 0.5, 0.51, 0.998, 1.0):
            assert find_quantile(values, share) == np.quantile(values, [share])[0]


def test_resampling_keeps_ramps_where_they_are():
    i = np.arange(64, dtype=np.float32)
    volume = Volume(np.broadcast_to(i[:, None, None], (64, 20, 2)).copy(), np.diag([0.4, 1.0, 5.0, 1.0]))
    for smooth in (True, False):
        slabs = make_slabs(volume, percentiles=(0, 100), smooth=smooth)
        x = np.arange(2, slabs.slices.shape[2] - 2)
        index = slabs.first[0] + slabs.step[0] * x
        np.testing.assert_allclose(slabs.slices[0, 5, x] * 63 / 255, index, atol=0.05)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_shipped_detectors_load_and_round_trip(tmp_path, contrast):
    detector = load_detector(contrast)
    assert detector.weights.shape == (N_FEATURES,)
    save_detector(tmp_path / "own.safetensors", detector, {"note": "copy"})
    again = load_detector(contrast, tmp_path / "own.safetensors")
    np.testing.assert_array_equal(again.weights, detector.weights)
    np.testing.assert_array_equal(again.wide_weights, detector.wide_weights)
    assert replace(again, weights=None, wide_weights=None) == replace(detector, weights=None, wide_weights=None)
    save_detector(tmp_path / "narrow.safetensors", replace(detector, wide_weights=None))
    assert load_detector(contrast, tmp_path / "narrow.safetensors").wide_weights is None


def test_unknown_contrast_and_damaged_models(tmp_path):
    with pytest.raises(InputError, match="expected one of t1"):
        load_detector("pd")
    with pytest.raises(ModelError, match="no such model"):
        load_detector("t2", tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"bad\.safetensors"):
        load_detector("t2", tmp_path / "bad.safetensors")


OPENCV_MODEL = """%YAML:1.0
HOG: !!opencv-object-detector-hog
   winSize: [ 32, 32 ]
   blockSize: [ 8, 8 ]
   blockStride: [ 8, 8 ]
   cellSize: [ 4, 4 ]
   nbins: 9
   derivAperture: 1
   winSigma: 2.
   histogramNormType: 0
   L2HysThreshold: 2.0000000000000001e-01
   gammaCorrection: 1
   nlevels: 64
   signedGradient: 1
   SVMDetector: [ {numbers} ]
ps0: 1.
ps1: 1.
"""


def test_opencv_model_is_read_and_used(tmp_path):
    volume, centre = make_neck("t2", (60, 60, 10), (1.0, 1.0, 2.5))
    slices = make_slabs(volume, percentiles=(0, 100)).slices
    rng, n = np.random.default_rng(3), len(slices)
    here = hog.gather_descriptors(hog.describe_slices(slices), np.arange(n), *np.rint(centre[:, ::-1]).astype(int).T)
    there = hog.gather_descriptors(hog.describe_slices(slices), np.arange(n), *rng.integers(0, 60, (2, n)))
    weights = here.mean(axis=0) - there.mean(axis=0)  # the simplest linear model there is
    numbers = ", ".join(f"{value:.9e}" for value in [*weights, -1.25])
    (tmp_path / "t2_model.yml").write_text(OPENCV_MODEL.format(numbers=numbers))
    detector = load_detector("t2", tmp_path / "t2_model.yml")
    np.testing.assert_allclose(detector.weights, weights, rtol=1e-6)
    assert detector.bias == -1.25
    assert detector.wide_weights is None
    assert detector.percentiles == (0.0, 100.0)
    line = estimate_centerline(volume, "t2", detector=detector)
    assert errors_mm(line, centre, volume.zooms).max() < 1.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("winSize: [ 32, 32 ]", "winSize: [ 64, 64 ]", "winSize"),
        ("nbins: 9", "", "found no nbins"),
        ("ps0: 1.", "ps0: 0.5", "pixels of 1 mm"),
        ("{numbers}", "1.0, 2.0", "expected 577 numbers"),
        ("signedGradient: 1", "signedGradient: 0", "signedGradient"),
    ],
)
def test_other_opencv_models_are_refused(tmp_path, old, new, message):
    text = OPENCV_MODEL.replace(old, new).replace("{numbers}", ", ".join(["0.5"] * 577))
    (tmp_path / "model.yml").write_text(text)
    with pytest.raises(ModelError, match=message):
        load_detector("t2", tmp_path / "model.yml")


def test_mask_and_estimate_agree():
    volume, centre = make_neck()
    i, j = np.meshgrid(*[np.arange(n) for n in volume.shape[:2]], indexing="ij")
    mask = np.hypot((i[..., None] - centre[:, 0]) / 1.25, j[..., None] - centre[:, 1]) < 4.2
    reference = centerline_from_mask(mask, volume.zooms)
    found = estimate_centerline(volume, "t2")
    assert np.abs(found.points_vox - reference.points_vox).max() < 1.5
