"""HOG against a literal, window by window transcription of OpenCV's definition."""

import numpy as np
import pytest

from spineseg.centerline import hog


def literal_descriptor(window):
    """The descriptor of one 34 x 34 patch whose inner 32 x 32 pixels are the window; plain loops."""
    root = np.sqrt(window.astype(np.float64))
    descriptor = []
    for block_x in range(4):
        for block_y in range(4):
            cells = np.zeros((2, 2, 9))
            for j in range(8):
                for i in range(8):
                    y, x = 1 + 8 * block_y + i, 1 + 8 * block_x + j
                    gx, gy = root[y, x + 1] - root[y, x - 1], root[y + 1, x] - root[y - 1, x]
                    magnitude = np.hypot(gx, gy)
                    angle = np.arctan2(gy, gx) % (2 * np.pi)
                    position = angle * 9 / (2 * np.pi) - 0.5
                    low = int(np.floor(position))
                    gauss = np.exp(-((i - 4) ** 2 + (j - 4) ** 2) / 8)
                    for cell_x in range(2):
                        for cell_y in range(2):
                            share = max(0, 1 - abs((j + 0.5) / 4 - 0.5 - cell_x))
                            share *= max(0, 1 - abs((i + 0.5) / 4 - 0.5 - cell_y))
                            vote = gauss * share * magnitude
                            cells[cell_x, cell_y, low % 9] += vote * (1 - (position - low))
                            cells[cell_x, cell_y, (low + 1) % 9] += vote * (position - low)
            v = cells.ravel()
            v = np.minimum(v / (np.linalg.norm(v) + 3.6), 0.2)
            descriptor.append(v / (np.linalg.norm(v) + 1e-3))
    return np.concatenate(descriptor)


@pytest.fixture(scope="module")
def slices():
    rng = np.random.default_rng(4)
    return (rng.random((3, 39, 45)) ** 2 * 255).astype(np.float32)


CENTRES = [(0, 17, 17), (0, 20, 25), (1, 18, 22), (2, 21, 26)]


@pytest.mark.parametrize("centre", CENTRES)
def test_descriptor_is_the_literal_one(slices, centre):
    k, y, x = centre
    expected = literal_descriptor(slices[k, y - 17 : y + 17, x - 17 : x + 17])
    found = hog.gather_descriptors(hog.describe_slices(slices), *(np.array([v]) for v in centre))[0]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_score_is_the_product_with_the_descriptor(slices, centre, stride):
    k, y, x = centre[0], centre[1] // 4 * 4, centre[2] // 4 * 4
    y, x = max(y, 20), max(x, 20)
    weights = np.random.default_rng(5).normal(size=hog.N_FEATURES)
    expected = literal_descriptor(slices[k, y - 17 : y + 17, x - 17 : x + 17]) @ weights - 0.7
    score = hog.score_slices(slices, [(weights, -0.7)], stride=stride)[0]
    assert score.shape == (3, -(-39 // stride), -(-45 // stride))
    assert score[k, y // stride, x // stride] == pytest.approx(expected, abs=2e-4)


def test_strides_agree_and_chunks_do_not_matter(slices, monkeypatch):
    weights = np.random.default_rng(6).normal(size=hog.N_FEATURES)
    full = hog.score_slices(slices, [(weights, 0.1)])[0]
    np.testing.assert_allclose(hog.score_slices(slices, [(weights, 0.1)], stride=2)[0], full[:, ::2, ::2], atol=1e-5)
    monkeypatch.setattr(hog, "CHUNK_FLOATS", 1)
    np.testing.assert_allclose(hog.score_slices(slices, [(weights, 0.1)])[0], full, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 40), (1, 17, 16)])
def test_borders_are_mirrored_however_small_the_slice(shape):
    small = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    expected = np.pad(small, ((0, 0), (16, 15), (16, 15)), mode="reflect")
    np.testing.assert_array_equal(hog.pad_windows(small), expected)


def test_epsilon_is_opencvs():
    assert pytest.approx(3.6) == hog.HYS_EPSILON
    assert hog.N_FEATURES == 576


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 5, 40), (2, 31, 7)])
def test_slices_smaller_than_the_window(shape):
    slices = np.random.default_rng(7).random(shape) * 255
    score = hog.score_slices(slices, [(np.ones(hog.N_FEATURES), 0.0)])[0]
    assert score.shape == shape
    assert np.isfinite(score).all()


def test_flat_slices_have_no_gradient():
    descriptor = hog.describe_slices(np.full((1, 20, 20), 99.0))
    assert not descriptor.any()


def test_halved_slices_and_doubled_scores_share_their_middles():
    rows = np.arange(7.0)
    ramp = np.broadcast_to(rows[:, None], (1, 7, 5)).copy()
    half = hog.halve_slices(ramp)
    assert half.shape == (1, 4, 3)
    np.testing.assert_allclose(half[0, :3, 0], [0.5, 2.5, 4.5])
    # a window's middle is half a pixel before its centre, so halved pixel c stands for pixel 2c, not 2c + 0.5
    doubled = hog.double_scores(np.arange(4, dtype=np.float32)[None, :, None] * np.ones((1, 1, 3), np.float32), (7, 5))
    np.testing.assert_allclose(doubled[0, :, 0], [0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert doubled.shape == (1, 7, 5)


def test_unmirrored_windows_begin_16_pixels_before_their_centre(slices):
    mirrored, plain = hog.describe_slices(slices), hog.describe_slices(slices, mirror=False)
    index, y, x = np.array([0, 2]), np.array([20, 18]), np.array([21, 25])
    expected = hog.gather_descriptors(mirrored, index, y, x)
    np.testing.assert_allclose(hog.gather_descriptors(plain, index, y - 16, x - 16), expected, atol=1e-6)
