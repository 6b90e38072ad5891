"""A study with one method for each contrast and masks of the dataset, and with images unlike those of its pilot."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from run_workflow import Study

SOME = "masks/{subject}/anat/{image_id}_seg.nii.gz"
"""Files of a method that has masks only of T2* images, so it fails on T2w."""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Three people, one of them in the pilot; only the third has a T1w image, with a mask of it."""
    from spineseg.phantom.dataset import write_dataset

    folder = tmp_path_factory.mktemp("contrasts")
    bids = folder / "bids"
    write_dataset(bids, 3, 1, contrasts=("T1w", "T2w", "T2star"))
    labels = bids / "derivatives" / "labels"
    for mask in sorted(labels.glob("*/anat/*T2star_label-SC_seg.nii.gz")):
        name = mask.name.replace("_label-SC", "")
        (bids / "masks" / mask.parent.relative_to(labels)).mkdir(parents=True, exist_ok=True)
        shutil.copy(mask, bids / "masks" / mask.parent.relative_to(labels) / name)
    by_program = labels / "sub-01" / "anat" / "sub-01_T2w_label-SC_seg.nii.gz"
    for found in [*bids.glob("sub-0[12]/anat/*T1w*"), *labels.glob("sub-0[12]/**/*.*")]:
        if found != by_program:
            found.unlink()
    for mask in labels.glob("sub-*/anat/*_seg.nii.gz"):  # as programs save them: the cord and other structures
        image = nib.load(mask)
        several = np.where(np.asarray(image.dataobj) > 0, 3, 0).astype(np.uint8)
        several[:2] = 1
        nib.save(nib.Nifti1Image(several, None, image.header), mask)
    drawn = labels / "sub-03" / "anat" / "sub-03_T1w_label-SC_seg.nii.gz"
    for mask in labels.glob("sub-03/anat/*"):
        if mask != drawn:
            mask.unlink()
    drawn.rename(drawn.with_name("sub-03_T1w_seg-manual.nii.gz"))  # a name used in 2018
    sidecar = {"Author": "C. Drawer", "Date": "2018-05-01"}
    drawn.with_name("sub-03_T1w_seg-manual.json").write_text(json.dumps(sidecar))
    automatic = {"Kind": "automatic (an old PropSeg output)"}
    by_program.with_name("sub-01_T2w_label-SC_seg.json").write_text(json.dumps(automatic))
    rows = [f"sub-0{n}\t{site}\n" for n, site in ((1, "north"), (2, "south"), (3, "south"))]
    (bids / "participants.tsv").write_text("participant_id\tsite\n" + "".join(rows))
    average = bids / "sub-01" / "anat" / "sub-01_rec-average_T2star.nii.gz"
    series = average.with_name("sub-01_T2star.nii.gz")
    shutil.copy(series, average)
    image = nib.load(average)
    nib.save(nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, axis=-1), image.affine), series)
    return Study(
        folder / "work",
        bids_dir=str(bids),
        contrasts=["T1w", "T2w", "T2star"],
        methods=["propseg", {"name": "some", "files": SOME, "version": "1"}],
        pilot={"subjects": ["01"], "strata": ["site"]},
        decision={"by": "contrast"},
        manual="use",
        columns=["site"],
        references={"label": 3},
    )


def test_one_method_for_each_contrast_and_the_datasets_own_masks(study):
    study.run("pilot")
    decision = json.loads((study.results / "decision.json").read_text())
    assert decision["method_by_contrast"] == {"t2": "propseg", "t2s": "some"}
    head = (study.results / "decision.md").read_text()
    assert "No image of the pilot is t1" in head
    assert "Nobody in the pilot has site south" in head
    assert "1 automatic reference is not counted as the truth" in head
    images = {row["image_id"]: row for row in study.index()}
    other = images["sub-01_rec-average_T2star"]
    assert other["reason"].startswith("another form of an acquisition: sub-01_T2star is used, because it has the plain")
    assert {"image_id": other["image_id"], "reason": other["reason"]} in decision["excluded"]
    told = [images["sub-01_T2w"][f"reference_{key}"] for key in ("kind", "from", "use")]
    assert told == ["automatic", "propseg", "agreement"]

    printed = study.run("study")
    suffix_of = {chunk: image.rsplit("_", 1)[1] for image, chunk in study.chunks().items()}
    made = re.findall(r"output: results/tiny/chunks/(\w+)/(rest-\d+)[.]json", printed)
    ran = {(method, suffix_of[chunk]) for method, chunk in made}
    assert ("propseg", "T2w") in ran
    assert ("some", "T2star") in ran
    assert not ran & {
        ("some", "T2w"),
        ("propseg", "T2star"),
    }  # one contrast per chunk: nothing is computed in vain
    assert "1 image is t1, as no image of the pilot was" in printed

    drawn = nib.load(next(study.folder.parent.glob("bids/derivatives/labels/sub-03/anat/*_seg-manual.nii.gz")))
    (mask,) = study.results.glob("derivatives/labels/sub-03/anat/sub-03_T1w*.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), np.asarray(drawn.dataobj) == 3)

    lock = json.loads((study.results / "study" / "lock.json").read_text())
    assert lock["by_contrast"] == decision["method_by_contrast"]
    assert set(lock["made_by"]) == {"propseg", "some"}
    wanted = {"sub-03_T1w": "manual"}
    wanted |= {f"sub-0{n}_{suffix}": m for n in (1, 2, 3) for suffix, m in (("T2w", "propseg"), ("T2star", "some"))}
    for table in ("kept.tsv", "metrics.tsv", "csa.tsv"):
        assert {row["image_id"]: row["method"] for row in study.table(table, "study")} == wanted
    kept = {row["image_id"]: row for row in study.table("kept.tsv", "study")}
    assert "drawn by a person; C. Drawer, 2018-05-01" in kept["sub-03_T1w"]["message"]
    assert "pilot" not in kept["sub-03_T1w"]["message"]  # a mask drawn by a person is not reported as untested
    report = (study.results / "study" / "report.html").read_text()
    for words in (
        "1 of 7 masks are the dataset&#39;s own (1 drawn by a person; config key manual)",
        "propseg for t2, some for t2s",
        "1 of 7 masks was taken from the dataset (1 drawn by a person) in place of the computed ones.",
        "Of 1 acquisition with several forms, such as a series and its own average, one form was used.",
        "The study measured 7 images of 3 participants, 6 of them in masks by propseg for t2, some for t2s.",
    ):
        assert words in report, words
    assert study.plan("study") == {}


def test_lists_of_contrasts_a_condition_on_participants_and_a_mark_of_the_datasets_mask(study):
    """A list named after a contrast applies to it, other lists must be chosen; unused entries are reported."""
    frozen = (study.results / "decision.json").read_bytes()
    (study.folder / "exclude.yml").write_text("csa_t2:\n- south\ncsa_t1:\n- sub-01\nmtr:\n- sub-02\n- stanford\n")
    study.config["excluded"] = "exclude.yml"
    assert "the lists 'mtr' are named after no contrast" in study.call("study").stdout
    study.config["excluded"] = {"file": "exclude.yml", "lists": ["csa_t2", "csa_t1"]}
    study.config["subjects"] = {"participants": "site == 'south'"}
    fail = {"image": "sub-03_T1w", "method": "manual", "mark": "fail", "rater": "anna", "reason": "an old mask"}
    (study.folder / "marks.json").write_text(json.dumps({"marks": [fail]}))
    study.config["marks"] = "marks.json"
    printed = study.run("study")
    rows = {row["image_id"]: row for row in study.table("metrics.tsv", "study")}
    assert set(rows) == {"sub-02_T2star", "sub-03_T1w", "sub-03_T2star"}
    left = {row["image_id"]: row["reason"] for row in study.index() if "exclude.yml" in row["reason"]}
    assert left.keys() == {"sub-02_T2w", "sub-03_T2w"}  # a site of participants.tsv, only in that contrast
    report = (study.results / "study" / "report.html").read_text()
    for reason in left.values():
        assert "'south' in exclude.yml, list csa_t2" in reason
        assert reason.replace("'", "&#39;") in report
    assert (rows["sub-03_T1w"]["status"], rows["sub-03_T1w"]["csa_mean_mm2"]) == ("failed", "n/a")
    assert "fail by anna: an old mask" in rows["sub-03_T1w"]["message"]
    assert {row["site"] for row in study.table("csa.tsv", "study")} == {"south"}
    assert "'sub-01' leaves out nothing: none of its 3 images is t1" in printed
    assert "left the study since it started, though its decision rests on it: sub-01_T2star, sub-01_T2w" in printed
    assert "2 images of the pilot were left out later; the choice rests on them too." in report
    assert (study.results / "decision.json").read_bytes() == frozen
    assert study.plan("study") == {}
    study.config["excluded"] = {"sub-02_T2W": "motion"}
    done = study.call("study")
    assert done.returncode == 2
    assert "did you mean 'sub-02_T2w'" in done.stdout
    assert "rule " not in done.stdout.split("did you mean")[0]
