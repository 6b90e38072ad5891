"""deepseg from a volume to a mask: geometry of preprocessing, weights files, inference, clean-up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from analytic import cord_image, tube
from hypothesis import given, settings
from hypothesis import strategies as st

from spineseg.centerline.curve import RIVAL_NOTE, Centerline
from spineseg.deepseg import cleanup, inference, preprocess
from spineseg.deepseg.cleanup import clean_mask
from spineseg.deepseg.model import load_models
from spineseg.deepseg.network import DETECT, SEGMENT, UNet, UNetConfig, fold_batch_norm
from spineseg.deepseg.segment import LEAST_LEAD, DeepsegParams, default_threshold, segment_cord
from spineseg.deepseg.weights import load_model, save_model
from spineseg.errors import InputError, ModelError
from spineseg.metrics.overlap import compute_dice
from spineseg.volume import Volume, load_image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="labelled images are not at ../shared/data")

TINY = UNetConfig("segment", (4, 8), (2,), 0.5, 16)
ZOOMS = np.array([0.7, 0.9, 2.0])


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    return load_models(None, device="cpu")


@pytest.fixture(scope="module")
def easy():
    """A cord of 5 mm radius in a ring of fluid in a round neck, 1 x 1 x 4 mm."""
    cord = tube(radius_mm=5.0, shape=(64, 64, 12), zooms=(1.0, 1.0, 4.0), tilt_deg=5.0)
    image = cord_image(cord, ring_mm=4.0)
    i, j = np.indices((64, 64)) - 31.5
    image.data[np.hypot(i, j) > 29] = 20.0  # air
    return Volume(image.data, image.affine), cord.data >= 0.5


def smooth_blob(shape, seed=0):
    from scipy import ndimage as ndi

    return ndi.gaussian_filter(np.random.default_rng(seed).random(shape), (2, 2, 0)).astype(np.float32)


# preprocessing


@settings(max_examples=20, deadline=None)
@given(
    zooms=st.tuples(*[st.floats(0.3, 1.5)] * 2),
    centre=st.tuples(*[st.floats(18, 22)] * 2),
)
def test_pasting_undoes_extracting(zooms, centre):
    zooms = np.array([*zooms, 3.0])
    i, j = np.indices((40, 40)).astype(np.float32)
    data = np.stack([0.01 * i + 0.02 * j, 1 - 0.01 * i], axis=2)  # linear, so interpolation is exact
    place = (zooms, np.array([centre, centre]), np.array([0, 1]), 0.5)
    back = preprocess.paste_patches(preprocess.extract_patches(data, *place, 32), data.shape, *place)
    half_width = 32 * 0.5 / 2 - 2 * zooms[:2]  # away from the patch's rim
    near = (np.abs(i - centre[0]) * zooms[0] < half_width[0]) & (np.abs(j - centre[1]) * zooms[1] < half_width[1])
    rim = [0, 1, -2, -1]  # beyond the image its border repeats
    near[rim] = near[:, rim] = False
    assert near.any()
    np.testing.assert_allclose(back[near], data[near], atol=1e-4)


def test_patch_axes_follow_the_volume():
    data = np.zeros((20, 30, 2), np.float32)
    data[12, 20, 1] = 1
    patch = preprocess.extract_patches(data, np.ones(3), np.array([[10.0, 20.0]]), np.array([1]), 1.0, 9)
    assert np.argwhere(patch[0, 0].numpy() == 1).tolist() == [[6, 4]]


@pytest.mark.parametrize(("gain", "offset"), [(1e-3, 0.0), (3.0, 50.0), (1e4, -2e4)])
def test_standardising_does_not_depend_on_units(gain, offset):
    image = torch.from_numpy(smooth_blob((3, 40, 48)))[:, None] + 1
    other = image * gain + offset
    np.testing.assert_allclose(preprocess.standardise_patch(other), preprocess.standardise_patch(image), atol=2e-2)
    valid = torch.ones_like(image)
    np.testing.assert_allclose(
        preprocess.standardise_local(other, valid, 1.5), preprocess.standardise_local(image, valid, 1.5), atol=2e-2
    )


def test_constant_slices_become_zero():
    image = torch.full((2, 1, 32, 32), 7.0)
    assert not preprocess.standardise_patch(image).any()
    assert not preprocess.standardise_local(image, torch.ones_like(image), 1.5).any()


def test_padding_does_not_change_the_slice():
    image = torch.from_numpy(smooth_blob((2, 33, 41)))[:, None]
    padded, valid = preprocess.pad_to(image, 8, 32)
    assert padded.shape[2:] == (40, 48)
    inner = preprocess.standardise_local(padded, valid, 1.5)[:, :, :33, :41]
    alone = preprocess.standardise_local(image, torch.ones_like(image), 1.5)
    np.testing.assert_allclose(inner, alone, atol=1e-5)


# weights


def test_weights_survive_the_file(tmp_path):
    model = UNet(TINY).eval()
    save_model(tmp_path / "w.safetensors", model, {"people": ["a"], "seed": 3})
    again, provenance = load_model(tmp_path / "w.safetensors")
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert again.config == TINY
    assert provenance == {"people": ["a"], "seed": 3}
    assert torch.equal(model(image), again(image))


def test_folding_batch_norm_changes_nothing():
    torch.manual_seed(0)
    model = UNet(TINY)
    model(torch.randn(8, 1, 16, 16))  # so that the running statistics are not 0 and 1
    model.eval()
    image = torch.randn(2, 1, 16, 16)
    before = model(image)
    np.testing.assert_allclose(fold_batch_norm(model)(image).detach(), before.detach(), atol=1e-5)


def test_bad_weights_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors: no such"):
        load_model(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.safetensors"):
        load_model(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="format"):
        load_model(tmp_path / "other.safetensors")


def test_a_single_file_replaces_its_stage(tmp_path):
    save_model(tmp_path / "w.safetensors", UNet(TINY), {})
    mixed = load_models(tmp_path / "w.safetensors", device="cpu")
    assert mixed.segment.config == TINY
    assert mixed.detect.config == DETECT


def test_weights_that_are_replaced_under_their_name_are_read_again(tmp_path):
    """The sidecar has the checksum of the new file, so the old network must not be used."""
    found = []
    for _ in range(2):
        save_model(tmp_path / "w.safetensors", UNet(TINY), {})
        found.append(next(load_models(tmp_path / "w.safetensors", device="cpu").segment.parameters()))
        assert next(load_models(tmp_path / "w.safetensors", device="cpu").segment.parameters()) is found[-1]
    assert not torch.equal(*found)
    (tmp_path / "w.safetensors").write_text("text")
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        load_models(tmp_path / "w.safetensors", device="cpu")


def test_shipped_weights_say_who_was_seen(models):
    from spineseg.deepseg.weights import WEIGHTS_DIR, default_weights

    for stage, path in default_weights().items():
        model, provenance = load_model(path)
        assert model.config.stage == stage
        assert provenance["people"]
        assert len(provenance["data_sha256"]) == 64
        assert path.stat().st_size < 2.5e6
    assert sum(file.stat().st_size for file in WEIGHTS_DIR.iterdir()) < 10e6
    assert models.segment.config == SEGMENT


# inference


def test_two_cords_are_partial(models, easy):
    volume, _ = easy
    two = Volume(np.concatenate([volume.data, volume.data[::-1]]), volume.affine)
    result = segment_cord(two, "t2", models=models)
    assert result.status == "partial"
    assert RIVAL_NOTE in result.notes
    assert result.centerline.lead < LEAST_LEAD < segment_cord(volume, "t2", models=models).centerline.lead


def test_a_doubtful_outline_is_partial(models, easy, monkeypatch):
    """In a quarter of the slices, which the mean would hide."""
    real = inference.compute_probability
    volume, _ = easy

    def doubtful(*args, **options):
        prob, uncertainty = real(*args, **options)
        known = np.flatnonzero(np.isfinite(uncertainty))
        uncertainty[known[: len(known) // 3]] = 0.3
        return prob, uncertainty

    monkeypatch.setattr("spineseg.deepseg.segment.compute_probability", doubtful)
    result = segment_cord(volume, "t2", models=models)
    assert result.status == "partial"
    assert "may cost" in result.notes[-1]


def test_an_easy_cord_is_outlined(models, easy):
    volume, reference = easy
    before = volume.data.copy()
    result = segment_cord(volume, "t2", models=models)
    assert result.status == "ok"
    assert compute_dice(result.cord_mask, reference) > 0.85
    assert result.cord_prob.dtype == np.float32
    assert result.cord_prob.min() >= 0
    assert result.cord_prob.max() <= 1
    assert len(result.centerline.slices) == 12
    np.testing.assert_array_equal(volume.data, before)


def test_inverted_contrast_gives_the_same_cord(models, easy):
    volume, reference = easy
    result = segment_cord(Volume(1000 - volume.data, volume.affine), "t1", models=models)
    assert compute_dice(result.cord_mask, reference) > 0.85


def test_the_threshold_is_that_of_the_contrast_unless_given(models, easy):
    volume, _ = easy
    expected = {"t1": 0.5, "t2": 0.4, "t2s": 0.5, "dwi": 0.5}  # as measured and published in docs/deepseg.md
    for zooms in ((1.0, 1.0, 1.0), (0.69, 0.69, 7.5), (0.8, 3.0, 0.8)):
        assert default_threshold(models, "t2", np.array(zooms), False) == 0.45  # T2w: 3-D, axial, sagittal
    for contrast, lower in {"t1": 0.45, "t2": 0.42, "t2s": 0.5, "dwi": 0.5}.items():
        assert default_threshold(models, contrast, np.ones(3), True) == lower
    assert default_threshold(models, "t2", np.array([1.0, 1.0, 4.0]), True) == 0.4  # fMRI
    results = {contrast: segment_cord(volume, contrast, models=models) for contrast in expected}
    assert {contrast: result.parameters["thr"] for contrast, result in results.items()} == expected
    for contrast, thr in expected.items():
        given = segment_cord(volume, contrast, DeepsegParams(thr=thr), models=models)
        np.testing.assert_array_equal(given.cord_mask, results[contrast].cord_mask)
    wide, narrow = results["t2"].cord_mask, results["t2s"].cord_mask
    assert (wide >= narrow).all()
    assert wide.sum() > narrow.sum()  # the same probabilities, cut lower


def test_the_mask_depends_on_neither_batch_nor_threads(models, easy):
    volume, _ = easy
    masks = []
    for threads, batch in ((1, 32), (2, 5), (1, 1)):
        torch.set_num_threads(threads)
        masks.append(segment_cord(volume, "t2", DeepsegParams(batch=batch), models=models).cord_mask.tobytes())
    torch.set_num_threads(1)
    assert masks[0] == masks[1] == masks[2]


@pytest.mark.parametrize("shape", [(64, 64, 6), (20, 30, 4), (9, 7, 1)])
def test_no_cord_in_noise(models, shape):
    noise = np.random.default_rng(1).normal(100, 10, shape).astype(np.float32)
    result = segment_cord(Volume(noise, np.diag([-1.0, 1, 3, 1])), "t2", models=models)
    assert result.status == "empty"
    assert result.notes
    assert not result.cord_mask.any()


def test_a_given_centerline_is_followed(models, easy):
    volume, reference = easy
    points = np.array([[31.5, 31.5, k] for k in range(4, 8)])
    result = segment_cord(volume, "t2", centerline=Centerline(points), models=models)
    assert np.flatnonzero(result.cord_mask.any(axis=(0, 1))).tolist() == [4, 5, 6, 7]
    assert result.status == "ok"  # the user has said which slices matter
    assert compute_dice(result.cord_mask[:, :, 4:8], reference[:, :, 4:8]) > 0.85
    with pytest.raises(InputError, match="outside"):
        segment_cord(volume, "t2", centerline=Centerline(np.array([[90.0, 3, 4]])), models=models)


def test_one_slice_is_enough(models, easy):
    volume, reference = easy
    one = Volume(volume.data[:, :, 5:6], volume.affine)
    assert compute_dice(segment_cord(one, "t2", models=models).cord_mask, reference[:, :, 5:6]) > 0.8


@pytest.mark.parametrize("wrong", [{"thr": 1.2}, {"thr": -0.1}, {"kernel": "4d"}, {"batch": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(InputError):
        DeepsegParams(**wrong)


def test_a_kernel_without_weights_is_refused_before_an_image_is_read(tmp_path, monkeypatch, capsys):
    from spineseg import cli
    from spineseg.methods import segment_file

    monkeypatch.setattr(segment_file, "load_image", lambda *_, **__: pytest.fail("an image was read"))
    for stage in ("detect", "segment"):
        config = TINY if stage == "segment" else replace(TINY, stage=stage)
        save_model(tmp_path / f"deepseg_{stage}.safetensors", UNet(config), {})
    images = [str(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    command = ["deepseg", "-i", *images, "-c", "t2", "-kernel", "3d", "-weights", str(tmp_path), "-threads", "1"]
    assert cli.main([*command, "-ofolder", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "-kernel 3d" in line


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_window_has_the_numbers_of_the_whole_patch(models, data):
    # windows lie in the middle and are even, as those that masks are outlined in; others may differ by rounding
    window = tuple(slice(32 - half, 32 + half) for half in data.draw(st.tuples(*[st.integers(1, 32)] * 2)))
    patches = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        features = models.segment.encode_slices(patches.contiguous(memory_format=torch.channels_last))
        whole = models.segment.decode_features(features)
        assert torch.equal(models.segment.decode_features(features, window), whole[:, :, window[0], window[1]])


def test_cord_beyond_the_window_is_outlined_too(models, easy):
    """A cord in the middle, at the window's border, beyond it, and none."""
    volume, _ = easy
    offsets = np.array([0.0, 8.0, 13.0, 25.0])
    centres = np.column_stack([31.5 + offsets, np.full(4, 31.5)])
    sampled = (volume.zooms, centres, np.full(4, 6), 0.5, 64)
    patches = preprocess.standardise_patch(preprocess.extract_patches(volume.data, *sampled))
    with torch.inference_mode():
        found, whole = inference.outline_patches(models.segment, patches), torch.sigmoid(models.segment(patches))
    left_out = (found == 0).flatten(1).all(1) | (found != whole).flatten(1).any(1)
    assert left_out.tolist() == [True, False, False, False]
    assert (found[0] - whole[0]).abs().max() < inference.WINDOW_BORDER
    assert torch.equal(found[0] > 0.4, whole[0] > 0.4)


def stack_of(model, patches, slice_mm, batch):
    with torch.inference_mode():
        return inference.run_on_stack(model, patches, slice_mm, batch)


@pytest.fixture(scope="module")
def deep():
    """A 3-D network with weights that make neighbours matter."""
    torch.manual_seed(3)
    model = UNet(UNetConfig("segment", (4, 6, 8), (), 0.5, 16, "3d")).eval()
    for block in model.along:
        torch.nn.init.normal_(block.mix.weight, std=0.5)
    return model


def test_no_seam_shows_whatever_the_batch(deep):
    patches = torch.randn(23, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = stack_of(deep, patches, 1.0, 100)
    for batch in (1, 4, 22):
        torch.testing.assert_close(stack_of(deep, patches, 1.0, batch), whole, rtol=0, atol=1e-6)


def test_the_3d_network_has_its_stated_context_and_is_symmetric_along_the_stack(deep):
    patches = torch.randn(15, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = stack_of(deep, patches, 1.0, 100)
    changed = patches.clone()
    changed[7] += 1
    moved = (stack_of(deep, changed, 1.0, 100) - whole).abs().amax((1, 2, 3)) > 1e-7
    reach = deep.config.reach
    assert moved[7 - 1 : 7 + 2].all()
    assert not moved[: 7 - reach].any()
    assert not moved[7 + reach + 1 :].any()
    torch.testing.assert_close(stack_of(deep, patches.flip(0), 1.0, 100).flip(0), whole)
    alone = torch.cat([stack_of(deep, patches[k : k + 1], 1.0, 100) for k in range(15)])
    assert (alone - whole).abs().max() > 1e-3
    far = stack_of(deep, patches, 100.0, 100)  # slices this far apart are independent
    torch.testing.assert_close(far, alone)


def test_both_kernels_outline_an_easy_cord(models, easy):
    volume, reference = easy
    flat, deep = (segment_cord(volume, "t2", DeepsegParams(kernel=kernel), models=models) for kernel in ("2d", "3d"))
    assert compute_dice(deep.cord_mask, reference) > 0.85
    assert (flat.cord_prob != deep.cord_prob).any()
    assert deep.parameters["kernel"] == "3d"


def test_uncertainty_is_the_dice_that_the_probabilities_expect_to_lose():
    prob = torch.zeros(4, 1, 10, 10)
    prob[0, 0, :5] = 1.0  # sure
    prob[1, 0, :5] = 0.8  # of 50 pixels 40 are cord: Dice 2 * 40 / (50 + 40)
    prob[2, 0, :5], prob[2, 0, 5:] = 1.0, 0.4  # 20 more pixels are cord outside: 2 * 50 / (50 + 70)
    prob[3] = 0.2  # nothing is cord
    expected = [0, 1 - 80 / 90, 1 - 100 / 120, 1]
    np.testing.assert_allclose(inference.estimate_uncertainty(prob), expected, atol=1e-6)


def test_noise_raises_the_uncertainty(models, easy):
    volume, _ = easy
    noise = np.random.default_rng(0).normal(0, 1, volume.shape).astype(np.float32)
    spoilt = volume.data.copy()
    spoilt[:, :, 6:] += 150 * noise[:, :, 6:]
    result = segment_cord(Volume(spoilt, volume.affine), "t2", models=models)
    doubt = result.uncertainty
    assert doubt.shape == (12,)
    np.testing.assert_array_equal(np.isnan(doubt), ~result.cord_mask.any(axis=(0, 1)))
    assert np.nanmean(doubt[7:]) > 1.25 * np.nanmean(doubt[:5])


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotated_images_give_the_same_cord(models, easy, quarter_turns):
    volume, reference = easy
    turned = Volume(np.rot90(volume.data, quarter_turns).copy(), volume.affine)
    result = segment_cord(turned, "t2", models=models)
    assert compute_dice(result.cord_mask, np.rot90(reference, quarter_turns)) > 0.85


def bottle(shape):
    i, j = np.indices(shape[:2]) - np.array(shape[:2])[:, None, None] / 2
    image = np.where(np.hypot(i, j) < 0.35 * shape[0], 800.0, 20.0)
    return np.repeat(image[:, :, None], shape[2], axis=2)


def leg(shape):
    """Muscle around two bones with a dark rim and fat inside, as above the ankle."""
    i, j = np.indices(shape[:2]).astype(float)
    image = np.full(shape[:2], 20.0)
    image[np.hypot(i - shape[0] / 2, j - shape[1] / 2) < 0.42 * shape[0]] = 300
    for centre, radius in (((0.4, 0.5), 0.14), ((0.65, 0.62), 0.07)):
        distance = np.hypot(i - centre[0] * shape[0], j - centre[1] * shape[1])
        image[distance < radius * shape[0]] = 60
        image[distance < 0.7 * radius * shape[0]] = 700
    return np.repeat(image[:, :, None], shape[2], axis=2)


@pytest.mark.parametrize("thing", [bottle, leg])
@pytest.mark.parametrize("contrast", ["as it is", "inverted"])
def test_no_cord_in_images_without_a_spine(models, thing, contrast):
    image = thing((120, 120, 12)) + np.random.default_rng(0).normal(0, 15, (120, 120, 12))
    image = image if contrast == "as it is" else 1000 - image
    result = segment_cord(Volume(image.astype(np.float32), np.diag([-1.0, 1, 4, 1])), "t2", models=models)
    assert result.status == "empty"


@needs_data
def test_below_the_conus_there_is_no_cord(models):
    # a person that no network has seen; by eye the conus ends at about slice 92, the roots continue to the image's end
    volume, _ = load_image(DATA / "bids/sub-lumbar/anat/sub-lumbar_T2w.nii.gz", contrast="t2")
    found = np.flatnonzero(segment_cord(volume, "t2", models=models).cord_mask.any(axis=(0, 1)))
    assert found[-1] > 190
    assert 75 <= found[0] <= 125


@pytest.mark.parametrize("scale", [0.94, 1.06])
def test_patches_are_scaled_about_their_middle(scale):
    shown = torch.from_numpy(disc((64, 64), (31.5, 31.5), 12).astype(np.float32))[None, None].repeat(3, 1, 1, 1)
    scaled = inference.scale_patches(shown, scale)
    assert scaled.shape == shown.shape
    assert scaled.sum((1, 2, 3)).tolist() == pytest.approx([float(shown[0].sum()) * scale**2] * 3, rel=0.01)
    torch.testing.assert_close(scaled, scaled.flip(2, 3))
    assert inference.scale_patches(shown, 1.0) is shown
    assert 0.5 < inference.scale_patches(torch.ones(1, 1, 64, 64), scale).mean() <= 1


def test_short_stacks_get_more_views():
    assert inference.choose_views(12, mirror=False) == ((1.0, False),)
    few, many = (inference.choose_views(n, mirror=True) for n in (12, 216))
    assert 12 * len(few) < 216 * len(many)
    for views in (few, many):
        scales, mirrored = zip(*views, strict=True)
        assert np.mean(scales) == pytest.approx(1)
        assert np.mean(mirrored) == 0.5


def test_alternating_views_leave_no_alternation():
    even, odd = torch.full((4, 1, 2, 2), 0.2), torch.full((3, 1, 2, 2), 0.6)  # one view has higher probabilities
    torch.testing.assert_close(inference.average_turns(even, odd), torch.full((7, 1, 2, 2), 0.4))
    ramp = torch.linspace(0, 1, 6)[:, None, None, None]
    torch.testing.assert_close(inference.average_turns(ramp[0::2], ramp[1::2])[1:-1], ramp[1:-1])


def test_thin_slices_are_outlined_once(models, easy, monkeypatch):
    volume, _ = easy
    outlined = []
    run = inference.run_on_stack
    monkeypatch.setattr(inference, "run_on_stack", lambda *args: outlined.append(len(args[1])) or run(*args))
    monkeypatch.setattr(inference, "choose_views", lambda n, mirror: inference.TWO_VIEWS)
    for dz in (4.0, 1.0):
        thin = Volume(volume.data, volume.affine @ np.diag([1, 1, dz / volume.zooms[2], 1]))
        line = Centerline(np.column_stack([np.tile(np.array(volume.shape[:2]) / 2, (7, 1)), np.arange(7)]), np.ones(7))
        prob, uncertainty = inference.compute_probability(thin, line, models.segment, batch=2)
        again, _ = inference.compute_probability(thin, line, models.segment, batch=32)
        np.testing.assert_allclose(prob, again, atol=1e-5)
        assert np.isfinite(uncertainty).sum() == 7
    assert outlined == [7, 7, 7, 7, 4, 3, 4, 3]


def test_maps_between_slices_are_interpolated():
    maps = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((3, 2, 4), np.float32)
    whole = inference.interpolate_slices(maps, np.array([0, 2, 3]))
    assert whole[:, 0, 0].tolist() == [0, 0.5, 1, 2]
    assert inference.interpolate_slices(maps, np.array([0, 1, 2])) is maps


def test_thin_slices_are_found_as_thick_ones_are(models, easy):
    volume, _ = easy
    thin = Volume(np.repeat(volume.data, 4, axis=2), volume.affine @ np.diag([1, 1, 0.25, 1]))
    heat, _ = inference.compute_heatmap(volume, models.detect)
    thin_heat, _ = inference.compute_heatmap(thin, models.detect)
    assert len(thin_heat) == 48
    np.testing.assert_allclose(thin_heat[::4], heat, atol=0.05)


def test_runs_are_joined_and_short_ones_dropped():
    score = np.zeros(60)
    score[10:20] = score[26:45] = 0.6  # a gap of 6 slices
    score[57:60] = 0.4
    kept = inference.select_run(score, 0.25, 2.0)
    assert np.flatnonzero(kept).tolist() == list(range(9, 46))  # one slice of 2 mm more at each end
    assert not inference.select_run(np.zeros(5), 0.25, 2.0).any()
    assert not inference.select_run(np.full(9, 0.35), 0.25, 2.0).any()  # brainstem: moderate everywhere, high nowhere
    assert inference.select_run(np.array([0.0, 0.5, 0.0]), 0.25, 4.0).tolist() == [False, True, False]
    half_sure = np.array([0.2, 0.5, 0.5, 0.5, 0.2, 0.0])  # a thick last slice of the slab is added, no other
    assert inference.select_run(half_sure, 0.25, 4.0).tolist() == [True] * 4 + [False] * 2
    assert inference.select_run(np.array([0.5]), 0.25, 4.0).tolist() == [True]


def test_smoothing_leaves_thick_slices_alone():
    prob = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert inference.smooth_along(prob, 5.0) is prob
    smooth = inference.smooth_along(prob, 1.0)
    assert smooth.shape == prob.shape
    assert smooth.std() < prob.std()


# clean-up


def disc(shape, centre, radius):
    i, j = np.indices(shape)
    return np.hypot(i - centre[0], j - centre[1]) <= radius


def test_clean_up_keeps_the_central_piece_and_fills():
    prob = np.zeros((40, 40, 9), np.float32)
    prob[disc((40, 40), (20, 20), 5)] = 0.9
    prob[20, 20] = 0.1  # a hole
    prob[disc((40, 40), (34, 20), 6)] = 0.8  # larger, but far from the curve
    prob[:, :, 4] = 0  # a gap
    centres, slices = np.full((9, 2), 20.0), np.arange(9)
    mask, soft, notes = clean_mask(prob, 0.5, centres, slices, np.array([1.0, 1, 3]))
    expected = np.repeat(disc((40, 40), (20, 20), 5)[:, :, None], 9, axis=2)
    np.testing.assert_array_equal(mask, expected)
    assert notes == ["slices 4 bridged from their neighbours"]
    assert not soft[34, 20].any()
    assert (soft[:, :, 4][mask[:, :, 4]] >= 0.5).all()


@pytest.mark.parametrize(("missing", "bridged"), [(19, True), (20, False)])
def test_a_gap_is_bridged_up_to_the_height_of_a_vertebra(missing, bridged):
    """20 mm from slice to slice, in slices of 1 mm; runs count as one cord up to a gap of 20 slices."""
    prob = np.repeat(0.9 * disc((30, 30), (15, 15), 5)[:, :, None].astype(np.float32), 60, axis=2)
    prob[:, :, 20 : 20 + missing] = 0
    mask, _, notes = clean_mask(prob, 0.5, np.full((60, 2), 15.0), np.arange(60), np.array([1.0, 1, 1]))
    assert mask.any(axis=(0, 1)).all() == bridged
    assert len(notes) == 1
    found = np.ones(80, bool)
    found[4 : 5 + missing] = False  # four slices are too short to be cord
    assert cleanup.find_unsure_slices(found, np.full(80, 0.1), 1.0)[:4].any() != bridged


def test_uncertain_ends_and_distant_runs_are_removed():
    found, doubt = np.ones(100, bool), np.full(100, 0.1)
    found[30:60] = False  # a gap that is too long to bridge
    doubt[:30] = 0.45  # roots
    doubt[95:] = 0.5  # an uncertain end
    doubt[70:74] = 0.9  # bad slices between good ones
    dropped = cleanup.find_unsure_slices(found, doubt, 1.0)
    assert np.flatnonzero(dropped).tolist() == [*range(30), *range(95, 100)]
    doubt[:30] = 0.1
    assert not cleanup.find_unsure_slices(found, doubt, 1.0)[:30].any()  # as certain as the rest: kept
    found[4:30] = False
    assert cleanup.find_unsure_slices(found, doubt, 1.0)[:4].all()  # 4 mm beyond a gap
    alone = np.zeros(12, bool)
    alone[3:5] = True
    assert not cleanup.find_unsure_slices(alone, np.full(12, 0.1), 1.0).any()  # short, but the only run
    assert cleanup.find_unsure_slices(alone, np.full(12, 0.6), 1.0).tolist() == alone.tolist()
    assert not cleanup.find_unsure_slices(np.zeros(5, bool), np.full(5, np.nan), 1.0).any()
    lone = np.arange(10) == 4
    assert cleanup.find_unsure_slices(lone, np.full(10, 0.4), 4.0).tolist() == lone.tolist()
    ends_unsure = np.array([0.6, 0.6, 0.2, 0.7])  # the last one is below the limit only beside its mirror image
    assert cleanup.find_unsure_slices(np.ones(4, bool), ends_unsure, 4.0).all()
    root = np.array([0.5, 0.9, 0.8, 1.0, 0.3, 0.2, 0.3, 0.25, 0.3, 0.3, 0.9, 0.95])  # 6 mm of 12 look like a cord
    assert cleanup.find_unsure_slices(np.ones(12, bool), root, 1.0).all()
    for sac, doubt_of_rest in ((True, 0.22), (False, 0.12)):  # half of a run is roots: is the other half a cord?
        doubt = np.repeat([doubt_of_rest, 0.45], 30)
        assert cleanup.find_unsure_slices(np.ones(60, bool), doubt, 1.0)[:25].all() == sac
    doubt = np.r_[np.full(10, 0.3), np.full(60, 0.45), np.full(10, 0.3)]  # uncertain everywhere but at its ends
    assert cleanup.find_unsure_slices(np.ones(80, bool), doubt, 1.0).all()


def test_clean_up_reports_long_gaps_and_weak_ends():
    prob = np.zeros((40, 40, 20), np.float32)
    prob[disc((40, 40), (20, 20), 6)] = 0.9
    prob[:, :, 8:14] = 0
    prob[:, :, 19] *= disc((40, 40), (20, 20), 2)
    mask, _, notes = clean_mask(prob, 0.5, np.full((20, 2), 20.0), np.arange(20), np.array([1.0, 1, 5]))
    found = np.flatnonzero(mask.any(axis=(0, 1)))
    assert found.tolist() == [*range(8), *range(14, 19)]
    assert any("8-13" in note for note in notes)
    assert any("end slice 19" in note for note in notes)
