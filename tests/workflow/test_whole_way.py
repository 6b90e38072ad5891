"""A whole study with its people: pilot, blind review, decision from it, study, fails, a correction, report."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_workflow import Study

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import Browser, needs_browser
from helpers import text_of

pytestmark = [pytest.mark.browser, needs_browser]

MASKS = "derivatives/labels/{subject}/anat/{image_id}_label-SC_seg.nii.gz"
LARGER = """
const width = (pane) => [...document.querySelectorAll(`#pane-${pane} .blind-layer`)]
  .reduce((sum, path) => sum + path.getBBox().width, 0);
return width('x') >= width('y') ? 'x' : 'y';"""


def review_blind(page: Path, rater: str, profile: Path) -> str:
    """Compare the methods blind as a person who likes large masks, and return the file that the page saves."""
    browser = Browser(profile)
    try:
        browser.open_as(rater, page, look=False)
        browser.press("b")
        browser.wait("return document.querySelectorAll('#blind .tile').length > 0")
        n = int(browser.run("return document.getElementById('blind-progress').max"))
        for done in range(1, n + 1):
            browser.press(browser.run(LARGER))
            browser.wait(f"return document.getElementById('blind-progress').value == {done}")
        browser.press("Escape")
        return str(browser.save("save-all"))
    finally:
        browser.close()


def fail_masks(page: Path, rater: str, profile: Path, names: list[str]) -> str:
    """Fail the masks of some images by key and return the file that the page saves."""
    browser = Browser(profile)
    try:
        browser.open_as(rater, page)
        for name in names:
            browser.open(page, f"#{name}")
            browser.press("f")
        return str(browser.save("save-all"))
    finally:
        browser.close()


def test_pilot_review_decision_study_fails_correction_report(people, tmp_path):
    study = Study(
        tmp_path / "work",
        bids_dir=str(people),
        contrasts=["T2w", "T2star"],
        methods=["propseg", {"name": "drawn", "files": MASKS, "version": "1"}],
        references=None,  # the blind review is the only evidence
    )
    results = study.results
    assert "compare blind in the page" in study.run("pilot")
    before = json.loads((results / "decision.json").read_text())
    assert before["ratings"]["n"] == 0
    assert "Nobody has reviewed" in text_of(results / "pilot" / "report.html")

    # the blind review of the pilot, and the decision with it
    saved = review_blind(results / "pilot" / "qc" / "index.html", "Ann", tmp_path / "profile")
    (study.folder / "blind.json").write_text(saved)
    study.config["marks"] = ["blind.json"]
    printed = study.run("pilot")
    assert "rule segment_chunk" not in printed
    after = json.loads((results / "decision.json").read_text())
    answers = json.loads(saved)["preferences"]
    assert after["ratings"]["raters"] == ["Ann"]
    assert after["ratings"]["n"] == sum(not one["repeat"] for one in answers) > 0
    assert "preference" in {row["endpoint"] for row in after["endpoints"]}
    report = text_of(results / "pilot" / "report.html")
    assert "Chosen blind:" in report
    assert "blind ratings of" in report

    # the study by what was decided, three fails and one correction
    ending = study.run("study")
    assert "look at: results/tiny/study/qc/index.html" in ending
    method = after["method"]
    kept = {row["image_id"]: row for row in study.table("kept.tsv", "study")}
    failed = sorted(kept)[:3]
    marks = fail_masks(results / "study" / "qc" / "index.html", "Bob", tmp_path / "second", failed)
    (study.folder / "marks.json").write_text(marks)
    study.config["marks"] = ["blind.json", "marks.json"]
    corrected = failed[0]
    mask = results / kept[corrected]["mask"]
    image = nib.load(mask)
    data = np.asarray(image.dataobj)
    low = np.argwhere(data)[:, 2].min()
    data[..., low : low + 1] = 0  # a person takes the lowest slice off
    nib.save(nib.Nifti1Image(data.astype(np.uint8), image.affine, image.header), mask)

    again = study.run("study")
    assert "rule segment_chunk" not in again
    assert np.array_equal(np.asarray(nib.load(mask).dataobj), data)  # never overwritten
    rows = {row["image_id"]: row for row in study.table("kept.tsv", "study")}
    assert rows[corrected]["status"] == "corrected"
    areas = {row["image_id"]: row for row in study.table("csa.tsv", "study")}
    assert areas[corrected]["corrected"] == "true"
    assert all("failed" in areas[name]["flags"] for name in failed[1:])

    report = text_of(results / "study" / "report.html")
    assert f"Keep {method}" in report
    assert f"1 of {len(kept)} masks was corrected by hand; raters marked masks of 3 images" in report
    assert "no number of this mask is used" in report
    assert f"Nobody has reviewed {len(kept) - 3} of" in report or "A person has looked at every image" in report
    assert "For the methods section" in report
