"""Values of a mask file: labels, soft values, other scales, and images that are not masks."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.volumeutils import apply_read_scaling

from spineseg.cli import main
from spineseg.errors import InputError
from spineseg.methods.external import read_mask
from spineseg.volume import load_image, load_mask, to_canonical
from spineseg.volume.stored import open_image

AFFINE = np.diag([-0.5, 0.5, 3.0, 1.0])


def soft_disc(n_slices: int = 6) -> np.ndarray:
    """A tube with partial volumes at its border, most of it full."""
    i, j, _ = np.indices((40, 44, n_slices))
    return np.clip(8 - np.hypot(i - 19.5, j - 21.5), 0, 1).astype(np.float32)


def disc() -> np.ndarray:
    return (soft_disc() >= 0.5).astype(np.float32)


def save(path, data, *, slope=None, inter=0.0):
    image = nib.Nifti1Image(data, AFFINE)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
        image = nib.Nifti1Image(image.dataobj, AFFINE, image.header)
    nib.save(image, path)
    if slope is not None:  # nibabel rescales what it writes: put the raw numbers in
        raw = bytearray(path.read_bytes())
        raw[352:] = np.asarray(data).tobytes(order="F")
        raw[112:120] = np.array([slope, inter], np.float32).tobytes()
        path.write_bytes(raw)
    return path


def area(mask) -> float:
    return float(mask.data.sum(axis=(0, 1)).mean() * 0.25)


def overshooting(top):
    soft = soft_disc()
    soft[20, 22, 3] = top
    return soft


@pytest.mark.parametrize("top", [1.0000001, 1.004, 1.05])
# row: soft, largest value up to 1.05 | clipped to 1, note
def test_one_voxel_above_1_does_not_change_the_others(tmp_path, top):
    mask, grid = load_mask(save(tmp_path / "m.nii", overshooting(top)))
    np.testing.assert_array_equal(mask.data, soft_disc())
    assert [f"up to {top:.4g}" in note for note in grid.notes] == ([True] if top > 1.001 else [])


@pytest.mark.parametrize("full", [255, 100])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
# row: soft, scaled to 255 or 100, most of it at that value | divided by it, note
def test_values_up_to_255_or_100_are_rescaled_and_reported(tmp_path, full, dtype):
    stored = (soft_disc() * full).astype(dtype)
    mask, grid = load_mask(save(tmp_path / "m.nii", stored))
    np.testing.assert_allclose(mask.data, stored / full, atol=1e-6)
    assert f"runs from 0 to {full}; divided by {full}" in grid.notes[0]


@pytest.mark.parametrize(("slope", "top"), [(1 / 255, 255), (0.01, 100), (1 / 200, 200), (1.0, 1)])
# row: slope and intercept in the header | applied before all rules
def test_slope_comes_before_every_rule(tmp_path, slope, top):
    stored = np.round(soft_disc() * top).astype(np.uint8)
    mask, _ = load_mask(save(tmp_path / "m.nii", stored, slope=slope))
    np.testing.assert_allclose(mask.data, stored / top, atol=1e-5)
    assert area(mask) == pytest.approx(float(stored.sum(axis=(0, 1)).mean()) / top * 0.25, rel=1e-4)


# row: with `test_slope_comes_before_every_rule`
def test_intercept_comes_before_every_rule(tmp_path):
    stored = (disc() * 10 + 5).astype(np.int16)
    mask, _ = load_mask(save(tmp_path / "m.nii", stored, slope=0.1, inter=-0.5))
    np.testing.assert_allclose(mask.data, disc(), atol=1e-5)


@pytest.mark.parametrize("value", [1, 2, 7, 100, 255, 1000, 70000])
# row: 0 and one label of any number | a mask
def test_one_label_of_any_number_is_a_mask(tmp_path, value):
    mask, grid = load_mask(save(tmp_path / "m.nii", (disc() * value).astype(np.int32)))
    np.testing.assert_array_equal(mask.data, disc())
    assert grid.notes == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
# row: several labels | refused, unless one is named (`-label N` of dice, csa and qc; `label: N` of a study's method
#   or `references`)
def test_several_labels_are_refused_unless_one_is_named(tmp_path, dtype):
    labels = disc()
    labels[:20] *= 2
    labels[:, :, 3:] *= 2  # 1, 2 and 4
    path = save(tmp_path / "m.nii.gz", labels.astype(dtype))
    with pytest.raises(InputError) as caught:
        load_mask(path)
    assert str(caught.value).startswith(f"{path}: expected a mask with one label, found the labels 1, 2, 4; ")
    assert "-label" in str(caught.value)
    for label in (1, 2, 4):
        mask, _ = load_mask(path, label=label)
        np.testing.assert_array_equal(mask.data, labels == label)
    with pytest.raises(InputError, match="expected the label 3, found 1, 2, 4"):
        load_mask(path, label=3)
    drawn, _ = load_mask(path, any_positive=True)
    np.testing.assert_array_equal(drawn.data, labels > 0)


def images():
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 20, (40, 44, 6))
    return {
        "noise": noise,
        "noise of whole numbers": noise.round(),
        "negative": soft_disc() - 0.1,
        "one negative voxel": overshooting(1.0) - np.eye(40, 44)[..., None] * 0.2,
        "more than 1.05": overshooting(1.06),
        "a single other value": disc() * 37.5,
        "an infinite voxel": overshooting(np.inf),
        "255 in few voxels": np.where(soft_disc() == 1, 140.0, soft_disc() * 255)
        + 115 * (disc() * np.eye(40, 44)[..., None]),
        "two values without background": 100 + 50 * disc(),
        "the same everywhere": disc() * 0 + 1,
    }


@pytest.mark.parametrize("kind", images())
# row: negative, infinite, other values, no background | refused: is it an image?
def test_images_in_place_of_masks_are_refused_in_one_line(tmp_path, kind):
    path = save(tmp_path / "m.nii.gz", images()[kind].astype(np.float32))
    with pytest.raises(InputError) as caught:
        load_mask(path)
    assert str(path) in str(caught.value)
    assert "is it an image?" in str(caught.value)
    assert "\n" not in str(caught.value)


# row: NaN | counts as 0, note
def test_nan_counts_as_0_and_is_reported(tmp_path):
    data = disc()
    data[:5] = np.nan
    mask, grid = load_mask(save(tmp_path / "m.nii.gz", data))
    np.testing.assert_array_equal(mask.data, np.nan_to_num(data))
    assert grid.notes == (f"m.nii.gz: {5 * 44 * 6} voxels are NaN and count as 0",)


@pytest.mark.parametrize("air", [0, 60])
# row: an image whose values were scaled to 0 to 1 | refused
def test_an_image_that_was_scaled_to_1_is_refused(tmp_path, air):
    image = np.random.default_rng(0).gamma(3, 0.08, (40, 44, 6)).astype(np.float32)
    image[: 40 * air // 100] = 0
    with pytest.raises(InputError, match=r"m\.nii: expected a mask .* is it an image\?"):
        load_mask(save(tmp_path / "m.nii", image / image.max()))


@pytest.mark.parametrize("value", [1 / 255, 0.01, 0.3, 0.5, 0.7, 0.9])
# row: 0 and one number below 0.95, as from a wrong slope | refused
def test_a_mask_of_0_and_a_small_number_is_refused(tmp_path, value):
    with pytest.raises(InputError, match=r"expected a mask of 0 and 1, found 0 and .* slope"):
        load_mask(save(tmp_path / "m.nii", disc() * value))
    with pytest.raises(InputError, match="slope"):
        load_mask(save(tmp_path / "s.nii", disc().astype(np.uint8), slope=value))


# row: soft, below 0.5 everywhere | note: counts as empty
def test_a_mask_below_one_half_everywhere_is_reported(tmp_path):
    _, grid = load_mask(save(tmp_path / "m.nii", soft_disc() * 0.4))
    assert grid.notes == ("m.nii: no value reaches 0.5 (largest 0.4); it counts as empty",)


# row: soft, most of it at one value below 0.95 | note
def test_a_soft_mask_mostly_below_1_is_reported(tmp_path):
    mask, grid = load_mask(save(tmp_path / "m.nii", soft_disc() * 0.8))
    np.testing.assert_array_equal(mask.data, (soft_disc() * 0.8).astype(np.float32))
    assert grid.notes == ("m.nii: most of the mask is 0.8, not 1; areas count it as partial volume",)


# row: more than half of the voxels | note: is it inverted?
def test_an_inverted_mask_is_reported(tmp_path):
    _, grid = load_mask(save(tmp_path / "m.nii", 1 - disc()))
    assert grid.notes == ("m.nii: more than half of the voxels are in the mask; is it inverted?",)


# row: soft or empty mask | read unchanged
def test_soft_and_empty_masks_are_unchanged(tmp_path):
    for name, data in {"soft": soft_disc(), "floor": 0.05 + 0.9 * soft_disc(), "empty": disc() * 0}.items():
        mask, grid = load_mask(save(tmp_path / f"{name}.nii.gz", data.astype(np.float32)))
        np.testing.assert_array_equal(mask.data, data.astype(np.float32))
        assert grid.notes == ()


# row: points and centerlines that people draw | any value above 0 counts (`any_positive=True`)
def test_drawings_may_have_any_value(tmp_path):
    points = np.zeros((40, 44, 6), np.float32)
    points[20, 21, [0, 3, 5]] = 0.2, 37.5, 3000
    mask, _ = load_mask(save(tmp_path / "m.nii", points), any_positive=True)
    np.testing.assert_array_equal(mask.data, points > 0)
    with pytest.raises(InputError, match="is it an image"):
        load_mask(save(tmp_path / "i.nii", images()["noise"].astype(np.float32)), any_positive=True)


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
# row: with `test_masks_of_more_dimensions_are_one_line_everywhere`
def test_further_axes_of_one_are_dropped(tmp_path, extra):
    mask, grid = load_mask(save(tmp_path / "m.nii", disc().reshape(*disc().shape, *extra)))
    np.testing.assert_array_equal(mask.data, disc())
    assert grid.shape == disc().shape


@pytest.mark.parametrize("extra", [(2,), (1, 3), (5, 1), (2, 2)])
@pytest.mark.parametrize("command", ["dice", "csa", "centerline", "qc", "-init-mask"])
# row: 4-D or 5-D | refused, unless the extra axes are 1
def test_masks_of_more_dimensions_are_one_line_everywhere(tmp_path, extra, command, capsys):
    data = np.broadcast_to(disc().reshape(*disc().shape, *[1] * len(extra)), (*disc().shape, *extra))
    path = str(save(tmp_path / "m.nii", np.ascontiguousarray(data)))
    image = str(save(tmp_path / "i.nii", images()["noise"].astype(np.float32)))
    flat = str(save(tmp_path / "flat.nii", disc()))
    out = str(tmp_path / "out")
    code = main(
        {
            "dice": ["dice", "-i", flat, "-d", path],
            "csa": ["csa", "-i", path],
            "centerline": ["centerline", "-i", path, "-method", "fitseg", "-ofolder", out],
            "qc": ["qc", "-i", image, "-s", path, "-c", "t2", "-qc", out],
            "-init-mask": ["propseg", "-i", image, "-c", "t2", "-init-mask", path, "-ofolder", out, "-v", "0"],
        }[command]
    )
    assert code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "expected a mask of 3 dimensions, found shape (40, 44, 6, " in errors[0]
    assert not (tmp_path / "out").exists()


# row: masks of other programs | the same rules
def test_masks_of_other_programs_follow_the_same_rules(tmp_path):
    volume, grid = load_image(save(tmp_path / "i.nii", images()["noise"].astype(np.float32)))
    soft = save(tmp_path / "soft.nii", overshooting(1.004))
    mask, notes = read_mask(soft, volume, grid)
    np.testing.assert_array_equal(mask.data, load_mask(soft)[0].data)
    assert [word in " ".join(notes) for word in ("clipped to 1", "soft mask; cut at 0.5")] == [True, True]
    labels = save(tmp_path / "labels.nii", disc() + disc() * (np.indices(disc().shape)[0] > 19))
    with pytest.raises(InputError, match="found the labels 1, 2"):
        read_mask(labels, volume, grid)
    np.testing.assert_array_equal(read_mask(labels, volume, grid, label=2)[0].data, load_mask(labels, label=2)[0].data)


COMMANDS_WITH_A_MASK = {
    "csa": ["csa", "-i", "LABELS"],
    "dice": ["dice", "-i", "LABELS", "-d", "LABELS", "-label-d", "2"],
    "centerline": ["centerline", "-method", "fitseg", "-i", "LABELS", "-ofolder", "."],
    "qc": ["qc", "-i", "IMAGE", "-s", "LABELS", "-c", "t2", "-qc", "qc"],
}


@pytest.mark.parametrize("name", COMMANDS_WITH_A_MASK)
def test_every_command_refuses_several_labels_unless_one_is_named(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    both = disc() + disc() * (np.indices(disc().shape)[0] > 19)
    save(tmp_path / "labels.nii", both)
    save(tmp_path / "image.nii", (100 + 50 * both + np.indices(both.shape)[0]).astype(np.float32))
    call = [{"LABELS": "labels.nii", "IMAGE": "image.nii"}.get(word, word) for word in COMMANDS_WITH_A_MASK[name]]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert "labels.nii: expected a mask with one label, found the labels 1, 2; save the cord's alone, or name" in error
    assert error.count("\n") == 1
    assert main([*call, "-label", "3"]) == 2
    assert "expected the label 3, found 1, 2" in capsys.readouterr().err
    assert main([*call, "-label", "2"]) == 0


# row: with `test_several_labels_are_refused_unless_one_is_named`
def test_dice_of_a_named_label(tmp_path, capsys):
    both = disc() + disc() * (np.indices(disc().shape)[0] > 19)
    labels = str(save(tmp_path / "labels.nii", both))
    one = str(save(tmp_path / "one.nii", (both == 2).astype(np.uint8)))
    assert main(["dice", "-i", labels, "-d", one]) == 2
    assert "found the labels 1, 2" in capsys.readouterr().err
    assert main(["dice", "-i", labels, "-d", one, "-label", "3"]) == 2
    assert "expected the label 3, found 1, 2" in capsys.readouterr().err
    assert main(["dice", "-i", labels, "-d", one, "-label", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == 1
    assert main(["dice", "-i", one, "-d", labels, "-label-d", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == 0


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
# row: with `test_a_mask_that_compresses_well_is_read_and_its_zeros_take_no_memory`
def test_reading_plane_by_plane_gives_the_same_mask(tmp_path, monkeypatch, axes):
    """A mask is read a few planes at a time; neither their number nor the axes of the file change a voxel."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-0.5, 0.5, 3.0])[:, list(axes)]
    data = np.transpose(soft_disc(), axes) * np.float32(1.03)
    data[0, 0, 0] = np.nan
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    whole, grid = load_mask(path)
    expected = to_canonical(np.nan_to_num(data).clip(0, 1), affine)
    assert whole.data.tobytes() == expected.data.tobytes()
    assert np.array_equal(whole.affine, expected.affine)
    monkeypatch.setattr("spineseg.volume.stored.SLAB_VOXELS", 3 * data.shape[0] * data.shape[1])
    apart, grid_apart = load_mask(path)
    assert apart.data.tobytes() == whole.data.tobytes()
    assert grid_apart.notes == grid.notes


@pytest.mark.parametrize("name", ["m.mgz", "m.img", "m.img.gz"])
# row: a large mask as `.mgz` or `.img` | kept in memory as stored: 600 x 600 x 600 take 460 and 320 MB
def test_masks_in_other_formats_are_not_expanded_in_memory(tmp_path, monkeypatch, name):
    """A large mask takes a quarter of float32; slope and intercept are applied by plane, as by nibabel."""
    stored = np.random.default_rng(0).integers(0, 255, (7, 8, 9), dtype=np.uint8)
    affine = np.diag([-0.5, 0.5, 3.0, 1.0])
    kind = nib.MGHImage if ".mg" in name else nib.Nifti1Pair
    image = kind(stored, affine)
    if kind is nib.Nifti1Pair:
        image.header.set_slope_inter(0.1, 3.7)
    nib.save(image, tmp_path / name)
    asked = []
    monkeypatch.setattr(
        "spineseg.volume.stored.apply_read_scaling", lambda x, *scale: asked.append(x) or apply_read_scaling(x, *scale)
    )
    opened = open_image(tmp_path / name)
    expected = np.asarray(nib.load(tmp_path / name).dataobj, np.float32)
    assert np.array_equal(opened.read_volume(0), expected)
    assert np.array_equal(opened.read_planes(0, 2, 4), expected[:, :, 2:4])
    assert {x.dtype for x in asked} == {np.dtype(np.uint8)}
