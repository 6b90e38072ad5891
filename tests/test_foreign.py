"""Methods that are not ours: existing masks and programs, checked and taken in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from spineseg.errors import InputError
from spineseg.study.configuration import check_sources, complete_configuration
from spineseg.study.declared import declared_methods, prepare_declared
from spineseg.study.images import read_included, write_images
from spineseg.study.segment import segment_chunk

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
SUBJECTS = ("01", "02")
FILES = {"name": "sct", "files": "derivatives/sct/{subject}/anat/{image_id}_seg.nii.gz"}


def disc(radius: float = 8) -> np.ndarray:
    i, j, _ = np.indices((40, 44, 10))
    return (np.hypot(i - 19.5, j - 21.5) < radius).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def bids(tmp_path):
    for subject in SUBJECTS:
        save(tmp_path / "bids" / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz", 100 + 50 * disc())
    return tmp_path / "bids"


def configure(bids, method, **keys) -> dict:
    methods = ["propseg", *(method if isinstance(method, list) else [method])]
    return complete_configuration({"dataset": "x", "bids_dir": str(bids), "methods": methods} | keys)


def mask_path(bids, subject="01") -> Path:
    return bids / "derivatives" / "sct" / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w_seg.nii.gz"


def segment(tmp_path, bids, method, threads=1) -> dict[str, dict]:
    """Entries of the manifest by subject."""
    results = tmp_path / "results" / "x"
    rows = [
        {
            "image_id": f"sub-{subject}_T2w",
            "subject": subject,
            "suffix": "T2w",
            "datatype": "anat",
            "contrast": "t2",
            "path": str(bids / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz"),
            "included": "true",
            "pilot": "true",
            "chunk": "pilot-0001",
        }
        for subject in SUBJECTS
    ]
    write_images(results / "images.tsv", rows)
    assert len(read_included(results / "images.tsv")) == 2
    declared = declared_methods(configure(bids, method))[method["name"]]
    manifest = segment_chunk(results / "images.tsv", results, prepare_declared(declared, threads=threads), "pilot-0001")
    for entry in manifest["images"]:
        entry["data"] = entry["mask"] and np.asarray(nib.load(results / entry["mask"]).dataobj)
        entry["json"] = json.loads((results / entry["sidecar"]).read_text())
    return {entry["image_id"][4:6]: entry for entry in manifest["images"]}


def test_existing_masks_become_results_and_a_missing_one_a_failure(tmp_path, bids):
    save(mask_path(bids), disc().astype(np.uint8))
    entries = segment(tmp_path, bids, FILES | {"version": "6.5"})
    np.testing.assert_array_equal(entries["01"]["data"], disc())
    assert entries["01"]["data"].dtype == np.uint8
    assert entries["01"]["status"] == "ok"
    assert entries["01"]["seconds"] is None
    sidecar = entries["01"]["json"]
    assert sidecar["Sources"] == [str(bids / "sub-01" / "anat" / "sub-01_T2w.nii.gz"), str(mask_path(bids))]
    assert sidecar["GeneratedBy"][1] == {"Name": "sct", "Version": "6.5"}
    assert (sidecar["Method"], sidecar["Status"]) == ("sct", "ok")
    assert entries["02"]["status"] == "failed"
    assert "expected the mask of sub-02_T2w.nii.gz, found no such file" in entries["02"]["message"]


def test_a_mask_with_other_axes_is_turned_to_the_image(tmp_path, bids):
    flip = orientations.axcodes2ornt(("P", "S", "R"))
    turn = orientations.ornt_transform(orientations.io_orientation(AFFINE), flip)
    mask = disc()
    mask[:10] = 0  # so that a flip would show
    turned = orientations.apply_orientation(mask, turn)
    save(mask_path(bids), turned, AFFINE @ orientations.inv_ornt_aff(turn, mask.shape))
    entry = segment(tmp_path, bids, FILES)["01"]
    np.testing.assert_array_equal(entry["data"], mask)
    assert "other axes" in entry["warnings"][0]


@pytest.mark.parametrize(
    ("mask", "affine", "status", "message"),
    [
        (disc()[:-1], AFFINE, "failed", r"expected the image's grid (40, 44, 10), found (39, 44, 10)"),
        (disc(), AFFINE + np.eye(4, k=3), "failed", "affine, found one that differs by up to 1"),
        (disc() * 0, AFFINE, "empty", "the mask holds no cord"),
        (disc() * 0.6, AFFINE, "ok", "is a soft mask; cut at 0.5"),
        (
            disc() + disc(4),
            AFFINE,
            "failed",
            "expected a mask with one label, found the labels 1, 2; save the cord's alone, or name it",
        ),
        (disc() * 255, AFFINE, "ok", ""),
        (disc() * 37.5, AFFINE, "failed", "is it an image?"),
        (np.indices((40, 44, 10))[0].astype(np.float32), AFFINE, "failed", "found 40 values from 0 to 39"),
    ],
)
def test_what_a_mask_may_hold(tmp_path, bids, mask, affine, status, message):
    save(mask_path(bids), mask.astype(np.float32), affine)
    entry = segment(tmp_path, bids, FILES)["01"]
    assert entry["status"] == status
    assert message in " ".join([entry["message"], *entry["warnings"]])
    if status == "ok":
        np.testing.assert_array_equal(entry["data"], disc())


def test_a_changed_mask_is_taken_in_anew_and_another_is_not(tmp_path, bids):
    for subject in SUBJECTS:
        save(mask_path(bids, subject), disc())
    first = segment(tmp_path, bids, FILES)
    times = {s: (tmp_path / "results" / "x" / e["sidecar"]).stat().st_mtime_ns for s, e in first.items()}
    save(mask_path(bids, "02"), disc(7))
    again = segment(tmp_path, bids, FILES)
    np.testing.assert_array_equal(again["02"]["data"], disc(7))
    assert (tmp_path / "results" / "x" / again["01"]["sidecar"]).stat().st_mtime_ns == times["01"]


TOOL = """
import sys, os, nibabel as nib, numpy as np
source, target, threads = sys.argv[1:4]
image = nib.load(source)
print("working", os.environ["OMP_NUM_THREADS"], threads)
if "sub-02" in source:
    print("\\x1b[31mcannot go on: no cord here\\x1b[0m\\n", file=sys.stderr)
    sys.exit(3)
nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 120).astype(np.uint8), image.affine), target)
"""


def tool(tmp_path, text=TOOL) -> str:
    path = tmp_path / "a tool.py"
    path.write_text(text)
    return f"{sys.executable} '{path}'"


def test_a_program_is_run_on_each_image(tmp_path, bids, capfd):
    method = {"name": "mine", "command": tool(tmp_path) + " {image} {mask} {threads}"}
    entries = segment(tmp_path, bids, method, threads=2)
    np.testing.assert_array_equal(entries["01"]["data"], disc())
    assert entries["01"]["seconds"] > 0
    assert entries["01"]["peak_mb"] > 10
    assert entries["02"]["status"] == "failed"
    assert entries["02"]["message"] == "exit code 3: cannot go on: no cord here"
    assert "working 2 2" in capfd.readouterr().err
    assert not list((tmp_path / "results").rglob("*.txt"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sleep 30; echo {image} {mask}", "took longer than 0.01 min and was ended"),
        ("true {image} {mask}", "wrote no mask"),
        ("cp {image} {folder}/a.nii.gz; cp {image} {folder}/b.nii.gz", "found 2 images (a.nii.gz, b.nii.gz)"),
        ("cp {image} {mask}", "is it an image?"),
        ("echo hello > {mask}; : {image}", "sub-01_T2w_seg.nii.gz: expected a NIfTI image, found another"),
    ],
)
def test_a_program_that_goes_wrong_fails_its_image_only(tmp_path, bids, command, message):
    entries = segment(tmp_path, bids, {"name": "mine", "command": command, "timeout": 0.01})
    assert {entry["status"] for entry in entries.values()} == {"failed"}
    assert message in entries["01"]["message"]
    assert "spineseg-" not in entries["01"]["message"]  # a name that chance has given
    assert not list((tmp_path / "results").rglob("*.nii.gz"))


def test_a_program_may_name_its_mask_itself(tmp_path, bids):
    text = TOOL.replace("target, threads", "folder, threads").replace(
        "image.affine), target", "image.affine), folder + '/out.nii'"
    )
    method = {"name": "mine", "command": tool(tmp_path, text) + " {image} {folder} 1"}
    np.testing.assert_array_equal(segment(tmp_path, bids, method)["01"]["data"], disc())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "a"}, "'methods.1': 'a' is none of propseg, deepseg; say where its masks come from"),
        ({"name": "a", "fils": "x"}, "config key 'methods.1.fils': no such key; did you mean 'files'"),
        ({"name": "a", "files": "x", "command": "y"}, "expected one of files, command, method; found files and"),
        ({"name": "a", "files": "x/{subjct}"}, "no placeholder {subjct}; did you mean 'subject'"),
        ({"name": "a", "files": "x/{subject"}, "expected placeholders such as {subject}"),
        ({"name": "a", "files": "x.nii.gz"}, "expected a path with {image_id} or {subject}"),
        ({"name": "a", "files": "x/{image_id}.nii.gz"}, "expected masks of the study's images such as"),
        ({"name": "a", "files": "x/{image_id}", "timeout": 3}, "timeout': has no meaning beside files"),
        ({"name": "a", "command": "true {image}"}, "expected {image} and {mask} (or {folder}) in the command"),
        ({"name": "a", "command": "no-such-tool -i {image} -o {mask}"}, "no program 'no-such-tool' was found"),
        ({"name": "a", "command": "true '{image} {mask}"}, "not a command that a shell reads"),
        ({"name": "a", "command": "true {image} {mask}", "timeout": 0}, "'methods.1.timeout': expected minutes"),
        ({"name": "a/b", "files": "x/{image_id}"}, "'methods.1.name': expected a name of letters"),
        ({"name": "reference", "files": "x/{image_id}"}, "'reference' means something else"),
        ({"name": "deepseg", "files": "x/{image_id}"}, "deepseg is a method of spineseg"),
        ({"name": "PropSeg", "method": "propseg"}, "a second method is named PropSeg"),
        ({"name": "d", "method": "deepseg", "options": {"tresh": 0.4}}, "deepseg has no option 'tresh'"),
        ({"name": "d", "method": "deepseg", "options": {"thr": "low"}}, "'thr': expected float or null, found 'low'"),
        ({"name": "d", "method": "deepseg", "options": {"thr": 4}}, "expected a number between 0 and 1"),
        ({"name": "d", "method": "deepseg", "options": {"weights": "gone.h5"}}, "gone.h5: no such weights"),
        ({"name": "p", "method": "propseg", "options": {"CSF": 1}}, "'CSF': expected bool, found 1"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(bids, method, message):
    with pytest.raises(InputError) as caught:
        check_sources(configure(bids, method))
    assert message in str(caught.value)
    assert "config key 'methods.1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_declarations_pass(bids):
    save(mask_path(bids), disc())
    others = [
        FILES,
        {"name": "mine", "command": "export A=1 && true {image} {mask}", "timeout": 5, "version": "1.0"},
        {"name": "low", "method": "deepseg", "options": {"thr": 0.4}},
        {"name": "wide", "method": "propseg", "options": {"max-area": 150, "radius": 5, "d": 2}},
    ]
    config = configure(bids, others, override={"method": "sct", "reason": "r", "by": "me"})
    check_sources(config)
    methods = declared_methods(config)
    assert list(methods) == ["propseg", "sct", "mine", "low", "wide"]
    prepared = prepare_declared(methods["wide"])
    assert (prepared.name, prepared.parameters["max_area_mm2"], prepared.parameters["distance_weight"]) == (
        "wide",
        150,
        2,
    )
    with pytest.raises(InputError, match="expected one of methods, found 'sc'; did you mean 'sct'"):
        check_sources(configure(bids, others, override={"method": "sc", "reason": "r", "by": "me"}))


def test_a_method_changes_with_what_makes_its_masks(bids):
    def digest(**keys):
        return declared_methods(configure(bids, {"name": "d"} | keys))["d"].digest()

    assert digest(method="deepseg") != digest(method="deepseg", options={"thr": 0.4})
    assert digest(command="a {image} {mask}", version="1") != digest(command="a {image} {mask}", version="2")
    assert digest(command="a {image} {mask}", timeout=1) == digest(command="a {image} {mask}", timeout=2)
