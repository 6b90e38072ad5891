"""From pilot to study: one method throughout, nothing mixed, exceptions flagged."""

import json
import re
import shutil

import pytest
from run_workflow import Study

EXCEPTED = "sub-02_T2star"
MASKS = "derivatives/labels/{subject}/anat/{image_id}_label-SC_seg.nii.gz"


@pytest.fixture(scope="module")
def study(people, tmp_path_factory) -> Study:
    """A pilot of one of two people, by propseg and by existing masks, which the tests continue in order."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(people, folder / "bids")
    study = Study(
        folder / "work",
        bids_dir=str(folder / "bids"),
        contrasts=["T2w", "T2star"],
        methods=["propseg", {"name": "drawn", "files": MASKS, "version": "1"}],
        pilot={"subjects": ["01"]},
        decision={"perturbations": 1},
        override={"method": "drawn", "reason": "a test", "by": "the test"},
        exceptions={EXCEPTED: {"method": "propseg", "reason": "drawn too large", "by": "the test"}},
    )
    study.printed = study.run("pilot")
    return study


def test_the_pilot_ends_with_its_page_its_report_and_the_next_command(study):
    ending = study.printed[study.printed.index("verdict: ") :]
    page, report = (f"results/tiny/pilot/{name}" for name in ("qc/index.html", "report.html"))
    assert f"look at: {page} (both methods side by side" in ending
    assert f"report:  {report}" in ending
    assert re.search(r"next: +snakemake study .*--configfile config.yaml", ending)
    drawn = (study.folder / page).read_text()
    assert "sub-01_T2star" in drawn
    assert not list((study.results / "pilot" / "qc" / "images").glob("*sub-02*"))  # it shows only the pilot
    assert list((study.results / "pilot" / "qc" / "images").glob("*sub-01*/detail.js"))
    listed = (study.results / "README").read_text()
    assert "pilot/report.html" in listed
    tables = [path.name for path in (study.results / "pilot" / "figures").glob("*.tsv")]
    assert tables
    assert all(name in listed for name in tables)
    assert "\nreport.html" not in listed


def refused(study: Study, *targets: str, code: int = 1) -> str:
    """Run a study that must be refused before any job that computes; return its one line. Masks and tables stay."""
    before = {path: path.stat().st_mtime_ns for path in study.results.rglob("*") if path.is_file()}
    listed = "study.json images.tsv images.json references.tsv README dataset_description.json membership.json"
    done = study.call(*targets)
    assert done.returncode == code, done.stdout[-3000:]
    said = [line.strip() for line in done.stdout.splitlines() if not line.startswith("not finished")]
    lines = {line for line in said if "accept_changes: {to: " in line or "key 'exc" in line}
    assert len(lines) == 1, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    assert "rule segment_chunk" not in done.stdout
    after = {path: path.stat().st_mtime_ns for path in before if path.is_file()}
    assert {path.name for path in before.keys() - after.keys()} <= {"checked"}
    assert {path.name for path in after if after[path] != before[path]} <= {*listed.split(), "file_digests.json"}
    return lines.pop()


def test_a_study_by_other_masks_than_its_pilot_is_refused(study):
    study.config["methods"][1]["version"] = "2"
    line = refused(study, "study")
    assert 'the pilot was made by other code or settings than the present ones (drawn: version "1", now "2")' in line
    assert "accept_changes: {to: " in line
    assert study.plan("pilot")  # a pilot may change freely
    study.config["methods"][1]["version"] = "1"


def test_the_pilot_measures_how_far_a_method_agrees_with_itself(study):
    for row in study.table("metrics.tsv", "pilot"):
        if row["method"] == "propseg":
            assert 0.8 < float(row["perturb_dice"]) < 1
            assert 0 < float(row["perturb_csa_cv"]) < 10
        else:  # existing masks cannot be made again
            assert row["perturb_dice"] == row["perturb_csa_cv"] == "n/a"
        assert row["guessed_contrast"] == "t2/t2s"
        assert row["contrast_doubt"] == "n/a"
    assert len(list((study.results / "chunks" / "perturbed").rglob("*.json"))) == 3


def test_the_study_runs_one_method_and_flags_its_exception(study):
    printed = study.run("study")
    assert printed.count("rule segment_chunk:") == 1  # the rest, by drawn; the pilot is reused
    assert printed.count("rule segment_exceptions:") == 1
    rows = {row["image_id"]: row for row in study.table("metrics.tsv", "study")}
    assert {image: row["method"] for image, row in rows.items()} == dict.fromkeys(rows, "drawn") | {EXCEPTED: "propseg"}
    words = "exception: propseg instead of drawn (drawn too large; the test)"
    assert rows[EXCEPTED]["message"].startswith(words)
    kept = {row["image_id"]: row for row in study.table("kept.tsv", "study")}
    assert kept[EXCEPTED]["method"] == "propseg"
    assert kept[EXCEPTED]["message"].startswith(words)
    mask = study.results / "sub-02" / "anat" / f"{EXCEPTED}_desc-propseg_label-SC_seg.nii.gz"
    assert (study.results / kept[EXCEPTED]["mask"]).read_bytes() == mask.read_bytes()
    assert not list(study.results.glob("sub-02/anat/*T2w*_desc-propseg_*"))
    entry = json.loads((study.results / "study" / "qc" / "entries" / f"{EXCEPTED}.json").read_text())
    assert [method["name"] for method in entry["methods"]] == ["propseg"]
    assert any(words in flag["text"] for flag in entry["flags"])
    report = (study.results / "study" / "report.html").read_text()
    assert f"{EXCEPTED} is kept by another method" in report
    assert study.plan("study") == {}


def test_a_started_study_refuses_another_method_and_other_masks(study):
    study.config["override"]["method"] = "propseg"
    line = refused(study, "study")
    assert "lock.json: the study was started with another setup (method drawn, now propseg)" in line
    study.config["override"]["method"] = "drawn"
    study.config["methods"][1]["version"] = "2"
    assert 'version "1", now "2"' in refused(study, "study", code=2)  # before any job


def test_an_accepted_change_is_recorded_and_covers_no_other(study):
    token = re.search(r"to: (\w+)", refused(study, "study", code=2))[1]
    study.config["accept_changes"] = {"to": token, "reason": "better masks", "by": "the test"}
    study.run("study")
    lock = json.loads((study.results / "study" / "lock.json").read_text())
    changes = ['version "1", now "2"']
    assert lock["accepted"] == [{"changes": changes, "reason": "better masks", "by": "the test"}]
    assert "accepted by the test (better masks)" in (study.results / "study" / "report.html").read_text()
    study.config["methods"][1]["version"] = "3"
    assert 'version "2", now "3"' in refused(study, "study", code=2)


def test_an_exception_for_no_image_is_refused(study):
    study.config["methods"][1]["version"] = "2"
    study.config["exceptions"] = {"sub-02_T2sta": study.config["exceptions"][EXCEPTED]}
    line = refused(study, code=2)
    assert f"config key 'exceptions.sub-02_T2sta': the study has no such image; did you mean '{EXCEPTED}'?" in line
