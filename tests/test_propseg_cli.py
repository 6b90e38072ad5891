"""The command line of propseg: every flag reaches its parameter, and files appear as promised."""

import json

import nibabel as nib
import numpy as np
import pytest
from propseg_tubes import make_tube

from spineseg.centerline.detector import load_detector, save_detector
from spineseg.cli import build_parser, main, segment_images
from spineseg.cli import propseg as command
from spineseg.propseg.parameters import PropsegParams

FLAGS = {
    "-init 0.3": ("init", 0.3),
    "-radius 3": ("radius_mm", 3.0),
    "-max-area 90": ("max_area_mm2", 90.0),
    "-max-deformation 4": ("max_deformation_mm", 4.0),
    "-min-contrast 20": ("min_contrast", 20.0),
    "-d 12": ("distance_weight", 12.0),
    "-alpha 40": ("alpha", 40.0),
    "-distance-search 10": ("distance_search", 10),
    "-nbiter 7": ("nbiter", 7),
    "-down 2": ("down", 2),
    "-up 9": ("up", 9),
    "-rescale 2": ("rescale", 2.0),
    "-CSF": ("csf", True),
    "-correct-seg 0": ("correct_seg", False),
    "-mesh": ("byproducts", ("centerline", "mesh")),
    "-low-resolution-mesh": ("byproducts", ("centerline", "low_resolution_mesh")),
    "-init-tube": ("byproducts", ("centerline", "init_tube")),
    "-centerline-coord": ("byproducts", ("centerline", "centerline_coord")),
    "-cross": ("byproducts", ("centerline", "cross")),
}


def parse(text=""):
    return build_parser("propseg").parse_args(["-i", "image.nii.gz", "-c", "t2", *text.split()])


def params_from(args):
    """What the command hands to the method."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_images, "segment_images", lambda args, name, params, **more: caught.append(params) or 0)
        assert command.run(args) == 0
    return caught[0]


def test_defaults_are_those_of_the_method():
    assert params_from(parse()) == PropsegParams(byproducts=("centerline",))


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_reaches_its_parameter(flag):
    name, value = FLAGS[flag]
    assert getattr(params_from(parse(flag)), name) == value


@pytest.fixture
def image(tmp_path):
    volume, line, _ = make_tube()
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(volume.data[::-1].copy(), affine), tmp_path / "tube.nii.gz")
    drawn = np.zeros(volume.shape, np.uint8)
    points = np.rint(line.points_vox).astype(int)
    drawn[points[:, 0], points[:, 1], points[:, 2]] = 1
    nib.save(nib.Nifti1Image(drawn[::-1].copy(), affine), tmp_path / "line.nii.gz")
    three = np.zeros_like(drawn)
    three[..., [4, 12, 20]] = drawn[..., [4, 12, 20]]
    nib.save(nib.Nifti1Image(three[::-1].copy(), affine), tmp_path / "three.nii.gz")
    return tmp_path / "tube.nii.gz"


@pytest.mark.parametrize("start", [("-init-centerline", "line.nii.gz"), ("-init-mask", "three.nii.gz")])
def test_files_of_a_run(image, start):
    folder = image.parent
    flag, name = start
    argv = ["propseg", "-i", str(image), "-c", "t2", "-ofolder", str(folder), "-mesh", "-cross", "-v", "0"]
    assert main([*argv, flag, str(folder / name)]) == 0
    mask = nib.load(folder / "tube_seg.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert np.asanyarray(mask.dataobj).any((0, 1)).all()
    assert json.loads((folder / "tube_seg.json").read_text())["Status"] == "ok"
    for ending in ("_centerline.nii.gz", "_mesh.vtk", "_cross_sectional_areas.txt"):
        assert (folder / f"tube{ending}").is_file()


def test_a_mask_on_another_grid_is_refused(image, capsys):
    other = image.parent / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), other)
    argv = ["propseg", "-i", str(image), "-c", "t2", "-ofolder", str(image.parent), "-mask-correction", str(other)]
    assert main(argv) == 2
    assert "grid" in capsys.readouterr().err


def run_propseg(image, *options):
    """Run the command silently and return the mask on the image's own grid and its sidecar."""
    argv = ["propseg", "-i", str(image), "-c", "t2", "-ofolder", str(image.parent), "-v", "0", *map(str, options)]
    assert main(argv) == 0
    mask = np.asanyarray(nib.load(image.parent / "tube_seg.nii.gz").dataobj)
    return mask, json.loads((image.parent / "tube_seg.json").read_text())


@pytest.mark.parametrize(("name", "separator"), [("line.csv", ","), ("line.txt", " ")])
def test_a_centerline_as_text_gives_the_mask_of_the_nifti(image, name, separator):
    marked = np.argwhere(np.asanyarray(nib.load(image.parent / "line.nii.gz").dataobj))
    (image.parent / name).write_text("".join(separator.join(map(str, point)) + "\n" for point in marked))
    drawn, _ = run_propseg(image, "-init-centerline", image.parent / "line.nii.gz")
    typed, sidecar = run_propseg(image, "-init-centerline", image.parent / name)
    assert typed.any()
    np.testing.assert_array_equal(typed, drawn)
    assert str(image.parent / name) in sidecar["Sources"]


def test_limits_hold_in_the_file(image):
    line = image.parent / "line.nii.gz"
    mask, _ = run_propseg(image, "-init-centerline", line, "-down", 5, "-up", 14)
    assert np.flatnonzero(mask.any((0, 1))).tolist() == list(range(5, 15))


def test_fluid_is_written_around_the_cord(image):
    mask, _ = run_propseg(image, "-init-centerline", image.parent / "line.nii.gz", "-CSF")
    fluid = np.asanyarray(nib.load(image.parent / "tube_CSF_seg.nii.gz").dataobj)
    assert fluid.sum() > mask.sum()
    assert not (fluid & mask).any()


def test_soft_values_lie_between_0_and_1(image):
    soft, _ = run_propseg(image, "-init-centerline", image.parent / "line.nii.gz", "-soft", 1)
    assert soft.dtype == np.float32
    assert soft.min() == 0
    assert soft.max() == 1
    assert ((soft > 0) & (soft < 1)).any()


def test_a_correction_moves_the_surface(image):
    line = image.parent / "line.nii.gz"
    before, _ = run_propseg(image, "-init-centerline", line)
    edge = np.zeros(before.shape, np.uint8)
    rows = np.argwhere(before[:, :, 12])
    i, j = rows[rows[:, 0] == round(rows[:, 0].mean())].max(axis=0)
    edge[i, j + 2, 10:15] = 1  # the surface passes through it, so the voxel before it is inside
    nib.save(nib.Nifti1Image(edge, np.eye(4)), image.parent / "edge.nii.gz")
    after, _ = run_propseg(image, "-init-centerline", line, "-mask-correction", image.parent / "edge.nii.gz")
    assert after[i, j + 1, 12]
    assert not before[i, j + 1, 12]


def test_rescale_doubles_the_size_inside(image):
    line = image.parent / "line.nii.gz"
    usual, _ = run_propseg(image, "-init-centerline", line)
    scaled, sidecar = run_propseg(image, "-init-centerline", line, "-rescale", 1.1)
    assert sidecar["Parameters"]["rescale"] == 1.1
    assert 0.9 < scaled.sum() / usual.sum() < 1.1


def test_a_detector_of_the_user_is_used_and_named(image):
    own = image.parent / "mine.safetensors"
    save_detector(own, load_detector("t2"))
    _, shipped = run_propseg(image)
    mask, sidecar = run_propseg(image, "-detector", own)
    assert [weights["File"] for weights in sidecar["GeneratedBy"][0]["Weights"]] == ["mine.safetensors"]
    assert sidecar["MaskSHA256"] == shipped["MaskSHA256"]
    assert mask.any()


def test_a_missing_detector_is_reported(image, capsys):
    argv = [
        "propseg",
        "-i",
        str(image),
        "-c",
        "t2",
        "-ofolder",
        str(image.parent),
        "-detector",
        "gone.yml",
        "-v",
        "0",
    ]
    assert main(argv) != 0
    assert "gone.yml" in capsys.readouterr().err


def test_help_gives_the_default_of_every_number():
    numbers = [action for action in build_parser("propseg")._actions if action.type in (int, float)]
    assert len(numbers) >= 14
    for action in numbers:
        assert "default" in action.help or "silent" in action.help, action.option_strings
