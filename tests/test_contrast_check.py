"""Images that show another contrast than the configured one."""

import numpy as np
import pytest

from spineseg.centerline.contrast_check import MAX_SLABS, ContrastScores, doubt_contrast, weigh_contrasts
from spineseg.contrasts import CONTRASTS, CORD_DARKER
from spineseg.phantom.dataset import write_dataset
from spineseg.study.predict import guess_contrast
from spineseg.volume import Volume, load_image

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """One synthetic person without difficulties in every contrast."""
    root = tmp_path_factory.mktemp("phantom") / "bids"
    write_dataset(root, 1, 3, hard="none")
    names = {"T1w": "t1", "T2w": "t2", "T2star": "t2s", "dwi": "dwi"}
    return {contrast: next(root.glob(f"sub-01/*/*_{suffix}.nii.gz")) for suffix, contrast in names.items()}


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_each_contrast_looks_like_itself_and_not_like_the_other_polarity(images, contrast):
    volume, _ = load_image(images[contrast], contrast=contrast)
    guess, doubt = guess_contrast(volume, contrast)
    assert contrast in guess.split("/")
    assert doubt == ""
    found = weigh_contrasts(volume)
    assert (found.darker_share > 0.5) is CORD_DARKER[contrast]
    for taken_for in CONTRASTS:
        doubt = doubt_contrast(found, taken_for)
        if CORD_DARKER[taken_for] is CORD_DARKER[contrast]:
            assert doubt == ""
        else:
            assert f", not {taken_for}: detector scores t1 " in doubt
            assert "% of the slices" in doubt


def test_an_image_without_a_cord_is_not_guessed():
    noise = np.random.default_rng(0).normal(100, 10, (60, 60, 12)).astype(np.float32)
    found = weigh_contrasts(Volume(noise, AFFINE))
    assert found.guess == ""
    assert not any(doubt_contrast(found, contrast) for contrast in CONTRASTS)


def test_one_slice_and_a_tiny_field_of_view():
    found = weigh_contrasts(Volume(np.random.default_rng(0).random((9, 8, 1), dtype=np.float32), AFFINE))
    assert 0 <= found.darker_share <= 1


def test_many_slabs_are_sampled_from_first_to_last():
    image = np.random.default_rng(1).random((40, 40, 3 * MAX_SLABS - 2), dtype=np.float32)
    found = weigh_contrasts(Volume(image, AFFINE))
    between, ends = image.copy(), image.copy()
    between[:, :, [1, 2]] = image[:, :, [2, 1]]
    ends[:, :, [0, -1]] = image[:, :, [-1, 0]]
    assert weigh_contrasts(Volume(between, AFFINE)) == found
    assert weigh_contrasts(Volume(ends, AFFINE)) != found


def test_close_scores_give_no_guess():
    assert ContrastScores({"t1": 1.0, "t2": 1.3, "t2s": 0.2, "dwi": 0.1}, 1.0).guess == ""
