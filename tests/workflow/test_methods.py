"""A study by three, then four methods: ours, ours with other options, existing masks, a program."""

import json
import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_workflow import Study

GROWN = """
import sys, nibabel as nib, numpy as np
from scipy import ndimage
image, mask = sys.argv[1:]
name = image.rpartition("/")[2].removesuffix(".nii.gz")
reference = image.replace("/bids/", "/bids/derivatives/labels/").replace(name, name + "_label-SC_seg")
found = nib.load(reference)
nib.save(nib.Nifti1Image(ndimage.binary_dilation(found.get_fdata() > 0).astype(np.uint8), found.affine), mask)
"""


@pytest.fixture(scope="module")
def finished(people, tmp_path_factory) -> Study:
    """A study by three methods, which the tests continue in order. One existing mask is missing."""
    folder = tmp_path_factory.mktemp("methods")
    shutil.copytree(people, folder / "bids")
    for mask in (folder / "bids" / "derivatives" / "labels").rglob("*_label-SC_seg.nii.gz"):
        name = mask.name.replace("_label-SC_seg", "_seg")
        target = folder / "bids" / "derivatives" / "drawn" / mask.parent.parent.name / "anat" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(mask, target)
    (folder / "bids" / "derivatives" / "drawn" / "sub-02" / "anat" / "sub-02_T2star_seg.nii.gz").unlink()
    (folder / "grown.py").write_text(GROWN)
    study = Study(
        folder / "work",
        bids_dir=str(folder / "bids"),
        contrasts=["T2w", "T2star"],
        methods=[
            "propseg",
            {"name": "drawn", "files": "derivatives/drawn/{subject}/{session}/anat/{image_id}_seg.nii.gz"},
            {"name": "grown", "command": f"{sys.executable} {folder / 'grown.py'} {{image}} {{mask}}"},
        ],
    )
    study.run()
    return study


def check_everywhere(study: Study, methods: list[str]) -> None:
    """Assert that tables, decision, quality control and report have these methods and no other."""
    rows = study.table("metrics.tsv")
    assert [row["method"] for row in rows] == methods * 4
    pairs = {(row["method_a"], row["method_b"]) for row in study.table("agreement.tsv")}
    assert len(pairs) == len(methods) * (len(methods) - 1) // 2
    decision = json.loads((study.results / "decision.json").read_text())
    assert decision["methods"] == methods
    assert set(decision["probability"]) == {*methods, "equivalent"}
    for path in (study.results / "qc" / "entries").glob("*.json"):
        assert {method["name"] for method in json.loads(path.read_text())["methods"]} == set(methods)
    report = (study.results / "report.html").read_text()
    assert all(f"</i>{method}</th>" in report for method in methods)
    assert report.count('<i class="dot"') % len(methods) == 0
    text = (study.results / "decision.md").read_text()
    assert all(f"| {method}" in text for method in methods)


def test_three_methods(finished):
    check_everywhere(finished, ["propseg", "drawn", "grown"])
    rows = {(row["image_id"], row["method"]): row for row in finished.table("metrics.tsv")}
    assert rows["sub-02_T2star", "drawn"]["status"] == "failed"
    assert "no such file" in rows["sub-02_T2star", "drawn"]["message"]
    assert float(rows["sub-01_T2w", "drawn"]["dice"]) == 1
    timings = {(row["image_id"], row["method"]): row["seconds"] for row in finished.table("timings.tsv")}
    assert timings["sub-01_T2w", "drawn"] == "n/a"
    assert float(timings["sub-01_T2w", "grown"]) > 0
    assert float(rows["sub-01_T2w", "grown"]["csa_error_pct"]) > 10
    decision = json.loads((finished.results / "decision.json").read_text())
    assert decision["failures"]["drawn"]["n_failed"] == 1
    assert finished.plan() == {}


def test_a_fourth_method_runs_alone_and_others_are_reused(finished):
    finished.config["methods"].append({"name": "deepseg-low", "method": "deepseg", "options": {"thr": 0.3}})
    assert finished.run().count("rule segment_chunk:") == 1
    check_everywhere(finished, ["propseg", "drawn", "grown", "deepseg-low"])
    sidecar = next(finished.results.glob("sub-01/anat/*_desc-deepseg-low_label-SC_seg.json"))
    assert json.loads(sidecar.read_text())["Parameters"]["thr"] == 0.3


def test_a_mask_that_appears_later_is_used(finished):
    masks = Path(str(finished.config["bids_dir"])) / "derivatives" / "drawn"
    shutil.copy2(
        masks / ".." / "labels" / "sub-02" / "anat" / "sub-02_T2star_label-SC_seg.nii.gz",
        masks / "sub-02" / "anat" / "sub-02_T2star_seg.nii.gz",
    )
    assert finished.plan()["index_images"] == 1  # which finds the mask; what depends on it is known then
    assert finished.run().count("rule segment_chunk:") == 1
    assert "failed" not in {row["status"] for row in finished.table("metrics.tsv")}


def test_other_options_run_that_method_alone_and_dropped_methods_leave_the_tables(finished):
    """Two methods have the same mean Dice, each wrong where the other is perfect: the headline says so."""
    finished.config["methods"][3]["options"] = {"thr": 0.99}  # misses half of the cord
    del finished.config["methods"][2], finished.config["methods"][0]
    masks = Path(str(finished.config["bids_dir"])) / "derivatives"
    shutil.copytree(masks / "drawn", masks / "other")
    for name, suffix, voxels in (("drawn", "T2w", 2), ("other", "T2star", 5)):  # Dice 0.75 each
        for mask in masks.glob(f"{name}/*/anat/*_{suffix}_seg.nii.gz"):
            image = nib.load(mask)
            moved = np.roll(np.asarray(image.dataobj), voxels, axis=0)
            nib.save(nib.Nifti1Image(moved, image.affine, image.header), mask)
    files = str(finished.config["methods"][0]["files"])
    finished.config["methods"].append({"name": "other", "files": files.replace("drawn", "other")})
    finished.config["decision"] = {"min_references": 2}
    made = re.findall(r"rule segment_chunk:.*?output: results/tiny/chunks/([\w-]+)/", finished.run(), re.DOTALL)
    assert sorted(made) == ["deepseg-low", "drawn", "other"]
    check_everywhere(finished, ["drawn", "deepseg-low", "other"])
    headline = (finished.results / "decision.md").read_text().split("**")[1]
    for method, contrast in (("drawn", "t2s"), ("other", "t2")):
        assert re.search(rf"{method} in {contrast} \(by 0[.]2\d+ in 2 people, 90 % interval [+]0", headline), headline


def test_a_wrong_declaration_stops_before_the_first_job(people, make_study):
    study = make_study(bids_dir=str(people), methods=["propseg", {"name": "x", "files": "x/{subjct}.nii.gz"}])
    done = study.call()
    assert done.returncode == 2
    assert "config key 'methods.1.files': no placeholder {subjct}; did you mean 'subject'?" in done.stdout
    assert not study.results.exists()
