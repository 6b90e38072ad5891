"""The command line of propseg: every flag reaches its parameter, and files appear as promised."""

import json

import nibabel as nib
import numpy as np
import pytest
from propseg_tubes import make_tube

from spineseg.cli import build_parser, main
from spineseg.cli.propseg import params_from
from spineseg.propseg.segment import PropsegParams

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
    command = ["propseg", "-i", str(image), "-c", "t2", "-ofolder", str(folder), "-mesh", "-cross", "-v", "0"]
    assert main([*command, flag, str(folder / name)]) == 0
    mask = nib.load(folder / "tube_seg.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert np.asanyarray(mask.dataobj).any((0, 1)).all()
    assert json.loads((folder / "tube_seg.json").read_text())["Status"] == "ok"
    for ending in ("_centerline.nii.gz", "_mesh.vtk", "_cross_sectional_areas.txt"):
        assert (folder / f"tube{ending}").is_file()


def test_a_mask_on_another_grid_is_refused(image, capsys):
    other = image.parent / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), other)
    command = ["propseg", "-i", str(image), "-c", "t2", "-ofolder", str(image.parent), "-mask-correction", str(other)]
    assert main(command) == 2
    assert "grid" in capsys.readouterr().err
