"""The package from Python: results are on the grid of their image, and equal those of the command line."""

from __future__ import annotations

import csv
import io

import nibabel as nib
import numpy as np
import pytest
from made_study import save_nifti
from report_study import make_study

from spineseg import StudyFolder, compare, decide, load, load_mask, measure, segment
from spineseg.cli import main
from spineseg.errors import GeometryError, InputError
from spineseg.segmentation import Segmentation
from spineseg.studyfolder.layout import Stage


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """An image, its exact mask and its discs."""
    from spineseg.phantom.dataset import write_dataset

    root = tmp_path_factory.mktemp("person")
    image = write_dataset(root, 1, 1, contrasts=("T2star",), hard="none", discs=True)[0]
    labels = root / "derivatives" / "labels"
    mask = next(labels.rglob("*_T2star_label-SC_seg.nii.gz"))
    discs = next(labels.rglob("*_T2star*disc*.nii.gz"))
    return image, mask, discs


@pytest.mark.parametrize("axes", ["RAS", "PIR"])
def test_a_saved_mask_is_that_of_the_command_line(person, tmp_path, axes, monkeypatch):
    turned = nib.load(person[0])
    orientation = nib.orientations.axcodes2ornt(axes)
    turned = turned.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(turned.affine), orientation))
    path = tmp_path / "sub-01_T2star.nii.gz"
    nib.save(turned, path)
    segmentation = segment(load(path), "propseg", max_area=150)
    files = segmentation.save(tmp_path / "mine.nii.gz")
    assert files[0] == tmp_path / "mine.nii.gz"
    monkeypatch.chdir(tmp_path)
    assert main(["propseg", "-i", str(path), "-c", "t2s", "-max-area", "150", "-o", "theirs.nii.gz", "-v", "0"]) == 0
    assert files[0].read_bytes() == (tmp_path / "theirs.nii.gz").read_bytes()
    soft = segmentation.save(tmp_path / "soft.nii.gz", soft=True)[0]
    assert nib.load(soft).get_data_dtype() == np.float32
    assert compare(load_mask(soft), segmentation)["dice"] > 0.9


def test_measures_are_those_of_the_command_line(person, capsys):
    _, mask, discs = person
    levels = measure(load_mask(mask), levels="3:4", discs=discs)
    assert main(["csa", "-i", str(mask), "-vert", "3:4", "-discfile", str(discs)]) == 0
    (told,) = csv.DictReader(io.StringIO(capsys.readouterr().out), delimiter="\t")
    assert levels[0]["csa_mm2"] == pytest.approx(float(told["csa_mm2"]), rel=1e-4)
    slices = measure(load_mask(mask), per="slice")
    assert len(slices) > 5
    with pytest.raises(InputError, match="expected discs="):
        measure(load_mask(mask), levels="C3")


def test_voxel_sizes_follow_the_canonical_axes(person, tmp_path):
    path = save_nifti(tmp_path / "mask.nii.gz", small_mask(), affine=_axes_pir((2.0, 3.0, 0.5)))
    assert load_mask(path).grid.zooms.tolist() == [0.5, 2.0, 3.0]
    assert load_mask(path).cord_mask.shape == (6, 4, 5)


def small_mask() -> np.ndarray:
    """Two voxels of cord in a grid of 4 x 5 x 6."""
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[2, 2:4, 3] = 1
    return mask


def empty_mask(grid=None) -> Segmentation:
    return Segmentation(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), bool), None, "empty", grid=grid)


def _axes_pir(zooms):
    """An affine whose file axes run to posterior, inferior and right."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -zooms[0], -zooms[1], zooms[2], 1
    return affine


def test_mismatched_arguments_are_reported(person, tmp_path):
    image, mask, _ = person
    other = save_nifti(tmp_path / "other.nii.gz", small_mask())
    with pytest.raises(GeometryError, match="expected the image's grid"):
        compare(load_mask(mask), load_mask(other))
    with pytest.raises(GeometryError, match="expected the image's grid"):
        load_mask(other, like=load(image))
    with pytest.raises(InputError, match="expected one of propseg, deepseg"):
        segment(load(image), "propseq")
    with pytest.raises(InputError, match="no such option 'max_aera'"):
        segment(load(image), "propseg", max_aera=3)
    with pytest.raises(InputError, match="its name has no known contrast"):
        load(save_nifti(tmp_path / "image.nii.gz", np.arange(120.0).reshape(4, 5, 6)))
    made_inside = Segmentation(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), bool), None, "empty")
    with pytest.raises(InputError, match="knows no grid"):
        made_inside.save(tmp_path / "x.nii.gz")
    assert not (tmp_path / "x.nii.gz").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda path: load(nib.load(path)), "expected the path of an image, found Nifti1Image"),
        (lambda path: load("gone_T2w.nii.gz"), "gone_T2w.nii.gz: no such file"),
        (lambda path: load(path, "T2w"), "contrast='T2w': expected one of t1, t2, t2s, dwi; did you mean 't2'?"),
        (lambda path: load(path, "T2"), "did you mean 't2'?"),
        (lambda path: segment(load(path), ["propseg"]), "method=['propseg']: expected one of propseg, deepseg"),
        (lambda path: segment(load(path), threads=True), "threads=True: expected a whole number"),
        (lambda path: segment(load(path), init_centerline="x.csv"), "in Python give centerline=, a Centerline"),
        (lambda path: segment(load(path), max_area="150"), "option 'max_area': expected a number, found '150'"),
        (lambda path: measure(empty_mask(), correction=None), "correction=None: expected one of product, exact, none"),
        (lambda path: decide(path, settings=["aim"]), "settings: expected a mapping"),
        (lambda path: decide(path, methods="propseg"), "methods='propseg': expected a list of names"),
        (lambda path: load_mask(np.ones((3, 3, 3))), "expected the path of a mask, found ndarray"),
        (lambda path: load_mask(path, like=path), "like: expected an image from load"),
        (segment, "image: expected an image from load"),
        (lambda path: segment(load(path), centerline=np.zeros((3, 3))), "centerline: expected a Centerline"),
        (lambda path: segment(load(path), "deepseg", device="gpu"), "device='gpu': expected one of auto, cpu, cuda"),
        (lambda path: segment(load(path), threads=0), "threads=0: expected a whole number of 1 or more"),
        (lambda path: segment(load(path), max_area=[1]), "option 'max_area': expected one value, found"),
        (measure, "mask: expected a segmentation from segment"),
        (lambda path: measure(empty_mask(), per="slices"), "per='slices': expected one of request, slice, level"),
        (lambda path: measure(empty_mask(), per="level"), "per='level': expected discs="),
        (lambda path: measure(empty_mask(), levels=["C2"]), "expected text, such as 'C2-C3'"),
        (lambda path: compare(path, path), "mask: expected a segmentation from segment"),
        (lambda path: compare(empty_mask(), load(path)), "mask: expected a segmentation from segment"),
        (lambda path: decide([{"dice": 0.9}]), "expected the path of a table, found list"),
        (lambda path: load(path, bval=3), "expected the path of b-values, found int"),
        (lambda path: load_mask(path, label="1"), "label='1': expected a whole number"),
        (lambda path: segment(load(path), progress=print), "progress: expected a spineseg.progress.Progress"),
        (lambda path: segment(load(path), max_aera=3), "did you mean 'max-area'?"),
        (lambda path: measure(empty_mask(), discs=3, levels="C2"), "expected the path of disc labels, found int"),
        (
            lambda path: compare(*[empty_mask(load(path).grid)] * 2, tolerance_mm="1"),
            "tolerance_mm='1': expected a length",
        ),
        (lambda path: empty_mask(load(path).grid).save(None), "expected the path of the mask to write"),
        (lambda path: empty_mask(load(path).grid).save(path), "exists and is not a mask, so it is not replaced"),
        (lambda path: empty_mask(load(path).grid).save("mask"), "expected the name of a file that ends in .nii"),
    ],
)
def test_common_mistakes_are_one_line(person, call, said):
    with pytest.raises(InputError) as caught:
        call(str(person[0]))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(person):
    image = load(person[0])
    plain = segment(image, max_area=150.0, threads=1)
    assert compare(plain, segment(image, max_area=np.float32(150), threads=np.int64(1)))["dice"] == 1
    assert load_mask(person[1], label=np.int16(1)).status == "ok"


def test_a_result_shows_itself_in_a_line(person):
    assert repr(load(person[0])).startswith(f"Image('{person[0]}', 't2s', Volume((")
    assert repr(empty_mask()) == "Segmentation('empty', 0 of (2, 2, 2) voxels)"
    assert StudyFolder("results/x").root.name == "x"


def test_a_decision_from_tables(tmp_path):
    folder: StudyFolder = make_study(tmp_path)
    tables = [folder.table(Stage.ALL, name) for name in ("metrics.tsv", "agreement.tsv")]
    decision = decide(*tables, settings={"min_participants": 3})
    assert decision.verdict in ("clear", "equivalent", "undecided")
    assert decision.method in decision.document["methods"]
    with pytest.raises(InputError, match="no such key"):
        decide(*tables, settings={"min_people": 3})
