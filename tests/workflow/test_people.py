"""Decisions by people after a study has started: corrections, marks, people who leave or join."""

import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from run_workflow import Study

MASKS = "derivatives/labels/{subject}/anat/{image_id}_label-SC_seg.nii.gz"
CORRECTED, FAILED = "sub-01_T2w", "sub-02_T2w"
ONE = ("--set-scatter", "images_per_job=1")


@pytest.fixture(scope="module")
def study(people, tmp_path_factory) -> Study:
    """A finished study by propseg of two people and of a copy of the first."""
    folder = tmp_path_factory.mktemp("decided")
    shutil.copytree(people, folder / "bids")
    study = Study(
        folder / "work",
        bids_dir=str(folder / "bids"),
        contrasts=["T2w"],
        methods=["propseg", {"name": "drawn", "files": MASKS, "version": "1"}],
        pilot={"subjects": {"n": 1, "seed": 1}},
        decision={"perturbations": 0},
        override={"method": "propseg", "reason": "a test", "by": "the test"},
    )
    add_person(study, "03")
    study.run("study", options=ONE)
    assert study.plan("study", options=ONE) == {}
    return study


def add_person(study: Study, name: str) -> None:
    """Copy the first person under another name, with the reference."""
    root = study.folder.parent / "bids"
    for source in sorted(root.glob("**/sub-01_T2w*")):
        target = root / str(source.relative_to(root)).replace("sub-01", f"sub-{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def empty_half(path):
    """Save a mask as an editor does, half of it emptied: another data type, codes and rounding of the affine."""
    image = nib.load(path)
    data = np.asarray(image.dataobj).astype(np.float32)
    data[:, :, data.shape[2] // 2 :] = 0
    affine = image.affine.copy()
    affine[0, 3] += 0.001
    saved = nib.Nifti1Image(data, affine)
    saved.set_sform(affine, 4)
    nib.save(saved, path)


def rows_of(study: Study, name: str = "metrics.tsv") -> dict:
    return {row["image_id"]: row for row in study.table(name, "study")}


def test_four_changes_and_the_same_command(study):
    frozen = {name: (study.results / name).read_bytes() for name in ("decision.json", "decision.md")}
    pilot = json.loads((study.results / "chunks" / "membership.json").read_text())["pilot"]
    before, all_tables = rows_of(study), {p: p.read_bytes() for p in (study.results / "pilot").rglob("*.tsv")}
    mask = study.results / "derivatives" / "labels" / "sub-01" / "anat" / f"{CORRECTED}_label-SC_seg.nii.gz"
    empty_half(mask)
    beside = mask.with_name(mask.name.replace(".nii.gz", ".json"))
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"Author": "A. Rater", "Date": "2026-11-28"}))
    content = mask.read_bytes()
    mark = {"image": FAILED, "method": "propseg", "mark": "fail", "rater": "anna", "reason": "a leak"}
    (study.folder / "marks.json").write_text(json.dumps({"report": "r", "marks": [mark], "preferences": []}))
    study.config["marks"] = "marks.json"
    study.config["excluded"] = {"sub-03": "withdrew (by phone)"}
    add_person(study, "04")

    printed = study.run("study", options=ONE)
    runs = {
        rule: printed.count(f"rule {rule}:")
        for rule in ("segment_chunk", "measure_study_chunk", "draw_study_chunk", "measure_chunk", "decide")
    }
    # the corrected, the failed and the new image; only the new one is segmented
    assert runs == {
        "segment_chunk": 1,
        "measure_study_chunk": 3,
        "draw_study_chunk": 3,
        "measure_chunk": 0,
        "decide": 0,
    }, printed[-4000:]
    assert study.plan("study", options=ONE) == {}

    assert mask.read_bytes() == content
    assert {name: (study.results / name).read_bytes() for name in frozen} == frozen
    assert json.loads((study.results / "chunks" / "membership.json").read_text())["pilot"] == pilot
    assert {path: path.read_bytes() for path in all_tables} == all_tables
    rows = rows_of(study)
    assert set(rows) == {CORRECTED, FAILED, "sub-04_T2w"}
    assert float(rows[CORRECTED]["csa_mean_mm2"]) < 0.9 * float(before[CORRECTED]["csa_mean_mm2"])
    assert rows[CORRECTED]["message"].startswith(
        "corrected by hand from propseg by A. Rater on 2026-11-28 (Dice to it 0."
    )
    assert (rows[FAILED]["status"], rows[FAILED]["csa_mean_mm2"]) == ("failed", "n/a")
    assert "fail by anna: a leak" in rows[FAILED]["message"]
    kept = rows_of(study, "kept.tsv")
    assert (kept[CORRECTED]["status"], kept[CORRECTED]["method"]) == ("corrected", "propseg")
    assert (kept[FAILED]["status"], kept[FAILED]["mask"]) == ("failed", "n/a")
    assert (mask.parents[2] / "sub-02" / "anat" / f"{FAILED}_label-SC_seg.nii.gz").is_file()  # to be corrected
    report = (
        (study.results / "study" / "report.html").read_text().split('<section id="people">')[1].split("</section>")[0]
    )
    for words in (
        "A. Rater",
        "fail by anna: a leak",
        "withdrew (by phone)",
        "1 of 3 masks was corrected by hand",
        "added 1 since the study started",
    ):
        assert words in report
    assert kept[CORRECTED]["message"] == rows[CORRECTED]["message"]
    methods = (study.results / "study" / "report.html").read_text().split('<section id="methods">')[1]
    for words in (
        "The study segmented 3 images of 3 participants by propseg.",
        "1 of 3 masks was corrected by hand and measured as corrected.",
        "1 image had no numbers because a rater failed the mask.",
        "1 image was excluded by people (1 for: withdrew (by phone)).",
    ):
        assert words in methods
    entry = json.loads((study.results / "study" / "qc" / "entries" / f"{CORRECTED}.json").read_text())
    assert entry["methods"][0]["mask"].endswith(f"derivatives/labels/sub-01/anat/{mask.name}")


def test_a_new_decision_is_a_preview_and_a_replaced_pilot_is_named(study):
    """A fail counts against its method if the rater has seen both masks; the study's decision stays as it is.

    A fail of the corrected mask takes its numbers out of the study, with its reason.
    """
    frozen = (study.results / "decision.json").read_bytes()
    (pilot,) = {row["subject"] for row in study.table("metrics.tsv", "pilot")}
    seen = [
        {"image": f"sub-{pilot}_T2w", "method": method, "mark": mark, "rater": "anna"}
        for method, mark in (("propseg", "fail"), ("drawn", "pass"))
    ]
    marks = json.loads((study.folder / "marks.json").read_text())
    marks["marks"] = [one for one in marks["marks"] if one["image"] != seen[0]["image"]] + seen
    drawn = study.results / rows_of(study, "kept.tsv")[CORRECTED]["mask"]
    of_it = {"image": CORRECTED, "method": "propseg", "mark": "fail", "rater": "anna", "reason": "too short"}
    marks["marks"].append(of_it | {"mask_sha256": hashlib.sha256(drawn.read_bytes()).hexdigest()[:12]})
    if pilot != CORRECTED[4:6]:
        marks["marks"].append(of_it | {"mark": "pass", "reason": "as the method made it"})
    (study.folder / "marks.json").write_text(json.dumps(marks))
    image = study.folder.parent / "bids" / f"sub-{pilot}" / "anat" / f"sub-{pilot}_T2w.nii.gz"
    data = nib.load(image)
    nib.save(nib.Nifti1Image(np.asarray(data.dataobj) * 2.0, data.affine, data.header), image)
    printed = study.run("pilot", options=ONE)
    assert (study.results / "decision.json").read_bytes() == frozen
    preview = json.loads((study.results / "preview" / "decision.json").read_text())
    for page in ("preview/decision.md", "pilot/report.html"):
        said = (study.results / page).read_text()
        assert "The study has started and is held to propseg" in said
        assert "Use " not in said.split("What to do next")[1].split("How far to trust")[0][:600]
    assert [preview["failures"]["propseg"][key] for key in ("n_failed", "n_images")] == [1, 1]
    words = ("propseg failed on 1 of 1 images in place of 0 of 1", "replaced since the study started")
    assert all(said in printed for said in words), printed[-3000:]
    assert f"sub-{pilot}_T2w" in next(line for line in printed.splitlines() if words[1] in line)
    printed = study.run("study", options=ONE)
    report = (study.results / "study" / "report.html").read_text()
    for said in words:
        assert said[1:] in report  # a sentence there
        assert said in printed
    assert "2 images had no numbers because a rater failed the mask." in report
    for table in ("kept.tsv", "metrics.tsv"):
        row = rows_of(study, table)[CORRECTED]
        assert row["status"] == "failed"
        assert row["message"].startswith("fail by anna: too short; corrected by hand from propseg by A. Rater")
    row = rows_of(study, "csa.tsv")[CORRECTED]
    assert (row["csa_mm2"], row["mark"]) == ("n/a", "fail by anna: too short")
    assert "too short" in row["note"]
    assert (study.results / "decision.json").read_bytes() == frozen


def test_an_unusable_correction_stops_no_study_and_missing_masks_are_written_again(study):
    """A mask on another grid is named at start and end and has no numbers; a deleted mask is written again."""
    labels = study.results / "derivatives" / "labels"
    mask, other = (labels / f"sub-{n}" / "anat" / f"sub-{n}_T2w_label-SC_seg.nii.gz" for n in ("01", "04"))
    image = nib.load(mask)
    affine = image.affine.copy()
    affine[0, 3] += 0.2 * np.linalg.norm(affine[:3, 0])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), mask)
    other.unlink()
    printed = study.run("study", options=ONE)
    said = [line for line in printed.splitlines() if "a corrected mask cannot be used" in line]
    assert len(said) == 2, printed[-3000:]
    assert all(mask.name in line and "off by up to 0." in line for line in said)
    for table in ("metrics.tsv", "kept.tsv"):
        row = rows_of(study, table)[CORRECTED]
        assert row["status"] == "failed"
        assert "a corrected mask cannot be used" in row["message"]
    assert rows_of(study)[CORRECTED]["csa_mean_mm2"] == "n/a"
    assert rows_of(study, "csa.tsv")[CORRECTED]["flags"] == "unmeasured"
    assert mask.is_file()  # the work of a person is kept
    assert other.is_file()
    assert study.plan("study", options=ONE) == {}
    mask.unlink()
    image = nib.load(other)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), other)  # a person sees no cord there
    study.run("study", options=ONE)
    assert mask.is_file()
    assert "corrected" not in rows_of(study)[CORRECTED]["message"]
    methods = (study.results / "study" / "report.html").read_text().split('<section id="methods">')[1]
    assert "1 image had no mask that could be measured." in methods
    assert "measured as corrected" not in methods
    assert study.plan("study", options=ONE) == {}
